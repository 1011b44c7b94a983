"""Choice of captions: which caption a box gets, and that no false one is written."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from optisar_yolo.annotate.choose import (
    BETTER,
    FEWER,
    NOTHING_TRUE,
    TAKEN,
    UNNAMED,
    Annotation,
    _modality_of_most,
    category_of,
    choose_annotations,
)
from optisar_yolo.annotate.match import CaptionMatches
from optisar_yolo.annotate.pool import Caption
from optisar_yolo.language.nouns import Vocabulary

SIZE = (300, 300)
UPPER_LEFT, LOWER_RIGHT = (10.0, 10.0, 50.0, 50.0), (240.0, 240.0, 290.0, 290.0)
HERE, THERE = "The ship in the upper left corner of the image", "The ship in the lower right corner of the image"


def choose(*found: tuple[tuple[float, ...], str, float], **rules) -> tuple[list[Annotation], Counter[str]]:
    """Annotate an image with (box, caption, confidence), given in any order."""
    found = tuple(sorted(found, key=lambda f: -f[2]))
    pool = [Caption(text) for text in dict.fromkeys(f[1] for f in found)]
    texts = [c.text for c in pool]
    pairs = CaptionMatches(
        np.array([f[0] for f in found], float).reshape(-1, 4),
        np.array([f[2] for f in found], float),
        np.array([texts.index(f[1]) for f in found], int),
    )
    dropped: Counter[str] = Counter()
    return choose_annotations(pairs, pool, SIZE, dropped=dropped, **rules), dropped


def captions_of(chosen: list[Annotation]) -> list[tuple[str, float]]:
    return [(a.caption, a.score) for a in chosen]


def test_the_most_confident_true_caption_is_kept_and_the_others_are_counted():
    near = tuple(v + 1 for v in UPPER_LEFT)
    chosen, dropped = choose((UPPER_LEFT, THERE, 0.9), (near, HERE, 0.8), (UPPER_LEFT, "A ship", 0.7))
    assert captions_of(chosen) == [(HERE, 0.8)]
    assert chosen[0].box == UPPER_LEFT and chosen[0].category == "ship"  # the box of the most confident match
    assert dropped == {"caption false of its box: place": 1, BETTER: 1}


def test_a_false_place_can_be_left_out_or_kept():
    alone = (UPPER_LEFT, THERE, 0.9)
    assert choose(alone)[0] == [] and choose(alone)[1][NOTHING_TRUE] == 1
    assert captions_of(choose(alone, verify="strip")[0]) == [("The ship", 0.9)]
    assert captions_of(choose(alone, verify="off")[0]) == [(THERE, 0.9)]
    assert captions_of(choose(alone, (UPPER_LEFT, HERE, 0.4), verify="strip")[0]) == [
        (HERE, 0.4)
    ]  # a true caption precedes


def test_superlatives_are_checked_against_the_other_boxes_of_the_category():
    boxes = ((UPPER_LEFT, "A ship", 0.9), (LOWER_RIGHT, "The leftmost ship", 0.8), (LOWER_RIGHT, "A ship", 0.7))
    chosen, dropped = choose(*boxes)
    assert (
        captions_of(chosen) == [("A ship", 0.9), ("A ship", 0.7)] and dropped["caption false of its box: extreme"] == 1
    )
    # an airplane to the left of it does not count
    other = ((UPPER_LEFT, "An airplane", 0.9), (LOWER_RIGHT, "The leftmost ship", 0.8))
    assert captions_of(choose(*other)[0]) == [("An airplane", 0.9), ("The leftmost ship", 0.8)]
    assert captions_of(choose(*boxes[:2], verify="strip")[0]) == [("A ship", 0.9), ("The ship", 0.8)]


def test_a_size_that_is_false_cannot_be_left_out():
    assert choose((UPPER_LEFT, "There is a big ship on the left side of the image", 0.9), verify="strip")[0] == []


def test_the_modality_is_the_images():
    texts = ("The SAR ship", "The optical ship", "A ship")
    found = [(UPPER_LEFT, text, 0.9 - 0.1 * i) for i, text in enumerate(texts)]
    assert [(a.caption, a.category) for a in choose(*found)[0]] == [("The SAR ship", "sar ship")]
    assert [(a.caption, a.category) for a in choose(*found, modality="optical")[0]] == [
        ("The optical ship", "optical ship")
    ]
    vote = ((LOWER_RIGHT, "An optical airplane", 0.95), ((100, 100, 140, 140), "The optical harbor", 0.9))
    assert [a.category for a in choose(*vote, (UPPER_LEFT, "A ship", 0.5))[0]] == [
        "optical airplane", "optical harbor", "optical ship",
    ]  # fmt: skip


def test_words_of_a_category_name_no_modality():
    own = Vocabulary.of(["optical radar station", "infrared ship"], modalities={"infrared": ("thermal",)})
    assert _modality_of_most([Caption("the radar station", (), own)]) is None
    assert _modality_of_most([Caption("the radar station")]) == "sar"  # a word alone is a modality
    assert _modality_of_most([Caption("the thermal ship", (), own)]) == "infrared"
    assert _modality_of_most([Caption("the ship", ("infrared ship",), own)]) == "infrared"
    both = Caption("the ship", ("infrared ship", "optical radar station"), own)
    assert category_of(both, "optical") == "optical radar station" and category_of(both, "infrared") == "infrared ship"


def test_categories_of_the_pool_are_used():
    both = Caption("The vessel on top", ("sar ship", "optical ship"))
    assert category_of(both, "optical") == "optical ship" and category_of(both, None) == "sar ship"
    assert category_of(Caption("A shiny thing"), "sar") == f"sar {UNNAMED}"
    assert category_of(Caption("A radar boat"), None) == "sar ship"


def test_numbers_are_bounded_and_captions_can_be_unique():
    found = ((UPPER_LEFT, "A ship", 0.9), (LOWER_RIGHT, "A ship", 0.8), (LOWER_RIGHT, THERE, 0.7))
    assert captions_of(choose(*found, max_det=1)[0]) == [("A ship", 0.9)] and choose(*found, max_det=1)[1][FEWER] == 1
    assert captions_of(choose(*found)[0]) == [("A ship", 0.9), ("A ship", 0.8)]
    chosen, dropped = choose(*found, unique=True)
    assert captions_of(chosen) == [("A ship", 0.9), (THERE, 0.7)] and dropped[TAKEN] == 1
    assert choose() == ([], {})


PLACES = {
    "in the upper left corner": (0, 0), "at the top": (None, 0), "in the upper right corner": (2, 0),
    "on the left side": (0, None), "on the right side": (2, None), "in the middle": (1, 1),
    "in the lower left corner": (0, 2), "at the bottom": (None, 2), "in the lower right corner": (2, 2),
}  # fmt: skip


def holds(centre: float, third: int | None) -> bool:
    """Tell whether a relative coordinate is in a third of the side, or within the tolerance of it."""
    return third is None or third / 3 - 0.045 < centre < (third + 1) / 3 + 0.045


@pytest.mark.parametrize("verify", ["drop", "strip"])
@pytest.mark.parametrize("seed", range(20))
def test_no_false_caption_is_written(seed, verify):
    """Random boxes with random captions; the truth is computed independently."""
    rng = np.random.default_rng(seed)
    texts = [f"The {noun} {place} of the image" for noun in ("ship", "bridge") for place in PLACES]
    texts += [f"The {way}most {noun}" for way in ("left", "right") for noun in ("ship", "bridge")]
    found = []
    for _ in range(12):
        x, y = rng.uniform(0, 260, 2).round(2)
        box = (x, y, x + 30.0, y + 30.0)
        found += [(box, str(rng.choice(texts)), float(rng.random())) for _ in range(12)]
    chosen, _ = choose(*found, verify=verify)
    middles = [((a.box[0] + a.box[2]) / 600, (a.box[1] + a.box[3]) / 600) for a in chosen]
    assert len(chosen) > 2
    for a, (x, y) in zip(chosen, middles, strict=True):
        place = next((p for p in PLACES if p in a.caption), None)
        if place is not None:
            column, row = PLACES[place]
            assert holds(x, column) and holds(y, row), (a, x, y)
        rivals = [m[0] for b, m in zip(chosen, middles, strict=True) if b is not a and b.category == a.category]
        if "leftmost" in a.caption and rivals:
            assert x <= min(rivals) + 0.03 + 1e-9, a
        if "rightmost" in a.caption and rivals:
            assert x >= max(rivals) - 0.03 - 1e-9, a
        assert a.category.split()[-1] in a.caption

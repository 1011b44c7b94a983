"""Language: cleaning, swaps, mirrors, parsing and paraphrases."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from optisar_yolo.language.edit import agree, clean
from optisar_yolo.language.paraphrase import reword
from optisar_yolo.language.parser import parse
from optisar_yolo.language.swaps import KINDS, swap
from optisar_yolo.language.transform import flip
from optisar_yolo.language.vocabulary import CATEGORIES, NOUN_OF, NOUNS, RESERVED


def _benchmark() -> ModuleType:
    """Load benchmarks/reworded.py, which is not part of the package."""
    path = Path(__file__).parents[2] / "benchmarks/reworded.py"
    spec = importlib.util.spec_from_file_location("reworded", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REWORDED = _benchmark()
PLACES = st.sampled_from(
    "in the middle|on the left side|on the right side|at the top|at the bottom|in the upper left corner"
    "|in the upper right corner|in the lower left corner|in the lower right corner".split("|")
)
NOUN = st.sampled_from([n for n, others in NOUNS.items() if others])
MODALITY = st.sampled_from(["", "SAR ", "optical "])
SIZED = st.sampled_from(["", "small ", "big "])
FRAME = st.sampled_from(["The {}", "A {}", "There is a {}"])


def _expression(frame: str, sized: str, modality: str, noun: str, place: str) -> str:
    return agree(frame.format(f"{sized}{modality}{noun} {place} of the image"))


POSITIONS = st.builds(_expression, FRAME, SIZED, MODALITY, NOUN, PLACES)
SUPERLATIVES = st.builds(
    lambda words, modality, noun: words.format(modality + noun),
    st.sampled_from(
        [
            "The leftmost {}",
            "The rightmost {}",
            "The {} closest to the top of the image",
            "The largest {}",
            "The smallest {}",
        ]
    ),
    MODALITY,
    NOUN,
)
RELATIONS = st.builds(
    lambda a, rel, b: f"The {a} {rel} the {b}",
    NOUN,
    st.sampled_from(["to the right of", "to the left of", "above", "below"]),
    NOUN,
)
CAPTIONS = POSITIONS | SUPERLATIVES | RELATIONS
SEEDS = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("bad", [None, 3, b"ship", "", "  ", "\t\n", "\u200b", ["ship"]])
def test_clean_refuses_texts_without_words(bad: object) -> None:
    with pytest.raises(ValueError, match="an expression must"):
        clean(bad)


def test_clean_keeps_the_words() -> None:
    assert clean("  the\tship\n at\x00 the  top\u200b ") == "the ship at the top"


def test_swap_matches_whole_words_only() -> None:
    assert swap("A bright ship along the coastline") == []
    assert swap("the topaz freighter, leftover and stopped") == []


def test_swap_gives_the_chosen_kinds() -> None:
    text = "The small red SAR ship in the upper left corner of the image"
    found = {kind: {v.text for v in swap(text, [kind])} for kind in KINDS}
    assert "The small red SAR ship in the lower left corner of the image" in found["orientation"]
    assert "The small red SAR ship in the middle of the image" in found["orientation"]
    assert found["modality"] == {"The small red optical ship in the upper left corner of the image"}
    assert found["size"] == {"The big red SAR ship in the upper left corner of the image"}
    assert "The small green SAR ship in the upper left corner of the image" in found["colour"]
    assert found["number"] == found["relation"] == set()
    with pytest.raises(ValueError, match="unknown kinds"):
        swap(text, ["shape"])


@pytest.mark.parametrize(
    ("caption", "variant", "kind"),
    [
        ("A SAR ship at the top of the image", "An optical ship at the top of the image", "modality"),
        ("An optical bridge", "A SAR bridge", "modality"),
        ("Optical ships", "SAR ships", "modality"),
        ("an upper right tank", "a lower right tank", "orientation"),
        (
            "The airplane closest to the bottom of the image",
            "The airplane closest to the left of the image",
            "orientation",
        ),
        ("The Leftmost car", "The Rightmost car", "orientation"),
        ("The largest tank", "The smallest tank", "size"),
        ("A white car", "An orange car", "colour"),
        ("the two ships", "the three ships", "number"),
        ("The ship above the bridge", "The ship to the left of the bridge", "relation"),
        ("The ship is on the left of the bridge", "The ship is on the right of the bridge", "relation"),
        ("the ship inside the harbor", "the ship outside the harbor", "relation"),
    ],
)
def test_swap_examples(caption: str, variant: str, kind: str) -> None:
    assert (variant, kind) in swap(caption)


@settings(max_examples=150, deadline=None)
@given(CAPTIONS)
def test_a_swap_changes_one_phrase_and_the_meaning(caption: str) -> None:
    for text, kind in swap(caption):
        assert text != caption
        a, b = parse(caption), parse(text)
        changed = {f for f in a.__dataclass_fields__ if getattr(a, f) != getattr(b, f)} - {"definite"}
        wanted = {"orientation": {"place", "superlative"}, "modality": {"modality"}, "size": {"size", "superlative"}}
        assert len(changed) == 1 and changed <= wanted.get(kind, {"relation"}), (caption, text)


@pytest.mark.parametrize(
    ("caption", "horizontal", "vertical", "both"),
    [
        ("the right", "the left", "the right", "the left"),
        ("In the Upper left", "In the Upper right", "In the Lower left", "In the Lower right"),
        ("The plane farthest left in the photo", "The plane farthest right in the photo",
         "The plane farthest left in the photo", "The plane farthest right in the photo"),
        ("An upper-left tank", "An upper-right tank", "A lower-left tank", "A lower-right tank"),
        ("northeast of the pier", "northwest of the pier", "southeast of the pier", "southwest of the pier"),
        ("the south-western quay", "the south-eastern quay", "the north-western quay", "the north-eastern quay"),
        ("ship above the pier to the LEFT OF it", "ship above the pier to the RIGHT OF it",
         "ship below the pier to the LEFT OF it", "ship below the pier to the RIGHT OF it"),
        ("a bright ship along the coast", *["a bright ship along the coast"] * 3),
        ("a ship going clockwise", None, None, "a ship going clockwise"),
        ("an L-shaped pier", None, None, "an L-shaped pier"),
        ("a right angle", None, "a right angle", None),
        ("the car that left the lot", None, "the car that left the lot", None),
        ("the bridge over the river", "the bridge over the river", None, None),
    ],
)  # fmt: skip
def test_flip_examples(caption: str, horizontal: str | None, vertical: str | None, both: str | None) -> None:
    assert flip(caption, horizontal=True) == horizontal
    assert flip(caption, vertical=True) == vertical
    assert flip(caption, horizontal=True, vertical=True) == both
    assert flip(caption) == caption


@settings(max_examples=150, deadline=None)
@given(CAPTIONS, st.booleans(), st.booleans(), SEEDS)
def test_flip_twice_is_the_same_expression(caption: str, horizontal: bool, vertical: bool, seed: int) -> None:
    for text in (caption, reword(caption, np.random.default_rng(seed))):
        once = flip(text, horizontal, vertical)
        assert once is not None
        assert flip(once, horizontal, vertical) == text
        step = flip(text, horizontal)
        assert step is not None and flip(step, False, vertical) == once


@settings(max_examples=300, deadline=None)
@given(CAPTIONS, SEEDS)
def test_reword_keeps_the_meaning_and_the_reserved_words_out(caption: str, seed: int) -> None:
    text = reword(caption, np.random.default_rng(seed))
    a, b = parse(caption), parse(text)
    for claim in ("category", "modality", "size", "place", "superlative", "relation", "reference", "rest"):
        assert getattr(a, claim) == getattr(b, claim), (caption, text)
    assert not RESERVED.search(text) and not REWORDED.RESERVED.search(text), text
    assert {v.kind for v in swap(caption)} == {v.kind for v in swap(text)}, (caption, text)


@settings(max_examples=200, deadline=None)
@given(CAPTIONS, SEEDS)
def test_the_reworded_benchmark_uses_new_words_and_keeps_its_claims(caption: str, seed: int) -> None:
    text = REWORDED.reword(caption, np.random.default_rng(seed))
    assert REWORDED.RESERVED.search(text)
    query = parse(caption)
    if query.place and query.place[0] in ("left", "right"):
        assert query.place[0] in text and {"left": "right", "right": "left"}[query.place[0]] not in text
    if query.place and query.place[1] in ("top", "bottom"):
        assert ("uppermost" in text) == (query.place[1] == "top") and ("lowermost" in text) == (
            query.place[1] == "bottom"
        )
    if query.modality:
        assert ("radar" in text) == (query.modality == "sar")
    with pytest.raises(ValueError, match="without a pattern"):
        REWORDED.reword("The rusty ship with two cranes", np.random.default_rng(0))


def test_reword_varies_the_wording_and_leaves_unread_expressions_alone() -> None:
    rng = np.random.default_rng(0)
    texts = {reword("The SAR ship in the upper left corner of the image", rng) for _ in range(200)}
    assert len(texts) > 100
    assert reword("The rusty ship with two cranes", rng) == "The rusty ship with two cranes"


def test_no_name_means_two_categories_and_only_reserved_names_are_reserved() -> None:
    names = [(n, c) for c, noun in CATEGORIES.items() for n in {c, *noun.synonyms, *noun.generated}]
    assert len({n.lower() for n, _ in names}) == len(names)
    assert all(NOUN_OF[n.lower()] == c for c, others in NOUNS.items() for n in (c, *others))
    assert all(RESERVED.search(noun.reserved) for noun in CATEGORIES.values() if noun.reserved)
    assert [n for n, _ in names if RESERVED.search(n)] == ["soccer ball field"]

"""Truth of expressions for boxes, descriptions, and every real expression of the rule-generated data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from optisar_yolo.language.descriptions import describe
from optisar_yolo.language.paraphrase import reword
from optisar_yolo.language.parser import parse
from optisar_yolo.language.transform import flip, rotate90
from optisar_yolo.language.verify import LabelledObjects

SIZE = (600.0, 300.0)
SEEDS = st.integers(0, 2**32 - 1)


def _box(x: float, y: float, w: float = 30, h: float = 20) -> list[float]:
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


@pytest.mark.parametrize(
    ("caption", "truth"),
    [
        ("The ship in the upper left corner of the image", True),
        ("the vessel at the top left", True),
        ("The ship in the lower left corner of the image", False),
        ("The ship in the middle of the image", False),
        ("The ship on the left side of the image", None),  # loosely true
        ("The ship on the right side of the image", False),
        ("The leftmost ship", True),
        ("The rightmost ship", False),
        ("The ship closest to the top of the image", True),
        ("The largest ship", False),
        ("A small ship in the upper left corner", True),
        ("A big ship in the upper left corner", False),
        ("The white ship in the upper left corner", None),
        ("The white ship in the lower right corner", False),
        ("The ship to the left of the bridge", None),
        ("A ship", None),
    ],
)
def test_truth_without_names(caption: str, truth: bool | None) -> None:
    boxes = np.array([_box(60, 40), _box(300, 150, 60, 40), _box(550, 250)])
    assert LabelledObjects(boxes, None, SIZE).truth(caption, 0) is truth


def test_categories_modalities_and_relations() -> None:
    boxes = np.array([_box(100, 150), _box(400, 150), _box(250, 160)])
    objects = LabelledObjects(boxes, ["optical ship", "optical ship", "optical bridge"], SIZE)
    assert objects.truths("The ship to the left of the bridge") == [True, False, False]
    assert objects.truths("The optical bridge") == [False, False, True]
    assert objects.false_of_all("The SAR bridge") and not objects.false_of_all("The bridge")
    assert objects.false_of_all("The airplane in the middle of the image")
    assert not objects.false_of_all("The largest ship")  # both are of one size
    with pytest.raises(ValueError, match="one name per box"):
        LabelledObjects(boxes, ["optical ship"], SIZE)
    with pytest.raises(ValueError, match="positive"):
        LabelledObjects(boxes, None, (0, 300))


@st.composite
def images(draw: st.DrawFn) -> tuple[np.ndarray, list[str], tuple[float, float]]:
    """Random boxes of a few categories."""
    rng = np.random.default_rng(draw(SEEDS))
    n = draw(st.integers(1, 12))
    w, h = float(rng.integers(200, 800)), float(rng.integers(200, 800))
    centre, half = rng.uniform(0.05, 0.95, (n, 2)), rng.uniform(0.01, 0.05, (n, 2)) * rng.choice([1, 3], (n, 1))
    boxes = np.concatenate([centre - half, centre + half], axis=1).clip(0, 1) * [w, h, w, h]
    names = rng.choice(["optical airplane", "optical T junction", "optical harbor"], n).tolist()
    return boxes, names, (w, h)


@settings(max_examples=150, deadline=None)
@given(images(), SEEDS)
def test_described_means_this_object_alone_also_mirrored_and_reworded(
    image: tuple[np.ndarray, list[str], tuple[float, float]], seed: int
) -> None:
    boxes, names, size = image
    rng = np.random.default_rng(seed)
    objects = LabelledObjects(boxes, names, size)
    mirrored = LabelledObjects(
        np.stack([size[0] - boxes[:, 2], boxes[:, 1], size[0] - boxes[:, 0], boxes[:, 3]], 1), names, size
    )
    # np.rot90 brings a point (x, y) to (y, width - x)
    ccw = np.stack([boxes[:, 1], size[0] - boxes[:, 2], boxes[:, 3], size[0] - boxes[:, 0]], 1)
    upright = LabelledObjects(ccw, names, size[::-1])
    for i in range(len(boxes)):
        for text in describe(objects, i, rng):
            assert objects.singles_out(text, i), text
            assert objects.singles_out(reword(text, rng), i), text
            turned = flip(text, horizontal=True)
            assert turned is not None and mirrored.singles_out(turned, i), (text, turned)
            turned = rotate90(text)
            assert turned is not None and upright.singles_out(turned, i), (text, turned)


def test_every_real_expression_is_true_of_its_box(optsar_real: Path) -> None:
    content = json.loads((optsar_real / "train.json").read_text())
    names = {c["id"]: c["name"] for c in content["categories"]}
    images = {i["id"]: i for i in content["images"]}
    labelled: dict[int, LabelledObjects] = {}
    for a in content["annotations"]:
        image = images[a["image_id"]]
        w, h = image["width"], image["height"]
        if a["image_id"] not in labelled:
            label = (optsar_real / "labels/train" / image["file_name"].replace(".jpg", ".txt")).read_text().split()
            rows = np.array(label, float).reshape(-1, 5)
            boxes = np.concatenate([rows[:, 1:3] - rows[:, 3:] / 2, rows[:, 1:3] + rows[:, 3:] / 2], 1) * [w, h, w, h]
            labelled[a["image_id"]] = LabelledObjects(boxes, [names[int(c)] for c in rows[:, 0]], (w, h))
        objects = labelled[a["image_id"]]
        x, y, bw, bh = a["bbox"]
        gaps = np.abs(objects.boxes - [x, y, x + bw, y + bh]).max(axis=1)
        index = int(gaps.argmin())
        assert gaps[index] < 1.5
        assert objects.truth(a["caption"], index) is True, a


def test_relations_to_an_object_with_attributes() -> None:
    boxes = np.array([_box(100, 60), _box(300, 150), _box(560, 280), _box(300, 30)])
    objects = LabelledObjects(boxes, ["optical ship", "optical bridge", "optical bridge", "optical ship"], SIZE)
    text = "The ship is on the upper left of the bridge in the middle"
    assert parse(text).offset == ("left", "top") and parse(text).landmark == "the bridge in the middle"
    assert objects.truths(text) == [True, False, False, None]
    assert objects.truth("The ship is on the lower left of the bridge in the middle", 0) is False
    assert objects.truth("The ship is on the upper left of the red bridge", 0) is None
    assert objects.truth("The ship is on the lower right of the red bridge", 0) is False
    opt = "There is a bridge in the middle of the image,and the ship that needs to be found is located in the {} of it."
    assert parse(opt.format("upper left corner")).category == "ship"
    assert objects.truth(opt.format("upper left corner"), 0) is True
    assert objects.truth(opt.format("lower right corner"), 0) is False
    assert objects.claims("The ship at the bottom", 0) == {"category": True, "place": False}


@pytest.mark.parametrize(
    "caption",
    [
        "The ship is a little smaller than the bridge",
        "The ship in the middle of the harbor",
        "The ship is lying in the big harbor at the bottom",
    ],
)
def test_what_belongs_to_another_object_is_no_claim_about_this_one(caption: str) -> None:
    query = parse(caption)
    assert query.category == "ship" and query.size is None and query.place is None


def _pair(dx: float, dy: float = 0.0, factor: float = 1.0) -> LabelledObjects:
    """Return two ships whose offset is a share of the image's sides, the second one larger by a factor of area."""
    side = 20 * factor**0.5
    boxes = [_box(240, 120, 20, 20), _box(240 + dx * SIZE[0], 120 + dy * SIZE[1], side, side)]
    return LabelledObjects(np.array(boxes), ["optical ship", "optical ship"], SIZE)


@pytest.mark.parametrize(
    ("words", "dx", "dy"), [("leftmost", 1, 0), ("rightmost", -1, 0), ("topmost", 0, 1), ("bottommost", 0, -1)]
)
def test_a_small_lead_proves_no_superlative(words: str, dx: int, dy: int) -> None:
    assert _pair(0.035 * dx, 0.035 * dy).truths(f"The {words} ship") == [True, False]
    assert _pair(0.025 * dx, 0.025 * dy).truths(f"The {words} ship") == [None, None]


def test_a_small_difference_of_area_proves_no_superlative() -> None:
    assert _pair(0.2, factor=1.25).truths("The largest ship") == [False, True]
    assert _pair(0.2, factor=1.25).truths("The smallest ship") == [True, False]
    assert _pair(0.2, factor=1.15).truths("The largest ship") == [None, None]


@pytest.mark.parametrize(
    ("dx", "dy", "truth"),
    [
        (0.13, 0, True), (0.11, 0, None), (-0.02, 0, None), (-0.04, 0, False), (0.2, 0.12, True), (0.2, 0.13, None),
        (0.12, 0.2, None),
    ],
)  # fmt: skip
def test_a_small_or_oblique_offset_proves_no_relation(dx: float, dy: float, truth: bool | None) -> None:
    boxes = np.array([_box(300 + dx * SIZE[0], 150 + dy * SIZE[1]), _box(300, 150)])
    objects = LabelledObjects(boxes, ["optical ship", "optical dam"], SIZE)
    assert objects.truth("The ship to the right of the dam", 0) is truth


@pytest.mark.parametrize(
    ("dx", "dy", "truth"),
    [(0.2, 0.09, True), (0.2, 0.07, None), (0.2, -0.02, None), (0.2, -0.04, False), (0.06, 0.02, None)],
)
def test_a_diagonal_needs_both_offsets(dx: float, dy: float, truth: bool | None) -> None:
    boxes = np.array([_box(300 + dx * SIZE[0], 150 + dy * SIZE[1]), _box(300, 150)])
    assert LabelledObjects(boxes, None, SIZE).beside(0, 1, "right", "bottom") is truth


def test_centres_just_outside_a_place_are_open() -> None:
    boxes = np.array([_box((1 / 3 + x) * SIZE[0], 150) for x in (-0.02, 0.03, 0.05)])
    assert LabelledObjects(boxes, None, SIZE).truths("The ship on the left side") == [True, None, False]

"""Augmentation and prompts treat any category name as they treat "ship"."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from optisar_yolo.data import augment
from optisar_yolo.data.annotated import AnnotatedImage, mask_uncertain_targets, revalidate_captions
from optisar_yolo.data.compose import copy_paste, mosaic
from optisar_yolo.data.prompts import PromptSampler
from optisar_yolo.language import LabelledObjects, Vocabulary, describe, parse

INVENTED = (
    "van", "truck", "container ship", "helipad", "small-vehicle", "wind turbine", "solar panel", "building",
)  # fmt: skip
SIDE = 128


def layout(names: tuple[str, ...], seed: int, count: int = 5) -> AnnotatedImage:
    """Return an image with objects at random places, each described where something singles it out."""
    rng = np.random.default_rng(seed)
    centres, halves = rng.uniform(10, SIDE - 10, (count, 2)), rng.uniform(2, 10, (count, 1))
    boxes = np.concatenate((centres - halves, centres + halves), 1).clip(0, SIDE).astype(np.float32)
    drawn = tuple(f"optical {names[k]}" for k in rng.integers(len(names), size=count))
    objects = LabelledObjects(boxes, drawn, (SIDE, SIDE))
    captions = tuple(tuple(describe(objects, i, rng)[:1]) for i in range(count))
    return AnnotatedImage(np.zeros((SIDE, SIDE, 3), np.uint8), boxes, drawn, captions, (SIDE, SIDE), "optical")


def augmented(names: tuple[str, ...], seed: int) -> dict[str, AnnotatedImage]:
    images = [layout(names, 4 * seed + k) for k in range(4)]
    rng = np.random.default_rng(seed)
    return {
        "crop": augment.crop(images[0], rng),
        "mosaic": mosaic(images, SIDE, rng),
        "copy_paste": copy_paste(images[0], lambda: images[1], rng),
    }


def survivors(name: str) -> Counter[str]:
    """Count the objects that have a caption after each augmentation, in 60 random layouts."""
    found: Counter[str] = Counter()
    for seed in range(60):
        for step, done in augmented((name,), seed).items():
            found[step] += sum(map(bool, done.captions))
    return found


@pytest.fixture(scope="module")
def ships() -> Counter[str]:
    return survivors("ship")


@pytest.mark.parametrize("name", INVENTED)
def test_captions_of_any_category_survive_as_those_of_ship_do(name: str, ships: Counter[str]) -> None:
    """Objects with a caption in 60 layouts: 245 after crop, 855 after mosaic, 393 after copy-paste, of each name."""
    found = survivors(name)
    assert min(ships.values()) > 100
    assert all(found[step] >= 0.85 * count for step, count in ships.items()), (found, ships)


NAMES = st.lists(
    st.sampled_from(["ship", "boat", "container ship", "small-vehicle", "car", "truck", "dam", "plane", "airplane"]),
    min_size=1, max_size=4, unique=True,
)  # fmt: skip
TOGETHER = ({"ship", "boat", "container ship"}, {"small-vehicle", "car"}, {"car", "truck"}, {"plane", "airplane"})


@settings(max_examples=40, deadline=None)
@given(NAMES, st.integers(0, 10**6))
def test_siblings_never_get_a_false_caption_after_an_augmentation(names: list[str], seed: int) -> None:
    for done in augmented(tuple(names), seed).values():
        centres = (done.boxes[:, :2] + done.boxes[:, 2:]) / 2
        for i, texts in enumerate(done.captions):
            own = done.names[i].removeprefix("optical ")
            alike = [
                k
                for k, other in enumerate(done.names)
                if k != i and (other == done.names[i] or any({own, other[8:]} <= group for group in TOGETHER))
            ]
            for text in texts:
                assert done.objects.truth(text, i) is True
                several = parse(text, done.vocabulary).number is not None
                for k in alike:  # all objects of a set have its caption
                    assert (done.objects.truth(text, k) is True) == (several and text in done.captions[k]), text
                if several or re.match(r"The (second|third|fourth) ", text):
                    continue  # tests/language/test_expressions.py
                if "leftmost" in text:
                    assert all(centres[i, 0] < centres[k, 0] for k in alike), (text, done.names)
                if "rightmost" in text:
                    assert all(centres[i, 0] > centres[k, 0] for k in alike), (text, done.names)


def test_a_cut_boat_leaves_sizes_of_ships_open() -> None:
    boxes = np.array([[10, 10, 50, 50], [80, 80, 90, 90]], np.float32)
    image = AnnotatedImage(
        np.zeros((SIDE, SIDE, 3), np.uint8), boxes, ("optical ship", "optical boat"), ((), ()), (SIDE, SIDE), "optical",
        visible=np.array([1.0, 0.5], np.float32), revalidated=True,
    )  # fmt: skip
    targets = mask_uncertain_targets(image, ["The largest ship"], np.array([[1], [0]], np.float32))
    assert targets.tolist() == [[-1], [-1]]


def test_prompts_teach_nothing_uncertain_of_categories_that_share_a_meaning() -> None:
    names = ["optical ship", "optical boat", "optical van"]
    words = Vocabulary.of(names)
    pool = ["The ship on the left side", "The leftmost boat", "The white van", "A vehicle at the top", "The bridge"]
    sampler = PromptSampler(pool, total=8, reword_share=0.3, categories=1.0, vocabulary=words)
    boxes = np.array([[10, 10, 20, 20], [60, 60, 80, 80], [90, 20, 99, 30]], np.float32)
    for seed in range(30):
        found = sampler([[], [], []], boxes, names, (SIDE, SIDE), np.random.default_rng(seed))
        for text, column in zip(found.texts, found.targets.T, strict=True):
            nouns = {"ship", "boat", "vessel"} & set(text.lower().split())
            if nouns and column.max() == 1:
                assert sorted(column.tolist()) == [-1, 0, 1], (text, column)
            query = parse(text, words)
            if query.category == "vehicle" and query.modality != "sar" and not query.place:
                assert column[2] == -1, text  # a van may be called a vehicle


def test_a_set_keeps_its_caption_while_it_is_whole() -> None:
    boxes = np.array([[10, 10, 20, 20], [10, 60, 20, 70], [100, 50, 110, 60]], np.float32)
    text = "The two vans on the left"
    image = AnnotatedImage(
        np.zeros((SIDE, SIDE, 3), np.uint8),
        boxes,
        ("optical van",) * 3,
        ((text,), (text,), ()),
        (SIDE, SIDE),
        "optical",
    )
    rng = np.random.default_rng(0)
    assert [text in c for c in revalidate_captions(image, rng).captions] == [True, True, False]
    cut = replace(image, visible=np.array([1, 0.1, 1], np.float32))  # the second one is hardly seen
    assert not any(text in c for c in revalidate_captions(cut, rng).captions)
    moved = replace(image, boxes=boxes + np.array([45, 0, 45, 0], np.float32))
    assert not any(text in c for c in revalidate_captions(moved, rng).captions)


def test_objects_that_nothing_singles_out_get_a_set() -> None:
    """Twelve tanks in a dense field: no one of the inner ones is said by a person, and each is one of a set."""
    grid = np.array([(8 + 9 * c, 8 + 9 * r) for c in range(4) for r in range(3)], np.float32)
    boxes = np.concatenate((grid, grid + 6), 1)
    names = ("optical tank",) * 12
    image = AnnotatedImage(np.zeros((SIDE, SIDE, 3), np.uint8), boxes, names, ((),) * 12, (SIDE, SIDE), "optical")
    done = revalidate_captions(image, np.random.default_rng(0))
    assert all(done.captions)
    for text in {t for texts in done.captions for t in texts}:
        members = [i for i, texts in enumerate(done.captions) if text in texts]
        assert (len(members) > 1) == (parse(text, done.vocabulary).number is not None), text
        assert [v is True for v in done.objects.truths(text)] == [i in members for i in range(12)], text

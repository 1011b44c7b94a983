"""Copies of images with rare objects: which, with which boxes, and what becomes of the captions."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hand_samples import NAMES, SIZE, begin, image, instance, recipe, run
from hypothesis import given, settings, strategies as st

from optisar_yolo.construction.copies import (
    RewrittenCaption,
    by_rules,
    conflicts,
    disproved,
    expand,
    labelled_objects,
    turn_box,
)
from optisar_yolo.construction.samples import TRANSFORMS, Sample, SampleFile
from optisar_yolo.construction.steps import Report
from optisar_yolo.construction.transforming import choose, transform
from optisar_yolo.data.config import DataError
from optisar_yolo.language.parser import parse
from optisar_yolo.utils.options import UsageError

CAPTIONS = Path(__file__).resolve().parents[3] / "shared" / "data" / "captions"
UPPER_LEFT, LOWER_RIGHT, MIDDLE = [10.0, 10.0, 50.0, 40.0], [540.0, 250.0, 590.0, 290.0], [280.0, 130.0, 320.0, 170.0]


def crowd(rng: np.random.Generator, images: int) -> list[Sample]:
    """Images with one to five objects, most of them ships."""
    samples = []
    for k in range(images):
        kinds = rng.choice(NAMES[:3], int(rng.integers(1, 6)), p=[0.8, 0.15, 0.05])
        objects = []
        for n, kind in enumerate(kinds):
            x, y = rng.uniform(0, 550), rng.uniform(0, 270)
            objects.append(
                instance(f"p{k}#{n}", [x, y, x + 40, y + 20], str(kind), f"The {kind.split()[1]} number {n}")
            )
        samples.append(image(f"p{k}", *objects))
    return samples


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(0, 60))
def test_rare_categories_reach_the_target_and_no_more(seed: int, images: int, target: int) -> None:
    samples = crowd(np.random.default_rng(seed), images)
    choice = choose(samples, target, seed=seed)
    after = Counter(choice.counts)
    rare = {c for c, n in choice.counts.items() if n < choice.target}
    for position, transforms in choice.copies.items():
        assert transforms and len(set(transforms)) == len(transforms) and set(transforms) <= set(TRANSFORMS)
        held = Counter(i.category for i in samples[position].instances)
        assert rare & set(held)
        for _ in transforms:
            after.update(held)
    assert all(after[c] < choice.target + 5 for c in rare)  # an image holds five objects at most
    assert choice == choose(samples, target, seed=seed)
    by_name = {samples[p].name: t for p, t in choice.copies.items()}
    backwards = choose(samples[::-1], target, seed=seed)
    assert by_name == {samples[::-1][p].name: t for p, t in backwards.copies.items()}


def test_every_image_once_before_any_twice_and_few_frequent_objects_first() -> None:
    ship, dam = ("optical ship", UPPER_LEFT), ("optical dam", MIDDLE)
    contents = [[ship] * 3] * 4 + [[dam, ship]] * 3 + [[dam]] * 2
    samples = [
        image(f"p{k}", *(instance(f"p{k}#{n}", box, name) for n, (name, box) in enumerate(c)))
        for k, c in enumerate(contents)
    ]
    assert set(choose(samples, 7).copies) == {7, 8}
    assert {len(t) for t in choose(samples, 7).copies.values()} == {1}
    ten = choose(samples, 10).copies
    assert set(ten) == {4, 5, 6, 7, 8} and {len(t) for t in ten.values()} == {1}
    assert {p: len(t) for p, t in choose(samples, 12).copies.items()} == {4: 1, 5: 1, 6: 1, 7: 2, 8: 2}
    assert sum(map(len, choose(samples, 15).copies.values())) == 10
    assert choose(samples).target == 5 and not choose(samples).copies  # of 15 ships and 5 dams the lower median


def test_validation_and_test_images_and_copies_are_not_copied() -> None:
    def dam(name: str, split: str = "", **more: str) -> Sample:
        return image(name, instance(f"{name}#0", MIDDLE, "optical dam", split=split), **more)

    samples = [
        dam("a"), dam("b", split="test"), dam("c", split="train"), dam("d"), dam("e@hflip", transform="hflip"),
    ]  # fmt: skip
    samples[3].split = "val"
    assert set(choose(samples, 100, by_source=True).copies) == {0, 2}
    assert set(choose(samples, 100).copies) == {0, 1, 2}


@given(st.tuples(*[st.floats(0, 299)] * 4), st.sampled_from(TRANSFORMS))
def test_boxes_turn_exactly_and_come_back(box: tuple[float, float, float, float], way: str) -> None:
    x1, y1, x2, y2 = turn_box(box, way, SIZE)
    assert (x1, x2) == ((box[0], box[2]) if way == "vflip" else (600 - box[2], 600 - box[0]))
    assert (y1, y2) == ((box[1], box[3]) if way == "hflip" else (300 - box[3], 300 - box[1]))
    assert turn_box((x1, y1, x2, y2), way, SIZE) == pytest.approx(box, abs=1e-9)


def test_a_copy_says_what_is_true_of_it() -> None:
    sample = image(
        "p",
        instance("p#0", UPPER_LEFT, "optical ship", "The ship in the upper left corner", "A grey ship", flags=["seen"]),
        instance("p#1", LOWER_RIGHT, "optical ship", "The rightmost ship", "The ship on the left", split="train"),
        instance("p#2", MIDDLE, "optical dam"),
        split="train",
    )
    outcome = expand(sample, TRANSFORMS, by_rules)
    original, *copies = outcome.samples
    assert [c.name for c in copies] == ["p@hflip", "p@vflip", "p@rot180"] and all(c.origin == "p" for c in copies)
    assert [i.id for i in copies[0].instances] == ["p#0@hflip", "p#1@hflip", "p#2@hflip"]
    assert copies[0].instances[1].box == (10, 250, 60, 290) and copies[0].path == sample.path
    assert [c.instances[0].captions for c in copies] == [
        ["The ship in the upper right corner", "A grey ship"],
        ["The ship in the lower left corner", "A grey ship"],
        ["The ship in the lower right corner", "A grey ship"],
    ]
    assert [c.instances[1].captions for c in copies] == [
        ["The leftmost ship"], ["The rightmost ship"], ["The leftmost ship"]
    ]  # fmt: skip
    assert copies[0].instances[2].captions == [] and copies[0].instances[1].split == copies[0].split == "train"
    # the source's own error: flagged there, carried nowhere
    assert original.instances[1].captions == sample.instances[1].captions
    assert original.instances[1].flags == ["false: the box disproves the place in 'The ship on the left'"]
    assert copies[0].instances[0].flags == ["seen"] and sample.instances[1].flags == []
    counts = {k: v for k, v in outcome.counts.items() if v}
    assert counts == {
        "captions checked": 4, "false at the source": 1, "copies": 3, "captions to carry over": 9,
        "captions rewritten": 5, "captions unchanged (no direction)": 4,
    }  # fmt: skip


def test_what_cannot_be_rewritten_is_replaced_or_dropped() -> None:
    sample = image(
        "p",
        instance("p#0", UPPER_LEFT, "optical ship", "The ship turning clockwise"),
        instance("p#1", LOWER_RIGHT, "optical ship", "A ship"),
    )
    replaced = expand(sample, ["hflip"], by_rules)
    (text,) = replaced.samples[1].instances[0].captions
    assert labelled_objects(replaced.samples[1]).singles_out(text, 0) and replaced.counts["captions replaced"] == 1
    dropped = expand(sample, ["hflip"], by_rules, replace_lost=False)
    assert dropped.samples[1].instances[0].captions == [] and dropped.counts["captions dropped"] == 1
    assert dropped.problems[0][0] == "caption that was not rewritten"
    sample.instances.pop()  # then nothing is left to say of the copy
    nothing = expand(sample, ["hflip", "rot180"], by_rules, replace_lost=False)
    assert [s.name for s in nothing.samples] == ["p", "p@rot180"]  # a half turn keeps "clockwise"
    assert nothing.problems[-1] == ("copy without any caption left, not made", "p@hflip")


@pytest.mark.parametrize("bad", ["", "\u200b", 7])
def test_what_was_never_cleaned_is_named(bad: object) -> None:
    with pytest.raises(DataError, match="own/a.jpg.*optisar dataset clean"):
        expand(image("own/a.jpg", instance("#0", UPPER_LEFT, "optical ship", bad)), [], by_rules)


def test_a_rewriter_that_lies_is_found_out() -> None:
    objects = labelled_objects(
        image(
            "p",
            instance("0", UPPER_LEFT, "optical ship"),
            instance("1", LOWER_RIGHT, "optical ship"),
            instance("2", MIDDLE, "optical harbor"),
        )
    )
    for caption, claim in {
        "The ship at the bottom": "place",
        "The rightmost ship": "extreme",
        "The ship to the right of the harbor": "relation",
        "The big ship": "size",
        "The harbor": "category",
    }.items():
        assert disproved(caption, 0, objects) == [claim]
        (conflict,) = conflicts(caption, 0, objects)
        assert conflict.startswith(f"{claim}: ")
    assert "x = 30, y = 25" in conflicts("The ship at the bottom", 0, objects)[0]
    assert not conflicts("The leftmost small ship, in the upper left corner", 0, objects)


def test_counts_are_the_same_with_threads_and_the_objects_added_are_told() -> None:
    samples = crowd(np.random.default_rng(0), 60)
    one, two = Report(), Report()
    alone = list(transform(samples, one, target=30))
    assert alone == list(transform(samples, two, target=30, jobs=3)) and one == two
    before = Counter(i.category for s in samples for i in s.instances)
    after = Counter(i.category for s in alone for i in s.instances)
    assert one.counts["optical dam added"] == after["optical dam"] - before["optical dam"] > 0
    assert "optical ship added" not in one.counts
    names = [s.name for s in alone]
    assert len(set(names)) == len(names) and {s.origin for s in alone} == {s.name for s in samples}
    assert all(s.origin == alone[k - 1].origin for k, s in enumerate(alone) if s.transform)


def test_the_command_leaves_rates_and_is_not_repeated(tmp_path: Path) -> None:
    begin(tmp_path, crowd(np.random.default_rng(1), 20), recipe(), step="clean")
    run("transform", tmp_path, target=12, dry_run=True)
    assert not (tmp_path / "transform").exists()
    run("transform", tmp_path, target=12)
    target = tmp_path / "transform" / "samples.jsonl"
    stamp = target.stat().st_mtime_ns
    rates = json.loads((tmp_path / "transform" / "report.json").read_text())["percent"]
    assert rates["captions unchanged (no direction)"] == 100.0 and rates["false at the source"] == 0.0
    run("transform", tmp_path, target=12)
    assert target.stat().st_mtime_ns == stamp
    assert any(s.transform for s in SampleFile(target))


@pytest.mark.parametrize(
    "wrong",
    [
        {"rewrite": "magic"}, {"fallback": "x"}, {"target": -1}, {"tries": 0}, {"timeout": 0.0},
        {"price_out": float("nan")},
    ],
)  # fmt: skip
def test_values_that_mean_nothing_are_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        run("transform", tmp_path, **wrong)


@pytest.fixture(scope="module")
def real() -> list[Sample]:
    """Images with the real boxes and expressions of DIOR-RSVG; skip where they are not there."""
    file = CAPTIONS / "DIOR_RSVG_train.json"
    if not file.is_file():
        pytest.skip(f"real expressions are not part of the repository, and {file} does not exist")
    found = defaultdict(list)
    for record in json.loads(file.read_text(encoding="utf-8")):
        found[record["image"]].append(record)
    samples = []
    for name, records in list(found.items())[::12]:
        objects = [
            instance(f"{name}#{k}", r["bbox_xyxy"], f"optical {parse(r['phrase']).category}", r["phrase"])
            for k, r in enumerate(records)
        ]
        samples.append(Sample(name, name, "dior", "optical", 800, 800, objects))
    return samples


def test_real_captions_stay_true_and_come_back(real: list[Sample]) -> None:
    carried = false = conflicts = 0
    for sample in real:
        outcome = expand(sample, TRANSFORMS, by_rules)
        carried += outcome.counts["captions to carry over"]
        false += outcome.counts["false at the source"]
        conflicts += outcome.counts["conflicts found"]
        for copy in outcome.samples[1:]:
            objects = labelled_objects(copy)
            for k, i in enumerate(copy.instances):
                assert all(objects.truth(c, k) is not False for c in i.captions), (copy.name, i)
            back = expand(copy, [copy.transform], by_rules).samples[1]
            for was, turned, now in zip(sample.instances, copy.instances, back.instances, strict=True):
                assert now.box == pytest.approx(was.box, abs=1e-9)
                assert not turned.captions or now.captions == was.captions
    assert carried > 3000 and false < 0.01 * carried and conflicts == 0


def test_an_answer_of_none_and_one_that_conflicts_are_the_same_to_a_copy() -> None:
    sample = image("p", instance("p#0", UPPER_LEFT, "optical ship", "The ship in the upper left corner"))
    outcome = expand(
        sample, ["hflip"], lambda task: RewrittenCaption(None, conflicts=2, reason="no"), replace_lost=False
    )
    assert len(outcome.samples) == 1 and outcome.counts["conflicts found"] == 2

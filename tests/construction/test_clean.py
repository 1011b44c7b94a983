"""Cleaning: boxes, categories and their words, records and captions said twice, images that cannot be read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hand_samples import SIZE, begin, image, instance, recipe, run, write_image
from hypothesis import given, strategies as st

from optisar_yolo.construction.cleaning import INSIDE, SAME, clean, mend, merge, settle
from optisar_yolo.construction.finer_words import Unifier
from optisar_yolo.construction.samples import Sample, SampleFile
from optisar_yolo.construction.steps import Report
from optisar_yolo.data.config import DataError
from optisar_yolo.data.records import Skips
from optisar_yolo.language.nouns import Vocabulary
from optisar_yolo.utils.boxes import iou
from optisar_yolo.utils.options import UsageError

BOX = [100.0, 50.0, 200.0, 120.0]
FINE = (
    "Nimitz", "Aircraft Carrier", "Other Warship", "Other Ship", "container-ship", "Oil_Tanker", "Ferry", "Dock",
    "LCAC", "Other", "small ship", "AS", "3", "Ship", "Yu/Ting LL", "Patrol Boat", "Wasp",
)  # fmt: skip


def problems(report: Report) -> dict[str, int]:
    return report.problems.counts


@pytest.mark.parametrize(
    ("box", "fate"),
    [
        ((10, 20, 30, 40), (10, 20, 30, 40)),
        ((-10, 20, 30, 40), (0, 20, 30, 40)),
        ((580, 280, 610, 305), (580, 280, 600, 300)),
        ((-100, 20, 30, 40), "mostly outside"),
        ((700, 20, 800, 40), "mostly outside"),
        ((10, 20, 10, 40), "zero or negative"),
        ((30, 20, 10, 40), "zero or negative"),
        ((10, 40, 30, 20), "zero or negative"),
        ((math.nan, 20, 30, 40), "four finite numbers"),
        ((10, 20, math.inf, 40), "four finite numbers"),
        ((-1e308, 0, 1e308, 10), "mostly outside"),
        ((10, 20, 30), "four finite numbers"),
        (("10", 20, 30, 40), "four finite numbers"),
        ((True, 20, 30, 40), "four finite numbers"),
        (None, "four finite numbers"),
    ],
)
def test_boxes(box: Any, fate: Any) -> None:
    skips = Skips()
    assert mend(box, SIZE, "x", skips) == (fate if isinstance(fate, tuple) else None)
    assert any(fate in p for p in skips.counts) if isinstance(fate, str) else not any("drop" in p for p in skips.counts)


@given(st.tuples(*[st.floats(-1000, 1000)] * 4))
def test_a_box_is_dropped_or_inside(box: tuple[float, float, float, float]) -> None:
    done = mend(box, SIZE, "x", Skips())
    if done is not None:
        assert 0 <= done[0] < done[2] <= SIZE[0] and 0 <= done[1] < done[3] <= SIZE[1]
        assert iou(done, box) >= INSIDE - 1e-9


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("An aircraft carrier on the left", "A ship on the left"),
        ("A aircraft_carrier", "A ship"),
        ("The Nimitz-class aircraft carrier ship left of an oil tanker", "The ship left of a ship"),
        ("two ferries near the dock", "two ships near the dock"),
        ("The ship of the Nimitz class", "The ship"),
        ("The Other warship near another warship", "The ship near another ship"),
        ("the other side, the others", "the other side, the others"),
        ("A containership next to the Container Ships", "A ship next to the ships"),
        ("An LCAC and a wasp-like thing", "A ship and a wasp-like thing"),
        ("Nimitz vessel; nimitz carriers; a carrier", "Ship; ships; a carrier"),
        ("Nimitz-ship", "Ship"),
        ("YU TING LL", "SHIP"),
        ("A small ship as big as the 3 others", "A small ship as big as the 3 others"),
        ("The vessel beside the ship", "The vessel beside the ship"),
        ("An other ship", "A ship"),
    ],
)
def test_finer_words(caption: str, expected: str) -> None:
    unifier = Unifier({word: "ship" for word in FINE})
    assert unifier.rewrite(caption) == expected
    assert unifier.rewrite(expected) == expected


def test_every_source_has_its_own_words_and_other_spellings_of_the_noun_stay() -> None:
    unifier = Unifier({"storagetank": "storage tank", "plane": "airplane", "Boeing 737": "airplane"})
    assert unifier.rewrite("A plane near the storage tank") == "An airplane near the storage tank"
    assert unifier.rewrite("two Boeing737s") == "two airplanes"
    assert Unifier({}).rewrite("A plane") == "A plane"
    mixed = Unifier(
        {"Aircraft": "airplane", "Aircraft Carrier": "ship", "tank": "storage tank", "court": "tennis court"}
    )
    assert mixed.rewrite("An aircraft carrier with aircrafts") == "A ship with airplanes"
    assert mixed.rewrite("A tank by the storage tanks") == "A storage tank by the storage tanks"
    assert mixed.rewrite("The court by the basketball court") == "The tennis court by the basketball court"


@given(st.lists(st.sampled_from([*FINE, "ferries", "ship", "a", "-", "class", "of"]) | st.text(max_size=4), max_size=8))
def test_any_text_can_be_rewritten(words: list[str]) -> None:
    unifier = Unifier({word: "ship" for word in FINE})
    assert "nimitz" not in unifier.rewrite(" ".join([*words, "the Nimitz"])).rsplit(" ", 1)[-1].lower()
    unifier.rewrite("".join(words))
    assert unifier.rewrite("the \u017fhip, the wa\u017fp") == "the \u017fhip, the wa\u017fp"


def test_categories_and_captions_are_unified_and_counted(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.jpg", 0)
    own = {"categories": {"Harbor": "optical harbor", "*": "optical ship"}}
    sample = image(
        "own/a.jpg",
        instance("a#0", BOX, "Nimitz", "The Nimitz to the left of the ferry", " \n", None, 7),
        instance("a#1", [300.0, 50.0, 400.0, 120.0], "Ferry", "A   ferry\ton the right"),
        instance("a#2", [0.0, 0.0, 600.0, 300.0], "harbor", "\u200b"),
        path=path,
    )
    report = Report()
    (done,) = clean([sample], report, recipe(own=own))
    assert [i.category for i in done.instances] == ["optical ship", "optical ship", "optical harbor"]
    assert [i.captions for i in done.instances] == [
        ["The ship to the left of the ship"], ["A ship on the right"], []
    ]  # fmt: skip
    assert report.counts == {"captions rewritten": 2}
    assert problems(report)["caption without a visible character, dropped"] == 4
    assert sample.instances[0].captions[0].startswith("The Nimitz")  # what came in is as it was


def test_two_sources_may_share_a_folder(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.jpg", 0)
    samples = [image(f"{s}/a", instance(f"{s}/a#0", BOX, "ship"), path=path, source=s) for s in ("boats", "own")]
    source = {"format": "voc", "path": "own", "modality": "optical"}
    both = recipe(
        sources=[
            {**source, "name": "boats", "categories": {"dam": "optical dam"}},
            {**source, "name": "own", "categories": {"ship": "optical ship"}},
        ]
    )
    assert [s.name for s in clean(samples, Report(), both)] == ["own/a"]


def test_a_modality_in_a_caption_is_no_finer_word(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.jpg", 0)
    sample = image("a", instance("a#0", BOX, "optical ship", "The optical ship on the left"), path=path)
    (done,) = clean([sample], Report(), recipe(own={"categories": {"optical ship": "optical ship"}}))
    assert done.instances[0].captions == ["The optical ship on the left"]


def test_unknown_categories_go_and_the_other_modality_is_refused(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.jpg", 0)
    sample = image("a", instance("a#0", BOX, "ship"), instance("a#1", BOX, "whale"), path=path)
    report = Report()
    (done,) = clean([sample], report, recipe(own={"categories": {"ship": "optical ship"}}))
    assert [i.id for i in done.instances] == ["a#0"]
    assert problems(report) == {"object of a category that the recipe does not name, dropped": 1}
    with pytest.raises(DataError, match="own is optical.*sar ship"):
        list(clean([sample], Report(), recipe(own={"categories": {"*": "sar ship"}})))
    sample.source = "elsewhere"
    with pytest.raises(DataError, match="'elsewhere' is not in the recipe"):
        list(clean([sample], Report(), recipe()))


def test_records_of_one_object_become_one() -> None:
    near = [100.0, 50.0, 200.2, 120.0]
    objects = [
        instance("#0", BOX, "optical ship", "A ship", split="train"),
        instance("#1", near, "optical ship", "a ship.", "The white ship", split="test", flags=["f"]),
        instance("#2", near, "optical harbor", "A harbor"),
        instance("#3", [100.0, 50.0, 205.0, 120.0], "optical ship", "A ship"),
    ]
    assert iou(BOX, near) > SAME > iou(BOX, objects[3].box)
    report = Report()
    merged = merge(objects, report)
    assert [(i.id, i.captions) for i in merged] == [
        ("#0", ["A ship", "The white ship"]), ("#2", ["A harbor"]), ("#3", ["A ship"])
    ]  # fmt: skip
    assert merged[0].flags == ["f"] and merged[0].box == tuple(BOX)
    assert problems(report) == {"object recorded twice, merged": 1, "caption said twice of one object, kept once": 1}
    assert objects[0].captions == ["A ship"]
    assert len(merge(objects, Report(), by_source=True)) == 4  # the sources' own splits stay what they were
    assert merge(merged, Report()) == merged


def test_a_recipe_that_keeps_the_splits_keeps_records_of_two_splits_apart(tmp_path: Path) -> None:
    twins = [instance(f"#{s}", BOX, "ship", f"A {s} ship", split=s) for s in ("train", "test")]
    sample = image("a", *twins, path=write_image(tmp_path / "a.jpg", 0))
    for build, left in (({}, 1), ({"split": None}, 1), ({"split": {"by": "source"}}, 2)):
        (done,) = clean([sample], Report(), recipe(build=build))
        assert len(done.instances) == left and sum(len(i.captions) for i in done.instances) == 2


def test_a_caption_of_two_objects_is_flagged_or_dropped() -> None:
    far = [400.0, 50.0, 500.0, 120.0]
    objects = [
        instance("#0", BOX, "optical ship", "A ship", "The left ship"),
        instance("#1", far, "optical ship", "a ship."),
    ]
    report = Report()
    flagged = settle(objects, report)
    assert [len(i.flags) for i in flagged] == [1, 1] and "'A ship' is said of 2 objects" in flagged[0].flags[0]
    assert report.counts == {"captions said of several objects": 2}
    assert [i.captions for i in settle(objects, Report(), drop=True)] == [["The left ship"], []]
    # one object in two splits of its source is one object
    twins = [instance("#0", BOX, "optical ship", "A ship"), instance("#1", BOX, "optical ship", "A ship")]
    assert settle(twins, Report()) == twins


def test_images_that_cannot_be_read_or_came_before_go(tmp_path: Path) -> None:
    good = write_image(tmp_path / "good.jpg", 0)
    content = Path(good).read_bytes()
    files = {"empty.jpg": b"", "text.png": b"no image", "same.jpg": content, "half.jpg": content[: len(content) // 2]}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "folder.jpg").mkdir()
    names = ("good.jpg", *files, "folder.jpg", "missing.jpg")
    samples = [image(n, instance(f"{n}#0", BOX, "ship"), path=str(tmp_path / n)) for n in names]
    report = Report()
    assert [s.name for s in clean(samples, report, recipe(), jobs=2)] == ["good.jpg", "half.jpg"]
    assert problems(report)["image that cannot be read, dropped"] == 4
    assert problems(report)["image whose file equals an earlier one, dropped"] == 1
    assert [s.name for s in clean(samples, Report(), recipe(), pixels=True)] == ["good.jpg"]
    assert [s.name for s in clean(samples, Report(), recipe(), hash=False)] == ["good.jpg", "same.jpg", "half.jpg"]
    with pytest.raises(DataError, match="no image is left.*cannot be read"):
        list(clean(samples[1:3], Report(), recipe()))


def test_the_size_of_the_file_counts(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png", 0, (320, 200))
    report = Report()
    sample = image("a", instance("a#0", BOX, "ship"), instance("a#1", [400, 100, 500, 180], "ship"), path=path)
    (done,) = clean([sample], report, recipe())
    assert (done.width, done.height) == (320, 200) and [i.id for i in done.instances] == ["a#0"]
    assert "says 600x300, the file is 320x200" in done.instances[0].flags[0]


def test_the_command_writes_what_the_function_gives(tmp_path: Path) -> None:
    samples: list[Sample] = []
    for k in range(4):
        path = write_image(tmp_path / f"{k}.jpg", k % 3)
        samples.append(image(f"own/{k}.jpg", instance(f"own/{k}.jpg#0", BOX, "Ferry", "A ferry"), path=path))
    work = tmp_path / "work"
    begin(work, samples, recipe())
    run("clean", work)
    done = list(SampleFile(work / "clean" / "samples.jsonl"))
    assert [s.name for s in done] == ["own/0.jpg", "own/1.jpg", "own/2.jpg"]
    assert done == list(clean(samples, Report(), recipe()))
    with pytest.raises(UsageError, match="must be one of flag, drop, keep"):
        run("clean", work, ambiguous="maybe")


def test_finer_words_are_those_of_the_data_sets_own_nouns() -> None:
    names = ("optical helipad", "optical airport", "optical small-vehicle")
    own = Vocabulary.of(names, {"helipad": ["landing pad"]})
    # another category's name stays: relations name it
    assert Unifier({"helipad": "airport", "JFK": "airport"}, own).rewrite("JFK left of the helipad").endswith("helipad")
    # a size beside the noun stays
    assert Unifier({"small helipad": "helipad"}, own).rewrite("The small helipad") == "The small helipad"
    # a declared synonym beside a finer word is not doubled
    assert Unifier({"Alpha": "helipad"}, own).rewrite("The Alpha landing pad") == "The helipad"
    # the same without the data set's nouns, so that the test means something
    assert Unifier({"Alpha": "helipad"}).rewrite("The Alpha landing pad") == "The helipad landing pad"
    assert Unifier({"small helipad": "helipad"}).rewrite("The small helipad") == "The helipad"

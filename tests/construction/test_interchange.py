"""Objects under review on their way to other tools and back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from review_set import NAMES, make_work, run

from optisar_yolo.construction.review import interchange
from optisar_yolo.construction.review.decisions import DecisionLog
from optisar_yolo.construction.samples import SampleFile
from optisar_yolo.construction.steps import Report
from optisar_yolo.data.config import DataError


@pytest.fixture
def work(tmp_path):
    return make_work(tmp_path)


@pytest.fixture
def samples(work):
    return list(SampleFile(work / "import" / "samples.jsonl"))


def exported(work, **options):
    run(work, export=str(work / "out.json"), **options)
    return json.loads((work / "out.json").read_text(encoding="utf-8"))


def imported(work, content, **options):
    """Read a changed export back; return object id to decision, of those that it made."""
    before = dict(DecisionLog(work / "review" / "journal.jsonl").last)
    (work / "out.json").write_text(json.dumps(content), encoding="utf-8")
    run(work, **{"import": str(work / "out.json")}, **options)
    after = DecisionLog(work / "review" / "journal.jsonl").last
    return {i: d for i, d in after.items() if before.get(i) != d}


def bare(content):
    """Return what a tool leaves that keeps the boxes alone, renames files and counts anew."""
    for number, note in enumerate(content["annotations"][::-1], 50):
        note.pop("attributes")
        note.pop("caption")
        note["id"] = number
        note["bbox"] = [v + 0.2 for v in note["bbox"]]
    for image in content["images"]:
        image["file_name"] = "images/0a1b2c3d-" + image["file_name"].split("/")[-1]
    return content


@pytest.mark.parametrize("show", ["flagged", "all"])
@pytest.mark.parametrize("tool", [lambda c: c, bare])
def test_there_and_back_decides_nothing(work, show, tool):
    content = exported(work, show=show, **{"images" if show == "all" else "pictures": True})  # the former name works
    assert len(content["annotations"]) == 5 and [c["name"] for c in content["categories"]] == NAMES
    assert (work / "out_images" / "s" / "a.jpg").is_file()
    assert imported(work, tool(content)) == {}


def test_a_box_that_is_none_and_half_a_character_survive_the_way(work, samples):
    samples[1].instances[0].box = (float("nan"), 1.0, 5.0, 5.0)
    interchange.write_coco(work / "out.json", samples, {})
    text = (work / "out.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    assert not list(interchange.decisions_of(work / "out.json", samples, Report(), {}))
    content = json.loads(text)
    content["annotations"][0]["caption"] = "half \ud800 a character"
    assert imported(work, content)["s/a.jpg#0"].action == "correct"
    assert DecisionLog(work / "review" / "journal.jsonl").last["s/a.jpg#0"].captions[0].startswith("half")


def test_changes_come_back_as_decisions(work):
    content = exported(work)
    notes = {n["attributes"]["object"]: n for n in content["annotations"]}
    notes["s/a.jpg#0"]["bbox"] = [10, 10, 50, 50]
    notes["s/a.jpg#1"]["caption"] = "a ship | the middle ship"
    notes["s/a.jpg#2"]["category_id"] = 2
    notes["s/b.tif#0"]["attributes"]["review"] = "accept"
    content["annotations"].remove(notes["s/b.tif#1"])
    made = imported(work, content)
    assert {i: d.action for i, d in made.items()} == {
        "s/a.jpg#0": "correct", "s/a.jpg#1": "correct", "s/a.jpg#2": "correct",
        "s/b.tif#0": "accept", "s/b.tif#1": "reject",
    }  # fmt: skip
    assert made["s/a.jpg#0"].box == (10, 10, 60, 60) and made["s/a.jpg#0"].captions is None
    assert made["s/a.jpg#1"].captions == ("a ship", "the middle ship") and made["s/a.jpg#1"].box is None
    assert made["s/a.jpg#2"].category == "optical airplane" and made["s/a.jpg#2"].by == "out.json"
    assert imported(work, content) == {}  # the second time it is what is decided already
    assert imported(work, exported(work, show="all")) == {}


def test_without_attributes_boxes_are_matched_in_their_image(work):
    content = bare(exported(work))
    by_box = {tuple(map(round, n["bbox"])): n for n in content["annotations"]}
    by_box[150, 100, 60, 30]["bbox"] = [155, 103, 60, 30]
    content["annotations"].remove(by_box[120, 150, 61, 31])
    made = imported(work, content)
    assert {i: d.action for i, d in made.items()} == {"s/b.tif#0": "correct", "s/a.jpg#0": "reject"}


def test_what_is_missing_or_broken_rejects_nothing(work):
    content = exported(work)
    content["images"] = content["images"][:1]  # the tool was given one image
    content["annotations"][0]["bbox"] = [1, 2, float("nan"), 4]
    content["annotations"] = [content["annotations"][0], {"image_id": 1, "id": 9}, *content["annotations"][3:], 7]
    content["annotations"].append({"image_id": 1, "id": 10, "category_id": 77, "bbox": [600, 400, 20, 20]})
    report = Report()
    (work / "out.json").write_text(json.dumps(content))
    source = SampleFile(work / "import" / "samples.jsonl")
    assert list(interchange.decisions_of(work / "out.json", source, report, {}, NAMES)) == []
    assert report.counts == {"images in the file": 1, "images not in the file": 1}
    assert report.problems.counts["annotation without a box of positive area, its image loses no object"] == 2
    assert report.problems.counts["annotation that belongs to no object, ignored"] == 1


@pytest.mark.parametrize("content", ["", "prose", "[]", "{}", "[" * 100_000, '{"images": 3}', "EMPTY"])
def test_a_file_that_is_no_export_is_refused(work, content):
    if content == "EMPTY":
        content = json.dumps(exported(work) | {"annotations": []})  # would reject everything
    (work / "out.json").write_text(content)
    with pytest.raises(DataError, match=r"out\.json"):
        run(work, **{"import": str(work / "out.json")})
    with pytest.raises(DataError, match=r"none\.json"):
        run(work, **{"import": str(work / "none.json")})
    assert not (work / "review").exists()


def test_an_export_that_cannot_be_written_says_so(work, samples):
    (work / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        run(work, export=str(work / "file" / "out.json"))
    for hostile in (
        replace(samples[0], name="../../a.jpg"),
        replace(samples[0], name="a.jpg@hflip", transform="hflip"),
    ):
        with pytest.raises(DataError, match="a.jpg"):
            interchange.write_coco(work / "out.json", [hostile], {}, images=True)
    assert not (work / "out.json").exists()

"""Every check of `validate` finds the damage that it is there for, and a good set passes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hand_samples import run
from small_set import NAMES, make_work, samples_of

from optisar_yolo.construction.samples import Sample
from optisar_yolo.construction.split_checks import ExpressionNote, Findings, check_expressions
from optisar_yolo.construction.validating import config_in, validate
from optisar_yolo.data.config import DataError, load_dataset_config
from optisar_yolo.utils import UsageError


def build(root: Path, samples: list[Sample] | None = None) -> Path:
    """Write a set from samples; return its folder."""
    run("write", make_work(root, samples), to=root / "out", link=False)
    return root / "out"


def check(root: Path, **options: Any) -> Findings:
    findings = Findings(options.pop("strict", False))
    validate(load_dataset_config(config_in(str(root))), findings, **options)
    return findings


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("good"))


@pytest.fixture
def out(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "out"))


def test_a_good_set_has_nothing_to_report(good: Path) -> None:
    findings = Findings(strict=True)
    released = {"all": {"images": 12, "expressions": 24}, "train": {"images": 4}}
    result = validate(load_dataset_config(good / "small.yaml"), findings, released)
    assert findings.rows() == [] and result["valid"]
    assert result["counts"]["all"] == {"pictures": 12, "expressions": 24}
    assert result["expressions"]["checked against boxes"] == 24


def note(content: dict[str, Any], **changes: Any) -> None:
    content["annotations"][0].update(changes)


DAMAGES: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("annotation id used twice", lambda c: note(c, id=1)),
    ("annotation without an id", lambda c: note(c, id=[1])),
    ("annotation without an id", lambda c: c["annotations"].insert(0, None)),
    ("annotation of no known image", lambda c: note(c, image_id=99)),
    ("annotation of no known image", lambda c: note(c, image_id={})),
    ("annotation of unknown category", lambda c: note(c, category_id=9)),
    ("category_name that is not its category_id's", lambda c: note(c, category_name="sar ship")),
    ("box that is not four finite numbers of positive area", lambda c: note(c, bbox=[1, 1, 0, 5])),
    ("box that is not four finite numbers of positive area", lambda c: note(c, bbox=[1, float("nan"), 2, 5])),
    ("box that is not four finite numbers of positive area", lambda c: note(c, bbox="box")),
    ("box that leaves its image", lambda c: note(c, bbox=[90, 5, 20, 12])),
    ("annotation that the label file lacks", lambda c: note(c, bbox=[40, 5, 20, 12])),
    ("XML file that differs from the JSON file", lambda c: note(c, caption="The other ship")),
    ("caption that says nothing", lambda c: note(c, caption=" ")),
    ("caption that says nothing", lambda c: note(c, caption=None)),
    ("image id used twice", lambda c: c["images"][1].update(id=0)),
    ("image listed twice", lambda c: c["images"][1].update(file_name=c["images"][0]["file_name"])),
    ("image record without id and file_name", lambda c: c["images"].append({"id": 77})),
    ("image record without width and height", lambda c: c["images"][0].update(width=0)),
    ("image of another size than its record says", lambda c: c["images"][0].update(width=97)),
    ("image missing", lambda c: c["images"].append({"id": 77, "file_name": "no.jpg", "width": 9, "height": 9})),
    ("image name that leads out of its folder", lambda c: c["images"][0].update(file_name="../../x.jpg")),
    ("split without any expression", lambda c: [a.pop("caption", None) for a in c["annotations"]]),
    ("annotation file without the lists 'images' and 'annotations'", lambda c: c.pop("images")),
]


@pytest.mark.parametrize("problem, change", DAMAGES)
def test_each_damage_of_the_json_is_found(out: Path, problem: str, change: Callable[[dict[str, Any]], object]) -> None:
    edit(out / "val.json", change)
    findings = check(out)
    assert problem in findings.skips["error"].counts, findings.lines()
    assert findings.failed


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000, "null", "\xff"])
def test_json_that_cannot_be_read(out: Path, content: str) -> None:
    (out / "val.json").write_text(content, encoding="latin-1")
    assert any("annotation file" in c for c in check(out).skips["error"].counts)


def test_files_that_are_damaged_or_missing(out: Path) -> None:
    (out / "images" / "train" / "opt_000001.jpg").write_bytes(b"")
    (out / "images" / "train" / "opt_000002.png").unlink()
    (out / "images" / "val" / "stray.jpg").write_bytes(b"x")
    (out / "labels" / "val" / "opt_000004.txt").unlink()
    (out / "labels" / "val" / "opt_000005.txt").write_text("1 0.5 nan 0.1 0.1\n")
    (out / "annotations" / "test" / "opt_000007.xml").write_text("<a>")
    (out / "annotations" / "test" / "opt_000008.xml").unlink()
    (out / "annotations" / "test" / "opt_000009.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>')
    findings = check(out)
    assert findings.skips["error"].counts == {
        "image that cannot be read": 1,
        "image missing": 1,
        "image without a label file": 1,
        "label line that is not five finite numbers": 1,
        "annotation that the label file lacks": 2,
        "XML file that cannot be read": 2,
        "image without an XML file": 1,
    }
    assert findings.skips["warning"].counts == {"file among the images that no record names": 1}


def test_expressions_that_are_false_or_mean_two_objects(tmp_path: Path) -> None:
    samples = samples_of(tmp_path / "sources")
    samples[0].instances[0].captions = ["The ship in the lower right corner of the image"]
    samples[4].instances[0].captions *= 2
    findings = check(build(tmp_path, samples))
    assert findings.skips["warning"].counts == {
        "expression that the boxes contradict": 1,
        "expression said of several objects of an image": 1,
        "expression repeated for the same object": 2,
    }
    assert not findings.failed
    assert Findings(strict=True, skips=findings.skips).failed


def test_a_boat_is_not_the_leftmost_ship_where_a_ship_lies_further_left() -> None:
    boxes = {"optical ship": (10, 50, 20, 60), "optical boat": (50, 50, 60, 60)}
    notes = [ExpressionNote(name, box, name, f"The leftmost {name[8:]}") for name, box in boxes.items()]
    notes.append(ExpressionNote("other", (80, 50, 90, 60), "optical boat", "The leftmost ship"))
    findings = Findings(False)
    assert check_expressions(notes, [], (100, 100), findings) == (3, 2)
    assert findings.skips["warning"].counts["expression that the boxes contradict"] == 2


def test_a_set_is_said_of_its_objects_on_purpose() -> None:
    boxes = [(10, 50, 20, 60), (50, 50, 60, 60), (80, 10, 90, 20)]
    for caption, warned in (("The two ships at the bottom", False), ("The ship at the bottom", True)):
        notes = [ExpressionNote(str(i), box, "optical ship", caption) for i, box in enumerate(boxes[:2])]
        findings = Findings(False)
        check_expressions(notes, [(boxes[2], "optical ship")], (100, 100), findings)
        assert ("expression said of several objects of an image" in findings.skips["warning"].counts) == warned


def test_more_objects_in_the_labels_are_a_note_and_count_for_truth(out: Path) -> None:
    with open(out / "labels" / "train" / "opt_000001.txt", "a") as file:
        file.write("1 0.1 0.05 0.05 0.03\n")  # closer to the top than "the ship closest to the top"
    findings = check(out)
    assert findings.skips["note"].counts == {"objects that the label files alone have": 1}
    assert findings.skips["warning"].counts == {"expression that the boxes contradict": 1}


def copy_to(out: Path, source: str, split: str, name: str) -> None:
    shutil.copy(out / "images" / "train" / source, out / "images" / split / name)
    record = {"id": 500, "file_name": name, "width": 96, "height": 64}
    edit(out / f"{split}.json", lambda c: c["images"].append(record))


def test_a_image_name_in_two_splits(out: Path) -> None:
    copy_to(out, "opt_000001.jpg", "test", "opt_000001.jpg")
    assert check(out).skips["error"].counts["image name in several splits"] == 1


def test_one_name_of_two_images_is_only_looked_at(out: Path) -> None:
    copy_to(out, "opt_000001.jpg", "test", "opt_000001.jpg")
    cv2.imwrite(str(out / "images" / "test" / "opt_000001.jpg"), np.zeros((64, 96, 3), np.uint8))
    findings = check(out)
    assert "image name in several splits" not in findings.skips["error"].counts
    assert findings.skips["warning"].counts == {"name of different images in several splits": 1}


def test_identical_bytes_in_two_splits(out: Path) -> None:
    copy_to(out, "opt_000001.jpg", "val", "opt_900000.jpg")
    assert check(out).skips["error"].counts["identical images in several splits"] == 1
    assert "identical images in several splits" not in check(out, content=False).skips["error"].counts


def test_a_copy_in_another_split_than_its_origin(tmp_path: Path) -> None:
    samples = samples_of(tmp_path / "sources")
    samples[3].split = "test"
    findings = check(build(tmp_path, samples))
    assert findings.skips["error"].counts == {"images of one origin in several splits": 1}


def test_splits_of_objects_are_reported_not_refused(tmp_path: Path) -> None:
    samples = samples_of(tmp_path / "sources")
    samples[0].split = ""
    samples[0].instances[1].split = "test"
    findings = check(build(tmp_path, samples))
    assert findings.skips["note"].counts == {
        "objects that the label files alone have": 2,
        "image name in several splits": 1,
        "images of one origin in several splits": 1,
    }
    assert not findings.skips["error"].counts


def test_counts_are_compared_with_the_released_ones(good: Path) -> None:
    released = {"all": {"images": 13}, "train": {"expressions": 8}, "val": {"images": 4}}
    findings = check(good, released=released)
    assert findings.skips["warning"].counts == {"count that is not the released one": 1}
    assert not findings.failed and check(good, released=released, strict=True).failed


def test_the_command_returns_the_status_and_writes_the_findings(out: Path, tmp_path: Path) -> None:
    assert run("validate", tmp_path / "work", data=out) == 0
    (out / "images" / "train" / "opt_000002.png").unlink()
    assert run("validate", tmp_path / "work", data=out) == 1
    result = json.loads((tmp_path / "work" / "validate" / "validation.json").read_text())
    assert result["valid"] is False
    assert result["findings"][0]["check"] == "image missing"
    for data in ("", tmp_path, tmp_path / "no.yaml"):
        with pytest.raises((DataError, UsageError)):
            run("validate", tmp_path, data=data)


def test_the_real_set_is_valid(optsar_real: Path, tmp_path: Path) -> None:
    dataset_config = {"path": str(optsar_real), "test": "test.json", "images": "images", "labels": "labels"}
    names = [c["name"] for c in json.loads((optsar_real / "test.json").read_text())["categories"]]
    findings = Findings()
    result = validate(load_dataset_config(dataset_config | {"names": names}), findings, content=False)
    assert not findings.failed, findings.lines()
    assert result["counts"]["test"] == {"pictures": 358, "expressions": 730}
    assert result["expressions"]["contradicted"] == 0
    assert set(NAMES) <= set(names)

"""The formats that keep all objects in a few files, and boxes that are not of the form that the recipe says."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from format_sources import coco, read, save, source

from optisar_yolo.construction.importing import fingerprint
from optisar_yolo.construction.pickled import read_pickle
from optisar_yolo.construction.recipe import Source
from optisar_yolo.construction.steps import Report
from optisar_yolo.data.config import DataError

BOXES = ([50, 40, 20, 10], [60, 8, 30, 22], [5, 50, 12, 12], [70, 60, 9, 15], [33, 12, 25, 30])  # xywh, none is xyxy
LIST = [("b.png", BOXES[0], "first"), ("a.png", BOXES[1], "second"), ("b.png", BOXES[2], "third")]


def test_list_is_brought_together_by_image(tmp_path: Path) -> None:
    samples = read(source(tmp_path, "list", LIST, boxes="xywh"), tmp_path)
    assert [(s.name, [i.captions for i in s.instances]) for s in samples] == [
        ("x/a.png", [["second"]]),
        ("x/b.png", [["first"], ["third"]]),
    ]
    assert samples[1].instances[0].box == (50, 40, 70, 50)
    assert {i.split for s in samples for i in s.instances} == {"train"}


def test_list_of_dictionaries_with_categories(tmp_path: Path) -> None:
    rows = [{"image": "a.png", "bbox_xyxy": [1, 2, 30, 40.5], "phrase": " a tower ", "category": "tower"}]
    (found,) = read(source(tmp_path, "list", rows), tmp_path)[0].instances
    assert (found.box, found.category, found.captions) == ((1, 2, 30, 40.5), "tower", ["a tower"])


def test_records_that_are_none_are_counted(tmp_path: Path) -> None:
    # fmt: off
    bad = [7, ["a.png"], ["a.png", [1, 2, 3], "short"], ["a.png", [1, 2, "3", 4], "text"], ["a.png", [1, 2, 9, 9], 5],
           [None, [1, 2, 9, 9], "x"], ["\ud800.png", [1, 2, 9, 9], "x"], ["a.png", [1, 2, 10**400, 9], "big"]]
    # fmt: on
    report = Report()
    samples = read(source(tmp_path, "list", [*bad, ["a.png", [1, 2, 9, 9], "good \ud800"]]), tmp_path, report)
    assert [i.captions for s in samples for i in s.instances] == [[], ["good ?"]]
    assert report.problems.counts == {
        "record that is no (image, box, expression), dropped": 3,
        "caption that is no text, dropped": 1,
        "image missing, dropped": 1,
        "box that is not four numbers, dropped": 3,
    }


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_pickles_are_read(protocol: int, tmp_path: Path) -> None:
    data = [("ä.png", [1, 2.5, 3, 4], "a"), {"image": None, "box": (True, 10**30)}]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(data, protocol))
    assert read_pickle(tmp_path / "a.pkl") == data


@pytest.mark.parametrize("legacy", [False, True])
def test_files_of_torch_are_read_numpy_included(legacy: bool, tmp_path: Path) -> None:
    data = [("a.png", np.array([1, 2, 3.5, 4]), "a"), ("b.png", [np.float32(1.5), np.int64(-2), 3, 4], "b")]
    torch.save(data, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    assert read_pickle(tmp_path / "a.pth") == [("a.png", [1, 2, 3.5, 4], "a"), ("b.png", [1.5, -2, 3, 4], "b")]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(data, 5))
    assert read_pickle(tmp_path / "a.pkl") == read_pickle(tmp_path / "a.pth")


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("hacked",)


def hostile() -> dict[str, bytes]:
    """Return files that want to run code or fill the memory, and broken ones."""
    many = pickle.dumps([b"x" * 900_000], 2)
    return {
        "code": pickle.dumps([Evil()]),
        "old protocol": pickle.dumps([Evil()], 0),
        "instance": b"(ios\nmkdir\nS'hacked'\no.",
        "extension": b"\x80\x02\x82\x01.",
        "memo": b"\x80\x02]r\xff\xff\xff\x7f.",
        "length": b"\x80\x04\x8e\x00\x00\x00\x00\x00\xff\x00\x00.",
        "bytearray": b"\x80\x05\x96\x00\x00\x00\x00\x00\x01\x00\x00.",
        "tensor": _torch([torch.zeros(2)]),
        "array of objects": pickle.dumps(np.array([Evil()], object)),
        "long array": pickle.dumps(np.zeros(10_000)),
        "long bytes": pickle.dumps(b"x" * 900_000, 2),
        "cut off": many[:1000],
        "empty": b"",
        "text": b"hello world",
        "zip": _zip("other.txt", b"", zipfile.ZIP_STORED),
        "compressed": _zip("a/data.pkl", pickle.dumps([]), zipfile.ZIP_DEFLATED),
    }


def _torch(data: Any) -> bytes:
    import io

    file = io.BytesIO()
    torch.save(data, file)
    return file.getvalue()


def _zip(name: str, content: bytes, compression: int) -> bytes:
    import io

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr(name, content)
    return file.getvalue()


@pytest.mark.parametrize("kind", list(hostile()))
def test_nothing_in_a_pickle_is_run(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pth").write_bytes(hostile()[kind])
    with pytest.raises(DataError, match=r"a\.pth: no pickle of plain data .*JSON list"):
        read_pickle(tmp_path / "a.pth")
    assert not (tmp_path / "hacked").exists()


def test_place_in_the_memo_is_checked_before_memory_is_taken_for_it(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02]r\xff\xff\x00\x00.")
    with pytest.raises(DataError, match="a memo that does not fit the file"):
        read_pickle(tmp_path / "a.pkl")


@pytest.mark.parametrize(
    ("content", "message"),
    [("[", "not valid JSON"), ("{}", "expected a list"), ("[" * 100_000, "not valid JSON"), ("\xff", "UTF-8")],
)
def test_broken_list_files(content: str, message: str, tmp_path: Path) -> None:
    given = source(tmp_path, "list", [])
    (tmp_path / "x" / "all.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError, match=message):
        read(given, tmp_path)


def test_coco_with_several_captions_and_bad_records(tmp_path: Path) -> None:
    content = coco([[10, 10, 20, 20]], width=100, height=80)
    content["images"] += [{"id": 1}, 5]
    content["annotations"][0]["caption"] = ["one", "two", 3]
    content["annotations"] += [
        {"image_id": 1, "bbox": [1, 2, 3, 4], "category_name": "boat", "caption": None},
        {"image_id": 1, "bbox": [1, 2, 3, 4], "iscrowd": 1},
        {"image_id": 99, "bbox": [1, 2, 3, 4]},
        {"image_id": [1]},
        "text",
    ]
    report = Report()
    (sample,) = read(source(tmp_path, "coco", content), tmp_path, report)
    assert [(i.category, i.captions, i.box) for i in sample.instances] == [
        ("ship", ["one", "two"], (10, 10, 30, 30)),
        ("boat", [], (1, 2, 4, 6)),
    ]
    assert sorted(report.problems.counts.values()) == [1, 1, 1, 2, 2]


def test_coco_id_of_two_images_is_refused(tmp_path: Path) -> None:
    content = coco([[1, 2, 3, 4]])
    content["images"].append({"id": 1, "file_name": "b.png"})
    with pytest.raises(DataError, match=r"image id 1 stands for both a\.png and b\.png"):
        read(source(tmp_path, "coco", content), tmp_path)


def test_one_name_in_two_split_folders_is_two_images(tmp_path: Path) -> None:
    for split in ("train", "val"):
        save(tmp_path / "x" / "images" / split, "a.png")
        (tmp_path / "x" / f"{split}.json").write_text(json.dumps(coco([[1, 2, 3, 4]])))
    given = Source("x", "coco", "x", "sar", files={s: f"{s}.json" for s in ("train", "val")})
    samples = read(given, tmp_path)
    assert [(s.name, s.instances[0].split) for s in samples] == [("x/train/a.png", "train"), ("x/val/a.png", "val")]
    assert [Path(s.path).parent.name for s in samples] == ["train", "val"]


def test_yolo_lines(tmp_path: Path) -> None:
    given = source(tmp_path, "yolo", names=("boat", "plane"), annotations="labels")
    (tmp_path / "x" / "labels" / "val").mkdir(parents=True)
    (tmp_path / "x" / "labels" / "a.txt").write_text(
        "1 0.5 0.5 0.2 0.5\n\n2 .5 .5 .1 .1\n0 .5 .5\nx 1 2 3 4\n0.5 1 1 1 1"
    )
    save(tmp_path / "x" / "images" / "val", "c.d.png")
    (tmp_path / "x" / "labels" / "val" / "c.d.txt").write_text("0 0.25 0.5 0.5 1")
    report = Report()
    samples = read(given, tmp_path, report)
    assert [(s.name, i.category, i.box, i.split) for s in samples for i in s.instances] == [
        ("x/a.png", "plane", (40, 20, 60, 60), ""),
        ("x/val/c.d.png", "boat", (0, 0, 50, 80), "val"),
    ]
    assert sum(report.problems.counts.values()) == 4
    with pytest.raises(DataError, match="needs 'names'"):
        read(Source("x", "yolo", "x", "sar", annotations="labels"), tmp_path)


def test_boxes_of_the_wrong_form_are_noticed(tmp_path: Path) -> None:
    rows = [("a.png", box, "x") for box in BOXES]
    with pytest.raises(DataError, match="source x: 5 of 5 boxes leave .* as xyxy.* 'boxes: xywh'"):
        read(source(tmp_path, "list", rows), tmp_path)
    assert read(source(tmp_path, "list", rows, boxes="xywh"), tmp_path)
    corners = [[x, y, x + w, y + h] for x, y, w, h in BOXES]
    with pytest.raises(DataError, match="as xywh, and fit as xyxy; set 'boxes: xyxy'"):
        read(source(tmp_path, "coco", coco(corners)), tmp_path)
    assert read(source(tmp_path, "coco", coco(corners), boxes="xyxy"), tmp_path)
    with pytest.raises(DataError, match="images of another size"):
        read(source(tmp_path, "list", [("a.png", [900, 900, 950, 990], "x")] * 4), tmp_path)
    with pytest.raises(DataError, match="shares of the image; give pixels"):
        read(source(tmp_path, "list", [("a.png", [0.1, 0.2, 0.5, 0.6], "x")] * 4), tmp_path)


def test_a_few_bad_boxes_are_left_to_the_next_step(tmp_path: Path) -> None:
    nan, good = float("nan"), [10, 10, 60, 70]
    rows = [("a.png", b, "x") for b in ([nan] * 4, [50, 40, 20, 10], [-9, 0, 500, 5], good, good, good)]
    boxes = [i.box for s in read(source(tmp_path, "list", rows), tmp_path) for i in s.instances]
    assert boxes[1:3] == [(50, 40, 20, 10), (-9, 0, 500, 5)] and len(boxes) == 6


def test_fingerprint_follows_images_and_annotations(tmp_path: Path) -> None:
    given = source(tmp_path, "yolo", names=("boat",), annotations="labels")
    (tmp_path / "x" / "labels").mkdir()
    (tmp_path / "x" / "labels" / "a.txt").write_text("0 .5 .5 .1 .1")
    seen = {fingerprint(given, tmp_path)}
    (tmp_path / "x" / "labels" / "a.txt").write_text("0 .5 .5 .1 .2")
    seen.add(fingerprint(given, tmp_path))
    (tmp_path / "x" / "images" / "b.png").unlink()
    seen.add(fingerprint(given, tmp_path))
    (tmp_path / "x" / "labels" / "a.txt").touch()
    seen.add(fingerprint(given, tmp_path))  # a newer date alone changes nothing
    assert len(seen) == 3

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

from optisar_yolo.construction.importing import fingerprint, read_source
from optisar_yolo.construction.outlines import segmentation_box
from optisar_yolo.construction.pickled import read_pickle
from optisar_yolo.construction.recipe import Source
from optisar_yolo.construction.samples import Sample
from optisar_yolo.construction.steps import Report
from optisar_yolo.data.config import DataError

SIZE = (100, 80)
BOXES = ([50, 40, 20, 10], [60, 8, 30, 22], [5, 50, 12, 12], [70, 60, 9, 15], [33, 12, 25, 30])  # xywh, none is xyxy
LIST = [("b.png", BOXES[0], "first"), ("a.png", BOXES[1], "second"), ("b.png", BOXES[2], "third")]


def save(folder: Path, name: str) -> None:
    import cv2

    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(folder / name), np.zeros((SIZE[1], SIZE[0]), np.uint8))


def source(tmp_path: Path, format_: str, content: Any = None, **entries: Any) -> Source:
    """Write a JSON file and the images a.png and b.png, and return their source."""
    for name in ("a.png", "b.png"):
        save(tmp_path / "x" / "images", name)
    if content is not None:
        (tmp_path / "x" / "all.json").write_text(json.dumps(content))
        entries.setdefault("files", {"train": "all.json"})
    return Source("x", format_, "x", "sar", **entries)


def read(given: Source, root: Path, report: Report | None = None) -> list[Sample]:
    return list(read_source(given, root, report or Report()))


def coco(boxes: list[Any], **image: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "a.png", **image}],
        "annotations": [
            {"id": n, "image_id": 1, "category_id": 3, "bbox": b, "caption": f"thing {n}"} for n, b in enumerate(boxes)
        ],
        "categories": [{"id": 3, "name": "ship"}],
    }


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


POLYGON = [20, 10, 50, 10, 50, 30, 20, 30]
SHARES = "0.2 0.125 0.5 0.125 0.5 0.375 0.2 0.375"


def described(root: Path, form: str) -> tuple[list[Sample], Report]:
    """Write a.png's label or XML file from its content, and read it."""
    report = Report()
    given = source(root, "yolo", names=("ship", "bridge"), annotations="labels")
    (root / "x" / "labels").mkdir(parents=True)
    (root / "x" / "labels" / "a.txt").write_text(form)
    return read(given, root, report), report


@pytest.mark.parametrize(
    ("line", "word"),
    [
        (f"0 {SHARES}", "outline"),
        (f"0 {SHARES} 0.3 0.3", "outline"),
        ("0 0.2 0.125 0.5 0.125 0.3 0.375", "outline"),  # a triangle
        (f"0 {SHARES} 0.91", "outline"),  # as save_txt and save_conf write oriented boxes
        (f"0 {SHARES} 0.91 7", "outline"),
        ("0 0.35 0.25 0.3 0.25 0.3 0.2 2 0.4 0.3 1", "keypoints"),
        ("0 0.35 0.25 0.3 0.25 0.3 0.2 2 0 0 0 0.4 0.3 1", "keypoints"),
        ("ImageSource:GoogleEarth\nGSD:null\n" + " ".join(map(str, POLYGON)) + " ship 1", "DOTA"),
        ("0 0.35 0.25 0.3 0.25 0.91", "confidence"),
        ("0 0.35 0.25 0.3 0.25 0.91 7", "confidence"),  # with a track number
        (" ".join(f"{v}.0" for v in POLYGON) + " ship 0", "DOTA"),
        ("imagesource:GoogleEarth\ngsd:0.12\n" + " ".join(map(str, POLYGON)) + " ship", "DOTA"),
    ],
)
def test_label_lines_of_other_tools_are_read_as_outer_boxes(line: str, word: str, tmp_path: Path) -> None:
    (sample,), report = described(tmp_path, line)
    (found,) = sample.instances
    assert found.box == pytest.approx((20, 10, 50, 30)) and found.category == "ship"
    assert [word in problem for problem in report.problems.counts] == [True]


@pytest.mark.parametrize("last", ["1.57", "-0.3"])
def test_a_sixth_number_that_can_be_an_angle_makes_the_line_unreadable(last: str, tmp_path: Path) -> None:
    (sample,), _ = described(tmp_path, f"1 0.5 0.5 0.2 0.2\n0 0.35 0.25 0.3 0.25 {last}")
    assert [i.category for i in sample.instances] == ["bridge"] and sample.unlisted == ["ship"]


def test_a_list_of_classes_beside_the_labels_is_no_label_file(tmp_path: Path) -> None:
    (tmp_path / "x" / "labels").mkdir(parents=True)
    (tmp_path / "x" / "labels" / "classes.txt").write_text("ship\nbridge\n")
    report = Report()
    given = source(tmp_path, "yolo", names=("ship", "bridge"), annotations="labels")
    (tmp_path / "x" / "labels" / "a.txt").write_bytes(b"\xef\xbb\xbf0 0.5 0.5 0.2 0.2\n")  # a byte order mark
    assert len(read(given, tmp_path, report)) == 1 and not report.problems.counts


def test_a_line_that_cannot_be_read_leaves_its_class_among_the_unlisted(tmp_path: Path) -> None:
    (sample,), _ = described(tmp_path, "0 0.5 0.5 0.2 0.2\n1 0.5 0.5 0.2\nx y\n0 1 2 3 4 5 6 7 8 9 1 2 3 4")
    assert len(sample.instances) == 1 and sample.unlisted == ["bridge", "", "ship"]


@pytest.mark.parametrize(
    ("image", "note", "words"),
    [
        ({"id": 1.0}, {"image_id": 1.0}, ["ids"]),
        ({}, {"image_id": "1", "category_id": "3"}, ["ids"]),
        ({"file_name": "images/a.png"}, {}, ["folders"]),
        ({"file_name": "images\\1\\a.png"}, {}, ["folders"]),
        ({"file_name": "/content/set/images/a.png"}, {}, ["folders"]),
        ({"file_name": "../images/a.png"}, {}, ["folders"]),
        ({"file_name": "/data/upload/4/0f1e2d3c-a.png"}, {}, ["prefix"]),
        ({"file_name": "/data/local-files/?d=set/a.png"}, {}, ["folders"]),
        ({"file_name": "set%2Fa.png"}, {}, ["folders"]),
        ({}, {"bbox": None, "segmentation": [POLYGON]}, ["segmentation"]),
        ({}, {"bbox": None, "segmentation": POLYGON}, ["segmentation"]),
        ({}, {"iscrowd": 1, "segmentation": {"counts": "abc", "size": [80, 100]}}, ["iscrowd"]),
        (
            {},
            {"bbox": [], "iscrowd": 1, "segmentation": {"counts": [1610] + [20, 60] * 29 + [20], "size": [80, 100]}},
            ["iscrowd", "segmentation"],
        ),
    ],
)
def test_coco_as_other_tools_write_it(
    image: dict[str, Any], note: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    content = coco([[20, 10, 30, 20]], **image)
    content["annotations"][0].update(note)
    report = Report()
    (sample,) = read(source(tmp_path, "coco", content), tmp_path, report)
    assert (sample.name, [(i.box, i.category) for i in sample.instances]) == ("x/a.png", [((20, 10, 50, 30), "ship")])
    assert [w in p for w, p in zip(words, report.problems.counts, strict=True)] == [True] * len(words)


def test_two_names_that_would_be_one_image_are_refused(tmp_path: Path) -> None:
    content = coco([[20, 10, 30, 20]], file_name="north/a.png")
    content["images"].append({"id": 2, "file_name": "south/a.png"})
    content["annotations"].append({"id": 9, "image_id": 2, "category_id": 3, "bbox": [1, 2, 3, 4]})
    with pytest.raises(DataError, match=r"south/a\.png: this image and north/a\.png would both be .*correct"):
        read(source(tmp_path, "coco", content), tmp_path)


@pytest.mark.parametrize(
    ("name", "box"),
    [
        ("old.png", "<bndbox><xmin>20</xmin><ymin>10</ymin><xmax>50</xmax><ymax>30</ymax></bndbox>"),
        ("a.png", "<robndbox><cx>35</cx><cy>20</cy><w>20</w><h>30</h><angle>1.5707963268</angle></robndbox>"),
        (
            "a.png",
            "<robndbox><x_left_top>20</x_left_top><y_left_top>12</y_left_top><x_right_top>40</x_right_top>"
            "<y_right_top>10</y_right_top><x_right_bottom>50</x_right_bottom><y_right_bottom>25</y_right_bottom>"
            "<x_left_bottom>30</x_left_bottom><y_left_bottom>30</y_left_bottom></robndbox>",
        ),
    ],
)
def test_voc_with_an_old_name_or_rotated_boxes(name: str, box: str, tmp_path: Path) -> None:
    given = source(tmp_path, "voc")
    (tmp_path / "x" / "Annotations").mkdir()
    (tmp_path / "x" / "Annotations" / "a.xml").write_text(
        f"<annotation><filename>{name}</filename><object><name>ship</name>{box}</object></annotation>"
    )
    report = Report()
    (sample,) = read(given, tmp_path, report)
    assert sample.name == "x/a.png" and sample.instances[0].box == pytest.approx((20, 10, 50, 30))
    assert len(report.problems.counts) == 1


def test_a_crowd_is_no_object_and_no_expression_may_mean_it(tmp_path: Path) -> None:
    from optisar_yolo.construction.describing import describe

    content = coco([[20, 10, 30, 20], [60, 50, 20, 10]])
    for note in content["annotations"]:
        del note["caption"]
    content["annotations"][1]["iscrowd"] = 1
    content["annotations"].append({"id": 9, "image_id": 1, "category_name": "bridge", "bbox": [70, 8, 9, 9]})
    samples = read(source(tmp_path, "coco", content), tmp_path)
    assert samples[0].unlisted == ["ship"]
    (sample,) = describe(samples, Report(), each=9)
    ship, bridge = sample.instances
    assert ship.captions == [] and bridge.captions
    assert not any("ship" in caption for caption in bridge.captions)
    samples[0].unlisted = []
    for instance in samples[0].instances:
        instance.captions = []
    (sample,) = describe(samples, Report(), each=9)
    assert sample.instances[0].captions and any("ship" in caption for caption in sample.instances[1].captions)


def test_compressed_masks_have_a_box() -> None:
    mask = pytest.importorskip("pycocotools.mask")
    pixels = np.zeros((40, 60), np.uint8, order="F")
    pixels[5:20, 10:31] = 1
    packed = mask.encode(pixels)
    segmentation = {"size": list(packed["size"]), "counts": packed["counts"].decode()}
    assert segmentation_box(segmentation) == (10, 5, 31, 20)
    empty = mask.encode(np.zeros((40, 60), np.uint8, order="F"))
    for bad in (
        {"size": [40, 60], "counts": empty["counts"].decode()},
        {"size": [40], "counts": segmentation["counts"]},
        {"size": [40, "60"], "counts": segmentation["counts"]},
        {"size": [4, 6], "counts": segmentation["counts"]},
        {"size": [40, 60], "counts": "é"},
    ):
        assert segmentation_box(bad) is None


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"bbox": ["20", "10", "30", "20"]}, "written as text"),
        ({"bbox": [20, 10, 50, 10, 50, 30, 20, 30]}, "four corners"),
        ({"bbox": [0, 0, 0, 0], "segmentation": [[20, 10, 50, 10, 50, 30]]}, "segmentation"),
        ({"bbox": None, "segmentation": [[[20, 10], [50, 10], [50, 30]]]}, "segmentation"),
        ({"bbox": None, "segmentation": [["20", "10", "50", "10", "50", "30"]]}, "segmentation"),
        ({"bbox": [20, 10, 30, 20], "iscrowd": 1, "segmentation": [[20, 10, 50, 10, 50, 30]]}, "iscrowd 1"),
    ],
)
def test_coco_boxes_of_other_tools_are_read(changed: dict[str, Any], word: str, tmp_path: Path) -> None:
    content = coco([[0, 0, 1, 1]])
    content["annotations"][0].update(changed)
    report = Report()
    (sample,) = read(source(tmp_path, "coco", content), tmp_path, report)
    assert sample.instances[0].box == pytest.approx((20, 10, 50, 30))
    assert [word in problem for problem in report.problems.counts] == [True]


def test_a_crowd_whose_mark_is_text_is_a_crowd(tmp_path: Path) -> None:
    content = coco([[20, 10, 30, 20], [60, 10, 30, 20]])
    content["annotations"][0]["iscrowd"] = "1"
    (sample,) = read(source(tmp_path, "coco", content), tmp_path)
    assert len(sample.instances) == 1 and sample.unlisted == ["ship"]


@pytest.mark.parametrize("name", ["https://x.org/b/a.png?token=1", " a.png ", "A.PNG", "gs://bucket/images/a.png"])
def test_names_of_image_files_from_elsewhere_are_found(name: str, tmp_path: Path) -> None:
    content = coco([[20, 10, 30, 20]], file_name=name)
    report = Report()
    (sample,) = read(source(tmp_path, "coco", content), tmp_path, report)
    assert sample.name == "x/a.png" and len(report.problems.counts) == 1


def test_a_name_in_another_normal_form_of_unicode_is_found(tmp_path: Path) -> None:
    content = coco([[20, 10, 30, 20]], file_name="scho\u0308n.png")  # as macOS writes names
    given = source(tmp_path, "coco", content)
    save(tmp_path / "x" / "images", "sch\u00f6n.png")
    assert read(given, tmp_path)[0].path.endswith("sch\u00f6n.png")


CORNERS = ((20, 10), (50, 10), (50, 30), (20, 30))
NUMBERED = "".join(f"<x{i}>{x}</x{i}><y{i}>{y}</y{i}>" for i, (x, y) in enumerate(CORNERS, 1))


def voc(root: Path, inside: str) -> tuple[list[Sample], Report]:
    """Write a.png's XML file, and read it."""
    report = Report()
    given = source(root, "voc", annotations="xml")
    (root / "x" / "xml").mkdir(parents=True)
    (root / "x" / "xml" / "a.xml").write_text(inside)
    return read(given, root, report), report


@pytest.mark.parametrize(
    "box",
    [
        f"<polygon>{NUMBERED}</polygon>",
        f"<rotated_bndbox><rotated_bbox_cx>1</rotated_bbox_cx>{NUMBERED}</rotated_bndbox>",
        f"<bndbox>{NUMBERED}</bndbox>",
        "<polygon>" + "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in CORNERS) + "</polygon>",
    ],
)
def test_polygons_of_voc_are_read_as_outer_boxes(box: str, tmp_path: Path) -> None:
    (sample,), report = voc(tmp_path, f"<annotation><object><name>ship</name>{box}</object></annotation>")
    assert sample.instances[0].box == (20, 10, 50, 30)
    assert list(report.problems.counts) == ["polygon, read as its outer box"]


def test_an_angle_in_degrees_is_not_taken_for_radians(tmp_path: Path) -> None:
    box = "<robndbox><cx>35</cx><cy>20</cy><w>30</w><h>20</h><angle>90</angle></robndbox>"
    with pytest.raises(DataError, match="angle is not in radians"):
        voc(tmp_path, f"<annotation><object><name>ship</name>{box}</object></annotation>")


@pytest.mark.parametrize(
    "content", ["<annotations><image/><object/></annotations>", "<annotation><objects><object/></objects></annotation>"]
)
def test_xml_of_another_format_is_named_as_such(content: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="XML that is no Pascal VOC"):
        voc(tmp_path, content)

"""Annotations as other tools write them: outlines, rotated boxes, masks, ids, names of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from format_sources import coco, read, save, source

from optisar_yolo.construction.outlines import segmentation_box
from optisar_yolo.construction.samples import Sample
from optisar_yolo.construction.steps import Report
from optisar_yolo.data.config import DataError

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

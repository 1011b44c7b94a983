"""Validation on labelled images without expressions: folders and detectors' dataset configs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import pytest
import yaml
from make_tiny import NAMES

from optisar_yolo import OptiSAR
from optisar_yolo.data import DataError, load_split, validation_config
from optisar_yolo.language import LabelledObjects

WORDS = ("plane", "boat", "vessel")  # of the tiny set's three categories


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep what is derived in a folder of the test."""
    from optisar_yolo.data import boxes_only

    monkeypatch.setattr(boxes_only, "USER_CONFIG_DIR", tmp_path / "settings")
    return tmp_path / "settings"


@pytest.fixture
def yolo(tiny: Path, tmp_path: Path) -> Path:
    """Return a folder with images/<split>, labels/<split> and a list of classes, without expressions."""
    folder = tmp_path / "yolo"
    for part in ("images", "labels"):
        shutil.copytree(tiny.parent / part, folder / part)
    (folder / "classes.txt").write_text("\n".join(WORDS))
    return folder


def flat(folder: Path, split: str, to: Path) -> Path:
    """Copy images and labels of a split side by side."""
    to.mkdir()
    for part in ("images", "labels"):
        for file in (folder / part / split).iterdir():
            shutil.copy(file, to)
    shutil.copy(folder / "classes.txt", to)
    return to


def coco_of(folder: Path, split: str, file: Path, **more: Any) -> Path:
    """Write the boxes of a split as COCO JSON."""
    content: dict[str, list[Any]] = {"images": [], "annotations": [], "categories": []}
    content["categories"] = [{"id": i + 1, "name": name} for i, name in enumerate(WORDS)]
    for number, image in enumerate(sorted((folder / "images" / split).iterdir()), 1):
        h, w = cv2.imread(str(image)).shape[:2]
        content["images"].append({"id": number, "file_name": image.name, "width": w, "height": h})
        for line in (folder / "labels" / split / f"{image.stem}.txt").read_text().splitlines():
            c, x, y, bw, bh = map(float, line.split())
            box = [(x - bw / 2) * w, (y - bh / 2) * h, bw * w, bh * h]
            about = {"id": len(content["annotations"]), "image_id": number, "category_id": int(c) + 1}
            content["annotations"].append({**about, "bbox": box, **more})
    file.write_text(json.dumps(content))
    return file


def test_every_layout_gives_the_same_objects_and_true_expressions(yolo: Path, tmp_path: Path) -> None:
    detector = yolo / "boats.yaml"
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "test.txt").write_text("\n".join(f"images/test/{f.name}" for f in (yolo / "images/test").iterdir()))
    listed = tmp_path / "listed.yaml"
    listed.write_text(yaml.safe_dump({"path": str(yolo), "test": str(lists / "test.txt"), "names": list(WORDS)}))
    roboflow = tmp_path / "roboflow"
    shutil.copytree(yolo / "images" / "test", roboflow / "test")
    coco_of(yolo, "test", roboflow / "test" / "_annotations.coco.json")
    turned = tmp_path / "turned"  # test/images and test/labels
    for part in ("images", "labels"):
        shutil.copytree(yolo / part / "test", turned / "test" / part)
    (turned / "data.yaml").write_text(yaml.safe_dump({"nc": 3, "names": list(WORDS)}))
    sources = [yolo, flat(yolo, "test", tmp_path / "flat"), listed, roboflow, turned, yolo / "images" / "test"]
    found = []
    for source in sources:
        images = load_split(validation_config(source, "test"), "test")
        for image in images:
            objects = LabelledObjects(image.boxes, [WORDS[c] for c in image.categories], (image.width, image.height))
            for i, texts in enumerate(image.captions):
                assert all(objects.truth(text, i) for text in texts), (source, texts)
        images.sort(key=lambda image: image.path.name)
        found.append([(i.path.name, i.boxes.round().tolist(), i.categories.tolist(), i.modality) for i in images])
        assert sum(bool(texts) for image in images for texts in image.captions) >= 8
    assert found[0] and all(other == found[0] for other in found[1:])
    detector.write_text(yaml.safe_dump({"path": ".", "val": "images/test", "names": list(WORDS)}))
    images = load_split(validation_config(detector, "val"), "val")
    assert [i.path.name for i in images] == [name for name, *_ in found[0]]
    assert len(load_split(validation_config(yolo, "train"), "train")) == 6, "another split has its own images"


def test_the_model_validates_on_a_folder(yolo: Path, tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    model = OptiSAR("optisar++n.yaml")
    settings: dict[str, Any] = {"split": "test", "imgsz": 64, "plots": False, "project": tmp_path / "runs"}
    first = model.val(data=yolo, **settings)
    assert log.text.count("were derived from the boxes of its 4 images, as 'optisar dataset build' does") == 1
    count = {row["group"]: row["count"] for row in first.rows()} if hasattr(first, "rows") else {}
    assert count and max(count.values()) >= 8
    log.clear()
    again = model.val(data=str(yolo), **settings)
    assert "using those that were derived from its boxes before" in log.text
    assert again.results_dict == first.results_dict


def test_other_labels_or_names_make_other_expressions(yolo: Path, kept: Path) -> None:
    def texts() -> set[str]:
        images = load_split(validation_config(yolo, "test"), "test")
        return {t for image in images for own in image.captions for t in own}

    before = texts()
    assert any("boat" in t for t in before | texts())
    (yolo / "classes.txt").write_text("plane\nferry\nvessel\n")
    assert any("ferry" in t for t in texts()) and not any("boat" in t for t in texts())
    label = next(iter((yolo / "labels" / "test").iterdir()))
    label.write_text(label.read_text().splitlines()[0])
    assert len(texts()) < len(before)
    assert len(list((kept / "optisar-boxes").iterdir())) == 3


def test_the_dataset_config_in_a_folder_is_used(tiny: Path, log: pytest.LogCaptureFixture) -> None:
    config = validation_config(tiny.parent, "test")
    assert config.path == tiny and config.names == NAMES
    assert f"using its dataset config {tiny.name}" in log.text


def test_captions_of_a_coco_file_are_kept(yolo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "coco"
    shutil.copytree(yolo / "images" / "test", folder / "images")
    coco_of(yolo, "test", folder / "annotations.json", caption="the thing at the pier")
    images = load_split(validation_config(folder, "val"), "val")
    assert {t for i in images for own in i.captions for t in own} == {"the thing at the pier"}


def test_grey_and_coloured_images_are_told_apart_and_it_is_said(
    yolo: Path, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    folder = flat(yolo, "test", tmp_path / "flat")
    for file in [*folder.iterdir()]:
        if file.stem != "classes":
            file.rename(folder / file.name.replace("opt_", "a").replace("sar_", "b"))
    images = load_split(validation_config(folder, "val"), "val")
    assert [i.modality for i in images] == ["optical", "optical", "sar", "sar"]
    assert "2 coloured images are taken for optical and 2 grey images are taken for SAR" in log.text


def test_crowds_are_objects_that_no_expression_may_mean(yolo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "crowd"
    shutil.copytree(yolo / "images" / "test", folder / "images")
    file = coco_of(yolo, "test", folder / "annotations.json")
    content = json.loads(file.read_text())
    for note in content["annotations"]:
        note["iscrowd"] = int(note["id"] == content["annotations"][0]["id"])
    file.write_text(json.dumps(content))
    first = load_split(validation_config(folder, "val"), "val")[0]
    assert first.unlisted and len(first.boxes) == 1


def test_what_is_missing_is_named(yolo: Path, tmp_path: Path) -> None:
    def refused(folder: Path, split: str = "test") -> str:
        with pytest.raises(DataError) as caught:
            validation_config(folder, split)
        return str(caught.value)

    (tmp_path / "empty").mkdir()
    assert "holds no images" in refused(tmp_path / "empty")
    shutil.rmtree(yolo / "labels" / "train")
    assert "6 images and no boxes: no label file such as" in refused(yolo, "train")
    shutil.rmtree(yolo / "images" / "val")
    shutil.rmtree(yolo / "labels" / "val")
    assert "there are folders of train, test: give split=train" in refused(yolo, "val")
    (yolo / "classes.txt").unlink()
    assert f"one a line, into {yolo / 'classes.txt'}" in refused(yolo)
    (yolo / "classes.txt").write_text("plane")
    with pytest.raises(DataError, match=r"no object of its 4 images|label line of unknown category"):
        for label in (yolo / "labels" / "test").iterdir():
            label.write_text("7 0.5 0.5 0.1 0.1")
        validation_config(yolo, "test")

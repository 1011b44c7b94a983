"""Other tools read our predictions and labels, and we read theirs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from optisar_yolo import OptiSAR
from optisar_yolo.commands.main import main
from optisar_yolo.construction.samples import sample_of
from optisar_yolo.synthetic.render import render_image
from optisar_yolo.utils.options import BUNDLED_MODEL

sv = pytest.importorskip("supervision")

PAGE = Path(__file__).resolve().parents[1] / "docs" / "interop.md"
PORT = render_image(seed=0, split="test", number=2)
TEXTS = ["the largest ship", "the transmission tower at the top", "the ship closest to the top of the image"]


@pytest.fixture(scope="module")
def model() -> OptiSAR:
    return OptiSAR(BUNDLED_MODEL)


def snippets(language: str) -> list[str]:
    """Return the code of the page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_detections_are_named_by_their_expressions(model: OptiSAR) -> None:
    for result in (model.predict(PORT["img"], text=TEXTS)[0], model.encode(PORT["img"]).ground(TEXTS)):
        found = sv.Detections.from_ultralytics(result)
        assert found["class_name"].tolist() == [TEXTS[0], TEXTS[2]]  # there is no tower
        assert found.class_id.tolist() == [0, 2]
        assert np.array_equal(found.xyxy, result.boxes.xyxy.numpy())
        assert np.array_equal(found.confidence, result.boxes.conf.numpy())
    true = PORT["boxes"][[n == "optical ship" for n in PORT["names"]]]
    largest = true[np.prod(true[:, 2:] - true[:, :2], axis=1).argmax()]
    assert sv.box_iou_batch(found.xyxy[:1], largest[None])[0, 0] >= 0.5


def test_several_boxes_of_an_expression(model: OptiSAR) -> None:
    found = sv.Detections.from_ultralytics(model.predict(PORT["img"], text=TEXTS[:2], conf=0.0, topk=3)[0])
    assert found.class_id.tolist() == [0, 0, 0, 1, 1, 1]
    assert found["class_name"].tolist() == [TEXTS[0]] * 3 + [TEXTS[1]] * 3


def test_nothing_found(model: OptiSAR) -> None:
    found = sv.Detections.from_ultralytics(model.predict(PORT["img"], text=TEXTS[1])[0])
    assert len(found) == 0 and found.is_empty()
    assert np.array_equal(sv.BoxAnnotator().annotate(PORT["img"].copy(), found), PORT["img"])


def test_the_pages_snippet_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("port.jpg", PORT["img"])
    code, *others = snippets("python")
    assert all("import fiftyone" in other for other in others)  # needs a data base
    names: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), names)
    assert names["detections"]["class_name"].tolist() == [TEXTS[0], TEXTS[2]]
    changed = (names["annotated"] != names["result"].orig_img).any(axis=2)
    x1, y1, x2, y2 = names["detections"].xyxy[0].round().astype(int)
    assert changed[y1 : y2 + 1, [x1, x2]].mean() > 0.9  # the sides of the first box
    assert not changed[-50:].any()  # both ships are far from there


def test_annotations_open_elsewhere(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    cv2.imwrite(str(images / "opt_1.png"), PORT["img"])
    (tmp_path / "captions.txt").write_text("\n".join([TEXTS[0], TEXTS[2]]))
    words = [f"source={images}", f"pool={tmp_path / 'captions.txt'}", f"project={tmp_path}", "name=made", "preview=0"]
    assert main(["annotate", *words]) == 0
    file = tmp_path / "made" / "annotations.json"
    notes = json.loads(file.read_text())["annotations"]
    data = sv.DetectionDataset.from_coco(str(images), str(file))
    path, image, found = data[0]
    assert Path(path).name == "opt_1.png" and np.array_equal(image, PORT["img"])
    assert len(found) == len(notes) >= 2 and set(found["class_name"]) == {"optical ship"}
    xywh = np.array([n["bbox"] for n in notes])
    assert np.allclose(np.column_stack((found.xyxy[:, :2], found.xyxy[:, 2:] - found.xyxy[:, :2])), xywh, atol=1e-3)


# As FiftyOne 1.22.1 writes it with extra_attrs=True, from what `optisar annotate` made.
FIFTYONE = {
    "info": {"year": "", "version": "", "contributor": "", "url": "https://voxel51.com/fiftyone"},
    "licenses": [],
    "categories": [{"id": 1, "name": "optical ship", "supercategory": None}],
    "images": [{"id": 1, "file_name": "opt_1.png", "height": 341, "width": 252, "license": None, "coco_url": None}],
    "annotations": [
        {
            "id": 1, "image_id": 1, "category_id": 1, "bbox": [173.34, 5.14, 15.66, 39.83], "score": 0.9714,
            "area": 623.7378, "iscrowd": 0, "caption": TEXTS[2], "category_name": "optical ship",
        },
        {"id": 2, "image_id": 1, "category_id": 1, "bbox": [156.69, 67.56, 33.9, 47.4], "area": 1606.86, "iscrowd": 0},
    ],
}  # fmt: skip


def test_labels_come_back_with_their_captions(tmp_path: Path) -> None:
    folder = tmp_path / "corrected"
    (folder / "data").mkdir(parents=True)
    cv2.imwrite(str(folder / "data" / "opt_1.png"), PORT["img"])
    (folder / "labels.json").write_text(json.dumps(FIFTYONE))
    recipe = {"name": "back", "names": ["optical ship"], **yaml.safe_load(snippets("yaml")[0])}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    words = [f"recipe={tmp_path / 'recipe.yaml'}", f"root={tmp_path}", f"work={tmp_path / 'work'}"]
    assert main(["dataset", "import", *words]) == 0
    (line,) = (tmp_path / "work" / "import" / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    sample = sample_of(line)
    assert [i.captions for i in sample.instances] == [[TEXTS[2]], []]
    assert sample.instances[0].box == pytest.approx((173.34, 5.14, 189.0, 44.97))

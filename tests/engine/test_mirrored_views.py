"""Prediction with augment=True: mirrored views, rewritten expressions, boxes that are mirrored back and fused."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from optisar_yolo import OptiSAR
from optisar_yolo.engine import augment
from optisar_yolo.engine.augment import fused, grounded_views
from optisar_yolo.engine.grounding import Detections
from optisar_yolo.synthetic import render_image

TEXTS = ["the ship in the upper left", "the largest ship", "the L-shaped pier", "the car under the bridge"]


def detections(*rows: tuple[list[float], float, int]) -> Detections:
    boxes, conf, index = zip(*rows, strict=True)
    return Detections(np.array(boxes, np.float32), np.array(conf, np.float32), np.array(index, np.int64))


def test_views_see_mirrored_images_and_rewritten_expressions(monkeypatch: pytest.MonkeyPatch) -> None:
    canvas = torch.arange(6 * 8).view(1, 1, 6, 8).float().expand(1, 3, 6, 8)
    extent = torch.tensor([[0.0, 0.0, 1.0, 0.75]])
    seen, asked = [], []
    network = SimpleNamespace(encode=lambda x, extent: seen.append((x, extent)) or "encoded")

    def boxes(net, encoded, vectors, size, sizes, topk, overlap):
        return [detections(*(([1.0, 2.0, 3.0, 4.0], 0.5, i) for i in range(len(vectors))))]

    def features(texts):
        asked.append(list(texts))
        return torch.zeros(len(texts), 4)

    monkeypatch.setattr(augment, "best_boxes", boxes)
    monkeypatch.setattr(augment, "TOGETHER", 1.1)  # nothing is fused
    found = grounded_views(network, canvas, extent, "plain", TEXTS, features, [(80, 45)], 9, 0.7)[0]
    assert asked[0] == TEXTS and asked[1] == ["the ship in the upper right", TEXTS[1], TEXTS[3]]
    assert asked[2] == ["the ship in the lower left", TEXTS[1]]  # "under" is no direction that a mirror exchanges
    assert asked[3] == ["the ship in the lower right", TEXTS[1], TEXTS[2]]  # both mirrors are a turn
    assert [x[0, 0, 0, 0].item() for x, _ in seen] == [7, 40, 47]
    assert [e[0].tolist() for _, e in seen] == [[0, 0, 1, 0.75], [0, 0.25, 1, 1], [0, 0.25, 1, 1]]
    own = {tuple(b) for b in found.of(0).boxes.tolist()}
    assert own == {(1, 2, 3, 4), (77, 2, 79, 4), (1, 41, 3, 43), (77, 41, 79, 43)}
    assert len(found.of(2)) == 2 and len(found.of(3)) == 2
    assert np.allclose(found.of(2).confidence, 0.25)  # each of the two views that were asked gave another box


def test_boxes_that_overlap_are_one() -> None:
    views = [
        detections(([0, 0, 10, 10], 0.9, 0), ([50, 50, 60, 60], 0.8, 0)),
        detections(([2, 0, 12, 10], 0.3, 0), ([1, 0, 11, 10], 0.1, 0)),
        detections(([50, 50, 60, 60], 0.7, 1)),
    ]
    one = fused(views, np.array([2, 3]), 5)
    assert one.expression.tolist() == [0, 0, 1]
    assert one.boxes[0].tolist() == pytest.approx([0.5, 0, 10.5, 10])  # weighted by confidence, one box of each view
    assert one.confidence.tolist() == pytest.approx([0.6, 0.4, 0.7 / 3])
    assert fused(views, np.array([2, 3]), 1).expression.tolist() == [0, 1]
    assert len(fused([], np.array([1]), 1)) == 0


@pytest.fixture(scope="module")
def model():
    return OptiSAR("optisar++n-pocket.safetensors")


@pytest.fixture(scope="module")
def image():
    return render_image(seed=0, split="test", number=9)["img"][:192, :256].copy()


def test_an_expression_and_its_mirror_image_get_mirrored_boxes(model, image) -> None:
    plain = model.predict(image, text="the ship on the left", conf=0, imgsz=256)[0].boxes.xyxy[0]
    here = model.predict(image, text="the ship on the left", conf=0, imgsz=256, augment=True)[0].boxes
    mirrored = np.ascontiguousarray(image[:, ::-1])
    there = model.predict(mirrored, text="the ship on the right", conf=0, imgsz=256, augment=True)[0].boxes
    left, top, right, bottom = there.xyxy[0].tolist()
    assert here.xyxy[0].tolist() == pytest.approx([256 - right, top, 256 - left, bottom], abs=0.05)
    assert here.conf.tolist() == pytest.approx(there.conf.tolist(), abs=1e-4)
    assert len(here) == 1 and not torch.allclose(plain, here.xyxy[0], atol=0.1)  # other views had a say


def test_augment_keeps_the_rest_of_a_call(model, image, log) -> None:
    results = model.predict([image, image[:, :64]], text=TEXTS, conf=0, augment=True, topk=3, imgsz=256)
    assert [int(r.boxes.cls.max()) for r in results] == [3, 3]
    assert all(1 <= int((r.boxes.cls == i).sum()) <= 3 for r in results for i in range(4))
    assert "no effect" not in log.text

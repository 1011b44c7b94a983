"""Matching of captions: all at once against each alone and against prediction, grouping against loops, memory."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from lively_net import lively
from torch.nn import functional as F

from optisar_yolo import OptiSAR
from optisar_yolo.annotate import AnnotateOptions, Annotator, match as matching
from optisar_yolo.annotate.choose import group_boxes
from optisar_yolo.annotate.match import SCORES, CaptionMatches, captions_at_once, match
from optisar_yolo.annotate.pool import Caption
from optisar_yolo.engine.calibrate import Calibration, attach
from optisar_yolo.engine.checkpoint import save_shared
from optisar_yolo.engine.grounding import CANDIDATES, OVERLAP
from optisar_yolo.export import EngineNetwork, graph_cache
from optisar_yolo.nn.model import GroundingModel, fused_copy

CANVAS, SIZE, TOPK = (96, 128), (256, 160), 3  # the image fills the canvas but for two strips: 128 x 80
EXTENT = torch.tensor([[0.0, 8 / 96, 1.0, 88 / 96]])


@pytest.fixture(scope="module", params=["-late", ""], ids=["late", "guided"])
def net(request: pytest.FixtureRequest) -> GroundingModel:
    return lively(request.param)


@pytest.fixture(scope="module")
def image_and_texts(net: GroundingModel) -> tuple[torch.Tensor, torch.Tensor]:
    """An image and seven captions."""
    torch.manual_seed(5)
    smooth = F.interpolate(torch.rand(1, 3, 6, 8), CANVAS, mode="bicubic").clamp(0, 1)
    return smooth, F.normalize(torch.randn(7, net.text_dim), dim=-1)


def one_by_one(net: GroundingModel, image: torch.Tensor, texts: torch.Tensor, conf: float) -> list[tuple[float, ...]]:
    """(caption, confidence, box) of every caption matched alone, its duplicates suppressed with loops."""
    rows = []
    with torch.inference_mode():
        for t, text in enumerate(texts):
            boxes, sure = net.head.decode(net.match(net.encode(image, EXTENT), text[None]), CANDIDATES)
            x1, y1, x2, y2 = boxes[0, 0].numpy().T
            placed = np.stack([x1 * 2, (y1 - 8) * 2, x2 * 2, (y2 - 8) * 2], 1).clip(0, [256, 160, 256, 160])
            kept: list[np.ndarray] = []
            for box, c in zip(placed, sure[0, 0].numpy(), strict=True):  # best first
                if len(kept) < TOPK and all(overlap(box, other) <= OVERLAP for other in kept):
                    kept.append(box)
                    if c >= conf and min(box[2] - box[0], box[3] - box[1]) >= 1:
                        rows.append((t, c, *box))
    return sorted(rows, key=lambda r: (r[0], -r[1]))


def listed(found: CaptionMatches) -> np.ndarray:
    table = np.column_stack([found.captions, found.conf, found.boxes])
    return table[np.lexsort((-table[:, 1], table[:, 0]))]


def test_all_captions_at_once_equal_each_alone(net, image_and_texts):
    conf = 0.2
    truth = np.array(one_by_one(net, *image_and_texts, conf))
    assert len(truth) > 5
    with torch.inference_mode():
        encoded = net.encode(image_and_texts[0], EXTENT)
    results = [
        match(net, encoded, image_and_texts[1], CANVAS, SIZE, conf, TOPK, chunk=chunk) for chunk in (1, 3, 7, None)
    ]
    for found in results:
        assert (np.diff(found.conf) <= 0).all()  # the most confident first
        np.testing.assert_allclose(listed(found)[:, :2], truth[:, :2], atol=1e-4)
        np.testing.assert_allclose(listed(found)[:, 2:], truth[:, 2:], atol=0.05)


def test_the_network_for_inference_gives_the_same(net, image_and_texts):
    fused = fused_copy(net)
    with torch.inference_mode():
        plain = match(net, net.encode(image_and_texts[0], EXTENT), image_and_texts[1], CANVAS, SIZE, 0.2, TOPK)
        quick = match(fused, fused.encode(image_and_texts[0], EXTENT), image_and_texts[1], CANVAS, SIZE, 0.2, TOPK)
    np.testing.assert_allclose(listed(quick)[:, :2], listed(plain)[:, :2], atol=1e-3)
    np.testing.assert_allclose(listed(quick)[:, 2:], listed(plain)[:, 2:], atol=0.5)


def test_confidence_is_calibrated_and_bounds_what_is_kept(net, image_and_texts):
    with torch.inference_mode():
        encoded = net.encode(image_and_texts[0], EXTENT)
    raw = match(net, encoded, image_and_texts[1], CANVAS, SIZE, 0.0, 1)
    attach(net, Calibration(2.0, -1.0, 0.5))
    try:
        found = match(net, encoded, image_and_texts[1], CANVAS, SIZE, 0.0, 1)
        least = float(np.median(found.conf))
        kept = match(net, encoded, image_and_texts[1], CANVAS, SIZE, least, 1)
    finally:
        attach(net, None)
    logit = np.log(raw.conf / (1 - raw.conf))
    np.testing.assert_allclose(found.conf, 1 / (1 + np.exp(1 - 2 * logit)), rtol=1e-4)
    assert len(kept.conf) == (found.conf >= least).sum() < len(found.conf)
    assert len(found.above(least).conf) == len(kept.conf)
    assert len(match(net, encoded, image_and_texts[1], CANVAS, SIZE, 1.0, 1).conf) == 0


@pytest.mark.parametrize("engine", ["torch", "onnx", "openvino"])
@pytest.mark.parametrize("kind", ["-late", ""], ids=["late", "guided"])
def test_boxes_are_those_of_prediction_in_every_engine(kind, engine, tmp_path, monkeypatch):
    if engine != "torch":
        pytest.importorskip("onnx"), pytest.importorskip({"onnx": "onnxruntime"}.get(engine, engine))
    monkeypatch.setattr(graph_cache, "USER_CONFIG_DIR", tmp_path)
    model = OptiSAR(str(save_shared(lively(kind), tmp_path / "net.safetensors")))
    image = np.random.default_rng(0).integers(0, 255, (60, 96, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "image.png"), image)
    texts = ["the ship in the upper left", "a large airplane", "all ships", "the second tank from the left"]
    for conf in (0.0, 0.3):
        options = AnnotateOptions(conf=conf, imgsz=96, topk=TOPK, engine=engine, iou=0.4)
        annotator = Annotator(model, [Caption(text) for text in texts], options)
        annotator.expect(3)
        found, size = annotator.find(tmp_path / "image.png")
        assert size == (96, 60)
        assert isinstance(model.encode(image, 96, engine).model, EngineNetwork) == (engine != "torch")
        ask = {"text": texts, "conf": conf, "topk": TOPK, "imgsz": 96, "reason": False, "verbose": False}
        ask |= {"iou": 0.4}
        expected = model.predict(image, **ask, engine="torch")[0].boxes.data.numpy()
        wide = (expected[:, 2:4] - expected[:, :2]).min(1) >= 1
        order = np.lexsort((-expected[:, 4], expected[:, 5]))
        expected = expected[order][wide[order]]
        assert len(found.conf) == len(expected) > 2
        np.testing.assert_allclose(listed(found)[:, 2:], expected[:, :4], atol=0.055)  # rounded to 0.01
        np.testing.assert_allclose(listed(found)[:, 1], expected[:, 4], atol=1e-5)
        assert listed(found)[:, 0].tolist() == expected[:, 5].tolist()


def test_only_captions_that_are_there_get_all_their_boxes(net, image_and_texts, monkeypatch):
    asked: list[tuple[int, int]] = []
    real = matching.best_boxes
    monkeypatch.setattr(
        matching, "best_boxes", lambda *a, **k: asked.append((len(a[2]), a[5])) or real(*a, **k)
    )  # fmt: skip
    with torch.inference_mode():
        encoded = net.encode(image_and_texts[0], EXTENT)
    best = match(net, encoded, image_and_texts[1], CANVAS, SIZE, 0.0, 1)
    asked.clear()
    conf = float(np.median(best.conf))
    found = match(net, encoded, image_and_texts[1], CANVAS, SIZE, conf, TOPK, chunk=3)
    there = int((best.conf >= conf).sum())
    assert 0 < there < 7 and set(found.captions) <= set(best.captions[best.conf >= conf])
    assert [n for n, k in asked if k == 1] == [3, 3, 1]
    assert sum(n for n, k in asked if k == TOPK) == there


@pytest.mark.parametrize("anchors", [1, 2100, 344064, 10**9])
def test_scores_in_memory_are_bounded(anchors):
    few = captions_at_once(anchors)
    assert few >= 1 and (few == 1 or few * anchors <= SCORES)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    w, h = (np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).clip(0)
    return w * h / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - w * h)


@pytest.mark.parametrize("seed", range(5))
def test_captions_of_the_same_box_are_grouped(seed):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 60, (60, 2))
    boxes = np.hstack([corner, corner + rng.uniform(5, 40, (60, 2))]).round(2)
    conf = np.sort(rng.random(60))[::-1].copy()
    truth: list[list[int]] = []
    for i in range(60):  # greedy, with loops
        home = next((g for g in truth if overlap(boxes[g[0]], boxes[i]) > 0.4), None)
        truth.append([i]) if home is None else home.append(i)
    groups = group_boxes(CaptionMatches(boxes, conf, np.arange(60)), 0.4)
    assert [g.tolist() for g in groups] == truth
    assert len(truth) > 3 and max(map(len, truth)) > 1


def test_nothing_found_gives_no_box():
    assert group_boxes(CaptionMatches(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int)), 0.5) == []

"""Every kind of export gives the boxes of the network: the graphs, and through prediction and validation."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from lively_net import lively
from ultralytics import YOLO

from optisar_yolo import OptiSAR
from optisar_yolo.engine.checkpoint import save_shared
from optisar_yolo.export.exported import ExportedModel
from optisar_yolo.export.graphs import best_per_expression

pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")

TEXTS = ["The SAR ship in the upper left corner of the image", "the airplane at the bottom", "the small ship"]
CASES = list(product((1, 3), (1, 2, 5), ((96, 128), (128, 64))))  # images, expressions, height and width
KINDS = ("", "-late")  # expressions meet the image in the pyramid, and in the head alone
WAYS = {  # format, and whether in two parts
    "onnx": ("onnx", False),
    "onnx-parts": ("onnx", True),
    "openvino": ("openvino", False),
    "torchscript-parts": ("torchscript", True),
}


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind or "guided")
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> OptiSAR:
    return OptiSAR(save_shared(lively(request.param), tmp_path_factory.mktemp("weights") / "best.safetensors"))


@pytest.fixture(scope="module")
def expected(opened: OptiSAR) -> list[dict[str, torch.Tensor]]:
    """Inputs, and the network's boxes and confidences."""
    made = []
    for b, t, (height, width) in CASES:
        g = torch.Generator().manual_seed(b * t)
        text = torch.nn.functional.normalize(torch.randn(b, t, opened.model.text_dim, generator=g), dim=-1)
        extent = torch.tensor([[0.0, 0.1, 1.0, 0.8]]).repeat(b, 1)
        case = {"images": torch.rand(b, 3, height, width, generator=g), "text": text, "extent": extent}
        with torch.inference_mode():
            boxes, conf = best_per_expression(opened.model, opened.model.encode(case["images"], extent), text)
        made.append({**case, "boxes": boxes, "conf": conf})
    assert torch.cat([m["conf"].flatten() for m in made]).std() > 0.01  # something to tell apart
    return made


@pytest.fixture(scope="module", params=WAYS)
def exported(opened: OptiSAR, request: pytest.FixtureRequest) -> str:
    form, parts = WAYS[request.param]
    if form == "openvino":
        pytest.importorskip("openvino")
    return opened.export(format=form, parts=parts, imgsz=96)


def test_graphs_give_what_the_network_gives(exported: str, expected: list[dict[str, torch.Tensor]]) -> None:
    found = ExportedModel(exported)
    for case in expected:
        out = found.graph(case)
        if found.query is not None:
            out = found.query({**out, "text": case["text"], "extent": case["extent"]})
        assert out["boxes"].shape == case["boxes"].shape
        np.testing.assert_allclose(out["conf"], case["conf"], atol=1e-5)
        np.testing.assert_allclose(out["boxes"], case["boxes"], atol=0.05)


def use(model: OptiSAR, tiny: Path, folder: Path) -> tuple[list[Any], dict[str, float]]:
    """Predict, ground in an encoded image, and validate: results, and the table."""
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 255, (6, 12, 3), np.uint8), (100, 60), interpolation=cv2.INTER_NEAREST)
    ground: dict[str, Any] = {"text": TEXTS, "conf": 0.0, "verbose": False, "device": "cpu", "imgsz": 96}
    results = [model.predict(image, **ground)[0], model.encode(image, 96).ground(TEXTS, conf=0.0)]
    options = {"data": str(tiny), "split": "val", "imgsz": 64, "device": "cpu", "plots": False, "batch": 2}
    return results, model.val(**options, project=str(folder)).results_dict


@pytest.fixture(scope="module")
def used(opened: OptiSAR, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], dict[str, float]]:
    return use(opened, tiny, tmp_path_factory.mktemp("val"))


def test_predict_encode_and_val(
    exported: str, used: tuple[list[Any], dict[str, float]], tiny: Path, tmp_path: Path
) -> None:
    model = YOLO(exported)
    assert type(model) is OptiSAR
    results, table = use(model, tiny, tmp_path)
    for one, other in zip(results, used[0], strict=True):
        assert one.names == other.names == dict(enumerate(TEXTS))
        np.testing.assert_allclose(one.boxes.xyxy, other.boxes.xyxy, atol=0.05)
        np.testing.assert_allclose(one.boxes.conf, other.boxes.conf, atol=1e-5)
    assert any(used[1].values()) and table == pytest.approx(used[1], abs=1e-4)


def test_two_parts_encode_an_image_once(opened: OptiSAR, exported: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = ExportedModel(exported)
    if found.query is None:
        pytest.skip("one graph")
    runs: list[list[str]] = []
    for graph in (found.graph, found.query):
        monkeypatch.setattr(graph, "_run", lambda feed, run=graph._run: (runs.append(list(feed)), run(feed))[1])
    found.batch = 2
    encoded = found.encode(torch.rand(1, 3, 64, 64))
    text = torch.nn.functional.normalize(torch.randn(5, opened.model.text_dim), dim=-1)
    found.ground(encoded, torch.zeros(5, dtype=torch.long), text)
    assert [("images" in names, "text" in names) for names in runs] == [(True, False)] + [(False, True)] * 3
    assert ExportedModel(exported.replace("-encoder", "-query")).graph.path == found.graph.path  # either opens both

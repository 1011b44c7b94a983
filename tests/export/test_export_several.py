"""Graphs with several boxes per expression give those of the network: both kinds, all formats, one graph and two."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lively_net import lively

from optisar_yolo import OptiSAR
from optisar_yolo.engine.checkpoint import save_shared
from optisar_yolo.export.export import ExportError, ExportSettings, compare, export
from optisar_yolo.export.exported import ExportedModel
from optisar_yolo.export.graphs import best_per_expression

pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.timeout(600)

CASES = list(product((1, 3), ((96, 128), (128, 64), (160, 160))))  # images, height and width
WAYS = {  # format, two parts, boxes per expression: None is an input. One box alone: tests/export/test_export_same.py
    "onnx-20": ("onnx", False, 20),
    "onnx-parts-open": ("onnx", True, None),
    "openvino-20": ("openvino", False, 20),
    "openvino-parts-open": ("openvino", True, None),
    "torchscript-parts-20": ("torchscript", True, 20),
}


@pytest.fixture(scope="module", params=("", "-late"), ids=("guided", "late"))
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> OptiSAR:
    return OptiSAR(save_shared(lively(request.param), tmp_path_factory.mktemp("weights") / "best.safetensors"))


@pytest.fixture(scope="module", params=WAYS)
def exported(opened: OptiSAR, request: pytest.FixtureRequest, tmp_path_factory: Any) -> ExportedModel:
    form, parts, topk = WAYS[request.param]
    if form == "openvino":
        pytest.importorskip("openvino")
    ending = {"onnx": ".onnx", "openvino": "_openvino_model", "torchscript": ".torchscript"}[form]
    path = tmp_path_factory.mktemp("export") / f"best{ending}"
    return ExportedModel(export(opened.model, path, ExportSettings(form, 96, parts=parts, topk=topk)))


def given(model: Any, b: int, t: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(b * t)
    text = torch.nn.functional.normalize(torch.randn(b, t, model.text_dim, generator=g), dim=-1)
    return torch.rand(b, 3, height, width, generator=g), text, torch.tensor([[0.0, 0.1, 1.0, 0.8]]).repeat(b, 1)


def same(boxes: torch.Tensor, conf: torch.Tensor, around: torch.Tensor, expected: torch.Tensor) -> None:
    """Compare; two boxes whose confidences rounding can exchange may change places."""
    np.testing.assert_allclose(conf, expected, atol=1e-5)
    gap = torch.nn.functional.pad(expected[..., :-1] - expected[..., 1:], (1, 1), value=1.0)
    sure = (gap[..., :-1] > 1e-5) & (gap[..., 1:] > 1e-5)
    assert sure.float().mean() > 0.5
    np.testing.assert_allclose(boxes[sure], around[sure], atol=0.05)


@pytest.mark.parametrize(("b", "size"), CASES)
def test_boxes_and_confidences_are_those_of_the_network(
    opened: OptiSAR, exported: ExportedModel, b: int, size: tuple[int, int]
) -> None:
    images, text, extent = given(opened.model, b, 3, *size)
    for k in (1, 20) if exported.topk is None else (exported.topk,):
        with torch.inference_mode():
            encoded = opened.model.encode(images, extent)
            around, expected = best_per_expression(opened.model, encoded, text, k)
            found = exported.ground(
                exported.encode(images, extent), torch.arange(b).repeat_interleave(3), text.flatten(0, 1), k
            )
        assert found[0].shape == (3 * b, k, 4)
        same(*found, around.reshape(3 * b, k, 4), expected.reshape(3 * b, k))


def test_a_canvas_with_fewer_cells_than_boxes(opened: OptiSAR, exported: ExportedModel) -> None:
    if opened.model.head.reranker is not None:
        pytest.skip("it compares candidates: more than there are cells")
    images, text, extent = given(opened.model, 1, 1, 32, 32)  # 21 cells
    rows = torch.zeros(1, dtype=torch.long)
    boxes, _ = exported.ground(exported.encode(images, extent), rows, text[0], exported.topk or 100)
    assert boxes.shape == (1, exported.topk or 21, 4)


def test_different_numbers_of_expressions_and_repeated_rows(opened: OptiSAR, exported: ExportedModel) -> None:
    images, text, extent = given(opened.model, 3, 40, 96, 96)
    rows = torch.tensor([0] * 40 + [2] * 3 + [1])
    texts = text.flatten(0, 1)[: len(rows)]
    with torch.inference_mode():
        together = exported.ground(exported.encode(images, extent), rows, texts, 1)
        for i in (0, 17, 39, 41, 43):
            one = slice(int(rows[i]), int(rows[i]) + 1)
            alone = exported.ground(
                exported.encode(images[one], extent[one]), torch.zeros(1, dtype=torch.long), texts[i : i + 1], 1
            )
            np.testing.assert_allclose(alone[0][0], together[0][i], atol=0.05)
            np.testing.assert_allclose(alone[1][0], together[1][i], atol=1e-5)


def test_a_graph_with_wrong_boxes_is_refused(opened: OptiSAR, tmp_path: Path, monkeypatch: Any) -> None:
    settings = ExportSettings("onnx", 96, topk=20)
    written = ExportedModel(export(opened.model, tmp_path / "best.onnx", settings))
    right = written._run
    monkeypatch.setattr(written, "_run", lambda *a: (right(*a)[0] + 1, right(*a)[1]))
    with pytest.raises(ExportError, match="boxes by 1 pixel"):
        compare(opened.model, written, settings)


def test_predict_removes_duplicates_outside_and_says_what_may_be_missing(
    opened: OptiSAR, tmp_path: Path, log: Any
) -> None:
    image = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)
    ask: dict[str, Any] = {"text": ["the ship", "the airplane"], "conf": 0.0, "verbose": False, "imgsz": 128, "topk": 3}
    expected = opened.predict(image, **ask)[0].boxes.data
    export(opened.model, tmp_path / "all.onnx", ExportSettings("onnx", 96, topk=100))
    found = OptiSAR(tmp_path / "all.onnx").predict(image, **ask)[0].boxes.data
    np.testing.assert_allclose(found[:, :4], expected[:, :4], atol=0.05)
    np.testing.assert_allclose(found[:, 4], expected[:, 4], atol=1e-5)
    export(opened.model, tmp_path / "few.onnx", ExportSettings("onnx", 96, topk=5))
    few = OptiSAR(tmp_path / "few.onnx")
    assert len(few.predict(image, **ask)) == len(few.predict(image, **ask)) == 1
    assert log.text.count("gives 5 boxes per expression") == 1
    export(opened.model, tmp_path / "one.onnx", ExportSettings("onnx", 96))
    with pytest.raises(ValueError, match="one box per expression"):
        OptiSAR(tmp_path / "one.onnx").predict(image, **ask)


def test_the_command_takes_topk(opened: OptiSAR) -> None:
    path = ExportedModel(opened.export(format="onnx", imgsz=96, topk=7))
    assert path.topk == 7 and path.graph.outputs == ["boxes", "conf"] and path.meta["format"] == 3

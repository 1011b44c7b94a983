"""Rasters in an engine of the CPU, and from an export with several boxes: the objects that PyTorch finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from lively_net import lively

from optisar_yolo import OptiSAR
from optisar_yolo.engine.checkpoint import save_shared
from optisar_yolo.export import graph_cache
from optisar_yolo.export.export import ExportSettings, export
from optisar_yolo.geo import ground_raster
from optisar_yolo.geo.detecting import CANDIDATES

pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
rasterio = pytest.importorskip("rasterio")
pytestmark = [pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]
ASK: dict[str, Any] = {"imgsz": 96, "topk": "all", "conf": 0.3, "map": False, "resume": False, "batch": 4}
TEXTS = ["the ship", "the leftmost airplane"]


@pytest.fixture(scope="module")
def raster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("raster") / "scene.tif"
    small = np.random.default_rng(0).integers(0, 255, (12, 20, 3), np.uint8)
    values = cv2.resize(small, (240, 144), interpolation=cv2.INTER_NEAREST).transpose(2, 0, 1)
    with rasterio.open(path, "w", driver="GTiff", width=240, height=144, count=3, dtype="uint8") as file:
        file.write(values)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_shared(lively("-late"), tmp_path_factory.mktemp("weights") / "late.safetensors"))


def candidates(folder: Path) -> np.ndarray:
    """All boxes of a run before they are merged, by tile."""
    lines = [json.loads(line) for line in next(folder.rglob("state.jsonl")).read_text().splitlines()]
    return np.concatenate([np.reshape(entry["found"], (-1, 9)) for entry in lines if entry.get("found")])


def alike(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    np.testing.assert_allclose(found[:, :4], expected[:, :4], atol=0.06)  # stored with two decimals
    np.testing.assert_allclose(found[:, 4], expected[:, 4], atol=2e-5)
    assert (found[:, 5] == expected[:, 5]).all()


def test_engines_and_exports_find_what_pytorch_finds(
    raster: Path, weights: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(graph_cache, "USER_CONFIG_DIR", tmp_path / "config")
    model = OptiSAR(weights)
    expected = ground_raster(model, raster, TEXTS, project=str(tmp_path / "torch"), engine="torch", **ASK).found
    found = ground_raster(model, raster, TEXTS, project=str(tmp_path / "onnx"), engine="onnx", **ASK).found
    assert any((tmp_path / "config").rglob("net-encoder.onnx"))
    alike(found, expected)
    assert len(candidates(tmp_path / "torch")) > 20
    alike(candidates(tmp_path / "onnx")[:, :6], candidates(tmp_path / "torch")[:, :6])
    export(model.model, tmp_path / "late.onnx", ExportSettings("onnx", 96, topk=CANDIDATES))
    exported = OptiSAR(tmp_path / "late.onnx")
    alike(ground_raster(exported, raster, TEXTS, project=str(tmp_path / "export"), **ASK).found, expected)
    alike(candidates(tmp_path / "export")[:, :6], candidates(tmp_path / "torch")[:, :6])
    export(model.model, tmp_path / "one.onnx", ExportSettings("onnx", 96))
    with pytest.raises(ValueError, match="one object per expression"):
        ground_raster(OptiSAR(tmp_path / "one.onnx"), raster, TEXTS, project=str(tmp_path / "one"), **ASK)

"""``yolo benchmark``: every format that is written, with the same figures; run by `test_apart.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
from lively_net import lively

from optisar_yolo import OptiSAR
from optisar_yolo.engine.checkpoint import save_shared
from optisar_yolo.export import benchmark

for package in ("onnx", "onnxruntime", "openvino", "nncf"):
    pytest.importorskip(package)


@pytest.fixture
def model(tmp_path: Path) -> OptiSAR:
    return OptiSAR(save_shared(lively("-late"), tmp_path / "best.safetensors"))


def test_all_formats_give_the_same_figures(
    model: OptiSAR, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    monkeypatch.setattr(benchmark.LOGGER, "info", said.append)
    table = model.benchmark(data=str(tiny), imgsz=64)
    (line,) = (text for text in said if text.startswith("engine=auto: "))
    assert all(f"{name} " in line for name in ("PyTorch", "ONNX Runtime", "OpenVINO")) and line.count(" ms") == 3
    assert table["Format"].to_list() == ["PyTorch", "TorchScript", "ONNX", "OpenVINO"]
    assert set(table["Status❔"]) == {"✅"}
    assert len(set(table[benchmark.METRIC])) == 1 and float(table[benchmark.METRIC][0]) > 0
    assert all(float(size) > 1 for size in table["Size (MB)"])
    assert [p.name for p in tmp_path.iterdir()] == ["best.safetensors"]  # exports and validations are gone again
    with pytest.raises(AssertionError, match="below 0.99"):
        model.benchmark(data=str(tiny), imgsz=64, format="torchscript", verbose=0.99)


def test_eight_bits_have_a_row_of_their_own(model: OptiSAR, tiny: Path) -> None:
    table = model.benchmark(data=str(tiny), imgsz=96, format="openvino", int8=True)
    assert table["Format"].to_list() == ["OpenVINO", "OpenVINO, 8 bits"]
    whole, eight = (float(size) for size in table["Size (MB)"])
    assert eight < 0.7 * whole


def test_a_format_that_is_not_written_is_refused(model: OptiSAR) -> None:
    with pytest.raises(ValueError, match="format=engine is not supported"):
        model.benchmark(format="engine")


def test_one_failure_does_not_hold_back_the_others(
    model: OptiSAR, tiny: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> str:
        raise OSError("disk full")

    monkeypatch.setattr(benchmark, "run_export", full)
    monkeypatch.setattr(benchmark, "NAMES", {"-": "PyTorch", "onnx": "ONNX"})
    table = model.benchmark(data=str(tiny), imgsz=64)
    assert table["Status❔"].to_list() == ["✅", "❌"] and table["FPS"][1] == "-"
    with pytest.raises(OSError, match="disk full"):
        model.benchmark(data=str(tiny), imgsz=64, format="onnx", verbose=True)

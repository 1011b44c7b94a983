"""The benchmarks of accuracy over time and of cold starts, with tiny settings."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
if not BENCHMARKS.is_dir():
    pytest.skip("benchmarks are not part of this distribution", allow_module_level=True)
sys.path.insert(0, str(BENCHMARKS))
pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")

import cold_start  # noqa: E402
import frontier  # noqa: E402


def point(ms: float, iou: float, px: int = 320, bits: int = 32, model: str = "a.pt") -> dict[str, object]:
    return {
        "ms": ms, "meanIoU": iou, "Pr@0.5": iou, "imgsz": px, "bits": bits, "model": model, "quartiles": [ms, ms],
    }  # fmt: skip


def test_only_what_no_other_beats_is_on_the_frontier(tmp_path: Path) -> None:
    cells = {
        "slow and worse": point(30, 60), "best": point(20, 70, 640), "fast": point(5, 50, 256, 8),
        "as good, slower": point(21, 70, 512), "middle": point(10, 60), "as fast, worse": point(10, 59, 320, 8),
    }  # fmt: skip
    assert frontier.frontier(cells) == ["fast", "middle", "best"]
    lines = frontier.table(cells).splitlines()
    assert len(lines) == 2 + len(cells) and sum("**" in line for line in lines) == 3
    assert lines[2].startswith("| a | 8 | 256 | 5.0 (5.0–5.0) | **50.0** |")
    frontier.draw(cells, tmp_path / "new" / "frontier.png")
    assert (tmp_path / "new" / "frontier.png").stat().st_size > 5000


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_run_with_tiny_settings(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(frontier, "about", lambda threads: {"started": "now", "threads": threads})
    out = tmp_path / "frontier.json"
    bits = ["32"]
    try:
        import nncf  # noqa: F401

        bits.append("8")
    except ImportError:
        pass
    words = [
        f"--data={tiny}",
        "--sizes",
        "96",
        "128",
        "--repeats=1",
        "--images=2",
        f"--out={out}",
        "--split=test",
        "--limit=2",
    ]
    frontier.main([*words, "--bits", *bits])
    cells = json.loads(out.read_text(encoding="utf-8"))["cells"]
    assert len(cells) == 2 * len(bits)
    assert all(c["ms"] > 0 and 0 <= c["meanIoU"] <= 100 and c["split"] == "test" for c in cells.values())
    assert out.with_suffix(".png").stat().st_size > 5000
    assert yaml.safe_load(tiny.read_text())["names"] and "| 96 |" in capsys.readouterr().out


def test_cold_starts_become_a_table() -> None:
    runs = [
        {"imports": s, "first": 2 * s, "first_cpu": s, "warm": 10 * s, "memory": 800 + s, "running": name}
        for s, name in ((1.0, "torch"), (3.0, "onnx"), (2.0, "onnx"))
    ]
    cell = cold_start.cell(runs)
    assert cell == {
        "imports": 2.0, "first": 4.0, "first_cpu": 2.0, "warm": 20.0, "memory": 802.0, "running": ["onnx", "torch"],
        "runs": 3,
    }  # fmt: skip
    lines = cold_start.table({"auto, graph there | 320": cell}).splitlines()
    assert lines[2:] == ["| auto, graph there | 320 | onnx/torch | 2.0 | 4.00 (2.00) | 20 | 802 |"]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_cold_starts_with_tiny_settings(tmp_path: Path, capsys) -> None:
    out = tmp_path / "cold.json"
    cases = ["torch", "auto, no graph", "auto, graph there", "onnx, made first", "onnx, graph there"]
    cold_start.main(["--sizes", "64", "--threads=1", "--repeats=1", f"--out={out}", "--cases", *cases])
    cells = json.loads(out.read_text(encoding="utf-8"))["cells"]
    assert list(cells) == [f"{case} | 64" for case in cases]
    ran = {name.partition(" | ")[0]: cell["running"] for name, cell in cells.items()}
    assert ran["torch"] == ran["auto, no graph"] == ["torch"]
    assert ran["onnx, made first"] == ran["onnx, graph there"] == ["onnx"]
    assert cells["onnx, made first | 64"]["first_cpu"] > cells["onnx, graph there | 64"]["first_cpu"]
    assert all(cell["memory"] > 100 and cell["warm"] > 0 for cell in cells.values())
    assert "| onnx, graph there | 64 | onnx |" in capsys.readouterr().out


def test_a_case_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="nowhere.pt"):
        cold_start.run(["-m", "optisar_yolo", "cache", "make", "model=nowhere.pt"], tmp_path, 1)

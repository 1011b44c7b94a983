"""The benchmark of accuracy over time: what is on the frontier, and a run with tiny settings."""

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
    words = [f"--data={tiny}", "--sizes", "96", "128", "--repeats=1", "--images=2", f"--out={out}", "--split=test"]
    frontier.main([*words, "--bits", *bits])
    cells = json.loads(out.read_text(encoding="utf-8"))["cells"]
    assert len(cells) == 2 * len(bits)
    assert all(c["ms"] > 0 and 0 <= c["meanIoU"] <= 100 and c["split"] == "test" for c in cells.values())
    assert out.with_suffix(".png").stat().st_size > 5000
    assert yaml.safe_load(tiny.read_text())["names"] and "| 96 |" in capsys.readouterr().out

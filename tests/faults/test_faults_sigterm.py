"""Commands that are told to end, and what they leave: temporary folders, parts of files, processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from apart import REPOSITORY
from batch_set import make
from test_faults_disk import TRAIN, parts

KIND = "killed processes"
OTHERS = {"torchinductor_root", ".ses"}  # caches of PyTorch and ONNX Runtime


def started(folder: Path, words: list[str], begun: Callable[[], bool]) -> subprocess.Popen[bytes]:
    """Start a command whose temporary folder is `folder`/tmp, and wait until it has begun its work."""
    (folder / "tmp").mkdir()
    log = folder / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "optisar_yolo", *words], cwd=folder, stdout=file, stderr=file,
            env={**os.environ, "TMPDIR": str(folder / "tmp"), "PYTHONPATH": str(REPOSITORY)},
        )  # fmt: skip
    until = time.monotonic() + 200
    while not begun():
        assert process.poll() is None and time.monotonic() < until, log.read_text()[-1500:]
        time.sleep(0.05)
    return process


def left(folder: Path) -> set[str]:
    """What is in the temporary folder, beside caches of libraries."""
    return {p.name for p in (folder / "tmp").iterdir() if not p.name.startswith("torchinductor_")} - OTHERS


@pytest.mark.fault(KIND, "SIGTERM in a training, a raster, an export")
@pytest.mark.parametrize("verb", ["train", "scene", "export"])
@pytest.mark.timeout(400)
def test_sigterm(tmp_path: Path, tiny: Path, verb: str) -> None:
    cv2.imwrite(str(tmp_path / "wide.png"), np.random.default_rng(0).integers(0, 255, (1500, 2500), np.uint8))
    own = [f"project={tmp_path}/out", "name=run"]
    (tmp_path / "w.safetensors").symlink_to(REPOSITORY / "optisar_yolo/weights/optisar++n-pocket.safetensors")
    words = {
        "train": [*TRAIN, "epochs=500", f"data={tiny}", *own],
        "scene": ["scene", f"source={tmp_path}/wide.png", "text=the ship", "imgsz=128", "map=False", "conf=0.01", *own],
        "export": ["export", f"model={tmp_path}/w.safetensors", "format=onnx", "imgsz=640"],
    }[verb]
    sign = {"train": "out/run/results.csv", "scene": "out/run/**/*.jsonl", "export": ".optisar-export-*"}[verb]
    process = started(tmp_path, words, lambda: bool(list(tmp_path.glob(sign))))
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM, (tmp_path / "log").read_text()[-1500:]
    assert not left(tmp_path) and not parts(tmp_path) and not list(tmp_path.rglob(".optisar-*"))
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.fault(KIND, "kill -9 and SIGTERM of a batch, whose Ray processes end too")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.timeout(400)
def test_ray_ends_with_its_driver(tmp_path: Path, how: signal.Signals) -> None:
    pytest.importorskip("ray")
    manifest = make(tmp_path / "set", 60)
    out = tmp_path / "answers"
    words = ["batch", f"manifest={manifest}", f"out={out}", "imgsz=224", "workers=1", "device=cpu"]
    process = started(tmp_path, words, lambda: bool(list(out.glob("answers-*.parquet"))))
    children = psutil.Process(process.pid).children(recursive=True)
    folders = {Path(f.path) for c in children for f in c.open_files() if "/session_" in f.path}
    assert len(children) > 3 and folders
    process.send_signal(how)
    process.wait(90)
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
    assert not left(tmp_path) and not any(f.exists() for f in folders)

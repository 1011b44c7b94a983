"""What works after `pip install optisar-yolo` without extras, and what is said of the rest."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from plain_install import other_modules

from optisar_yolo.commands.main import MODES, VERBS
from optisar_yolo.synthetic import render_image


def plainly(folder: Path, *lines: list[str]) -> tuple[list[int], str, str]:
    """Run commands without extras: their exit statuses, what they printed, and what they said of errors."""
    script = Path(__file__).with_name("plain_install.py")
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    words = [sys.executable, str(script), json.dumps(lines)]
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr[-4000:]
    return [int(n) for n in re.findall(r"^status (\d+)", done.stdout, re.M)], done.stdout, done.stderr


def test_an_extra_is_hidden_and_a_dependency_is_not() -> None:
    hidden = other_modules()
    assert "pytest" in hidden
    assert not {"torch", "onnx", "onnxruntime", "rasterio", "polars", "numpy", "cv2", "ultralytics"} & hidden


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_plain_install_predicts_trains_and_exports(tiny: Path, tmp_path: Path) -> None:
    image = render_image(seed=0, split="test", number=9)["img"]
    cv2.imwrite(str(tmp_path / "port.jpg"), image)
    cv2.imwrite(str(tmp_path / "port.tif"), image)
    quick = ["imgsz=64", "batch=4", "workers=0", "device=cpu", "plots=False"]
    status, said, _ = plainly(
        tmp_path,
        ["predict", "source=port.jpg", "text=the largest ship"],
        ["predict", "source=port.tif", "text=all ships", "augment=True"],
        ["train", f"data={tiny}", "model=optisar++n-pocket.safetensors", "epochs=1", *quick],
        ["val", f"data={tiny}", "model=runs/detect/train/weights/best.pt", *quick, "matches=True"],
        ["export", "format=onnx", "imgsz=64"],
        ["scene", "source=port.tif", "text=the largest ship", "map=False"],
        ["explain", "source=port.jpg", "text=the largest ship"],
        ["view", f"data={tiny}", "save=view.jpg"],
        ["info"],
        *([verb, "--help"] for verb in (*MODES, *VERBS)),
    )
    assert set(status) == {0} and len(status) == 9 + len(MODES) + len(VERBS), said[-4000:]
    assert (tmp_path / "runs/detect/predict/port.jpg").is_file()
    assert "https://docs.ultralytics.com" not in said  # its pages know nothing of expressions


@pytest.mark.slow
def test_what_lacks_an_extra_says_so_in_one_line(tmp_path: Path) -> None:
    hidden = other_modules()
    lines = {
        "lap": ["track", "source=port.jpg", "text=the ship"],
        "gradio": ["app"],
        "fastapi": ["serve"],
        "ray": ["batch", "manifest=asks.csv", "out=answers"],
        "bokeh": ["scene", "source=port.tif", "text=the largest ship"],
        "openvino": ["export", "format=openvino", "imgsz=64"],
    }
    lines = {package: words for package, words in lines.items() if package in hidden}
    image = render_image(seed=0, split="test", number=9, size=(96, 128))["img"]
    cv2.imwrite(str(tmp_path / "port.jpg"), image)
    cv2.imwrite(str(tmp_path / "port.tif"), image)
    (tmp_path / "asks.csv").write_text("image,text\nport.jpg,the ship\n")
    status, _, said = plainly(tmp_path, *lines.values())
    assert status == [1] * len(lines), said
    for package in lines:
        assert re.search(rf"^optisar: .*{package}.*pip install 'optisar-yolo\[\w+\]'$", said, re.M), said

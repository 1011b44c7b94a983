"""A damaged installation of this package: stock Ultralytics goes on working."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from apart import REPOSITORY

KIND = "damaged installation"
LINE = (REPOSITORY / "packaging/optisar_yolo_boot.pth").read_text()
CODE = (
    LINE
    + """
import numpy as np
from ultralytics import YOLO, cfg
model = YOLO("yolo11n.yaml")
(result,) = model.predict(np.zeros((64, 64, 3), np.uint8), imgsz=32, verbose=False)
cfg.entrypoint("yolo version")
print("works", type(model).__name__, len(result.names))
"""
)
RAISES = {
    "SyntaxError": "def (:\n",
    "RuntimeError": "raise RuntimeError('broken')\n",
    "ValueError": "raise ValueError('broken')\n",
    "NameError": "undefined_name\n",
    "an empty file": "",
    "a missing file": None,
}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package without its weights."""
    folder = tmp_path_factory.mktemp("installed")
    shutil.copytree(REPOSITORY / "optisar_yolo", folder / "optisar_yolo", ignore=shutil.ignore_patterns("weights"))
    return folder


@pytest.mark.fault(KIND, "files of the package that are missing, empty or raise an error, below a stock model")
@pytest.mark.parametrize(
    ("file", "how"),
    [
        *[("plugin/patch.py", how) for how in RAISES],
        ("plugin/settings.py", "SyntaxError"),
        ("plugin/identify.py", "RuntimeError"),
        ("plugin/__init__.pyi", "a missing file"),
        ("utils/options.py", "ValueError"),
        ("utils/__init__.py", "a missing file"),
        ("boot.py", "SyntaxError"),
        ("boot.py", "a missing file"),
        ("__init__.py", "RuntimeError"),
    ],
)
def test_stock_works(tmp_path: Path, package: Path, file: str, how: str) -> None:
    installed = tmp_path / "optisar_yolo"
    shutil.copytree(package / "optisar_yolo", installed)
    (installed / file).unlink()
    if (text := RAISES[how]) is not None:
        (installed / file).write_text(text)
    strict = ("-W", "error::RuntimeWarning")  # where a program makes errors of warnings
    for options in ((), strict) if file == "plugin/patch.py" and how == "RuntimeError" else ((),):
        done = subprocess.run(
            [sys.executable, *options, "-c", CODE], capture_output=True, text=True, cwd=tmp_path, timeout=400,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
        )  # fmt: skip
        assert done.returncode == 0 and done.stdout.splitlines()[-1] == "works YOLO 80", done.stderr[-2000:]
        if file not in ("boot.py", "__init__.py"):  # there, nothing is left that could say it
            assert "RuntimeWarning: optisar-yolo is not active in this process" in done.stderr, done.stderr

"""Tests that run in a process of their own, as threads of the libraries in them outlive their work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("file", "count", "package"),
    [
        ("ray_batch.py", 6, "ray"),
        # 3 minutes, most of which Ray takes to notice that nodes are lost
        pytest.param(
            "ray_cluster.py",
            2,
            "moto.server",
            marks=pytest.mark.skipif(not os.environ.get("OPTISAR_CLUSTER"), reason="OPTISAR_CLUSTER=1 runs it"),
        ),
        ("benchmark_mode.py", 4, "openvino"),
    ],
)
def test_apart(file: str, count: int, package: str) -> None:
    pytest.importorskip(package)
    here = Path(__file__).parent
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", here / file]
    done = subprocess.run(words, cwd=here.parent, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert f"{count} passed" in done.stdout

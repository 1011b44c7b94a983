"""Batches with Ray (`ray_batch.py`), in a process of their own: Ray's threads outlive its session."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray")


@pytest.mark.timeout(600)
def test_batches_with_ray() -> None:
    here = Path(__file__).parent
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", here / "ray_batch.py"]
    done = subprocess.run(words, cwd=here.parent, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert "6 passed" in done.stdout

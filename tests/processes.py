"""Code that runs in an interpreter of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def run_python(code: str, *options: str, **env: str) -> str:
    """Run code in a new interpreter that finds the package; return the last line it prints."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **env}
    done = subprocess.run(
        [sys.executable, *options, "-c", code], capture_output=True, text=True, env=environment, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]  # Ultralytics may speak before, about its settings

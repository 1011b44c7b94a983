"""What ends the processes of a batch when its driver has gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from optisar_yolo.batch.watch import SHORT, watched

DRIVER = """
import subprocess, sys, time
from optisar_yolo.batch.watch import watched
with watched() as folder:
    log = open(folder + "/log", "w")
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"], stdout=log, start_new_session=True)
    print(folder, child.pid, flush=True)
    if sys.argv[1] == "wait":
        time.sleep(100)
"""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("how", ["end", "kill"])
def test_what_a_driver_started_ends_with_it(how: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, "wait" if how == "kill" else "end"], stdout=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stdout is not None
        folder, pid = driver.stdout.readline().split()
        assert Path(folder).is_dir()
        if how == "kill":
            driver.send_signal(signal.SIGKILL)
        code = driver.wait(60)
        assert code == (-signal.SIGKILL if how == "kill" else 0)  # a driver has files of the session open, too
    until = time.monotonic() + 30
    while alive(int(pid)) or Path(folder).exists():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_the_folder_is_short_enough_for_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("x" * 60)))
    Path(str(tmp_path / ("x" * 60))).mkdir()
    with watched() as folder:
        assert len(folder) <= SHORT and Path(folder).is_dir()
    assert not Path(folder).exists()
    assert not list((tmp_path / ("x" * 60)).iterdir())

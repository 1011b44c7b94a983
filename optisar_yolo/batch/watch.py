"""Ends what a Ray session leaves: a process that waits for the driver's end, whatever ended it.

Ray's own agents outlive a driver that is killed, and its session folder stays after every run. :func:`watched` makes
the folder of a session, in which every process of it has a log open, and starts this module as a process. That reads
its input, which nobody writes, to the end: the system closes it when the driver is gone. Then it ends the processes
that have files of the folder open, and removes the folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SHORT = 40  # characters of the folder: a socket's path has at most 103, of which Ray's names take 64
ROUNDS = 5  # searches for processes, as some start others while they are being ended
PATIENCE = 20  # seconds that the driver waits for the clearing up


@contextmanager
def watched() -> Iterator[str]:
    """Watch over a Ray session that is started inside the block.

    Yields:
        A new folder for the session, which is removed at the end.
    """
    folder = tempfile.mkdtemp(prefix="ray-")
    if len(folder) > SHORT and os.name == "posix":
        os.rmdir(folder)
        folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    folder = os.path.realpath(folder)  # as the system names open files
    watcher = subprocess.Popen(
        [sys.executable, "-m", __name__, folder, str(os.getpid())], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,  # Ctrl-C is for the driver
    )  # fmt: skip
    try:
        yield folder
    finally:
        assert watcher.stdin is not None
        watcher.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            watcher.wait(PATIENCE)


def end_users(folder: Path, driver: int) -> int:
    """End all processes that have a file below a folder open, but for this one and the driver; returns their number.

    At the end of a run the driver lives, and has Ray's logs open.
    """
    import psutil

    found, spared = [], (os.getpid(), driver)
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            used = (Path(f.path) for f in process.open_files())
            if process.pid not in spared and any(folder in path.parents for path in used):
                process.kill()
                found.append(process)
    psutil.wait_procs(found, timeout=5)
    return len(found)


def _wait(folder: Path, driver: int) -> None:
    """Wait for the end of the driver, and clear up."""
    while sys.stdin.buffer.read(4096):
        pass
    for _ in range(ROUNDS):
        if not end_users(folder, driver):
            break
        time.sleep(0.2)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _wait(Path(sys.argv[1]), int(sys.argv[2]))

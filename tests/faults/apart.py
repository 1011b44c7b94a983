"""Runs commands and functions in child processes, with limits and kills, and judges what they say.

A server process imports the package once and forks each child (``multiprocessing``'s "forkserver"); the child has its
own working folder, output, limits of memory and file size, and cannot harm the tests.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PATIENCE = 60  # seconds after which a child counts as hanging
MIB = 1 << 20
LONGEST = 900  # characters of a message that still counts as one line

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["preloaded"])


@dataclass(frozen=True)
class Outcome:
    """What a child process did.

    Attributes:
        status: Exit status; minus the signal's number where one ended it; None where it had to be ended as hanging.
        out: Its standard output.
        err: Its standard error.
        seconds: Its time.
        grown: Memory that it took beyond what it started with, MiB.
    """

    status: int | None
    out: str
    err: str
    seconds: float
    grown: float

    @property
    def said(self) -> list[str]:
        """The lines of standard error, without the hints that follow each error."""
        hints = ("(OPTISAR_TRACEBACK", "Run 'optisar help'")
        return [line for line in self.err.splitlines() if line.strip() and not line.startswith(hints)]


def _child(
    function: Callable[..., Any], args: tuple[Any, ...], folder: Path, files: tuple[Path, Path, Path], file_size: int
) -> None:
    os.chdir(folder)
    for number, file in zip((1, 2), files, strict=False):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdout = open(1, "w", buffering=1, closefd=False)
    sys.stderr = open(2, "w", buffering=1, closefd=False)
    _logs_to_stderr()
    if file_size:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, resource.RLIM_INFINITY))
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        status = function(*args)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else (print(error.code, file=sys.stderr), 1)[1]
    except BaseException:  # noqa: BLE001 - what a shell would show
        traceback.print_exc()
        status = 70
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) / 1024
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    files[2].write_text(str(grown))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 0)


def _logs_to_stderr() -> None:
    """Let Ultralytics' logger write to this process' own output, not to that of the server that it was forked from."""
    from ultralytics.utils import LOGGER

    for handler in LOGGER.handlers:
        if hasattr(handler, "setStream"):
            handler.setStream(sys.stdout)


@functools.cache
def _find_modules() -> None:
    """Let the server of child processes, which begins with the first of them, import the package and these tests."""
    paths = [str(REPOSITORY), str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))


def start(function: Callable[..., Any], *args: Any, folder: Path, file_size: int = 0) -> tuple[Any, tuple[Path, ...]]:
    """Start a function of a module in a child process; returns the process and the files of its output."""
    _find_modules()
    made = folder / f".child-{time.monotonic_ns()}"
    made.mkdir(parents=True)
    files = (made / "out", made / "err", made / "grown")
    process = _context.Process(target=_child, args=(function, args, folder, files, file_size), daemon=False)
    process.start()
    return process, files


def outcome(
    process: Any, files: tuple[Path, ...], seconds: float = PATIENCE, kill: Callable[[], bool] | None = None
) -> Outcome:
    """Wait for a child process.

    Args:
        process: The child.
        files: Of its output.
        seconds: It is ended after these, and has the status None.
        kill: Says when to end it with SIGKILL.
    """
    begun = time.monotonic()
    hangs = False
    while process.is_alive():
        if kill is not None and kill():
            process.kill()
            kill = None
        if time.monotonic() - begun > seconds:
            hangs = True
            process.kill()
        process.join(0.01)
    texts = [f.read_text(errors="replace") if f.exists() else "" for f in files]
    return Outcome(
        None if hangs else process.exitcode, texts[0], texts[1], time.monotonic() - begun, float(texts[2] or 0)
    )


def run(function: Callable[..., Any], *args: Any, folder: Path, seconds: float = PATIENCE, file_size: int = 0,
        kill: Callable[[], bool] | None = None) -> Outcome:  # fmt: skip
    """Run a function of a module in a child process and wait for it.

    Args:
        function: Its return value is the exit status.
        *args: What can be pickled.
        folder: Working folder.
        seconds: See `outcome`.
        file_size: Bytes that a file may have; 0 for no limit. Writing more fails as on a full disk.
        kill: See `outcome`.
    """
    return outcome(*start(function, *args, folder=folder, file_size=file_size), seconds, kill)


def optisar(*words: str) -> int:
    """Run the command `optisar` in this process; the exit status."""
    from optisar_yolo.commands.main import main

    return main(list(words))


def command(folder: Path, *words: Any, **limits: Any) -> Outcome:
    """Run the command `optisar` in a child process, in a folder."""
    return run(optisar, *map(str, words), folder=folder, **limits)


def refused(got: Outcome, *needles: str, status: tuple[int, ...] = (1, 2), grown: float = 600) -> str:
    """Check that a command ended with one line that names what was wrong; returns the line.

    Args:
        got: What the command did.
        *needles: What the line must hold, such as a file's name.
        status: Accepted exit statuses.
        grown: MiB that it may have taken.
    """
    assert got.status in status, (got.status, got.err[-2000:], got.out[-500:])
    assert "Traceback" not in got.err + got.out, got.err[-3000:]
    lines = [line for line in got.said if line.startswith("optisar: ") or line.startswith("yolo: ")]
    assert len(lines) == 1, got.err[-2000:]
    assert len(lines[0]) <= LONGEST, (len(lines[0]), lines[0][:1000])
    for needle in needles:
        assert needle in lines[0], (needle, lines[0])
    assert got.grown < grown, got.grown
    return lines[0]

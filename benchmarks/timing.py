"""Timing for the speed benchmarks: contestants in turn, medians with quartiles, records that grow from run to run.

A machine is never quite still. So that what disturbs it falls on all contestants alike, they are called round robin,
one call each per round, and a figure is the median over the rounds.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from optisar_yolo import __version__
from optisar_yolo.utils.files import write_atomic

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PACKAGES = ("ultralytics", "torch", "onnxruntime", "openvino", "transformers", "numpy")
SLOW = 3.0  # seconds of a first call from which it counts as a measure of the next
flush_denormals = False  # processors are slow on denormal numbers, which random weights make many of; set by `pin`
LEAST = 3  # calls of the slowest contestant: the fewest that have a median which one disturbance cannot move


@dataclass(frozen=True)
class Taken:
    """What one call took, in seconds."""

    wall: float
    cpu: float  # of all threads of this process


def pin(threads: int) -> None:
    """Fix the number of threads; restart the interpreter once, as OpenMP reads its settings when it is loaded.

    Waiting threads sleep (``OMP_WAIT_POLICY=PASSIVE``): otherwise those of the last contestant would spin while the
    next one is measured.

    Args:
        threads: Threads of every engine.
    """
    global flush_denormals
    wanted = {
        "OMP_WAIT_POLICY": "PASSIVE",
        "OMP_NUM_THREADS": str(threads),
        "YOLO_OFFLINE": "1",
        "YOLO_AUTOINSTALL": "false",
        "HF_HUB_OFFLINE": "1",
    }
    if any(os.environ.get(k) != v for k, v in wanted.items()):
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | wanted)
    torch.set_num_threads(threads)
    flush_denormals = torch.set_flush_denormal(True)


def timed(call: Callable[[], object]) -> Taken:
    """Call once."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return Taken(time.perf_counter() - wall, time.process_time() - cpu)


def interleaved(
    calls: Mapping[str, Callable[[], object]],
    repeats: int,
    seconds: float = float("inf"),
    say: Callable[[str], object] = lambda _: None,
) -> dict[str, list[Taken]]:
    """Call all contestants once to warm up, then round robin.

    Args:
        calls: The contestants by name.
        repeats: Rounds, at least 1.
        seconds: A contestant that would take longer in all sits out some rounds, evenly spread, but for
            :data:`LEAST` of them.
        say: Told about each round.

    Returns:
        What the calls took, in the order of the rounds; warming up left out.
    """
    say(f"warming up {len(calls)} contestants")
    turns: dict[str, int] = {}
    for name, call in calls.items():
        once = timed(call).wall  # the first call also compiles, allocates and caches
        if once < SLOW and seconds < float("inf"):
            once = timed(call).wall
        fair = seconds / once
        turns[name] = repeats if fair >= repeats else min(repeats, max(LEAST, int(fair)))
    taken: dict[str, list[Taken]] = {name: [] for name in calls}
    for i in range(repeats):
        say(f"round {i + 1} of {repeats}")
        for name, call in calls.items():
            n = turns[name]
            if (i + 1) * n // repeats > i * n // repeats:
                taken[name].append(timed(call))
    return taken


def summary(taken: list[Taken]) -> dict[str, Any]:
    """Median and quartiles of the wall time and the median of the CPU time, in milliseconds.

    Args:
        taken: At least one call.
    """
    wall = np.array([t.wall for t in taken]) * 1e3
    low, median, high = np.percentile(wall, (25, 50, 75))
    cpu = float(np.median([t.cpu for t in taken])) * 1e3
    return {
        "ms": round(float(median), 2),
        "quartiles": [round(float(low), 2), round(float(high), 2)],
        "cpu_ms": round(cpu, 2),
        "calls": len(taken),
    }


def processor() -> str:
    """Name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    units = [x for x in ("avx512f", "avx512_vnni", "amx_bf16", "amx_int8") if x in fields.get("flags", "").split()]
    return f"{fields.get('model name', platform.machine())} (model {fields.get('model', '?')}; {', '.join(units)})"


def commit() -> str:
    """Commit of the checkout, with a plus sign where files differ from it; "unknown" outside of one."""
    try:
        name = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, text=True).strip()
        changed = subprocess.check_output(["git", "status", "--porcelain"], cwd=HERE, text=True).strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return name + ("+" if changed else "")


def versions() -> dict[str, str]:
    """Versions of what is installed of the packages that matter."""
    found = {"optisar-yolo": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def about(threads: int) -> dict[str, Any]:
    """What one has to know of a run: command, commit, versions and machine."""
    script = Path(sys.argv[0]).name
    return {
        "command": " ".join(["python", f"benchmarks/{script}", *sys.argv[1:]]),
        "commit": commit(),
        "versions": versions(),
        "machine": f"{processor()}, {os.cpu_count()} cores, {threads} threads used, no GPU",
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def add_to_record(path: Path, run: dict[str, Any], cells: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Add measurements to a record; those of the same name are replaced, the others and their runs stay.

    Args:
        path: JSON file; need not exist.
        run: What :func:`about` says.
        cells: Measurements by name. Each gets ``run``, the start of its run, under which ``runs`` describes it.

    Returns:
        The whole record.
    """
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"runs": {}, "cells": {}}
    old: dict[str, dict[str, Any]] = record["cells"]
    for name, cell in cells.items():
        old[name] = {**cell, "run": run["started"]}
    runs = record["runs"] | {run["started"]: {k: v for k, v in run.items() if k != "started"}}
    used = {cell["run"] for cell in old.values()}
    record = {"runs": {k: v for k, v in runs.items() if k in used}, "cells": old}
    write_atomic(path, json.dumps(record, indent=1) + "\n")
    return record

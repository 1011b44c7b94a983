"""Cold start, warm answer and memory of ``predict`` in every engine, each in a process of its own.

    python benchmarks/cold_start.py [--model optisar++n-pocket.safetensors] [--sizes 320 640] [--threads 2]
                                    [--repeats 5]

writes benchmarks/results/cold-start.json and prints its table. The cases are called in turn, so that noise falls on all
alike; a figure is the median over the rounds. A process measures, with one image and one expression:

* imports: seconds until ``from optisar_yolo import OptiSAR`` is done;
* first: seconds from there to the first box: opening the weights and the first ``predict``;
* warm: milliseconds of a later ``predict``, the median of 20;
* memory: the most that the process held, in MB.

The cases: ``torch``; ``auto`` where no graph was ever made, and where one is there with a trial that found it faster;
``onnx`` and ``openvino`` where the graph must be made first, and where it is there. Graphs are kept in temporary
folders, apart from those of the user.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
WARM = 20
CASES = {  # engine=, and whether its graph is there
    "torch": ("torch", False),
    "auto, no graph": ("auto", False),
    "auto, graph there": ("auto", True),
    "onnx, made first": ("onnx", False),
    "onnx, graph there": ("onnx", True),
    "openvino, made first": ("openvino", False),
    "openvino, graph there": ("openvino", True),
}


def child(model: str, engine: str, imgsz: int, threads: int) -> dict[str, Any]:
    """Measure one case in this process, which has imported nothing yet."""
    start = time.perf_counter()
    import numpy as np
    import torch

    from optisar_yolo import OptiSAR

    torch.set_num_threads(threads)
    imports = time.perf_counter() - start
    image = np.random.default_rng(0).integers(0, 255, (imgsz, imgsz, 3), np.uint8)
    ask: dict[str, Any] = {"text": "the ship in the upper left", "imgsz": imgsz, "engine": engine, "verbose": False}

    def call() -> float:
        begun = time.perf_counter()
        net.predict(image, **ask)
        return time.perf_counter() - begun

    start, busy = time.perf_counter(), time.process_time()
    net = OptiSAR(model)
    call()
    first, first_cpu = time.perf_counter() - start, time.process_time() - busy
    warm = statistics.median(call() for _ in range(WARM))
    network = getattr(net.predictor, "network", None)
    return {
        "imports": imports, "first": first, "first_cpu": first_cpu, "warm": 1e3 * warm, "memory": peak(),
        "running": getattr(network, "running", "torch"),
    }  # fmt: skip


def peak() -> float:
    """Return the most memory that this process has held, in MB."""
    import resource

    unit = 1024 if sys.platform != "darwin" else 1  # Linux counts KiB, macOS bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def run(words: Sequence[str], config: Path, threads: int) -> str:
    """Run a command of Python with graphs in a folder; return what it prints.

    Raises:
        RuntimeError: It failed; the message is the end of what it said.
    """
    own = {"YOLO_CONFIG_DIR": str(config), "YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "false"}
    own |= {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run([sys.executable, *words], env=os.environ | own, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError("\n".join((done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-3:]))
    return done.stdout


def measure(args: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Measure all cases in turn; the measurements of each by "case | size"."""
    found: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        ready = {imgsz: Path(folder) / f"ready-{imgsz}" for imgsz in args.sizes}
        for imgsz, config in ready.items():  # a graph and a trial, as after much work
            words = ["-m", "optisar_yolo", "cache", "make", f"model={args.model}", f"imgsz={imgsz}"]
            run([*words, f"threads={args.threads}"], config, args.threads)
        for i in range(args.repeats):
            for name in args.cases:
                engine, there = CASES[name]
                for imgsz in args.sizes:
                    config = ready[imgsz] if there else Path(folder) / f"{i}-{name}-{imgsz}"
                    words = [__file__, "--child", engine, "--model", args.model, "--sizes", str(imgsz)]
                    out = run([*words, "--threads", str(args.threads)], config, args.threads)
                    found.setdefault(f"{name} | {imgsz}", []).append(json.loads(out.rpartition("RESULT ")[2]))
                    print(f"round {i + 1}: {name}, {imgsz} px: {found[f'{name} | {imgsz}'][-1]}", flush=True)
    return found


def cell(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians of a case, and what ran."""
    keys = ("imports", "first", "first_cpu", "warm", "memory")
    middle = {key: round(statistics.median(r[key] for r in runs), 2) for key in keys}
    return middle | {"running": sorted({r["running"] for r in runs}), "runs": len(runs)}


def table(cells: dict[str, dict[str, Any]]) -> str:
    """Return the figures as a Markdown table."""
    lines = ["| `engine=` | px | runs | imports, s | first box, s (CPU) | warm, ms | memory, MB |"]
    lines.append("|---|---:|---|---:|---:|---:|---:|")
    for name, c in cells.items():
        case, imgsz = name.split(" | ")
        row = [case, imgsz, "/".join(c["running"]), f"{c['imports']:.1f}", f"{c['first']:.2f} ({c['first_cpu']:.2f})"]
        lines.append("| " + " | ".join([*row, f"{c['warm']:.0f}", f"{c['memory']:.0f}"]) + " |")
    return "\n".join(lines)


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="optisar++n-pocket.safetensors")
    parser.add_argument("--sizes", nargs="+", type=int, default=[320, 640])
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS / "cold-start.json")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Measure, write, print."""
    args = arguments(words)
    if args.child:
        print("RESULT " + json.dumps(child(args.model, args.child, args.sizes[0], args.threads)))
        return
    from timing import about

    from optisar_yolo.utils import write_atomic

    cells = {name: cell(runs) for name, runs in measure(args).items()}
    record = about(args.threads) | {"load": os.getloadavg(), "cells": cells}
    write_atomic(args.out, json.dumps(record, indent=1) + "\n")
    print(table(cells))
    print(f"written to {args.out}")


if __name__ == "__main__":
    main()

"""The cache of text features with many expressions: seconds and memory of opening, saving and looking up.

    python benchmarks/text_cache.py [--texts 940000] [--added 200]

adds to benchmarks/results/text-cache.json. The texts are made, their vectors are random (384 numbers each, as those of
the bundled encoder); the default is 20 times the expressions that a training on 1,250 real images encodes. Each step
runs in a process of its own: filling the cache and saving it for the first time, opening it, and what every epoch of a
training does, saving a few new expressions. ``--label`` names the row: run it with another version of the package on
PYTHONPATH for a comparison.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from timing import RESULTS, about, add_to_record

from optisar_yolo.text import TextEncoder, TextFeatureCache

WIDTH, LOOKED_UP = 384, 16 * 20  # as the bundled encoder; the expressions of a batch


class Random(TextEncoder):
    """Random vectors; a stand-in for an encoder that costs nothing."""

    def __init__(self) -> None:
        self.name, self.width, self.max_tokens = "random", WIDTH, 64
        self.fingerprint = hashlib.sha256(b"random").hexdigest()

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        return [[0]] * len(texts)

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError  # `encode` needs none

    def encode(self, texts: list[str]) -> torch.Tensor:
        """Return random unit vectors [N, D]."""
        return torch.nn.functional.normalize(torch.randn(len(texts), WIDTH), dim=1)


def expressions(start: int, stop: int) -> list[str]:
    """Return made expressions of a usual length."""
    return [f"The small SAR ship number {i} in the lower right corner of the image" for i in range(start, stop)]


def step(name: str, folder: str, texts: int, added: int) -> dict[str, float]:
    """Run one step, and return its seconds and the process' memory."""
    out: dict[str, float] = {"MB at start": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}
    start = time.perf_counter()
    cache = TextFeatureCache(Random(), folder)
    out["open, s"] = time.perf_counter() - start
    if name == "fill":
        cache(expressions(0, texts))
        start = time.perf_counter()
        cache.save()
        out["first save, s"] = time.perf_counter() - start
    if name == "train":
        saves = []
        for epoch in range(3):
            cache(expressions(texts + epoch * added, texts + (epoch + 1) * added))
            start = time.perf_counter()
            cache.save()
            saves.append(time.perf_counter() - start)
        out["save of an epoch, s"] = statistics.median(saves)
        wanted = expressions(0, LOOKED_UP)
        start = time.perf_counter()
        for _ in range(100):
            cache(wanted)
        out["expressions of a batch, ms"] = (time.perf_counter() - start) * 10
    out["peak MB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return {k: round(v, 3) for k, v in out.items()}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--texts", type=int, default=940_000)
    parser.add_argument("--added", type=int, default=200, help="new expressions of an epoch")
    parser.add_argument("--label", default="this version")
    parser.add_argument("--step", nargs=2, metavar=("NAME", "FOLDER"), help="run one step, and print its figures")
    options = parser.parse_args()
    if options.step:
        torch.set_num_threads(1)
        print("FIGURES", json.dumps(step(*options.step, options.texts, options.added)))
        return
    row = {"texts": options.texts, "added": options.added}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("fill", "open", "train"):
            command = [sys.executable, __file__, *sys.argv[1:], "--step", name, folder]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            figures = next(line for line in done.stdout.splitlines() if line.startswith("FIGURES "))
            row[name] = json.loads(figures.removeprefix("FIGURES "))
        row["file, MB"] = round(max(f.stat().st_size for f in Path(folder).iterdir()) / 1e6, 1)
    add_to_record(RESULTS / "text-cache.json", about(1), {options.label: row})
    print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()

"""Does the loader keep up? Images per second of the training samples, beside what training consumes.

    python benchmarks/loader.py [--data benchmarks/optsar-real.yaml] [--imgsz 320] [--batch 16] [--workers 0 2]

writes benchmarks/results/loader.json. Each number of workers runs one epoch to warm up (images are decoded and kept)
and then ``--repeats`` epochs, of which the median counts; training is the median of ``--steps`` steps at scale n.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from ultralytics.utils import DEFAULT_CFG_DICT, TQDM

from optisar_yolo.data.config import load_dataset_config
from optisar_yolo.data.dataset import GroundingDataset
from optisar_yolo.data.records import load_split
from optisar_yolo.data.sampler import EpochSampler, GroundingLoader
from optisar_yolo.engine.train import TRAIN_DEFAULTS
from optisar_yolo.nn.model import GroundingModel
from optisar_yolo.plugin.settings import OPTISAR_DEFAULTS

HERE = Path(__file__).resolve().parent


def loading(dataset: GroundingDataset, batch: int, workers: int, repeats: int) -> float:
    """Images per second, median over the epochs."""
    sampler = EpochSampler(len(dataset), 0)
    loader = GroundingLoader(dataset, batch, sampler, workers)
    rates = []
    for epoch in range(repeats + 1):
        sampler.set_epoch(epoch)
        start, seen = time.perf_counter(), 0
        for item in TQDM(loader, desc=f"{workers} workers, epoch {epoch}"):
            seen += len(item["img"])
        rates.append(seen / (time.perf_counter() - start))
    return statistics.median(rates[1:])


def training(dataset: GroundingDataset, batch: int, steps: int, args: Any) -> float:  # noqa: ANN401
    """Images per second of forward, loss and backward in bfloat16, on samples of the set."""
    model = GroundingModel("optisar++n.yaml", verbose=False, text_dim=384).train()
    model.args, model.bf16 = args, True
    sample = dataset.collate([dataset[(0, i)] for i in range(batch)])
    sample["img"] = sample["img"].float() / 255
    sample["txt_feats"] = torch.nn.functional.normalize(torch.randn(batch, args.prompts, 384), dim=-1)
    seconds = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        model.loss(sample)[0].sum().backward()
        seconds.append(time.perf_counter() - start)
    return batch / statistics.median(seconds[1:])


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default=str(HERE / "optsar-real.yaml"))
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dataset_config = load_dataset_config(options.data)
    recipe = {"imgsz": options.imgsz, "seed": 0, "neg_ratio": 1.5, "reword": 0.3}
    args = SimpleNamespace(**DEFAULT_CFG_DICT | OPTISAR_DEFAULTS | TRAIN_DEFAULTS | recipe)
    dataset = GroundingDataset(load_split(dataset_config, "train"), dataset_config.names, args)
    record = {
        "command": "python " + " ".join(["benchmarks/loader.py", *sys.argv[1:]]),
        "machine": f"{platform.machine()}, {options.threads} threads, no GPU",
        "pictures": len(dataset),
        "loader, pictures per second": {
            str(n): round(loading(dataset, options.batch, n, options.repeats), 1) for n in options.workers
        },
        "training at scale n, pictures per second": round(training(dataset, options.batch, options.steps, args), 1),
    }
    (HERE / "results" / "loader.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()

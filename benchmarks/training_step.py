"""What a training step and a batch of the loader cost, beside YOLOE-11 of the same scale on the same images.

    python benchmarks/training_step.py [--scales n s m] [--imgsz 640] [--batch 4] [--repeats 5] [--threads 2] [--bf16]

adds to benchmarks/results/training-step.json. A step is forward, loss, backward and optimiser (AdamW, gradients
clipped, as ultralytics' loop does) on one batch of procedural images, with the same boxes and random features of the
same number of expressions. YOLOE-11 trains with ultralytics' own loss; its expressions are its classes. The loaders
read the same images; YOLOE's is ultralytics' own, once with its default mosaic of four images and once without.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from ours import KINDS
from peers import DIM
from timing import RESULTS, about, add_to_record, interleaved, pin, summary
from torch.utils.data import DataLoader
from ultralytics.cfg import get_cfg
from ultralytics.data.build import build_yolo_dataset
from ultralytics.nn.tasks import YOLOEModel
from ultralytics.utils import DEFAULT_CFG, DEFAULT_CFG_DICT, TQDM

from optisar_yolo.data.config import DatasetConfig, load_dataset_config
from optisar_yolo.data.dataset import GroundingDataset
from optisar_yolo.data.records import load_split
from optisar_yolo.data.sampler import EpochSampler, GroundingLoader
from optisar_yolo.engine.train import TRAIN_DEFAULTS
from optisar_yolo.nn.model import GroundingModel
from optisar_yolo.plugin.settings import OPTISAR_DEFAULTS
from optisar_yolo.synthetic.render import NAMES, render_dataset

PARTS = ("forward", "loss", "backward", "optimiser")
CLIP = 10.0  # norm of the gradients, as in ultralytics' loop


class Step:
    """Training steps of one network.

    Args:
        model: The network, on its own batch.
        batch: What its loss takes.
        forward: Batch to the network's output.
        bf16: Compute in bfloat16 where autocasting does.
    """

    def __init__(self, model: Any, batch: dict[str, Any], forward: Callable[[], Any], bf16: bool) -> None:
        self.model, self.batch, self.forward, self.bf16 = model.train(), batch, forward, bf16
        for name, p in model.named_parameters():
            p.requires_grad = ".dfl" not in name  # ultralytics freezes it
        self.trained = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-5)
        self.parts: list[list[float]] = []

    def __call__(self) -> None:
        """Take one."""
        marks = [time.perf_counter()]
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            preds = self.forward()
        marks.append(time.perf_counter())
        loss = self.model.loss(self.batch, preds)[0].sum()
        marks.append(time.perf_counter())
        loss.backward()
        marks.append(time.perf_counter())
        torch.nn.utils.clip_grad_norm_(self.trained, CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad()
        marks.append(time.perf_counter())
        assert torch.isfinite(loss), "the loss is not a number: what follows would be measured on nothing"
        self.parts.append(np.diff(marks).tolist())

    def milliseconds(self, steps: int) -> dict[str, float]:
        """Median of each part over the last steps."""
        medians = np.median(np.array(self.parts[-steps:]), 0) * 1e3
        return dict(zip(PARTS, medians.round(1).tolist(), strict=True))


def settings(imgsz: int) -> SimpleNamespace:
    """Our training's own settings."""
    return SimpleNamespace(**DEFAULT_CFG_DICT | OPTISAR_DEFAULTS | TRAIN_DEFAULTS | {"imgsz": imgsz, "seed": 0})


def features(b: int, t: int, dim: int) -> torch.Tensor:
    """Random text features [b, t, dim], each of length 1."""
    generator = torch.Generator().manual_seed(0)
    return F.normalize(torch.randn(b, t, dim, generator=generator), dim=-1)


def sample(dataset_config: DatasetConfig, args: SimpleNamespace, batch: int) -> dict[str, Any]:
    """A training batch as our data set collates it, images in 0..1."""
    dataset = GroundingDataset(load_split(dataset_config, "train"), dataset_config.names, args)
    found = dataset.collate([dataset[(0, i)] for i in range(batch)])
    found["img"] = found["img"].float() / 255
    return found


def ours(scale: str, kind: str, batch: dict[str, Any], args: SimpleNamespace, bf16: bool) -> Step:
    """Steps of one of our networks."""
    torch.manual_seed(0)
    model = GroundingModel(f"optisar++{scale}{kind}.yaml", verbose=False)
    model.args = args
    own = batch | {"txt_feats": features(len(batch["img"]), args.prompts, model.text_dim)}
    return Step(model, own, lambda: model.predict(own["img"], own["txt_feats"], own["extent"], own["guide"]), bf16)


def yoloe(scale: str, batch: dict[str, Any], args: SimpleNamespace, bf16: bool) -> Step:
    """Steps of YOLOE-11 on the same boxes, whose classes are the expressions."""
    torch.manual_seed(0)
    model: Any = YOLOEModel(f"yoloe-11{scale}.yaml", nc=80, verbose=False)  # 80: what its layers' widths follow
    model.args = get_cfg(DEFAULT_CFG)
    model.model[-1].nc = args.prompts  # read by the loss
    keys = ("img", "bboxes", "cls", "batch_idx")
    own = {k: batch[k] for k in keys} | {"txt_feats": features(len(batch["img"]), args.prompts, DIM)}
    return Step(model, own, lambda: model.predict(own["img"], tpe=own["txt_feats"]), bf16)


def time_steps(options: argparse.Namespace, dataset_config: DatasetConfig, scale: str) -> dict[str, dict[str, Any]]:
    """Measure the steps of one scale."""
    args = settings(options.imgsz)
    batch = sample(dataset_config, args, options.batch)
    steps = {f"optisar++{scale}{kind}": ours(scale, kind, batch, args, options.bf16) for kind in KINDS}
    peer = f"YOLOE-11{scale}"
    steps[peer] = yoloe(scale, batch, args, options.bf16)
    taken = interleaved(steps, options.repeats, say=lambda text: print(f"{scale}: {text}", flush=True))
    precision = "bf16" if options.bf16 else "fp32"
    what = {"scale": scale, "precision": precision, "imgsz": options.imgsz, "batch": options.batch}
    what |= {"sentences": args.prompts, "objects": len(batch["cls"])}
    found = {name: summary(runs) for name, runs in taken.items()}
    return {
        f"step | {name} | {precision}": {"name": name} | what | figures
        | {"parts_ms": steps[name].milliseconds(options.repeats)}
        | {f"times {peer}": round(figures["ms"] / found[peer]["ms"], 3)}
        | {f"times {peer}, cpu": round(figures["cpu_ms"] / found[peer]["cpu_ms"], 3)}
        for name, figures in found.items()
    }  # fmt: skip


def forever(make: Callable[[int], Any]) -> Iterator[Any]:
    """Batches of epoch after epoch."""
    epoch = 0
    while True:
        yield from make(epoch)
        epoch += 1


def stock_batches(dataset_config: DatasetConfig, imgsz: int, batch: int, mosaic: float) -> Iterator[Any]:
    """Batches of ultralytics' multi-modal training set on the same images."""
    cfg = get_cfg(DEFAULT_CFG, {"imgsz": imgsz, "mosaic": mosaic, "task": "detect", "mode": "train"})
    names = dict(enumerate(dataset_config.names))
    data = {"names": names, "nc": len(names), "channels": 3}
    dataset = build_yolo_dataset(cfg, str(dataset_config.images["train"]), batch, data, mode="train", multi_modal=True)
    loader = DataLoader(dataset, batch, shuffle=True, drop_last=True, collate_fn=dataset.collate_fn)
    return forever(lambda _: loader)


def our_batches(dataset_config: DatasetConfig, imgsz: int, batch: int) -> Iterator[Any]:
    """Batches of our training set; decoded images are kept, so an epoch is read before anything is timed."""
    dataset = GroundingDataset(load_split(dataset_config, "train"), dataset_config.names, settings(imgsz))
    sampler = EpochSampler(len(dataset), 0)
    loader = GroundingLoader(dataset, batch, sampler)

    def epoch(number: int) -> Any:
        sampler.set_epoch(number)
        return loader

    for i in TQDM(range(len(dataset)), desc="reading the images"):
        dataset.load(i)
    return forever(epoch)


def time_loaders(options: argparse.Namespace, dataset_config: DatasetConfig) -> dict[str, dict[str, Any]]:
    """Measure batches of the loaders, without worker processes."""
    size, batch = options.imgsz, options.batch
    batches = {
        "optisar++": our_batches(dataset_config, size, batch),
        "ultralytics' for YOLOE": stock_batches(dataset_config, size, batch, 1.0),
        "ultralytics' for YOLOE, no mosaic": stock_batches(dataset_config, size, batch, 0.0),
    }
    calls = {name: (lambda own=own: next(own)) for name, own in batches.items()}
    taken = interleaved(calls, 4 * options.repeats)
    return {
        f"loader | {name} | {size}": {"name": name, "imgsz": size, "batch": batch} | summary(runs)
        for name, runs in taken.items()
    }


def main() -> None:
    """Measure and write; a scale is written as soon as it is done."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scales", nargs="+", default=["n", "s", "m"], choices=list("nsmlx"))
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bf16", action="store_true", help="both under bfloat16 autocasting")
    parser.add_argument("--out", type=Path, default=RESULTS / "training-step.json")
    options = parser.parse_args()
    pin(options.threads)
    run = about(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "pictures"
        render_dataset(root, counts={"train": max(32, options.batch)})
        dataset_config = load_dataset_config(
            {"path": str(root), "train": "train.json", "names": dict(enumerate(NAMES))}
        )
        add_to_record(options.out, run, time_loaders(options, dataset_config))
        for scale in options.scales:
            add_to_record(options.out, run, time_steps(options, dataset_config, scale))
            gc.collect()
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()

"""Images per second on a GPU, beside YOLOE-11 and YOLOE-26 of the same scale, and what a training step costs there.

    python benchmarks/gpu.py [--device cuda] [--scales n s m] [--imgsz 640] [--batches 1 32] [--texts 8] [--seconds 1]
                             [--budget 170] [--out benchmarks/results/gpu.json]

One call is image tensors on the device to boxes and confidences of the best candidate of each expression; text features
are given. Weights are random; 16 bits are `half=True`, which is autocasting for ours and half weights for YOLOE. YOLOE
has its classes folded into its weights, as its export has. The training step is that of benchmarks/training_step.py:
forward, loss, backward and AdamW under autocasting, 20 expressions. "first" rows: seconds of the first three training
steps of each new image size, with and without cuDNN's search for the fastest algorithm. The record is written after
every row, and what is not measured when the budget (seconds) ends is left out.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from timing import RESULTS, about
from torch import Tensor
from ultralytics import YOLOE
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import YOLOEModel
from ultralytics.utils import DEFAULT_CFG, DEFAULT_CFG_DICT, LOGGER

from optisar_yolo.engine.grounding import ground
from optisar_yolo.engine.train import TRAIN_DEFAULTS
from optisar_yolo.nn.model import GroundingModel
from optisar_yolo.nn.precision import mixed
from optisar_yolo.plugin.settings import OPTISAR_DEFAULTS

OURS = ("optisar++{}", "optisar++{}-late")
PEERS = ("yoloe-11{}.yaml", "yoloe-26{}.yaml")
DIM = 512  # width of the peers' text features
DEFAULT_TEXTS = int(OPTISAR_DEFAULTS["prompts"])  # expressions of an image in training
NEW_SIZES = (352, 416, 480)


def features(rows: int, texts: int, dim: int, device: str) -> Tensor:
    """Random text features [rows, texts, dim], each of length 1."""
    generator = torch.Generator().manual_seed(0)
    return F.normalize(torch.randn(rows, texts, dim, generator=generator), dim=-1).to(device)


def ours(name: str, options: argparse.Namespace, batch: int, half: bool) -> Callable[[], object]:
    """A call that encodes a batch and asks all expressions of every image."""
    torch.manual_seed(0)
    model = GroundingModel(f"{name}.yaml", verbose=False).eval().to(options.device)
    model.fuse(verbose=False)
    images = torch.rand(batch, 3, options.imgsz, options.imgsz, device=options.device)
    text = features(1, options.texts, model.text_dim, options.device)[0].repeat(batch, 1)
    rows = torch.arange(batch, device=options.device).repeat_interleave(options.texts)

    def call() -> object:
        with torch.inference_mode(), mixed(half, images.device):
            return ground(model, model.encode(images), rows, text)

    return call


def peer(yaml: str, options: argparse.Namespace, batch: int, half: bool) -> Callable[[], object]:
    """A call of YOLOE, whose classes are the expressions; the best box of each class."""
    torch.manual_seed(0)
    net: Any = YOLOE(yaml, verbose=False).model
    net.set_classes([f"class{i}" for i in range(options.texts)], features(1, options.texts, DIM, "cpu"))
    net.eval().fuse(verbose=False)
    net.model[-1].fuse(net.pe)
    dtype = torch.float16 if half else torch.float32
    net = net.to(options.device, dtype)
    images = torch.rand(batch, 3, options.imgsz, options.imgsz, device=options.device, dtype=dtype)

    def call() -> object:
        with torch.inference_mode():
            found = net(images)
            return (found[0] if isinstance(found, tuple) else found).float().amax(1)

    return call


def training(name: str, options: argparse.Namespace, batch: int, imgsz: int, model: Any = None) -> Callable[[], object]:
    """A call that takes one training step."""
    device = options.device
    torch.manual_seed(0)
    cells = torch.arange(batch, device=device).repeat_interleave(3)
    boxes = torch.tensor([[0.3, 0.3, 0.2, 0.1], [0.7, 0.3, 0.1, 0.2], [0.5, 0.7, 0.3, 0.3]], device=device)
    images = torch.rand(batch, 3, imgsz, imgsz, device=device)
    texts = DEFAULT_TEXTS
    common = {"img": images, "bboxes": boxes.repeat(batch, 1), "batch_idx": cells.float()}
    common["cls"] = torch.arange(3, device=device).repeat(batch)[:, None].float()
    if name.startswith("yoloe"):
        net: Any = model or YOLOEModel(name, nc=80, verbose=False).to(device)
        net.args, net.model[-1].nc = get_cfg(DEFAULT_CFG), texts
        batch_of = common | {"txt_feats": features(batch, texts, DIM, device)}

        def forward() -> Any:
            return net.predict(images, tpe=batch_of["txt_feats"])
    else:
        net = model or GroundingModel(f"{name}.yaml", verbose=False).to(device)
        settings = DEFAULT_CFG_DICT | OPTISAR_DEFAULTS | TRAIN_DEFAULTS | {"imgsz": imgsz, "seed": 0}
        net.args = argparse.Namespace(**settings)
        extent = torch.tensor([[0.0, 0.0, 1.0, 1.0]], device=device).repeat(batch, 1)
        batch_of = common | {"txt_feats": features(batch, texts, net.text_dim, device), "extent": extent}
        batch_of |= {"targets": torch.eye(3, texts, device=device).repeat(batch, 1)}  # expression i is true of object i
        batch_of |= {k: torch.zeros(batch, dtype=torch.long, device=device) for k in ("guide", "modality")}

        def forward() -> Any:
            return net.predict(images, batch_of["txt_feats"], batch_of["extent"], batch_of["guide"])

    net.train()
    for key, p in net.named_parameters():
        p.requires_grad = ".dfl" not in key
    trained = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5)

    def step() -> object:
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            loss = net.loss(batch_of, forward())[0].sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 10.0)
        optimizer.step()
        optimizer.zero_grad()
        return net

    return step


class Record:
    """Rows, written after each.

    Args:
        options: Of the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.start = options, time.perf_counter()
        card = torch.cuda.get_device_name(0) if options.device.startswith("cuda") else "no GPU"
        self.content: dict[str, Any] = {"run": about(torch.get_num_threads()) | {"card": card}, "rows": []}
        self.content["run"]["machine"] = self.content["run"]["machine"].replace("no GPU", card)

    @property
    def over(self) -> bool:
        """Whether the budget is spent."""
        return time.perf_counter() - self.start > self.options.budget

    def wait(self) -> None:
        """Wait for the device."""
        if self.options.device.startswith("cuda"):
            torch.cuda.synchronize()

    def measure(self, what: dict[str, Any], make: Callable[[], Callable[[], object]]) -> None:
        """Add the median of calls that last some seconds together; a failure is a row too."""
        if self.over:
            return
        row = dict(what)
        try:
            call = make()
            began = time.perf_counter()
            call()
            self.wait()
            row["first_ms"] = round((time.perf_counter() - began) * 1e3, 1)
            for _ in range(3):
                call()
            self.wait()
            taken: list[float] = []
            until = time.perf_counter() + self.options.seconds
            while len(taken) < 5 or (time.perf_counter() < until and len(taken) < 300):
                began = time.perf_counter()
                call()
                self.wait()
                taken.append(time.perf_counter() - began)
            ms = float(np.median(taken)) * 1e3
            low, high = (round(float(q) * 1e3, 3) for q in np.quantile(taken, (0.25, 0.75)))
            row |= {"ms": round(ms, 3), "quartiles": [low, high], "calls": len(taken)}
            row["images_per_second"] = round(what["batch"] / ms * 1e3, 1)
            del call
        except Exception as e:
            row["failed"] = f"{type(e).__name__}: {e}"[:300]
        self.add(row)

    def add(self, row: dict[str, Any]) -> None:
        """Add a row, write the record and free the device's memory."""
        self.content["rows"].append(row)
        LOGGER.info(json.dumps(row))
        Path(self.options.out).write_text(json.dumps(self.content, indent=1) + "\n", encoding="utf-8")
        gc.collect()
        if self.options.device.startswith("cuda"):
            torch.cuda.empty_cache()


def first_steps(record: Record, options: argparse.Namespace, search: bool) -> None:
    """Seconds of the first and the third training step of new image sizes, one network throughout."""
    torch.backends.cudnn.benchmark = search
    name, net = OURS[1].format("n"), None
    for size in NEW_SIZES:
        if record.over:
            return
        step = training(name, options, 16, size, net)
        took = []
        for _ in range(3):
            began = time.perf_counter()
            net = step()
            record.wait()
            took.append(round(time.perf_counter() - began, 3))
        record.add({"what": "first", "name": name, "imgsz": size, "search": search, "seconds": took})
    torch.backends.cudnn.benchmark = False


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--scales", nargs="+", default=["n", "s", "m"])
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--texts", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--budget", type=float, default=170.0)
    parser.add_argument("--train-batch", type=int, default=32)
    parser.add_argument("--out", default=str(RESULTS / "gpu.json"))
    options = parser.parse_args()
    record = Record(options)
    first_steps(record, options, search=False)
    for scale in options.scales:
        for batch in options.batches:
            for half in (True, False) if scale == "n" else (True,):
                for names, build in ((OURS, ours), (PEERS, peer)):
                    for name in (n.format(scale) for n in names):
                        what = {"what": "predict", "name": name.removesuffix(".yaml"), "scale": scale, "batch": batch}
                        what |= {"imgsz": options.imgsz, "texts": options.texts, "bits": 16 if half else 32}
                        record.measure(what, lambda n=name, b=batch, h=half, f=build: f(n, options, b, h))  # type: ignore[misc]
        for name in (n.format(scale) for n in OURS + PEERS):
            what = {"what": "train", "name": name.removesuffix(".yaml"), "scale": scale, "batch": options.train_batch}
            what |= {"imgsz": options.imgsz, "texts": DEFAULT_TEXTS}
            record.measure(what, lambda n=name: training(n, options, options.train_batch, options.imgsz))  # type: ignore[misc]
    first_steps(record, options, search=True)


if __name__ == "__main__":
    main()

"""Prediction with ``augment=True`` beside plain prediction: precision and time of the bundled weights on real images.

    python benchmarks/augmented.py [--images 60] [--model best.pt] [--threads 1]

Every n-th image of optsar-real's val split is grounded both ways, at the threshold 0, so that every expression gets
its best box. The record is benchmarks/results/augmented.json.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ultralytics.utils import LOGGER

from optisar_yolo import OptiSAR, __version__
from optisar_yolo.data import load_dataset_config, load_split
from optisar_yolo.engine import augment
from optisar_yolo.utils import BUNDLED_MODEL, iou

HERE = Path(__file__).resolve().parent
RECORD = HERE / "results" / "augmented.json"
WAYS: dict[str, dict[str, Any]] = {"plain": {}, "augment": {"augment": True}}


def main() -> None:
    """Measure both ways on the same images, in turn."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", default=BUNDLED_MODEL)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    LOGGER.setLevel(logging.WARNING)
    config = load_dataset_config(HERE / "optsar-real.yaml")
    images = load_split(config, "val")
    images = images[:: max(len(images) // args.images, 1)][: args.images]
    model = OptiSAR(args.model)
    overlaps: dict[str, list[float]] = {way: [] for way in WAYS}
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for image in images:
        pairs = [(text, box) for box, own in zip(image.boxes, image.captions, strict=True) for text in own]
        texts = list(dict.fromkeys(text for text, _ in pairs))
        for way, settings in WAYS.items():
            began = time.perf_counter()
            result = model.predict(str(image.path), text=texts, conf=0, verbose=False, save=False, **settings)[0]
            seconds[way].append(time.perf_counter() - began)
            found = {result.names[int(c)]: b for c, b in zip(result.boxes.cls, result.boxes.xyxy.numpy(), strict=True)}
            overlaps[way] += [float(iou(found[text], box)) for text, box in pairs]
    record = {
        "command": f"python benchmarks/augmented.py --images {args.images}",
        "model": Path(args.model).name,
        "version": __version__,
        "images": len(images),
        "expressions": len(overlaps["plain"]),
        "views": len(augment.VIEWS) + 1,
    }
    for way, values in overlaps.items():
        at = {f"Pr@{t}": round(float(np.mean(np.array(values) >= t)), 4) for t in (0.5, 0.7, 0.9)}
        # the first image pays for the first use of everything
        ms = round(1000 * float(np.median(seconds[way][1:])), 1)
        record[way] = at | {"meanIoU": round(float(np.mean(values)), 4), "ms": ms}
        print(way, record[way])
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""How the stretch of deep images changes what is found in them.

    python benchmarks/image_stretch.py

1. Expressions of the val split are drawn, as many of SAR as of optical images.
2. The grey values of an image become those of a deeper sensor: as they are (16 bits, proportional to the grey), squared
   (power of an amplitude), and as power whose decibels are the grey values.
3. Each stretch brings them back to 8 bits, and the image is grounded; a box is right from an IoU of 0.5 on.
4. The middle of the values as a share of the linear stretch is recorded: by it the default chooses decibels.

Writes benchmarks/results/image-stretch.json. The images are expected where benchmarks/optsar-real.yaml says.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import timing
import torch

from optisar_yolo import OptiSAR
from optisar_yolo.data import load_dataset_config, load_split
from optisar_yolo.utils import BUNDLED_MODEL, iou, write_atomic

HERE = Path(__file__).resolve().parent
PAIRS = ((2, 98), (0.5, 99.5), (0.5, 99.9), (2, 99.99))
VALUES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "amplitude": lambda grey: grey * 16.0 + 16,
    "power of the amplitude": lambda grey: (grey + 1.0) ** 2,
    "power in dB": lambda grey: 10 ** (grey / 100.0),
}


def linear(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Stretch each band between its percentiles."""
    bands = []
    for k in range(values.shape[2]):
        first, last = np.percentile(values[..., k], (low, high))
        bands.append((values[..., k] - first) * 255 / max(last - first, 1e-9))
    return np.dstack(bands).clip(0, 255).round().astype(np.uint8)


def decibels(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Stretch 10·log10 of the values."""
    return linear(10 * np.log10(values), low, high)


def middle(values: np.ndarray) -> float:
    """Return the median as a share of the linear stretch between the percentiles 2 and 99.99."""
    low, half, high = np.percentile(values, (2, 50, 99.99))
    return float((half - low) / max(high - low, 1e-9))


def main() -> None:
    """Measure all stretches on all images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--expressions", type=int, default=100, help="of each modality")
    parser.add_argument("--data", default=str(HERE / "optsar-real.yaml"))
    parser.add_argument("--model", default=BUNDLED_MODEL)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "image-stretch.json")
    args = parser.parse_args()
    about_run = timing.about(torch.get_num_threads())
    model, images = OptiSAR(args.model), load_split(load_dataset_config(args.data), "val")
    rows: list[dict[str, Any]] = []
    for modality in ("sar", "optical"):
        asked = [
            (image, box, texts[0])
            for image in images
            if image.modality == modality
            for box, texts in zip(image.boxes, image.captions, strict=True)
            if texts
        ]
        drawn = np.random.default_rng(0).permutation(len(asked))[: args.expressions]
        for kind, made in VALUES.items():
            if modality == "optical" and kind != "amplitude":
                continue
            found: dict[str, list[float]] = {}
            shares = []
            for number in drawn:
                image, box, text = asked[number]
                grey = cv2.imread(str(image.path)).astype(float)
                values = made(grey)
                shares.append(middle(values[..., 0]))
                ways = {f"linear {a:g} to {b:g}": partial(linear, low=a, high=b) for a, b in PAIRS}
                ways |= {"dB 2 to 99.99": partial(decibels, low=2, high=99.99)}
                for name, way in ways.items():
                    boxes = model.predict(way(values), text=text, conf=0.0, verbose=False)[0].boxes.xyxy.numpy()
                    found.setdefault(name, []).append(float(iou(boxes[:1], box)[0]) if len(boxes) else 0.0)
            quantiles = np.percentile(shares, (5, 25, 50, 75, 95)).round(4).tolist()
            for name, overlaps in found.items():
                right = float(np.mean(np.array(overlaps) >= 0.5))
                rows.append(
                    {
                        "modality": modality, "values": kind, "stretch": name, "expressions": len(overlaps),
                        "pr50": round(100 * right, 1), "mean_iou": round(100 * float(np.mean(overlaps)), 1),
                        "middle at 5, 25, 50, 75, 95 %": quantiles,
                    }
                )  # fmt: skip
                print(rows[-1], flush=True)
    write_atomic(args.out, json.dumps({**about_run, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Expressions that name an object by its colour: the network alone, and the choice by pixels that `predict` makes.

    python benchmarks/coloured.py [--model optisar++n-pocket.safetensors] [--threads 2]

writes benchmarks/results/coloured.json and prints a table by split and kind. The expressions are those of `natural`, by
a language model that looked at the images; only those are asked that are read with a colour. Those of the train split
were in the training of the bundled weights, which did not teach them colours: both columns saw them alike.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import RESULTS, about
from travel import released

from optisar_yolo import OptiSAR
from optisar_yolo.language import read_query
from optisar_yolo.utils import BUNDLED_MODEL, iou

SOURCES = (
    ("train", "natural/train", "optsar-real/images/train"),
    ("train", "natural/airbus_train", "airbus/images/train"),
    ("val", "natural/val", "optsar-real/images/val"),
    ("val", "natural/airbus_val", "airbus/images/val"),
)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=BUNDLED_MODEL)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS / "coloured.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = OptiSAR(options.model)
    overlaps: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    for split, file, images in SOURCES:
        for path, asked in released(options.data / images, options.data / f"{file}.json"):
            coloured = [(text, box) for text, box, _ in asked if read_query(text).colour and box is not None]
            texts = [text for text, _ in coloured]
            if not texts:
                continue
            answers = [
                model.predict(path, text=texts, conf=0.0, reason=reason, verbose=False)[0] for reason in (False, True)
            ]
            for j, (text, box) in enumerate(coloured):
                pair = []
                for answer in answers:
                    own = answer.boxes[answer.boxes.cls == j]
                    found = own.xyxy[int(own.conf.argmax())].cpu().numpy() if len(own) else np.zeros(4)
                    pair.append(float(iou(found[None], box[None])[0]))
                for kind in (read_query(text).kind, "all"):
                    overlaps[split, kind].append(pair)
    rows: list[dict[str, Any]] = []
    for (split, kind), pairs in sorted(overlaps.items()):
        values = np.array(pairs)
        row: dict[str, Any] = {"split": split, "kind": kind, "count": len(values)}
        for name, column in zip(("network", "choice"), values.T, strict=True):
            row |= {f"{name} meanIoU": round(100 * float(column.mean()), 1), f"{name} right": int((column > 0.5).sum())}
        rows.append(row)
        print("  ".join(f"{k} {v}" for k, v in row.items()))
    content = {"run": about(options.threads), "model": options.model, "rows": rows}
    options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()

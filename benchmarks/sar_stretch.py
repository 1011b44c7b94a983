"""How the percentiles of the stretch change what is found in SAR rasters.

    python benchmarks/sar_stretch.py

1. Images of the val split are scattered by make_scene.py in three rasters of calm sea (seeds 0, 1 and 2).
2. Each is written as dB (float32; a grey value is a tenth of a dB) and as amplitude (uint16, proportional to the grey).
   How the images' own greys came from a sensor's values is not known; it is one of these two in most products.
3. Every stretch finds "the ship" with ``topk=all``; a ship is found if a box has an IoU of at least 0.5 with it.

Writes benchmarks/results/sar-stretch.json. The images are expected where benchmarks/optsar-real.yaml says.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import timing
import torch
from torchvision.ops import box_iou

from optisar_yolo import OptiSAR
from optisar_yolo.geo import ground_raster
from optisar_yolo.utils import BUNDLED_MODEL, write_atomic

HERE = Path(__file__).resolve().parent
PAIRS = ((2, 98), (1, 99), (0.5, 99.5), (2, 99.9), (0.5, 99.9), (2, 99.99))
KINDS = (("dB", "percentile"), ("amplitude", "db-percentile"), ("amplitude", "percentile"))


def encoded(grey: np.ndarray, kind: str) -> np.ndarray:
    """Return a sensor's values for grey values."""
    if kind == "dB":
        return grey.astype(np.float32) / 10 - 25
    return grey.astype(np.uint16) * 16 + 16


def score(found: np.ndarray, true: np.ndarray) -> dict[str, int]:
    """Count the true boxes that were found, and the found boxes that are of none."""
    iou = box_iou(torch.tensor(found[:, :4]), torch.tensor(true)) if len(found) else torch.zeros(0, len(true))
    right = iou >= 0.5
    return {"true": len(true), "found": int(right.any(0).sum()), "false": int((~right.any(1)).sum())}


def main() -> None:
    """Measure all stretches on all rasters."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=2600)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--model", default=BUNDLED_MODEL)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "sar-stretch.json")
    args = parser.parse_args()
    about_run = timing.about(torch.get_num_threads())  # before the run: the code may change while it lasts
    model, rows = OptiSAR(args.model), []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for seed in args.seeds:
            made = folder / f"{seed}.tif"
            words = [
                "--side",
                args.side,
                "--images",
                args.images,
                "--seed",
                seed,
                "--modality",
                "sar",
                "--split",
                "val",
            ]
            subprocess.run([sys.executable, HERE / "make_scene.py", "--out", made, *map(str, words)], check=True)
            about = json.loads(made.with_suffix(".json").read_text())
            true = np.array([o["box"] for o in about["objects"]], float)
            with rasterio.open(made) as file:
                grey, profile = file.read(1), file.profile
            for kind, stretch in KINDS:
                values = encoded(grey, kind)
                source = folder / f"{seed}-{kind}.tif"
                layout: dict[str, Any] = profile | {"count": 1, "dtype": values.dtype, "photometric": "MINISBLACK"}
                with rasterio.open(source, "w", **layout) as file:
                    file.write(values, 1)
                for pair in PAIRS:
                    result = ground_raster(
                        model, source, "the ship", imgsz=448, scale=1.5, topk="all", map=False, modality="sar",
                        stretch=stretch, percentiles=pair, project=str(folder / "runs"), resume=False,
                    )  # fmt: skip
                    row = {"seed": seed, "values": kind, "stretch": stretch, "percentiles": pair}
                    rows.append(row | score(result.found, true))
                    print(rows[-1], flush=True)
    totals = []
    for kind, stretch in KINDS:
        for pair in PAIRS:
            mine = [r for r in rows if (r["values"], r["stretch"], r["percentiles"]) == (kind, stretch, pair)]
            counts = {k: sum(r[k] for r in mine) for k in ("true", "found", "false")}
            totals.append({"values": kind, "stretch": stretch, "percentiles": pair} | counts)
            print(totals[-1])
    record = {**about_run, "totals": totals, "rows": rows}
    write_atomic(args.out, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

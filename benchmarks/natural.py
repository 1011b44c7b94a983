"""The bundled weights' figures on English that people would write, by kind, and on all boxes of each category.

    python benchmarks/natural.py [--model optisar++n-pocket.safetensors] [--imgsz 320] [--split val]

writes benchmarks/results/natural.json. Images and expressions are expected where benchmarks/optsar-real.yaml says; a
language model wrote the expressions by looking at the images.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from pathlib import Path

import torch
import ultralytics

from optisar_yolo import OptiSAR, __version__
from optisar_yolo.data.config import load_dataset_config
from optisar_yolo.utils import BUNDLED_MODEL

HERE = Path(__file__).resolve().parent
REAL = HERE / "optsar-real.yaml"


def measure(model: OptiSAR, data: str, split: str, imgsz: int) -> dict[str, object]:
    """Validate on one split: further expressions by source and kind, absent ones, and all boxes of each category."""
    with tempfile.TemporaryDirectory() as folder:
        metrics = model.val(data=data, split=split, imgsz=imgsz, project=folder, plots=False, matches=True)
    found = json.loads(metrics.to_json())  # NaN as null
    return {name: found[name] for name in ("expressions", "matches", "calibration") if name in found}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=BUNDLED_MODEL)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--split", default="val")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "natural.json")
    args = parser.parse_args()
    if not load_dataset_config(REAL).sources:
        sys.exit(f"{REAL}: no key 'expressions'")
    torch.set_num_threads(args.threads)
    record = {
        "command": "python " + " ".join(["benchmarks/natural.py", *sys.argv[1:]]),
        "model": args.model,
        "imgsz": args.imgsz,
        "split": args.split,
        "versions": {"optisar-yolo": __version__, "ultralytics": ultralytics.__version__, "torch": torch.__version__},
        "machine": f"{platform.machine()}, {args.threads} threads, no GPU",
        **measure(OptiSAR(args.model), str(REAL), args.split, args.imgsz),
    }
    args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"written to {args.out}")


if __name__ == "__main__":
    main()

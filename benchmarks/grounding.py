"""The bundled weights' figures: real test images, the same expressions worded otherwise, and the rendered scenes.

    python benchmarks/grounding.py [--model optisar++n-pocket.safetensors] [--imgsz 320]

writes benchmarks/results/grounding.json. The real images are expected where benchmarks/optsar-real.yaml says.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import ultralytics

from optisar_yolo import OptiSAR, __version__
from optisar_yolo.data.config import load_dataset_config
from optisar_yolo.utils import BUNDLED_MODEL

HERE = Path(__file__).resolve().parent
REAL = HERE / "optsar-real.yaml"


def measure(
    model: OptiSAR, data: str, split: str, imgsz: int, folder: str, sensitivity: bool = False
) -> dict[str, object]:
    """Validate on one split: figures by section and group, sensitivity to words, confidences of hits and misses."""
    metrics = model.val(data=data, split=split, imgsz=imgsz, project=folder, plots=False, sensitivity=sensitivity)
    iou, conf = metrics.column("iou").astype(float), metrics.column("conf").astype(float)
    quantiles = (0.05, 0.25, 0.5, 0.75, 0.95)
    record: dict[str, object] = {f"{r['section']}/{r['group']}": r for r in metrics.rows()}
    record |= metrics.sections  # "calibration" and "sensitivity"
    record["confidence"] = {
        name: dict(zip(map(str, quantiles), np.quantile(conf[mask], quantiles).round(4).tolist(), strict=True))
        for name, mask in (("hit", iou >= 0.5), ("miss", iou < 0.5))
        if mask.any()
    }
    record["milliseconds"] = metrics.speed
    return record


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=BUNDLED_MODEL)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "grounding.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = OptiSAR(args.model)
    with tempfile.TemporaryDirectory() as folder:
        words = [
            sys.executable,
            str(HERE / "reworded.py"),
            str(load_dataset_config(REAL).root),
            "--split",
            "test",
            "--show",
            "0",
        ]
        subprocess.run([*words, "--out", folder], check=True)
        record = {
            "command": "python " + " ".join(["benchmarks/grounding.py", *sys.argv[1:]]),
            "model": args.model,
            "imgsz": args.imgsz,
            "versions": {
                "optisar-yolo": __version__,
                "ultralytics": ultralytics.__version__,
                "torch": torch.__version__,
            },
            "machine": f"{platform.machine()}, {args.threads} threads, no GPU",
            "real test": measure(model, str(REAL), "test", args.imgsz, folder, sensitivity=True),
            "real test, reworded": measure(model, f"{folder}/reworded.yaml", "test", args.imgsz, folder),
            "real val": measure(model, str(REAL), "val", args.imgsz, folder),
            "rendered test": measure(model, "demo.yaml", "test", args.imgsz, folder),
        }
    args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"written to {args.out}")


if __name__ == "__main__":
    main()

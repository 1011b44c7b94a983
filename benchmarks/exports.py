"""What an export changes: the same weights in every engine, on the real test images.

    python benchmarks/exports.py [--model optisar++n-pocket.safetensors] [--imgsz 320] [--threads 2] [--pictures 150]

adds to benchmarks/results/exports.json the figures of ``val`` on the test split and the time of one image with two
expressions, all engines called in turn. Ranges for 8 bits come from images of the validation split. The real images
are expected where benchmarks/optsar-real.yaml says.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from timing import RESULTS, about, add_to_record, interleaved, pin, summary
from ultralytics.utils import LOGGER

from optisar_yolo import OptiSAR
from optisar_yolo.data.config import load_dataset_config
from optisar_yolo.data.images import read_image
from optisar_yolo.data.records import load_split
from optisar_yolo.engine.checkpoint import find_weights
from optisar_yolo.engine.grounding import ground
from optisar_yolo.engine.predict import canvas
from optisar_yolo.export.exported import ExportedModel
from optisar_yolo.nn.model import fused_copy

CONFIG = Path(__file__).resolve().parent / "optsar-real.yaml"
EXPRESSIONS = 2  # of an image while timing, the mean of the test split
FORMATS: dict[str, dict[str, Any]] = {
    "ONNX Runtime": {"format": "onnx"},
    "TorchScript": {"format": "torchscript"},
    "OpenVINO": {"format": "openvino"},
    "OpenVINO, 8 bits": {"format": "openvino", "quantize": 8, "data": str(CONFIG)},
}


def exported(weights: Path, folder: Path, options: dict[str, Any]) -> Path:
    """Export a copy of the weights in a folder of its own."""
    folder.mkdir()
    own = folder / weights.name
    own.write_bytes(weights.read_bytes())
    return Path(OptiSAR(own).export(**options))


def figures(model: OptiSAR, imgsz: int, folder: str) -> dict[str, float]:
    """Percent on the test split."""
    options = {"imgsz": imgsz, "project": folder, "plots": False, "reason": False}  # exports have the network alone
    found = model.val(data=str(CONFIG), split="test", **options).results_dict
    names = {"all": "meanIoU", "optical": "meanIoU optical", "sar": "meanIoU SAR"}
    record = {name: round(100 * found[f"metrics/meanIoU({group})"], 2) for group, name in names.items()}
    return record | {"Pr@0.5": round(100 * found["metrics/Pr@0.5(all)"], 2)}


def call_of(model: OptiSAR, images: torch.Tensor, extent: torch.Tensor) -> Callable[[], object]:
    """Return a call that grounds two expressions in one image."""
    net = model.model if isinstance(model.model, ExportedModel) else fused_copy(model.model)
    generator = torch.Generator().manual_seed(0)
    text = torch.nn.functional.normalize(torch.randn(EXPRESSIONS, net.text_dim, generator=generator), dim=-1)

    def call() -> object:
        with torch.inference_mode():
            return ground(net, net.encode(images, extent), torch.zeros(EXPRESSIONS, dtype=torch.long), text)

    return call


def main() -> None:
    """Export, measure, record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="optisar++n-pocket.safetensors")
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--pictures", type=int, default=150, help="that ranges for 8 bits are measured on")
    parser.add_argument("--out", type=Path, default=RESULTS / "exports.json")
    args = parser.parse_args()
    pin(args.threads)
    weights = find_weights(args.model)
    image = load_split(load_dataset_config(CONFIG), "test")[0]
    images, extent = (t[None] for t in canvas(read_image(image.path), args.imgsz))
    with tempfile.TemporaryDirectory() as folder:
        models = {"PyTorch": OptiSAR(weights)}
        for i, (name, options) in enumerate(FORMATS.items()):
            options = {"imgsz": args.imgsz, "fraction": args.pictures} | options
            models[name] = OptiSAR(exported(weights, Path(folder) / str(i), options))
        cells: dict[str, dict[str, Any]] = {}
        taken = interleaved({n: call_of(m, images, extent) for n, m in models.items()}, args.repeats, say=LOGGER.info)
        for name, model in models.items():
            cells[name] = {"engine": name, "model": weights.name, "imgsz": args.imgsz, "texts": EXPRESSIONS}
            cells[name] |= summary(taken[name]) | {"test": figures(model, args.imgsz, folder)}
            LOGGER.info(f"{name}: {cells[name]}")
    add_to_record(args.out, about(args.threads), cells)
    LOGGER.info(f"added to {args.out}")


if __name__ == "__main__":
    main()

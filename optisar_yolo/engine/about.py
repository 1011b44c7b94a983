"""What ``repr`` of a model says: file, network, text encoder, image size and confidence threshold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optisar_yolo.engine.calibrate import DEFAULT_CONF, calibration_of
from optisar_yolo.engine.grounding import ExportedNetwork
from optisar_yolo.nn import GroundingModel


def describe_model(model: Any, name: str, imgsz: int) -> str:
    """Describe a model in a few lines.

    Args:
        model: The network, or an export.
        name: File that it was opened from.
        imgsz: Long side of images in the network, pixels.
    """
    lines = [f"network          {_network(model)}"]
    encoder = getattr(model, "text_model", "")
    if isinstance(model, ExportedNetwork) and model.texts:
        lines.append(f"expressions      fixed: {'; '.join(model.texts)}")
    else:
        lines.append(f"text encoder     {encoder or 'chosen when training starts'}")
    lines.append(f"image size       {imgsz} px")
    calibration = calibration_of(model)
    if calibration is None:
        lines.append(f"threshold        conf={DEFAULT_CONF}; confidences are not calibrated")
    else:
        where = f" on {calibration.data} {calibration.split}".rstrip() if calibration.data else ""
        lines.append(f"threshold        conf={calibration.threshold:.3g}; confidences are calibrated{where}")
    if isinstance(model, GroundingModel):
        lines.append(f"device           {next(model.parameters()).device}")
    return "\n".join([f"OptiSAR('{Path(name).name}')", *(f"  {line}" for line in lines)])


def _network(model: Any) -> str:
    """Return the kind of a network, its size, and what a further expression costs."""
    if not isinstance(model, GroundingModel):
        return f"export {getattr(model, 'path', '')}"
    stem = Path(str(model.yaml.get("yaml_file", "optisar++"))).stem
    scale = model.yaml.get("scale", "")
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    runs = "its neck runs once per expression" if model.guided else "an image is encoded once for all expressions"
    return f"{stem} (scale {scale}), {millions:.2f} M parameters; {runs}"

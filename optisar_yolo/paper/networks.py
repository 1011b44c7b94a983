"""Networks of the cells: a model's description with parts taken out or set, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from optisar_yolo.nn import SCALED, SCALES, GroundingModel, trainable_parameters
from optisar_yolo.paper.tables import ReproduceError

EXPERTS = ("PLMoE", "FittedPLMoE")
FUSION = ("TGDFSSA", "ClosedTGDFSSA")
HEAD = "GroundingDetect"
KNOWN = ("experts", "top_k", "patch", "fusion", "position", "candidates")

TEXT_PARAMETERS = 63_428_096
"""Of the frozen MobileCLIP2-B text encoder, which the paper's counts include (Sect. V-A3)."""

TEXT_WIDTH = 512
"""Width of its features."""


def scaled(model: str, scale: str | None) -> str:
    """Return a model's name with its scale letter set: ``optisar++-late.yaml`` and n give ``optisar++n-late.yaml``.

    Args:
        model: Name or path of a model YAML.
        scale: One of n, s, m, l, x; None leaves the name as it is.

    Raises:
        ReproduceError: No model YAML, no such scale, or a name that does not begin with ``optisar++``.
    """
    path = Path(model)
    if path.suffix not in (".yaml", ".yml"):
        raise ReproduceError(f"model={model}: the tables train networks from scratch; give a YAML, optisar++.yaml")
    if scale is None:
        return model
    if scale not in SCALES:
        raise ReproduceError(f"scale={scale}: choose one of {', '.join(SCALES)}")
    name = path.name
    if found := SCALED.match(name):
        name = found["stem"] + found["rest"]
    if not name.startswith("optisar++"):
        raise ReproduceError(
            f"model={model}: scale= needs a name like optisar++.yaml; set `scale:` in the file instead"
        )
    return str(path.with_name(name.replace("optisar++", f"optisar++{scale}", 1)))


def change(content: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Change a model's description in place.

    Args:
        content: As of ``load_model_yaml``.
        changes: ``experts`` (0 takes PL-MoE out), ``top_k``, ``patch`` (a side, or "image" for the whole map),
            ``fusion`` (False takes TGDF-SSA out), ``position`` and ``candidates`` of the head.

    Raises:
        ReproduceError: The description has no such part to change.
    """
    if unknown := set(changes) - set(KNOWN):
        raise ValueError(f"unknown change of a network: {', '.join(sorted(unknown))}")
    rows = content["backbone"] + content["head"]
    for row in rows:
        if row[2] in EXPERTS:
            _experts(row, changes)
        elif row[2] in FUSION and changes.get("fusion", True) is False:
            row[1], row[2], row[3] = 2, "C3k2", [row[3][0], row[3][0] == 1024]  # YOLO11's blocks
        elif row[2] == HEAD:
            region, position, candidates = [*row[3], *[4, True, 0][len(row[3]) :]][:3]
            row[3][:3] = [region, changes.get("position", position), changes.get("candidates", candidates)]
    if changes.get("experts") and not any(row[2] in EXPERTS for row in rows):
        raise ReproduceError(f"{content.get('yaml_file', 'the model')} has no PL-MoE row; give model=optisar++.yaml")


def _experts(row: list[Any], changes: Mapping[str, Any]) -> None:
    """Change a row of PL-MoE: [width, experts, top-k, rank, patch, attention in the residual]."""
    if changes.get("experts", 1) == 0:
        row[1], row[2], row[3] = 2, "C3k2", [row[3][0], True]  # YOLO11's block
        return
    values = [*row[3]] + [8, 2, 8, 2][len(row[3]) - 1 :]
    width, experts, top_k, rank, patch = values[:5]
    residual = values[5:6]
    arguments = [width, changes.get("experts", experts), changes.get("top_k", top_k), rank]
    wanted = changes.get("patch", patch)
    if wanted == "image":  # one patch a side, whatever the map's
        row[2], row[3] = "FittedPLMoE", [*arguments, 2, *(residual or [True]), 1]
    elif "patch" in changes:
        row[2], row[3] = "PLMoE", [*arguments, wanted, *residual]
    else:
        row[3] = [*arguments, *values[4:]]


def cost(content: dict[str, Any], imgsz: int, text_dim: int) -> dict[str, Any]:
    """Count a network's trainable parameters and the operations of an image with one expression.

    Args:
        content: Its description.
        imgsz: Side of the image in pixels.
        text_dim: Width of the expression's features.

    Returns:
        ``parameters``, ``gflops`` (1e9; a multiply and an add are two), ``imgsz`` and ``text_dim``.
    """
    model = GroundingModel(content, verbose=False, text_dim=text_dim).eval()
    count = trainable_parameters(model)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.predict(torch.zeros(1, 3, imgsz, imgsz), torch.zeros(1, 1, text_dim))
    return {
        "parameters": count,
        "gflops": round(counter.get_total_flops() / 1e9, 2),
        "imgsz": imgsz,
        "text_dim": text_dim,
    }


def paper_parameters(content: Mapping[str, Any], changes: Mapping[str, Any], regions: bool = True) -> int:
    """Count a cell's parameters as the paper does: scale m, the width of MobileCLIP2-B, its text encoder included.

    Args:
        content: Description of the model, of any scale.
        changes: Of the cell.
        regions: Count the region branches.

    Returns:
        Trained parameters and those of the frozen text encoder.
    """
    own = deepcopy(dict(content)) | {"scale": "m"}
    change(own, changes)
    net = GroundingModel(own, verbose=False, text_dim=TEXT_WIDTH)
    unused = 0 if regions else sum(p.numel() for p in net.head.regions.parameters())
    return trainable_parameters(net) - unused + TEXT_PARAMETERS

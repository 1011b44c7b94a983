"""Builds the layers that a model YAML describes.

Ultralytics' parser gives blocks it does not know the wrong channels, hence a small parser for the rows of
``cfg/models``. Rows, scales and rounding follow ultralytics, so that rows shared with YOLO11 are the same layers.
"""

from __future__ import annotations

import importlib
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from torch import nn
from ultralytics.nn.modules.block import C2PSA, SPPF, C3k2
from ultralytics.nn.modules.conv import Concat, Conv
from ultralytics.utils.ops import make_divisible

from optisar_yolo.nn.head import GroundingDetect
from optisar_yolo.nn.plmoe import PLMoE
from optisar_yolo.nn.tgdf import TGDFSSA
from optisar_yolo.plugin import find_packaged


class LinearSPPF(SPPF):
    """SPPF whose first convolution has no activation, in every version of ultralytics; the authors' release has it.

    Args:
        c1: Input channels.
        c2: Output channels.
        k: Side of the pooled window.
    """

    def __init__(self, c1: int, c2: int, k: int = 5) -> None:
        super().__init__(c1, c2, k)
        self.cv1.act = nn.Identity()


BLOCKS: dict[str, type[nn.Module]] = {
    b.__name__: b for b in (Conv, C3k2, SPPF, LinearSPPF, C2PSA, Concat, PLMoE, TGDFSSA, GroundingDetect)
} | {"nn.Upsample": nn.Upsample}
RELEASED = {name: "optisar_yolo.paper" for name in ("FittedPLMoE", "ClosedTGDFSSA")}
"""Blocks of the authors' release and their package, which is imported when a model YAML names one."""
REPEATED = ("C3k2", "C2PSA", "PLMoE", "TGDFSSA", *RELEASED)  # blocks that take their number of repeats as an argument
# optisar++n.yaml, optisar++n-released.yaml
SCALED = re.compile(r"^(?P<stem>optisar\+\+)(?P<scale>[nsmlx])(?P<rest>[^a-z0-9].*)$")


def _resolve(path: Path) -> tuple[Path, str | None]:
    """Return file and scale letter of a model name; the full name wins, then a given path, then packaged files."""
    if path.suffix not in (".yaml", ".yml"):
        path = path.with_name(path.name + ".yaml")
    if path.is_file():
        return path, None
    match = SCALED.match(path.name)
    if not match:
        return find_packaged("cfg", f"models/{path.name}"), None
    plain = path.with_name(match["stem"] + match["rest"])
    return plain if plain.is_file() else find_packaged("cfg", f"models/{plain.name}"), match["scale"]


def load_model_yaml(model: str | Path) -> dict[str, Any]:
    """Read a model YAML by path or bare name, with its scale.

    Args:
        model: ``optisar++n.yaml`` (a packaged file with a scale letter) or the path of a file.

    Returns:
        The YAML's content with ``scale`` and ``yaml_file`` set.

    Raises:
        FileNotFoundError: Neither the path nor a packaged file exists.
        ValueError: The file is no model description, or has no such scale.
    """
    path, scale = _resolve(Path(model))
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not {"backbone", "head", "scales"} <= content.keys():
        raise ValueError(f"{path}: not a model description (needs backbone, head and scales)")
    content["scale"] = scale or content.get("scale") or next(iter(content["scales"]))
    if content["scale"] not in content["scales"]:
        raise ValueError(f"{path}: no scale '{content['scale']}', only {', '.join(content['scales'])}")
    content["yaml_file"] = Path(model).name  # bare, so that a checkpoint does not name its author's folders
    return content


def _block(name: str, row: str) -> type[nn.Module]:
    """Return the block that a row names."""
    if name in RELEASED:
        return getattr(importlib.import_module(RELEASED[name]), name)
    if name not in BLOCKS:
        raise ValueError(f"{row} names the unknown block '{name}': known are {', '.join([*BLOCKS, *RELEASED])}")
    return BLOCKS[name]


def parse_rows(description: dict[str, Any], channels: int = 3) -> tuple[nn.Sequential, list[int]]:
    """Build the layers of a model description.

    Args:
        description: As of :func:`load_model_yaml`.
        channels: Channels of the image.

    Returns:
        The layers (each with ``i``, ``f``, ``type`` and ``np`` as ultralytics' have) and the sorted rows whose output
        is used later.

    Raises:
        ValueError: A row names an unknown block.
    """
    d = deepcopy(description)
    depth, width, max_channels = d["scales"][d["scale"]]
    outputs: list[int] = [channels]
    layers: list[nn.Module] = []
    saved: set[int] = set()
    for i, (source, repeats, name, args) in enumerate(d["backbone"] + d["head"]):
        block = _block(name, f"{d.get('yaml_file', 'model')}: row {i}")
        n = max(round(repeats * depth), 1) if repeats > 1 else repeats
        args = [None if a == "None" else a for a in args]
        c1: Any = [outputs[j] for j in source] if isinstance(source, list) else outputs[source]
        if block is nn.Upsample:
            c2 = c1
        elif block is Concat:
            c2 = sum(c1)
        elif block is GroundingDetect:
            c2 = c1[-1]
            args = [d["nc"], d["text_dim"], tuple(c1), d["reg_max"], *args]
        else:
            c2 = make_divisible(min(args[0], max_channels) * width, 8)
            args = [c1, c2, *args[1:]]
            if name in REPEATED:
                args.insert(2, n)
            if block is C3k2 and d["scale"] in "mlx":
                args[3:4] = [True]  # larger scales use the deeper inner block everywhere, as YOLO11 does
            if block is TGDFSSA:
                args.insert(3, d["text_dim"])
        layer: Any = block(*args)
        if block is SPPF:
            layer.cv1.act = Conv.default_act  # YOLO11's SPPF; newer ultralytics drops this activation
        if i == 0:
            outputs = []
        layer.i, layer.f, layer.type = i, source, name
        layer.np = sum(p.numel() for p in layer.parameters())
        saved.update(j % i for j in (source if isinstance(source, list) else [source]) if j != -1)
        layers.append(layer)
        outputs.append(c2)
    return nn.Sequential(*layers), sorted(saved)

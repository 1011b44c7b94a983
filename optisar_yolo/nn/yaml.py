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

from torch import nn
from ultralytics.nn.modules.block import C2PSA, SPPF, C3k2
from ultralytics.nn.modules.conv import Concat, Conv
from ultralytics.utils.ops import make_divisible

from optisar_yolo.nn.head import GroundingDetect
from optisar_yolo.nn.plmoe import PLMoE
from optisar_yolo.nn.tgdf import TGDFSSA
from optisar_yolo.plugin import find_packaged, packaged_names
from optisar_yolo.utils import read_yaml, short


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
_OTHER_SCALE = re.compile(r"^optisar\+\+(?P<scale>[a-z0-9]+)(?P<rest>[.-].*)$", re.IGNORECASE)
MOST_ROWS, MOST_REPEATS, WIDEST = 200, 32, 8192  # ours: 24 rows, 4 repeats, 1024 channels; more fills the memory
"""What a model description may ask for: it may come from a file of others."""


def _resolve(path: Path) -> tuple[Path, str | None]:
    """Return file and scale letter of a model name; the full name wins, then a given path, then packaged files."""
    if path.suffix not in (".yaml", ".yml"):
        path = path.with_name(path.name + ".yaml")
    if path.is_file():
        return path, None
    match = SCALED.match(path.name)
    if not match:
        other = _OTHER_SCALE.match(path.name)
        if other and f"models/optisar++{other['rest']}" in packaged_names("cfg"):
            raise FileNotFoundError(
                f"'{path.name}': there is no scale '{other['scale']}'; the scales are n, s, m, l and x, such as "
                f"optisar++n{other['rest']}"
            )
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
        ValueError: The file is no model description, asks for an absurd network, or has no such scale.
    """
    path, scale = _resolve(Path(model))
    content = read_yaml(path)
    if isinstance(content, dict) and isinstance(content.get("scales"), dict) and content["scales"]:
        content["scale"] = scale or content.get("scale") or next(iter(content["scales"]))
    check_description(content, str(path))
    content["yaml_file"] = Path(model).name  # bare, so that a checkpoint does not name its author's folders
    return content


def check_description(content: Any, where: str) -> None:
    """Check that a model description has the form of one and does not ask for an absurd network.

    Args:
        content: As of :func:`load_model_yaml`, perhaps from a weights file.
        where: How messages name it.

    Raises:
        ValueError: It is none; the message says why.
    """
    if not isinstance(content, dict) or not {"backbone", "head", "scales"} <= content.keys():
        raise ValueError(f"{where}: not a model description (needs backbone, head and scales)")
    scales = content["scales"]
    if not isinstance(scales, dict) or not all(_is_scale(s) for s in scales.values()) or not scales:
        raise ValueError(f"{where}: 'scales' must map letters to depth, width (above 0 to 8) and most channels")
    if not isinstance(content.get("scale"), str) or content["scale"] not in scales:
        raise ValueError(f"{where}: no scale {short(content.get('scale'))}, only {', '.join(map(str, scales))}")
    for key in ("nc", "reg_max", "text_dim"):
        if not _is_whole(content.get(key), 1, WIDEST):
            raise ValueError(
                f"{where}: '{key}' must be a whole number from 1 to {WIDEST}, not {short(content.get(key))}"
            )
    rows = [r for key in ("backbone", "head") for r in (content[key] if isinstance(content[key], list) else [None])]
    if not 0 < len(rows) <= MOST_ROWS:
        raise ValueError(f"{where}: {len(rows)} rows; a network has 1 to {MOST_ROWS}")
    for i, row in enumerate(rows):
        if not _is_row(row, i):
            raise ValueError(
                f"{where}: row {i} is {short(row)}; a row is [rows that it reads, repeats, block, [arguments]] with "
                f"at most {MOST_REPEATS} repeats and numbers up to {WIDEST}"
            )


def _is_whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_scale(value: Any) -> bool:
    """Tell whether a value is [depth, width, most channels]."""
    if not isinstance(value, (list, tuple)) or len(value) != 3:
        return False
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)
    return numbers and all(0 < v <= 8 for v in value[:2]) and 8 <= value[2] <= WIDEST


def _is_row(row: Any, number: int) -> bool:
    """Tell whether a value is the row of that number: earlier rows that it reads, repeats, block, arguments."""
    if not isinstance(row, (list, tuple)) or len(row) != 4 or not isinstance(row[3], (list, tuple)):
        return False
    sources = row[0] if isinstance(row[0], (list, tuple)) else [row[0]]
    known = 0 < len(sources) <= 8 and all(_is_whole(s, -1, number - 1) for s in sources)
    numbers = [a for a in row[3] if isinstance(a, int | float)]
    plain = len(row[3]) <= 8 and all(a is None or isinstance(a, (str, int, float)) for a in row[3])
    most = 4 if row[2] == "nn.Upsample" else WIDEST
    bounded = all(abs(a) <= (most if place == 0 or row[2] == "nn.Upsample" else 256) for place, a in enumerate(numbers))
    return known and plain and bounded and _is_whole(row[1], 1, MOST_REPEATS) and isinstance(row[2], str)


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
        ValueError: A row names an unknown block, or arguments that it cannot have.
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
        try:
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
        except (TypeError, ValueError, RuntimeError, IndexError, AttributeError, ArithmeticError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(
                f"{d.get('yaml_file', 'model')}: row {i} ({name}) cannot be built with {short(args)}: {reason}"
            ) from error
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

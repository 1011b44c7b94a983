"""The options of a scene, and reading them from the command line."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from optisar_yolo.geo.stretch import PERCENTILES

ALL = "all"


@dataclass(frozen=True)
class SceneOptions:
    """How a scene is read, asked and reported.

    Attributes:
        conf: Least confidence of an object; by default the model's calibrated threshold at twice the odds.
        topk: Objects per expression: 1, the best; more; or "all".
        imgsz: Side of a tile in the network, pixels; by default that of training.
        scale: Pixels of the file in a pixel of the network; 1 by default.
        gsd: The same as metres per pixel of the network.
        overlap: Share of a tile's side that neighbours have in common: objects up to that length are seen whole.
        batch: Tiles that are encoded together.
        bands: One band or three for red, green and blue, from 1; by default from the file.
        modality: "optical", "sar" or "auto".
        stretch: A preset of `optisar_yolo.geo.stretch` or "auto".
        percentiles: Of the percentile stretches.
        limits: Values that become 0 and 255, in place of percentiles.
        nodata: Value without meaning, where the file does not say so.
        device: Where the network runs.
        project: Folder of results; ``runs/scene`` by default.
        name: Folder in it; the scene's name by default.
        exist_ok: Write into that folder even if it holds other results.
        resume: Go on with a run of the same fingerprint that was cut off.
        map: Write the HTML map, which needs bokeh.
    """

    conf: float | None = None
    topk: int | str = 1
    imgsz: int | None = None
    scale: float | None = None
    gsd: float | None = None
    overlap: float = 0.25
    batch: int = 16
    bands: tuple[int, ...] | None = None
    modality: str = "auto"
    stretch: str = "auto"
    percentiles: tuple[float, float] = PERCENTILES
    limits: tuple[float, float] | None = None
    nodata: float | None = None
    device: str | None = None
    project: str | None = None
    name: str | None = None
    exist_ok: bool = False
    resume: bool = True
    map: bool = True

    def __post_init__(self) -> None:
        """Refuse what means nothing.

        Raises:
            ValueError: A value out of range, or both scale and gsd.
        """
        if self.conf is not None and not 0 <= self.conf <= 1:
            raise ValueError(f"'conf={self.conf}' is not valid: a confidence from 0 to 1")
        if self.topk != ALL and (not isinstance(self.topk, int) or self.topk < 1):
            raise ValueError(f"'topk={self.topk}' is not valid: a whole number of at least 1, or all")
        if self.imgsz is not None and self.imgsz < 32:
            raise ValueError(f"'imgsz={self.imgsz}' is not valid: at least 32 pixels")
        if self.batch < 1:
            raise ValueError(f"'batch={self.batch}' is not valid: at least 1 tile")
        if self.scale is not None and self.gsd is not None:
            raise ValueError("scale= and gsd= both say how fine the network sees; give one of them")
        if self.gsd is not None and not (math.isfinite(self.gsd) and self.gsd > 0):
            raise ValueError(f"'gsd={self.gsd}' is not valid: metres per pixel of the network, above 0")

    @property
    def most(self) -> int | None:
        """Objects per expression at most; None: all."""
        return None if self.topk == ALL else int(self.topk)


def _numbers(kind: Callable[[str], Any], *counts: int) -> Callable[[str], tuple[Any, ...]]:
    def read(text: str) -> tuple[Any, ...]:
        values = tuple(kind(v) for v in text.strip("[]() ").split(","))
        if len(values) not in counts:
            raise ValueError
        return values

    return read


def _truth(text: str) -> bool:
    return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text.lower()]


_READ: dict[str, tuple[Callable[[str], Any], str]] = {
    **dict.fromkeys(("conf", "scale", "gsd", "overlap", "nodata"), (float, "a number")),
    **dict.fromkeys(("imgsz", "batch"), (int, "a whole number")),
    **dict.fromkeys(("exist_ok", "resume", "map"), (_truth, "True or False")),
    **dict.fromkeys(("percentiles", "limits"), (_numbers(float, 2), "two numbers, for example 2,98")),
    "bands": (_numbers(int, 1, 3), "one number or three, for example 4,3,2"),
    "topk": (lambda text: ALL if text.lower() == ALL else int(text), "a whole number, or all"),
}


def read_options(words: dict[str, str]) -> SceneOptions:
    """Read options from words.

    Args:
        words: Keys are attributes of `SceneOptions`.

    Raises:
        ValueError: A value that cannot be read or is out of range.
    """
    values: dict[str, Any] = {}
    for key, text in words.items():
        read, expected = _READ.get(key, (str, "a word"))
        try:
            values[key] = read(text)
        except (ValueError, KeyError) as error:
            raise ValueError(f"'{key}={text}' is not valid: expected {expected}") from error
    return SceneOptions(**values)


def read_expressions(text: str) -> list[str]:
    """Read one expression, or several written as a list: ``["the leftmost ship", "the harbor"]``.

    Raises:
        ValueError: A list that cannot be read.
    """
    if not text.startswith("["):
        return [text]
    try:
        return list(ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError) as error:
        raise ValueError(f"'text={text}' is not valid: several expressions are written text=\"['…', '…']\"") from error

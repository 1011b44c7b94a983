"""What was found in a raster, and how its boxes are drawn on the decimated image."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optisar_yolo.geo.georeference import Georeference
from optisar_yolo.language import ObjectQuery

SMALLEST = 14.0  # pixels of the drawing: a ship of a few pixels would otherwise be a dot
_RENAMED = {"questions": "queries", "picture": "image"}


@dataclass(frozen=True)
class RasterResult:
    """What was found in a raster.

    Attributes:
        source: The raster's path or name.
        size: Its width and height in pixels.
        queries: The expressions, and how they were parsed.
        found: [N, 6]: xyxy in pixels of the raster, confidence, index of the expression; for each expression the most
            confident first, or in the order of its superlative ("the second leftmost").
        place: Its georeference.
        image: The whole raster decimated, uint8 [h, w, 3] RGB.
        folder: Where results are written.
        record: How they came about: options, stretch, tiling, times.
        cut: bool [N], True where a box ends at the border of a tile, so that the object may be longer.
    """

    source: str
    size: tuple[int, int]
    queries: list[ObjectQuery]
    found: NDArray[np.float64]
    place: Georeference
    image: NDArray[np.uint8]
    folder: Path
    record: dict[str, Any] = field(default_factory=dict)
    cut: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))

    def __post_init__(self) -> None:
        if not len(self.cut):
            object.__setattr__(self, "cut", np.zeros(len(self.found), bool))

    def of(self, expression: int) -> NDArray[np.float64]:
        """Return the objects [n, 6] of one expression, in the order of :attr:`found`."""
        return self.found[self.found[:, 5] == expression]

    @property
    def shrink(self) -> NDArray[np.float64]:
        """Factors [4] from pixels of the raster to pixels of its decimated image."""
        height, width = self.image.shape[:2]
        return np.array([width / self.size[0], height / self.size[1]] * 2)

    def __getattr__(self, name: str) -> Any:
        if name not in _RENAMED:
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        warnings.warn(f"RasterResult.{name} is now RasterResult.{_RENAMED[name]}", FutureWarning, stacklevel=2)
        return getattr(self, _RENAMED[name])


def enlarged(boxes: NDArray[np.float64], side: float = SMALLEST) -> NDArray[np.float64]:
    """Return boxes [N, 4], those smaller than a side grown to it about their centres, so that they can be seen."""
    centre, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, np.maximum(boxes[:, 2:] - boxes[:, :2], side)
    return np.concatenate([centre - sides / 2, centre + sides / 2], 1)

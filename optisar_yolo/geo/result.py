"""What was found in a raster."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optisar_yolo.geo.georeference import Georeference
from optisar_yolo.language import Query


@dataclass(frozen=True)
class SceneResult:
    """What was found in a scene.

    Attributes:
        source: The scene.
        size: Its width and height in pixels.
        questions: The expressions, and how they were read.
        found: [N, 6]: xyxy in pixels of the scene, confidence, number of the expression; best first for each
            expression.
        place: Its georeference.
        image: The whole scene decimated, uint8 [h, w, 3] RGB.
        folder: Where results are written.
        record: How they came about: options, stretch, tiling, times.
    """

    source: str
    size: tuple[int, int]
    questions: list[Query]
    found: NDArray[np.float64]
    place: Georeference
    image: NDArray[np.uint8]
    folder: Path
    record: dict[str, Any] = field(default_factory=dict)

    def of(self, expression: int) -> NDArray[np.float64]:
        """Return the objects [n, 6] of one expression, best first."""
        return self.found[self.found[:, 5] == expression]

"""Small georeferenced rasters with known objects, and a detector that finds them without a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

rasterio = pytest.importorskip("rasterio")
from rasterio.transform import from_origin  # noqa: E402

UTM = dict(crs="EPSG:32633", transform=from_origin(500_000, 5_400_000, 10, 10))
LEVEL = 200  # grey value of objects; the ground is darker


def ground(width: int, height: int) -> np.ndarray:
    """Return uint8 [height, width], textured and darker than any object."""
    return np.random.default_rng(0).integers(20, 100, (height, width), dtype=np.uint8)


def painted(width: int, height: int, boxes: Sequence[Sequence[int]]) -> np.ndarray:
    """Return the ground with bright boxes on it; each box is a little brighter than the one before."""
    image = ground(width, height)
    for i, (x1, y1, x2, y2) in enumerate(boxes):
        image[y1:y2, x1:x2] = LEVEL + i
    return image


def write(path: Path, bands: np.ndarray, **profile: Any) -> Path:
    """Write [h, w] or [bands, h, w] as a tiled GeoTIFF."""
    bands = bands[None] if bands.ndim == 2 else bands
    count, height, width = bands.shape
    about = dict(driver="GTiff", count=count, height=height, width=width, dtype=bands.dtype, tiled=True) | profile
    about |= dict(blockxsize=256, blockysize=256, compress="deflate") if about["tiled"] else {}
    nodata = about.pop("nodata", None)
    colours, names = about.pop("colours", None), about.pop("names", None)
    with rasterio.open(path, "w", nodata=nodata, **about) as file:
        file.write(bands)
        if colours:
            file.colorinterp = colours
        for i, name in enumerate(names or (), 1):
            file.set_band_description(i, name)
    return path


class Bright:
    """Finds connected bright regions, each as large as the tile shows it; the brighter, the more confident.

    Attributes:
        seen: Number of images that it was given.
        expressions: Expressions of the last call.
    """

    key = "bright"
    conf = 0.5

    def __init__(self, fail_after: int | None = None) -> None:
        self.seen = 0
        self.expressions: list[str] = []
        self.shapes: set[tuple[int, ...]] = set()
        self.fail_after = fail_after

    def __call__(self, images: np.ndarray, expressions: Sequence[str], floor: float) -> list[np.ndarray]:
        import cv2

        if self.fail_after is not None and self.seen >= self.fail_after:
            raise KeyboardInterrupt
        self.seen += len(images)
        self.expressions = list(expressions)
        self.shapes |= {p.shape for p in images}
        out = []
        for image in images:
            mask = (image[0] >= LEVEL).astype(np.uint8)
            _, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
            rows = [
                [x, y, x + w, y + h, float(image[0][labels == k].mean()) / 255, j]
                for j in range(len(expressions))
                for k, (x, y, w, h, _) in enumerate(stats)
                if k
            ]
            out.append(np.asarray(rows, np.float32).reshape(-1, 6))
        return out

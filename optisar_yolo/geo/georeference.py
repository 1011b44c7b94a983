"""Pixels to coordinates of the file's CRS and of WGS 84, and the direction of north in the image.

Pixel coordinates start at the outer corner of the first pixel, x to the right and y down, as those of boxes do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optisar_yolo.geo.reading import Raster
from optisar_yolo.utils import need

WGS84 = "EPSG:4326"
ASKEW = 5.0  # degrees: grid north of UTM is within 3 of true north; beyond, "the northernmost" may be another object
STEP = 1e-3  # degrees of latitude: the distance over which the direction of north is measured
_SIDES = {(1, 0): "right", (-1, 0): "left", (0, 1): "bottom", (0, -1): "top"}


class Georeference:
    """The georeference of a raster: its geotransform or its ground control points.

    Args:
        raster: An open raster.

    Attributes:
        crs: rasterio's CRS; None where the file has no georeference.
        affine: Its geotransform; None where there are only ground control points.
    """

    def __init__(self, raster: Raster) -> None:
        self.size = raster.size
        self.source = raster.source
        data = raster.data
        points, points_crs = data.gcps
        self._points: Any = None
        self.affine: Any = None
        self.crs: Any = None
        if data.crs is not None and not data.transform.is_identity:
            self.crs, self.affine = data.crs, data.transform
        elif points and points_crs is not None:
            self.crs, self._points = points_crs, need("rasterio.transform").GCPTransformer(points)

    def __bool__(self) -> bool:
        """Tell whether the raster is georeferenced."""
        return self.crs is not None

    @property
    def upright(self) -> bool:
        """Tell whether rows and columns run along the axes of the CRS."""
        return self.affine is not None and self.affine.b == 0 and self.affine.d == 0

    @property
    def metres(self) -> float:
        """Ground side of a pixel in metres, at the middle of the raster.

        Raises:
            ValueError: The file has no georeference.
        """
        if not self:
            raise ValueError(
                f"{self.source}: no georeference, so a pixel has no size on the ground; use scale= for gsd="
            )
        x, y = self.size[0] / 2, self.size[1] / 2
        lon, lat = self.to_wgs84(np.array([x, x + 1, x]), np.array([y, y, y + 1]))
        radius = 6371008.8  # mean radius of the Earth (IUGG), metres
        east = np.radians(lon - lon[0])[1:] * radius * math.cos(math.radians(lat[0]))
        north = np.radians(lat - lat[0])[1:] * radius
        return float(math.sqrt(abs(east[0] * north[1] - east[1] * north[0])))

    def to_crs(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pixel coordinates [N] to coordinates of the CRS [N]."""
        if self._points is not None:
            found = self._points.xy(np.asarray(y, float), np.asarray(x, float), offset="ul")
            return np.asarray(found[0], float), np.asarray(found[1], float)
        t = self.affine
        return t.a * x + t.b * y + t.c, t.d * x + t.e * y + t.f

    def to_wgs84(
        self, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pixel coordinates [N] to longitude and latitude [N], degrees."""
        east, north = self.to_crs(x, y)
        lon, lat = need("rasterio.warp").transform(self.crs, WGS84, east.tolist(), north.tolist())[:2]
        return np.asarray(lon), np.asarray(lat)

    def compass(self) -> Mapping[str, str]:
        """Return the side of the image that each compass direction points to.

        True north is computed at the middle and at the four corners.

        Raises:
            ValueError: The file has no georeference, or north is askew or differs from place to place.
        """
        if not self:
            raise ValueError(
                f"{self.source}: no georeference, so compass words mean nothing here; say left, right, top, bottom"
            )
        width, height = self.size
        found = [self._north(width * u, height * v) for u, v in ((0.5, 0.5), (0, 0), (1, 0), (0, 1), (1, 1))]
        east, angle = found[0][1], max(a for _, _, a in found)
        north = found[0][0]
        if angle > ASKEW or any(f[:2] != (north, east) for f in found):
            raise ValueError(
                f"{self.source}: north is up to {angle:.0f}° askew of the image's sides, so compass words would be "
                "ambiguous; say left, right, top, bottom, or turn the raster first (gdalwarp makes it north-up)"
            )
        return {
            "north": _SIDES[north],
            "east": _SIDES[east],
            "south": _SIDES[(-north[0], -north[1])],
            "west": _SIDES[(-east[0], -east[1])],
        }

    def _north(self, x: float, y: float) -> tuple[tuple[int, int], tuple[int, int], float]:
        """Return the sides of the image nearest to north and to east at a pixel, and the deviation in degrees."""
        lon, lat = (float(v[0]) for v in self.to_wgs84(np.array([x]), np.array([y])))
        up = STEP if lat < 89 else -STEP  # beyond the pole there is no further north
        turn = STEP / max(math.cos(math.radians(lat)), 1e-3)
        transform = need("rasterio.warp").transform
        px, py = transform(WGS84, self.crs, [lon, lon, lon + turn], [lat, lat + up, lat])[:2]
        # The inverse of the local linear map from pixels to the CRS takes directions on the ground into the image.
        cx, cy = self.to_crs(np.array([x, x + 1, x]), np.array([y, y, y + 1]))
        local = np.array([[cx[1] - cx[0], cx[2] - cx[0]], [cy[1] - cy[0], cy[2] - cy[0]]])
        ground = np.array([[px[1] - px[0], px[2] - px[0]], [py[1] - py[0], py[2] - py[0]]])
        image = np.linalg.solve(local, ground) * np.array([np.sign(up), 1.0])
        north, off_north = _nearest_side(image[:, 0])
        east, off_east = _nearest_side(image[:, 1])
        return north, east, max(off_north, off_east)


def _nearest_side(direction: NDArray[np.float64]) -> tuple[tuple[int, int], float]:
    """Return the image's side that a direction (right, down) points to, and the angle between them in degrees."""
    dx, dy = direction / np.linalg.norm(direction)
    side = (int(np.sign(dx)), 0) if abs(dx) > abs(dy) else (0, int(np.sign(dy)))
    return side, math.degrees(math.atan2(min(abs(dx), abs(dy)), max(abs(dx), abs(dy))))

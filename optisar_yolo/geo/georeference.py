"""Pixels to coordinates of the file's CRS and of WGS 84, and the direction of north in the image.

Pixel coordinates start at the outer corner of the first pixel, x to the right and y down, as those of boxes do.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optisar_yolo.geo.placing import ORDER, WGS84
from optisar_yolo.geo.reading import Raster
from optisar_yolo.utils import need

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
        on_earth: True where positions of the raster have a longitude and a latitude. False for a CRS that nothing
            connects to WGS 84 (a local or engineering grid, the Moon) or that does not hold any part of the raster.
        note: What the user should know about the georeference, in one line; mostly empty.
    """

    def __init__(self, raster: Raster) -> None:
        self.size = raster.size
        self.source = raster.source
        found = raster.placement
        self._given = found.given
        self._points: Any = None
        self.affine: Any = None
        self.crs: Any = None
        if found.crs is not None and found.transform is not None:
            self.crs, self.affine = found.crs, found.transform
        elif found.points and found.points_crs is not None:
            self.crs, self._points = found.points_crs, need("rasterio.transform").GCPTransformer(found.points)
        if self.affine is not None and self.affine.determinant == 0:
            self.crs = self.affine = None
        self.on_earth = bool(self) and bool(np.isfinite(self.to_wgs84(*self._samples())[0]).any())
        if found.given and self.on_earth:
            self._check_given()
        self.note = self._note(raster)

    def _check_given(self) -> None:
        """Check a CRS or affine of the user's: coordinates far outside of a projection do not come back from WGS 84.

        Raises:
            ValueError: They do not.
        """
        x, y = self._samples()
        east, north = self.to_crs(x, y)
        lon, lat = self.to_wgs84(x, y)
        seen = np.isfinite(lon) & np.isfinite(lat)
        back = _transform(WGS84, self.crs, lon[seen].tolist(), lat[seen].tolist())
        side = (
            max(math.hypot(self.affine.a, self.affine.d), math.hypot(self.affine.b, self.affine.e))
            if self.affine
            else 1
        )
        if (
            not (np.hypot(back[0] - east[seen], back[1] - north[seen]) < max(side, 1e-5)).all()
            and not self.crs.is_geographic
        ):
            raise ValueError(
                f"{self.source}: crs= and transform= place it outside of its projection, at x {east.min():.4g} to "
                f"{east.max():.4g}, y {north.min():.4g} to {north.max():.4g}; {ORDER}"
            )

    def _note(self, raster: Raster) -> str:
        """Say what is missing of a georeference, and what that leaves out."""
        data = raster.data
        if self.on_earth:
            return ""
        if self:
            check = f"; {ORDER}" if self._given else ""
            name = re.sub(r"\s+", " ", str(self.crs))[:60]
            return (
                f"{self.source}: no part of the raster can be placed in WGS 84 by its CRS ({name}): objects.geojson, "
                f"longitudes and latitudes are left out; objects-crs.geojson and pixels are written{check}"
            )
        if data.crs is None and not data.transform.is_identity:
            what = "has a geotransform and no CRS (crs=EPSG:… names it)"
        elif data.crs is not None:
            what = "names a CRS and has no geotransform that can be used (transform=a,b,c,d,e,f gives one)"
        elif data.rpcs is not None:
            what = "is georeferenced by RPCs alone (gdalwarp -rpc makes a map of it)"
        else:
            what = "has no georeference"
        return f"{self.source} {what}: results are in pixels, without GeoJSON"

    def _samples(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return x [25] and y [25] of pixels all over the raster."""
        share = np.linspace(0.02, 0.98, 5)
        x, y = np.meshgrid(share * self.size[0], share * self.size[1])
        return x.ravel(), y.ravel()

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
            ValueError: The file has no georeference that leads to WGS 84.
        """
        if not self.on_earth:
            raise ValueError(
                f"{self.source}: no georeference on the Earth, so a pixel has no size on the ground; use scale= for "
                "gsd="
            )
        x, y = self.size[0] / 2, self.size[1] / 2
        lon, lat = self.to_wgs84(np.array([x, x + 1, x]), np.array([y, y, y + 1]))
        if not np.isfinite([*lon, *lat]).all():
            raise ValueError(
                f"{self.source}: the middle of the raster lies outside of its projection; use scale= for gsd="
            )
        radius = 6371008.8  # mean radius of the Earth (IUGG), metres
        east = np.radians((lon - lon[0] + 180) % 360 - 180)[1:] * radius * math.cos(math.radians(lat[0]))
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
        """Pixel coordinates [N] to longitude within ±180 and latitude [N], degrees; NaN where a pixel has none."""
        east, north = self.to_crs(x, y)
        lon, lat = _transform(self.crs, WGS84, east.tolist(), north.tolist())
        lon[~np.isfinite(lon)] = np.nan  # outside of the projection
        bad = ~(np.isfinite(lon) & (np.abs(lat) <= 90 + 1e-9) & (np.abs(lon) <= 720))
        lon = np.where(np.abs(lon) > 180, (lon + 180) % 360 - 180, lon)  # rasters of 0 to 360 degrees
        lon[bad], lat[bad] = np.nan, np.nan
        return lon, lat

    def compass(self) -> Mapping[str, str]:
        """Return the side of the image that each compass direction points to.

        True north is computed at the middle and at the four corners.

        Raises:
            ValueError: The file has no georeference, or north is askew or differs from place to place.
        """
        if not self.on_earth:
            raise ValueError(
                f"{self.source}: no georeference on the Earth, so compass words mean nothing here; say left, right, "
                "top, bottom"
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
        outside = ValueError(
            f"{self.source}: a corner or the middle of the raster lies outside of its projection, so compass words "
            "would be ambiguous; say left, right, top, bottom"
        )
        up = STEP if lat < 89 else -STEP  # beyond the pole there is no further north
        turn = STEP / max(math.cos(math.radians(lat)), 1e-3)
        px, py = _transform(WGS84, self.crs, [lon, lon, lon + turn], [lat, lat + up, lat])
        # The inverse of the local linear map from pixels to the CRS takes directions on the ground into the image.
        cx, cy = self.to_crs(np.array([x, x + 1, x]), np.array([y, y, y + 1]))
        local = np.array([[cx[1] - cx[0], cx[2] - cx[0]], [cy[1] - cy[0], cy[2] - cy[0]]])
        if not np.isfinite([lon, lat, *px, *py]).all() or abs(np.linalg.det(local)) == 0:
            raise outside
        ground = np.array([[px[1] - px[0], px[2] - px[0]], [py[1] - py[0], py[2] - py[0]]])
        image = np.linalg.solve(local, ground) * np.array([np.sign(up), 1.0])
        north, off_north = _nearest_side(image[:, 0])
        east, off_east = _nearest_side(image[:, 1])
        return north, east, max(off_north, off_east)


def _transform(
    source: Any, target: Any, x: list[float], y: list[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Transform coordinates [N] between two CRS; NaN or infinite where a point has no counterpart."""
    transform = need("rasterio.warp").transform
    try:
        return tuple(np.array(v, float) for v in transform(source, target, x, y)[:2])  # type: ignore[return-value]
    except Exception:  # rasterio raises private classes, for a whole list if one of its points is outside
        if len(x) == 1:
            return np.array([np.nan]), np.array([np.nan])
    parts = [_transform(source, target, [a], [b]) for a, b in zip(x, y, strict=True)]
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def _nearest_side(direction: NDArray[np.float64]) -> tuple[tuple[int, int], float]:
    """Return the image's side that a direction (right, down) points to, and the angle between them in degrees."""
    dx, dy = direction / np.linalg.norm(direction)
    side = (int(np.sign(dx)), 0) if abs(dx) > abs(dy) else (0, int(np.sign(dy)))
    return side, math.degrees(math.atan2(min(abs(dx), abs(dy)), max(abs(dx), abs(dy))))

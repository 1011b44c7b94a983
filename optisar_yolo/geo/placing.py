"""Where a raster lies: what its file says, what the user says instead, and the part of it that an extent names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from optisar_yolo.utils import need

WGS84 = "EPSG:4326"
ORDER = "transform=a,b,c,d,e,f means x = a·column + b·row + c and y = d·column + e·row + f"
SAMPLES = 21  # points on each side of an extent: its sides are curves in most projections


@dataclass(frozen=True)
class Placement:
    """What places the pixels of a raster.

    Attributes:
        crs: rasterio's CRS; None where there is none.
        transform: Affine from pixel coordinates to the CRS; None where there is none.
        points: Ground control points, used where there is no affine.
        points_crs: Their CRS.
        given: The user set the CRS or the affine.
        notes: What of the file is not used, in one line each.
    """

    crs: Any = None
    transform: Any = None
    points: Sequence[Any] = ()
    points_crs: Any = None
    given: bool = False
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, data: Any, source: str, crs: str | None = None, transform: Sequence[float] | None = None) -> Placement:
        """Return the placement of an open raster, with the user's CRS and affine in place of the file's.

        Args:
            data: rasterio's dataset.
            source: The raster's name in messages.
            crs: A name of a CRS, such as ``EPSG:32633``, or its WKT.
            transform: Six numbers, see :data:`ORDER`.

        Raises:
            ValueError: No such CRS, numbers that place nothing, or one of the two where the file lacks the other.
        """
        points, points_crs = data.gcps
        stored = None if data.transform.is_identity else data.transform
        place = cls(data.crs, stored, points, points_crs)
        if crs is None and transform is None:
            return place
        notes = []
        if crs is not None:
            named = _crs(crs)
            own = data.crs or points_crs
            if own is not None and own != named:
                notes.append(f"{source}: crs={crs} is used in place of the file's own CRS ({_short(own)})")
            place = replace(place, crs=named, points_crs=named if points else None)
        if transform is not None:
            affine = need("rasterio").Affine(*transform)
            if not np.isfinite(transform).all() or affine.determinant == 0:
                raise ValueError(f"transform={_numbers(transform)} gives pixels no area; {ORDER}")
            if stored is not None and not np.allclose(affine[:6], stored[:6]):
                notes.append(f"{source}: transform= is used in place of the file's own ({_numbers(stored[:6])})")
            elif stored is None and points:
                notes.append(f"{source}: transform= is used in place of the file's {len(points)} ground control points")
            place = replace(place, crs=place.crs or points_crs, transform=affine, points=(), points_crs=None)
        if place.transform is None and not place.points:
            raise ValueError(
                f"{source}: crs={crs} alone places no pixel, as the file has no geotransform; give "
                "transform=a,b,c,d,e,f too, or put a world file beside it"
            )
        if place.crs is None:
            raise ValueError(
                f"{source}: transform= needs a CRS, and the file names none; give crs=, such as EPSG:32633"
            )
        return replace(place, given=True, notes=notes)

    def moved(self, x: int, y: int) -> Placement:
        """Return the placement of the part of the raster that begins at a pixel."""
        if self.transform is None or not (x or y):
            return self
        return replace(self, transform=self.transform * self.transform.translation(x, y))

    def window(self, extent: Sequence[float], size: tuple[int, int], source: str) -> tuple[int, int, int, int]:
        """Return the part (x, y, width, height in pixels) of a raster that covers an extent.

        Args:
            extent: West, south, east, north in degrees of WGS 84.
            size: Width and height of the raster.
            source: Its name in messages.

        Raises:
            ValueError: The raster has no affine georeference, or does not reach into the extent.
        """
        if self.crs is None or self.transform is None:
            raise ValueError(
                f"{source}: extent= needs a raster with a CRS and a geotransform; give crs= and transform=, or warp it "
                "first (gdalwarp)"
            )
        west, south, east, north = extent
        share = np.linspace(0, 1, SAMPLES)
        lon, lat = (v.ravel() for v in np.meshgrid(west + share * (east - west), south + share * (north - south)))
        try:
            found = need("rasterio.warp").transform(WGS84, self.crs, lon.tolist(), lat.tolist())
        except Exception as error:  # rasterio raises private classes where a point has no counterpart
            raise ValueError(f"{source}: extent= reaches beyond the projection of the raster ({error})") from error
        columns, rows = ~self.transform * (np.asarray(found[0], float), np.asarray(found[1], float))
        if not (np.isfinite(columns).all() and np.isfinite(rows).all()):
            raise ValueError(f"{source}: extent= reaches beyond the projection of the raster ({_short(self.crs)})")
        # A thousandth of a pixel forgives rounding: an extent made of pixel borders gives just those pixels.
        low = np.maximum(np.floor([columns.min() + 1e-3, rows.min() + 1e-3]), 0).astype(int)
        high = np.minimum(np.ceil([columns.max() - 1e-3, rows.max() - 1e-3]), size).astype(int)
        if (high <= low).any():
            raise ValueError(
                f"{source}: the raster does not reach into extent={_numbers(extent)} (west,south,east,north in degrees)"
            )
        return int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1])


def check_extent(extent: Sequence[float]) -> None:
    """Check an extent.

    Raises:
        ValueError: It is none.
    """
    west, south, east, north = extent
    if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
        raise ValueError(
            f"'extent={_numbers(extent)}' is not valid: it must be west,south,east,north in degrees, with west < east "
            "and south < north (two extents for an area across the antimeridian), for example extent=4.2,51.9,4.4,52.0"
        )


def _crs(name: str) -> Any:
    """Return rasterio's CRS of a name.

    Raises:
        ValueError: There is none.
    """
    rasterio = need("rasterio")
    try:
        return rasterio.CRS.from_user_input(int(name) if str(name).isdigit() else name)
    except rasterio.errors.CRSError as error:
        raise ValueError(f"'crs={name}' is not valid: no such CRS; name it as EPSG:32633, or give its WKT") from error


def _short(crs: Any) -> str:
    """Return the name of a CRS, for messages."""
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else " ".join(str(crs).split())[:60]


def _numbers(values: Sequence[float]) -> str:
    return ",".join(f"{v:.10g}" for v in values)

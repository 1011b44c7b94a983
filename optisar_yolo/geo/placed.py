"""Boxes in pixels of a raster as positions on the ground: GeoJSON, and centres for tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optisar_yolo.geo.georeference import Georeference
from optisar_yolo.geo.reading import Raster
from optisar_yolo.geo.sources import RasterSource

DEGREES = 8  # decimals: about a millimetre
GROUND_COLUMNS = ("lon", "lat", "x_crs", "y_crs")
"""Columns of tables: the centre of a box in WGS 84, degrees, and in the CRS of the raster."""


def georeference_of(file: str | Path, label: str = "") -> Georeference:
    """Read the georeference of a file.

    Args:
        file: Any raster that GDAL reads.
        label: Its name in messages; the path by default.

    Raises:
        DataError: Missing, damaged, or not a raster of numbers.
    """
    source = RasterSource(str(file), label or str(file), Path(file).stem)
    with Raster(source) as raster:
        return Georeference(raster)


def centres(boxes: NDArray[np.float64], place: Georeference) -> list[list[str]]:
    """Return the entries of :data:`GROUND_COLUMNS` for boxes [N, 4]; "" for what a pixel has not."""
    if not place or not len(boxes):
        return [[""] * len(GROUND_COLUMNS) for _ in boxes]
    x, y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
    rows = []
    for lon, lat, east, north in zip(*place.to_wgs84(x, y), *place.to_crs(x, y), strict=True):
        known = [f"{lon:.{DEGREES}f}", f"{lat:.{DEGREES}f}"] if np.isfinite([lon, lat]).all() else ["", ""]
        rows.append([*known, f"{east:.10g}", f"{north:.10g}"])
    return rows


def feature_collection(
    found: NDArray[np.float64],
    texts: Sequence[str],
    place: Georeference,
    source_crs: bool = False,
    cut: NDArray[np.bool_] | None = None,
) -> dict[str, Any]:
    """Return objects as a GeoJSON FeatureCollection of box polygons.

    Args:
        found: [N, 6]: xyxy in pixels of the raster, confidence, index of the expression.
        texts: The expressions.
        place: Where the raster lies.
        source_crs: Use the CRS of the raster, named as GDAL does, instead of WGS 84 (RFC 7946: longitude first, within
            ±180, outer rings anticlockwise, polygons cut at the antimeridian, no geometry where a corner has none).
        cut: bool [N], True where a box ends at the border of a tile; None: nowhere.
    """
    features = []
    for row, is_cut in zip(found, [False] * len(found) if cut is None else cut.tolist(), strict=True):
        x, y = corners(row[:4])
        geometry: dict[str, Any] | None
        if source_crs:
            ring = np.column_stack(place.to_crs(x, y))
            geometry = {"type": "Polygon", "coordinates": [closed(ring).tolist()]}
        else:
            corners_wgs84 = np.column_stack(place.to_wgs84(x, y))
            geometry = polygon(corners_wgs84) if np.isfinite(corners_wgs84).all() else None
        properties = {
            "sentence": texts[int(row[5])],
            "confidence": round(float(row[4]), 4),
            "pixels": [round(float(v), 2) for v in row[:4]],
            **({"cut": True} if is_cut else {}),
        }
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    out: dict[str, Any] = {"type": "FeatureCollection"}
    if source_crs:
        epsg = place.crs.to_epsg()
        name = f"urn:ogc:def:crs:EPSG::{epsg}" if epsg else place.crs.to_wkt()
        out["crs"] = {"type": "name", "properties": {"name": name}}
    return out | {"features": features}


def corners(box: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return x [4] and y [4] of a box's corners."""
    x1, y1, x2, y2 = box
    return np.array([x1, x2, x2, x1]), np.array([y1, y1, y2, y2])


def closed(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a ring [n, 2] anticlockwise, with its first point again at the end."""
    x, y = ring.T
    if (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() < 0:  # the shoelace formula
        ring = ring[::-1]
    return np.concatenate([ring, ring[:1]])


def polygon(ring: NDArray[np.float64]) -> dict[str, Any]:
    """Return a convex ring [n, 2] of longitudes and latitudes as a GeoJSON geometry, cut at the antimeridian."""
    if np.ptp(ring[:, 0]) <= 180:
        return {"type": "Polygon", "coordinates": [closed(ring).round(DEGREES).tolist()]}
    shifted = ring + np.where(ring[:, :1] < 0, [360.0, 0.0], 0.0)
    parts = [clipped(shifted, 180, 1), clipped(shifted, 180, -1) - [360.0, 0.0]]
    return {"type": "MultiPolygon", "coordinates": [[closed(p).round(DEGREES).tolist()] for p in parts]}


def clipped(ring: NDArray[np.float64], x: float, sign: int) -> NDArray[np.float64]:
    """Return the part of a convex ring [n, 2] west (sign 1) or east (-1) of a meridian (Sutherland and Hodgman)."""
    out = []
    for a, b in zip(ring, np.roll(ring, -1, 0), strict=True):
        inside = [sign * (p[0] - x) <= 0 for p in (a, b)]
        if inside[0]:
            out.append(a)
        if inside[0] != inside[1]:
            out.append(a + (b - a) * (x - a[0]) / (b[0] - a[0]))
    return np.array(out)

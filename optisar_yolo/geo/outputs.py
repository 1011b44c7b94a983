"""Files of the results in a raster: GIS files, COCO JSON, CSV, a quick-look image, a map and a record."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ultralytics.utils import LOGGER

from optisar_yolo.geo.result import RasterResult, enlarged
from optisar_yolo.geo.style import qml
from optisar_yolo.geo.vectors import vector_file
from optisar_yolo.geo.webmap import map_page
from optisar_yolo.language import ObjectQuery
from optisar_yolo.utils import write_atomic
from optisar_yolo.visualize import draw_predictions

DEGREES = 8  # decimals: about a millimetre
COLUMNS = ("sentence", "confidence", "x1", "y1", "x2", "y2", "lon", "lat", "x_crs", "y_crs")


def write(result: RasterResult, with_map: bool = True, vectors: Sequence[str] = ()) -> list[Path]:
    """Write all results into the folder of the run.

    * ``objects.geojson``: WGS 84, RFC 7946. Only for rasters that are georeferenced on the Earth.
    * ``objects-crs.geojson``: in the CRS of the raster, which the file names. Only for georeferenced rasters.
    * ``objects.gpkg``, ``objects.fgb``: the same in other formats, where they are wanted.
    * ``objects.qml``: how QGIS draws a layer of any of these files that is called ``objects``.
    * ``objects.coco.json``: pixel boxes; one category per expression.
    * ``objects.csv``: pixel boxes, and centres in WGS 84 and in the CRS.
    * ``quicklook.jpg``: the whole raster with the boxes.
    * ``map.html``: the same to zoom into; it works offline.
    * ``scene.json``: expressions as they were parsed, options, stretch, tiling, times.

    Args:
        result: The results.
        with_map: Write the map too, which needs bokeh.
        vectors: Formats beside GeoJSON, ``"gpkg"`` and ``"fgb"``, which need pyogrio; for georeferenced rasters.

    Returns:
        The files.

    Raises:
        OSError: The folder cannot be written.
    """
    files: dict[str, str | bytes] = {}
    if result.place.on_earth:
        files["objects.geojson"] = _json(geojson(result))
        unplaced = sum(f["geometry"] is None for f in geojson(result)["features"])
        if unplaced:
            LOGGER.warning(
                f"{unplaced} of {len(result.found)} objects reach beyond the projection of the raster: they have no "
                "geometry in objects.geojson; their pixels are in all files"
            )
    if result.place:
        files["objects-crs.geojson"] = _json(geojson(result, source_crs=True))
        files |= {f"objects.{kind}": vector_file(result, kind) for kind in vectors}
        files["objects.qml"] = qml([q.text for q in result.queries])
    files["objects.coco.json"] = _json(coco(result))
    files["objects.csv"] = table(result)
    queries = [query_record(q) for q in result.queries]
    files["scene.json"] = _json({**result.record, "questions": queries})
    files["quicklook.jpg"] = quicklook(result)
    if with_map:
        files["map.html"] = map_page(result)
    return [write_atomic(result.folder / name, content) for name, content in files.items()]


def query_record(query: ObjectQuery) -> dict[str, Any]:
    """Return a query for the record, under the names that programs read; "read" has all of it in one line."""
    return {
        "text": query.text, "core": query.core, "place": query.place, "extreme": query.superlative,
        "rank": query.ordinal, "note": query.note, "kind": query.kind, "amount": query.amount, "read": str(query),
    }  # fmt: skip


def quicklook(result: RasterResult) -> bytes:
    """Return a JPEG of the decimated raster with the boxes."""
    boxes = result.found.copy()
    boxes[:, :4] = enlarged(result.found[:, :4] * result.shrink)
    image = draw_predictions(result.image[..., ::-1], boxes, {j: q.text for j, q in enumerate(result.queries)})
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=90)
    return file.getvalue()


def geojson(result: RasterResult, source_crs: bool = False) -> dict[str, Any]:
    """Return the objects as a GeoJSON FeatureCollection of box polygons.

    Args:
        result: The results in a georeferenced raster.
        source_crs: Use the CRS of the raster, named as GDAL does, instead of WGS 84 (RFC 7946: longitude first, within
            ±180, outer rings anticlockwise, polygons cut at the antimeridian, no geometry where a corner has none).
    """
    features = []
    for row, cut in zip(result.found, result.cut.tolist(), strict=True):
        x, y = corners(row[:4])
        geometry: dict[str, Any] | None
        if source_crs:
            ring = np.column_stack(result.place.to_crs(x, y))
            geometry = {"type": "Polygon", "coordinates": [closed(ring).tolist()]}
        else:
            corners_wgs84 = np.column_stack(result.place.to_wgs84(x, y))
            geometry = polygon(corners_wgs84) if np.isfinite(corners_wgs84).all() else None
        properties = {
            "sentence": result.queries[int(row[5])].text,
            "confidence": round(float(row[4]), 4),
            "pixels": [round(float(v), 2) for v in row[:4]],
            **({"cut": True} if cut else {}),
        }
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    out: dict[str, Any] = {"type": "FeatureCollection"}
    if source_crs:
        epsg = result.place.crs.to_epsg()
        name = f"urn:ogc:def:crs:EPSG::{epsg}" if epsg else result.place.crs.to_wkt()
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


def coco(result: RasterResult) -> dict[str, Any]:
    """Return the objects as COCO JSON: one image, one category per expression, pixel boxes with scores."""
    texts = [q.text for q in result.queries]
    notes = [
        {
            "id": i,
            "image_id": 1,
            "category_id": int(row[5]) + 1,
            "category_name": texts[int(row[5])],
            "caption": texts[int(row[5])],
            "bbox": [round(float(v), 2) for v in (row[0], row[1], row[2] - row[0], row[3] - row[1])],
            "area": round(float((row[2] - row[0]) * (row[3] - row[1])), 2),
            "score": round(float(row[4]), 4),
            "iscrowd": 0,
            **({"cut": True} if cut else {}),
        }
        for i, (row, cut) in enumerate(zip(result.found, result.cut.tolist(), strict=True), 1)
    ]
    width, height = result.size
    return {
        "images": [{"id": 1, "file_name": Path(result.source).name, "width": width, "height": height}],
        "annotations": notes,
        "categories": [{"id": j + 1, "name": t} for j, t in enumerate(texts)],
    }


def table(result: RasterResult) -> str:
    """Return the objects as CSV; coordinates on the ground are empty without a georeference."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    for row in result.found:
        ground = ["", "", "", ""]
        if result.place:
            x, y = np.array([(row[0] + row[2]) / 2]), np.array([(row[1] + row[3]) / 2])
            (lon,), (lat,) = result.place.to_wgs84(x, y)
            (east,), (north,) = result.place.to_crs(x, y)
            known = [f"{lon:.{DEGREES}f}", f"{lat:.{DEGREES}f}"] if np.isfinite([lon, lat]).all() else ["", ""]
            ground = [*known, f"{east:.10g}", f"{north:.10g}"]
        box = [f"{v:.2f}" for v in row[:4]]
        writer.writerow([result.queries[int(row[5])].text, f"{row[4]:.4f}", *box, *ground])
    return file.getvalue()


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"

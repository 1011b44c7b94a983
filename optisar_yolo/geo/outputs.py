"""Files of the results in a raster: GIS files, COCO JSON, CSV, a quick-look image, a map and a record."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ultralytics.utils import LOGGER

from optisar_yolo.geo.placed import GROUND_COLUMNS, centres, feature_collection
from optisar_yolo.geo.result import RasterResult, enlarged
from optisar_yolo.geo.style import qml
from optisar_yolo.geo.vectors import vector_file
from optisar_yolo.geo.webmap import map_page
from optisar_yolo.language import ObjectQuery
from optisar_yolo.utils import write_atomic
from optisar_yolo.visualize import draw_predictions

COLUMNS = ("sentence", "confidence", "x1", "y1", "x2", "y2", *GROUND_COLUMNS)


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
    """Return the objects as GeoJSON (:func:`~optisar_yolo.geo.placed.feature_collection`)."""
    texts = [q.text for q in result.queries]
    return feature_collection(result.found, texts, result.place, source_crs, result.cut)


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
    for row, ground in zip(result.found, centres(result.found[:, :4], result.place), strict=True):
        box = [f"{v:.2f}" for v in row[:4]]
        writer.writerow([result.queries[int(row[5])].text, f"{row[4]:.4f}", *box, *ground])
    return file.getvalue()


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"

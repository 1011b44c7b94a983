"""The objects as GeoPackage and FlatGeobuf, in the CRS of the raster, written by GDAL through pyogrio."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optisar_yolo.geo.result import RasterResult
from optisar_yolo.geo.style import qml
from optisar_yolo.utils import need

LAYER = "objects"
DRIVERS = {"gpkg": "GPKG", "fgb": "FlatGeobuf"}
_POLYGON = np.dtype(
    [("order", "u1"), ("kind", "<u4"), ("rings", "<u4"), ("points", "<u4"), ("xy", "<f8", (5, 2))]
)  # well-known binary (OGC 06-103r4): little-endian, 3 for a polygon, one ring of five points
# The table in which QGIS keeps the styles of a GeoPackage's layers. It looks for an empty schema and catalogue.
_STYLE = {
    "f_table_catalog": "", "f_table_schema": "", "f_table_name": LAYER, "f_geometry_column": "geom",
    "styleName": "expressions", "description": "one colour per expression", "owner": "",
}  # fmt: skip


def vector_file(result: RasterResult, kind: str) -> bytes:
    """Return the objects of a georeferenced raster as a file of one layer; a GeoPackage also holds its QGIS style.

    Columns are those of ``objects.csv`` that name no coordinates on the ground (the geometry does), and ``cut``.

    Args:
        result: The results.
        kind: A key of :data:`DRIVERS`.

    Raises:
        MissingExtraError: pyogrio is not installed.
    """
    write: Any = need("pyogrio.raw").write
    found, texts = result.found, [q.text for q in result.queries]
    columns: dict[str, NDArray[Any]] = {
        "sentence": np.array([texts[int(i)] for i in found[:, 5]], object),
        "confidence": found[:, 4].round(4),
        **{name: found[:, i].round(2) for i, name in enumerate(("x1", "y1", "x2", "y2"))},
        "cut": result.cut.astype(bool),
    }
    code = result.place.crs.to_epsg()
    about = {"crs": f"EPSG:{code}" if code else result.place.crs.to_wkt(), "geometry_type": "Polygon"}
    with tempfile.TemporaryDirectory(prefix="optisar-") as folder:
        path = Path(folder) / f"{LAYER}.{kind}"
        names, values = list(columns), list(columns.values())
        more: dict[str, Any] = {}
        if kind == "gpkg":  # of a version that programs of some years ago read without a warning, such as QGIS 3.22
            more = {"layer_options": {"GEOMETRY_NAME": "geom"}, "dataset_options": {"VERSION": "1.2"}}
        write(path, _polygons(result), values, names, driver=DRIVERS[kind], layer=LAYER, **about, **more)
        if kind == "gpkg":
            style: dict[str, Any] = {**_STYLE, "styleQML": qml(texts), "styleSLD": "", "useAsDefault": True}
            rows = [np.array([v], bool if isinstance(v, bool) else object) for v in style.values()]
            rows.append(np.array([np.datetime64("now", "ms")]))  # of several styles QGIS takes the newest
            write(
                path,
                None,
                rows,
                [*style, "update_time"],
                driver="GPKG",
                layer="layer_styles",
                geometry_type=None,
                crs=None,
            )
        return path.read_bytes()


def _polygons(result: RasterResult) -> NDArray[np.object_]:
    """Return the boxes [N] as well-known binary, their corners in the CRS of the raster, anticlockwise there."""
    x, y = result.found[:, [0, 2, 2, 0, 0]], result.found[:, [1, 1, 3, 3, 1]]  # [N, 5]: rings that are closed
    rings = np.stack([v.reshape(x.shape) for v in result.place.to_crs(x.ravel(), y.ravel())], -1)
    (ax, ay), (bx, by) = np.moveaxis(rings[:, 1] - rings[:, 0], -1, 0), np.moveaxis(rings[:, 2] - rings[:, 1], -1, 0)
    rings = np.where((ax * by - ay * bx < 0)[:, None, None], rings[:, ::-1], rings)
    records = np.zeros(len(rings), _POLYGON)
    records["order"], records["kind"], records["rings"], records["points"], records["xy"] = 1, 3, 1, 5, rings
    out = np.empty(len(rings), object)
    out[:] = [r.tobytes() for r in records]
    return out

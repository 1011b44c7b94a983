"""A worker of a batch whose manifest names rasters: each is searched in tiles for all of its expressions.

A raster in object storage is copied into a temporary folder while it is searched, so that a worker needs room for one.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from pyarrow import fs

from optisar_yolo.api import OptiSAR
from optisar_yolo.batch.manifest import RESULT_TYPES, name_of, unpack
from optisar_yolo.batch.storage import BatchFolder, locate
from optisar_yolo.batch.worker import Row, WorkerSettings, replaces_dead_worker
from optisar_yolo.data import DataError
from optisar_yolo.geo import RasterOptions, RasterResult, ground_raster
from optisar_yolo.language import clean

DEGREES = ("west", "south", "east", "north")
"""Columns of the results beside `RESULT_TYPES`: the box in degrees, null without a georeference."""


class RasterWorker:
    """A model in its own process, called with one part after the other; as `optisar_yolo.batch.worker.Worker`.

    Args:
        settings: See `WorkerSettings`.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        torch.set_num_threads(settings.cpus)
        self.settings = settings
        self.model = OptiSAR(settings.model)
        if settings.text_weights:
            self.model.overrides["text_weights"] = settings.text_weights
        self.folder = BatchFolder(settings.out)
        self.replaces_dead = replaces_dead_worker()

    def __call__(self, part: dict[str, Any]) -> dict[str, Any]:
        """Search the rasters of a part, and write the results into the folder; returns what `Worker` returns."""
        table = unpack(part["rows"])
        names, texts = table["image"].to_pylist(), table["text"].to_pylist()
        rows = [Row(i, image, clean(text)) for i, (image, text) in enumerate(zip(names, texts, strict=True))]
        rasters = [list(group) for _, group in groupby(rows, lambda row: row.image)]
        results = [result for own in rasters for result in self._search(own)]
        self.folder.write(name_of(table["id"].to_pylist()), self._table(table, results))
        worker = f"{platform.node()}:{os.getpid()}"
        return {"images": len(rasters), "rows": len(table), "worker": worker, "again": self.replaces_dead}

    def _search(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """Return the results of the rows of one raster; of one that cannot be read, the reason."""
        s = self.settings
        with tempfile.TemporaryDirectory(prefix="optisar-raster-") as folder:
            options = RasterOptions(
                conf=s.conf, topk=s.topk, imgsz=s.imgsz, gsd=s.gsd, batch=s.batch, project=folder, resume=False,
                map=False, device="0" if s.gpu else "cpu", engine="auto" if s.gpu else s.engine,
            )  # fmt: skip
            try:
                source = fetched(rows[0].image, s.base, Path(folder))
                found = ground_raster(self.model, source, [row.text for row in rows], options)
            except (DataError, ValueError) as error:  # of this raster; the others go on
                reason = str(error).replace(folder, "").strip()
                return [{"row": row.number, "answered": False, "error": reason, "rank": 1} for row in rows]
            return [result for k, row in enumerate(rows) for result in _objects(found, k, row)]

    def _table(self, table: pa.Table, results: Sequence[dict[str, Any]]) -> pa.Table:
        """Append the result columns to those of the manifest."""
        table = table.take([result["row"] for result in results])
        types = RESULT_TYPES | dict.fromkeys(DEGREES, pa.float64())
        for name, kind in types.items():
            if name != "rank" or self.settings.topk > 1:
                table = table.append_column(name, pa.array([result.get(name) for result in results], kind))
        return table


def fetched(name: str, base: str, folder: Path) -> str:
    """Return the path of a raster; one in object storage is copied into a folder.

    Raises:
        DataError: It cannot be read, or there is no room for it.
    """
    try:
        filesystem, path = locate(name, base)
        if isinstance(filesystem, fs.LocalFileSystem):
            return path
        target = folder / Path(path).name
        with filesystem.open_input_stream(path) as remote, open(target, "wb") as file:
            shutil.copyfileobj(remote, file, 1 << 22)
        return str(target)
    except (OSError, ValueError) as error:
        raise DataError(f"{name}: raster cannot be read ({error}); correct the path") from error


def _objects(found: RasterResult, expression: int, row: Row) -> list[dict[str, Any]]:
    """Return the result columns of the objects of one expression, in their order."""
    about = {"row": row.number, "width": found.size[0], "height": found.size[1]}
    boxes = found.of(expression)
    if not len(boxes):
        return [about | {"answered": False, "rank": 1}]
    out = []
    for rank, (*xyxy, conf, _) in enumerate(boxes.tolist(), 1):
        made = about | dict(zip(("x1", "y1", "x2", "y2"), xyxy, strict=True))
        made |= {"confidence": conf, "answered": True, "rank": rank}
        out.append(made | _degrees(found, xyxy))
    return out


def _degrees(found: RasterResult, box: Sequence[float]) -> dict[str, float]:
    """Return the sides of a box in degrees; west is above east across the antimeridian, as in GeoJSON."""
    if not found.place.on_earth:
        return {}
    x1, y1, x2, y2 = box
    lon, lat = found.place.to_wgs84(np.array([x1, x2, x2, x1]), np.array([y1, y1, y2, y2]))
    if not (np.isfinite(lon) & np.isfinite(lat)).all():
        return {}
    if np.ptp(lon) > 180:
        west, east = lon[lon > 0].min(), lon[lon <= 0].max()
    else:
        west, east = lon.min(), lon.max()
    sides = (west, lat.min(), east, lat.max())
    return {name: round(float(v), 7) for name, v in zip(DEGREES, sides, strict=True)}

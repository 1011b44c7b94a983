"""A worker of a batch: it reads the images of a part, grounds their expressions and writes the results."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import ray
import torch
from pyarrow import fs

from optisar_yolo.api import OptiSAR
from optisar_yolo.batch.manifest import RESULT_TYPES, name_of, unpack
from optisar_yolo.batch.storage import BatchFolder, locate
from optisar_yolo.data import DataError, decode_image, read_image
from optisar_yolo.language import clean
from optisar_yolo.serve import ExpressionResult, Grounder, GroundingRequest, PreparedImage

EXPRESSIONS = 256  # of an image that are grounded at once; bounds memory and does not change the results


class Row(NamedTuple):
    """A row of a part: its number, its image, and its expression cleaned."""

    number: int
    image: str
    text: str


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker needs to know.

    Attributes:
        model: Weights or an export.
        text_weights: Weights of the text encoder, where it does not bring its own.
        base: Folder that relative image paths start from.
        out: Folder of results.
        conf: Confidence threshold.
        topk: Boxes per expression.
        imgsz: Long side of images in the network; None: chosen by the image.
        batch: Images held at once.
        cpus: Threads of PyTorch.
        gpu: Run on the GPU that Ray assigns to the worker.
        engine: What runs the network on a CPU.
        gsd: Of rasters: metres per pixel of the network; None: those of the file.
    """

    model: str
    text_weights: str | None
    base: str
    out: str
    conf: float | None
    topk: int
    imgsz: int | None
    batch: int
    cpus: int = 1
    gpu: bool = False
    engine: str = "auto"
    gsd: float | None = None


def open_grounder(
    model: str, imgsz: int | None, batch: int, text_weights: str | None, gpu: bool = False, engine: str = "auto"
) -> Grounder:
    """Open a model whose cache holds the encoded images of one batch.

    Raises:
        FileNotFoundError: No such weights.
        ValueError: Weights that cannot be used.
    """
    opened = OptiSAR(model)
    if text_weights:
        opened.overrides["text_weights"] = text_weights
    if gpu and isinstance(opened.model, torch.nn.Module):
        opened.model.to("cuda:0")  # Ray hides the GPUs of other workers
    return Grounder(opened, imgsz, batch, engine)


class Worker:
    """A model in its own process, called with one part after the other.

    Args:
        settings: See `WorkerSettings`.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        torch.set_num_threads(settings.cpus)
        self.settings = settings
        self.grounder = open_grounder(
            settings.model, settings.imgsz, settings.batch, settings.text_weights, settings.gpu, settings.engine
        )
        self.folder = BatchFolder(settings.out)
        self.replaces_dead = replaces_dead_worker()

    def __call__(self, part: dict[str, Any]) -> dict[str, Any]:
        """Ground a part, and write the results into the folder.

        Args:
            part: ``rows``: a part as bytes.

        Returns:
            Numbers of images and rows, the name of the process, and whether it replaces a dead one.
        """
        table = unpack(part["rows"])
        names, texts = table["image"].to_pylist(), table["text"].to_pylist()
        rows = [Row(i, image, clean(text)) for i, (image, text) in enumerate(zip(names, texts, strict=True))]
        images = [list(group) for _, group in groupby(rows, lambda row: row.image)]
        results: list[dict[str, Any]] = []
        for i in range(0, len(images), self.settings.batch):
            results += self._ground_images(images[i : i + self.settings.batch])
        self.folder.write(name_of(table["id"].to_pylist()), self._table(table, results))
        worker = f"{platform.node()}:{os.getpid()}"
        return {"images": len(images), "rows": len(table), "worker": worker, "again": self.replaces_dead}

    def _ground_images(self, images: Sequence[list[Row]]) -> list[dict[str, Any]]:
        """Ground the rows of each image of a batch; returns the result columns, and the index of the row of each."""
        out: list[dict[str, Any]] = []
        ready: list[tuple[PreparedImage, list[Row]]] = []
        for rows in images:
            try:
                image = read_record_image(rows[0].image, self.settings.base)
            except DataError as error:
                out += [{"row": row.number, "answered": False, "error": str(error), "rank": 1} for row in rows]
                continue
            ready.append((self.grounder.prepare(rows[0].image, image), rows))
        most = max((len(rows) for _, rows in ready), default=0)
        for start in range(0, most, EXPRESSIONS):  # encoded images stay in the cache from one round to the next
            out += self._round([(p, rows[start : start + EXPRESSIONS]) for p, rows in ready if len(rows) > start])
        return out

    def _round(self, images: Sequence[tuple[PreparedImage, list[Row]]]) -> list[dict[str, Any]]:
        """Ground up to `EXPRESSIONS` expressions in each image."""
        conf, topk = self.settings.conf, self.settings.topk
        # With one box per expression a row of the manifest is a row of the result: the network alone grounds a plural.
        sets = topk > 1
        requests = [
            GroundingRequest(image, tuple(row.text for row in rows), conf, topk, several=sets) for image, rows in images
        ]
        out: list[dict[str, Any]] = []
        for (image, rows), results in zip(images, self.grounder.ground(requests), strict=True):
            width, height = image.size
            for row, result in zip(rows, results, strict=True):
                out += [{"row": row.number, "width": width, "height": height} | box for box in _boxes(result)]
        return out

    def _table(self, table: pa.Table, results: Sequence[dict[str, Any]]) -> pa.Table:
        """Append the result columns to those of the manifest."""
        table = table.take([result["row"] for result in results])
        for name, kind in RESULT_TYPES.items():
            if name != "rank" or self.settings.topk > 1:
                table = table.append_column(name, pa.array([result.get(name) for result in results], kind))
        return table


def read_record_image(name: str, base: str) -> np.ndarray:
    """Read an image from a disk or from object storage.

    Args:
        name: Path or URI, as in the manifest.
        base: Folder of relative paths.

    Returns:
        uint8 [h, w, 3] BGR.

    Raises:
        DataError: It is missing, cannot be reached, or is no image.
    """
    try:
        filesystem, path = locate(name, base)
        if isinstance(filesystem, fs.LocalFileSystem):
            return read_image(path)
        with filesystem.open_input_file(path) as file:
            return decode_image(file.read(), name)
    except DataError:
        raise
    except (OSError, ValueError) as error:
        raise DataError(f"{name}: image cannot be read ({error}); correct the path") from error


def _boxes(result: ExpressionResult) -> list[dict[str, Any]]:
    """Return the columns of each box, best first; without a box, the confidence of the best one."""
    if not result.boxes:
        return [{"confidence": result.best, "answered": False, "rank": 1}]
    return [
        dict(zip(("x1", "y1", "x2", "y2"), box.xyxy, strict=True))
        | {"confidence": box.conf, "answered": True, "rank": rank}
        for rank, box in enumerate(result.boxes, 1)
    ]


def replaces_dead_worker() -> bool:
    """Tell whether Ray started this process in place of one that died."""
    if not ray.is_initialized():
        return False
    context = ray.get_runtime_context()
    return context.get_actor_id() is not None and bool(context.was_current_actor_reconstructed)

"""What a worker does with a part of the manifest: read its images, ask, write the answers."""

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
from optisar_yolo.batch.folder import AnswerFolder
from optisar_yolo.batch.parts import name_of, unpack
from optisar_yolo.batch.places import locate
from optisar_yolo.data import DataError, read_encoded, read_image
from optisar_yolo.language import clean
from optisar_yolo.serve import Engine, GroundingAnswer, GroundingRequest, Prepared

EXPRESSIONS = 256  # of an image that are asked at once: bounds memory, not the answer
FIELDS = (
    *((name, pa.float32()) for name in ("x1", "y1", "x2", "y2", "confidence")),
    *((name, pa.int32()) for name in ("width", "height")),
    ("answered", pa.bool_()),
    ("error", pa.string()),
)
"""Columns of the answers beside those of the manifest, and their types."""
RANK = ("rank", pa.int32())


class Asked(NamedTuple):
    """A row of a part: its number, its image, and its expression cleaned."""

    row: int
    image: str
    text: str


@dataclass(frozen=True)
class Asking:
    """How a worker asks, and where it writes.

    Attributes:
        model: Weights or an export.
        text_weights: Weights of the text encoder, where it does not bring its own.
        base: Folder that relative images start from.
        out: Folder of answers.
        conf: Least confidence of an answer.
        topk: Boxes per expression.
        imgsz: Long side of images in the network.
        batch: Images held at once.
        cpus: Threads of PyTorch.
        gpu: Run on the GPU that Ray gives the worker.
    """

    model: str
    text_weights: str | None
    base: str
    out: str
    conf: float
    topk: int
    imgsz: int
    batch: int
    cpus: int = 1
    gpu: bool = False


def open_engine(model: str, imgsz: int | None, batch: int, text_weights: str | None, gpu: bool = False) -> Engine:
    """Open a model that keeps as many encoded images as a batch has.

    Raises:
        FileNotFoundError: No such weights.
        ValueError: Weights that cannot be used.
    """
    opened = OptiSAR(model)
    if text_weights:
        opened.overrides["text_weights"] = text_weights
    if gpu and isinstance(opened.model, torch.nn.Module):
        opened.model.to("cuda:0")  # of the worker's own, which Ray makes the only one that it sees
    return Engine(opened, imgsz, batch)


class Worker:
    """A model in a process of its own, called with one part after the other.

    Args:
        asking: How to ask.
    """

    def __init__(self, asking: Asking) -> None:
        torch.set_num_threads(asking.cpus)
        self.asking = asking
        self.engine = open_engine(asking.model, asking.imgsz, asking.batch, asking.text_weights, asking.gpu)
        self.folder = AnswerFolder(asking.out)
        self.again = _stands_in()

    def __call__(self, part: dict[str, Any]) -> dict[str, Any]:
        """Answer a part, and write the answers into the folder.

        Args:
            part: ``rows``: a part as bytes.

        Returns:
            Numbers of images and rows, the process that did it, and whether it stands in for a dead one.
        """
        table = unpack(part["rows"])
        decoded, texts = table["image"].to_pylist(), table["text"].to_pylist()
        asked = [Asked(i, image, clean(text)) for i, (image, text) in enumerate(zip(decoded, texts, strict=True))]
        images = [list(group) for _, group in groupby(asked, lambda row: row.image)]
        found: list[dict[str, Any]] = []
        for i in range(0, len(images), self.asking.batch):
            found += self.answer(images[i : i + self.asking.batch])
        self.folder.write(name_of(table["id"].to_pylist()), self._table(table, found))
        return {
            "pictures": len(images),
            "rows": len(table),
            "worker": f"{platform.node()}:{os.getpid()}",
            "again": self.again,
        }

    def answer(self, images: Sequence[list[Asked]]) -> list[dict[str, Any]]:
        """Ask about a few images.

        Args:
            images: The rows of each.

        Returns:
            Columns of the answers, and the row of each.
        """
        out: list[dict[str, Any]] = []
        ready: list[tuple[Prepared, list[Asked]]] = []
        for rows in images:
            try:
                image = read_record_image(rows[0].image, self.asking.base)
            except DataError as error:
                out += [{"row": asked.row, "answered": False, "error": str(error), "rank": 1} for asked in rows]
                continue
            ready.append((Prepared.of(rows[0].image, image, self.asking.imgsz), rows))
        most = max((len(rows) for _, rows in ready), default=0)
        for start in range(0, most, EXPRESSIONS):  # the images are remembered from one round to the next
            out += self._round([(p, rows[start : start + EXPRESSIONS]) for p, rows in ready if len(rows) > start])
        return out

    def _round(self, asked: Sequence[tuple[Prepared, list[Asked]]]) -> list[dict[str, Any]]:
        """Ask a limited number of expressions of every image."""
        a = self.asking
        questions = [GroundingRequest(image, tuple(row.text for row in rows), a.conf, a.topk) for image, rows in asked]
        out: list[dict[str, Any]] = []
        for (image, rows), answers in zip(asked, self.engine.answer(questions), strict=True):
            for row, answer in zip(rows, answers, strict=True):
                width, height = image.size
                out += [{"row": row.row, "width": width, "height": height} | box for box in _boxes(answer)]
        return out

    def _table(self, table: pa.Table, found: Sequence[dict[str, Any]]) -> pa.Table:
        """Put the columns of the answers behind those of the manifest."""
        table = table.take([answer["row"] for answer in found])
        for name, kind in (*FIELDS, *([RANK] if self.asking.topk > 1 else [])):
            table = table.append_column(name, pa.array([answer.get(name) for answer in found], kind))
        return table


def read_record_image(name: str, base: str) -> np.ndarray:
    """Read an image from wherever it lies.

    Args:
        name: Path or URI, as the manifest has it.
        base: Folder of relative paths.

    Returns:
        uint8 [h, w, 3] BGR.

    Raises:
        DataError: It is not there, not to be reached, or no image.
    """
    try:
        filesystem, path = locate(name, base)
        if isinstance(filesystem, fs.LocalFileSystem):
            return read_image(path)
        with filesystem.open_input_file(path) as file:
            return read_encoded(file.read(), name)
    except DataError:
        raise
    except (OSError, ValueError) as error:
        raise DataError(f"{name}: image cannot be read ({error}); correct the path") from error


def _boxes(answer: GroundingAnswer) -> list[dict[str, Any]]:
    """Return the boxes of an answer, best first; without any, what the best one lacked."""
    if not answer.boxes:
        return [{"confidence": answer.best, "answered": False, "rank": 1}]
    return [
        dict(zip(("x1", "y1", "x2", "y2"), box.xyxy, strict=True))
        | {"confidence": box.conf, "answered": True, "rank": rank}
        for rank, box in enumerate(answer.boxes, 1)
    ]


def _stands_in() -> bool:
    """Tell whether Ray started this process in place of one that died."""
    if not ray.is_initialized():
        return False
    context = ray.get_runtime_context()
    return context.get_actor_id() is not None and bool(context.was_current_actor_reconstructed)

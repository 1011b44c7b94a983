"""Answers as files to take home: JSON, a table as CSV, and the image with its boxes."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from optisar_yolo.serve.answers import GroundingAnswer
from optisar_yolo.utils import write_atomic
from optisar_yolo.visualize import draw_answers

COLUMNS = ("sentence", "answer", "score", "left", "top", "right", "bottom", "note")
SHOWN = ("sentence", "answer", "score", "box", "note")
LONGEST = 1600  # pixels of the longer side of an image as it is shown
FOLDERS = 100  # of results, before the oldest go


def shown(image: np.ndarray) -> np.ndarray:
    """Reduce an image [h, w, 3] to what is worth showing."""
    scale = LONGEST / max(image.shape[:2])
    return image if scale >= 1 else cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def rows(answers: Sequence[GroundingAnswer], digits: int = 1) -> list[list[Any]]:
    """Return the table of the answers, pixels with so many decimals: a row per box, one per expression without any."""
    table: list[list[Any]] = []
    for a in answers:
        for b in a.boxes:
            table.append([a.text, "found", round(b.conf, 3), *(round(v, digits) for v in b.xyxy), a.note])
        if not a.boxes:
            table.append([a.text, "nothing found", round(a.best, 3), "", "", "", "", a.note])
    return table


def compact(answers: Sequence[GroundingAnswer]) -> list[list[Any]]:
    """Return the table as the page has room for it: a box is one cell."""
    table = rows(answers, digits=0)
    return [[*row[:3], " ".join(f"{v:.0f}" for v in row[3:7] if v != ""), row[7]] for row in table]


def drawn(view: np.ndarray, size: tuple[int, int], answers: Sequence[GroundingAnswer]) -> np.ndarray:
    """Draw the boxes.

    Args:
        view: The image as it is shown, BGR [h, w, 3].
        size: Width and height of the image itself.
        answers: Answers about it.

    Returns:
        The image with its legend, BGR.
    """
    fx, fy = view.shape[1] / size[0], view.shape[0] / size[1]
    boxes = [
        [b.xyxy[0] * fx, b.xyxy[1] * fy, b.xyxy[2] * fx, b.xyxy[3] * fy, b.conf, j]
        for j, a in enumerate(answers)
        for b in a.boxes
    ]
    image = draw_answers(view, np.array(boxes).reshape(-1, 6), {j: a.text for j, a in enumerate(answers)})
    return np.asarray(image)[..., ::-1]


class ResultFolder:
    """A temporary folder for results, which does not grow without end."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="optisar-app-"))
        self._made: list[Path] = []

    def new(self) -> Path:
        """Return a new folder in it; the oldest goes where there are many."""
        self._made.append(Path(tempfile.mkdtemp(dir=self.root)))
        while len(self._made) > FOLDERS:
            shutil.rmtree(self._made.pop(0), ignore_errors=True)
        return self._made[-1]

    def remove(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.root, ignore_errors=True)


def write_png(path: Path, image: np.ndarray) -> Path:
    """Write an image BGR [h, w, 3]."""
    return write_atomic(path, cv2.imencode(".png", image)[1].tobytes())


def write_results(
    folder: Path, image: np.ndarray, answers: Sequence[GroundingAnswer], about: dict[str, Any]
) -> list[Path]:
    """Write the image with its boxes, and the answers as JSON and CSV.

    Args:
        folder: Where to.
        image: The drawn image, BGR.
        answers: Its answers.
        about: What else the JSON says.

    Returns:
        The files, the image first.
    """
    found = [
        {
            "text": a.text,
            "found": bool(a.boxes),
            "boxes": [{"xyxy": [round(v, 2) for v in b.xyxy], "conf": round(b.conf, 6)} for b in a.boxes],
            "best": round(a.best, 6),
            "note": a.note,
        }
        for a in answers
    ]
    table = StringIO(newline="")
    csv.writer(table, quoting=csv.QUOTE_NONNUMERIC).writerows([COLUMNS, *rows(answers)])
    return [
        write_png(folder / "answers.png", image),
        write_atomic(folder / "answers.json", json.dumps(about | {"answers": found}, indent=1, ensure_ascii=False)),
        write_atomic(folder / "answers.csv", table.getvalue()),
    ]

"""Outputs of the app: the image with its boxes, tables, score maps, and the files to download."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from optisar_yolo.serve.grounder import CachedImage, ExpressionResult, Grounder
from optisar_yolo.utils import write_atomic
from optisar_yolo.visualize import Frame, draw_predictions

CSV_COLUMNS = ("sentence", "answer", "score", "left", "top", "right", "bottom", "note")  # programs read these names
PAGE_COLUMNS = ("expression", "result", "confidence", "box", "note")
LONGEST = 1600  # pixels of the longer side of an image on the page
FOLDERS = 100  # of results, before the oldest are removed
OPACITY = 0.55  # of a score map over the image
RANGE = 6.0  # logits below the maximum that get a colour: e^-6 of its odds is as good as excluded


def shrink(image: np.ndarray) -> np.ndarray:
    """Reduce an image [h, w, 3] to the largest size that the page shows."""
    scale = LONGEST / max(image.shape[:2])
    return image if scale >= 1 else cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def csv_rows(results: Sequence[ExpressionResult], digits: int = 1) -> list[list[Any]]:
    """Return one row per box, and one per expression without a box; pixels are rounded to so many digits."""
    table: list[list[Any]] = []
    for result in results:
        for box in result.boxes:
            pixels = (round(v, digits) for v in box.xyxy)
            table.append([result.text, "found", round(box.conf, 3), *pixels, result.note])
        if not result.boxes:
            table.append([result.text, "nothing found", round(result.best, 3), "", "", "", "", result.note])
    return table


def page_rows(results: Sequence[ExpressionResult]) -> list[list[Any]]:
    """Return the rows of the page's table, where a box is one cell."""
    table = csv_rows(results, digits=0)
    return [[*row[:3], " ".join(f"{v:.0f}" for v in row[3:7] if v != ""), row[7]] for row in table]


def draw_results(view: np.ndarray, size: tuple[int, int], results: Sequence[ExpressionResult]) -> np.ndarray:
    """Draw boxes and a legend.

    Args:
        view: The image as the page shows it, BGR [h, w, 3].
        size: Width and height of the image itself.
        results: Results for the image.

    Returns:
        The image with boxes and legend, BGR.
    """
    scale = np.tile((view.shape[1] / size[0], view.shape[0] / size[1]), 2)
    boxes = [[*(box.xyxy * scale), box.conf, j] for j, result in enumerate(results) for box in result.boxes]
    texts = {j: result.text for j, result in enumerate(results)}
    return np.asarray(draw_predictions(view, np.array(boxes).reshape(-1, 6), texts))[..., ::-1]


def score_maps(grounder: Grounder, image: CachedImage, texts: Sequence[str]) -> list[np.ndarray]:
    """Score every place of an image.

    Args:
        grounder: The model.
        image: The image.
        texts: Expressions.

    Returns:
        Per expression the logits float32 [h, w] of the image without its padding, on the grid of the finest level: the
        maximum over the levels, before candidates are reranked (:mod:`optisar_yolo.explain` shows the levels).
        Empty for an export, which has no such output.
    """
    found = grounder.in_torch(image)
    if found is None:
        return []
    network, encoded = found
    frame = Frame(image.size, image.canvas, encoded.extent[0].cpu().numpy())
    strides = [float(s) for s in network.stride]
    shape = frame.grid(strides[0])
    maps = []
    with torch.inference_mode():
        for feature in grounder.text_features(texts):
            text = network.head.adapt(feature[None, None])
            features = encoded.head or network.head.features(network.head_inputs(encoded, text), encoded.extent)
            levels = [
                branch(cells, text).view(cells.shape[2:]).float().cpu().numpy()
                for branch, cells in zip(network.head.cv4, features.cells, strict=True)
            ]
            placed = [frame.cut(x, (s, s), shape) for x, s in zip(levels, strides, strict=True)]
            maps.append(np.max(placed, axis=0))
    return maps


def overlay(image: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Draw a score map over an image: dark where the expression does not fit, yellow where it fits best.

    Args:
        image: Image uint8 [h, w, 3], BGR.
        logits: Scores [h', w'] of the same area.

    Returns:
        uint8 [h, w, 3], BGR.
    """
    share = np.clip((logits - logits.max()) / RANGE + 1, 0, 1)
    fine = cv2.resize((share * 255).astype(np.uint8), image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return cv2.addWeighted(image, 1 - OPACITY, cv2.applyColorMap(fine, cv2.COLORMAP_VIRIDIS), OPACITY, 0)


class ResultFolder:
    """A temporary folder for results; the oldest are removed where there are many, and all when the process ends."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="optisar-app-"))
        weakref.finalize(self, shutil.rmtree, self.root, ignore_errors=True)
        self._made: list[Path] = []

    def new(self) -> Path:
        """Return a new folder in it."""
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
    folder: Path, image: np.ndarray, results: Sequence[ExpressionResult], about: dict[str, Any]
) -> list[Path]:
    """Write the image with its boxes, and the results as JSON and CSV.

    Args:
        folder: Folder of the files.
        image: The drawn image, BGR.
        results: The results.
        about: Other entries of the JSON file.

    Returns:
        The files, the image first.
    """
    answers = [
        {
            "text": r.text,
            "found": bool(r.boxes),
            "boxes": [{"xyxy": [round(v, 2) for v in b.xyxy], "conf": round(b.conf, 6)} for b in r.boxes],
            "best": round(r.best, 6),
            "note": r.note,
        }
        for r in results
    ]
    table = StringIO(newline="")
    csv.writer(table, quoting=csv.QUOTE_NONNUMERIC).writerows([CSV_COLUMNS, *csv_rows(results)])
    return [
        write_png(folder / "answers.png", image),
        write_atomic(folder / "answers.json", json.dumps(about | {"answers": answers}, indent=1, ensure_ascii=False)),
        write_atomic(folder / "answers.csv", table.getvalue()),
    ]

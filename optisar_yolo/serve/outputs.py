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

from optisar_yolo.geo import GROUND_COLUMNS, Georeference, centres, feature_collection
from optisar_yolo.serve.grounder import CachedImage, ExpressionResult, Grounder
from optisar_yolo.serve.places import crs_of
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


def csv_rows(
    results: Sequence[ExpressionResult], digits: int = 1, place: Georeference | None = None
) -> list[list[Any]]:
    """Return one row per box, and one per expression without a box.

    Args:
        results: The results.
        digits: Digits of pixels.
        place: The image's georeference; with one, rows end with `GROUND_COLUMNS`.
    """
    table: list[list[Any]] = []
    ground = iter(centres(found_boxes(results)[:, :4], place)) if place else None
    for result in results:
        for box in result.boxes:
            pixels = (round(v, digits) for v in box.xyxy)
            own = [float(v) if v else "" for v in next(ground)] if ground else []
            table.append([result.text, "found", round(box.conf, 3), *pixels, result.note, *own])
        if not result.boxes:
            table.append([result.text, "nothing found", round(result.best, 3), "", "", "", "", result.note])
            table[-1] += [""] * len(GROUND_COLUMNS) if ground else []
    return table


def page_table(results: Sequence[ExpressionResult], place: Georeference | None = None) -> Any:
    """Return what the page's table shows, where a box is one cell: rows, or with coordinates headers and rows."""
    table = csv_rows(results, digits=0, place=place)
    rows = [[*row[:3], " ".join(f"{v:.0f}" for v in row[3:7] if v != ""), row[7]] for row in table]
    if not place:
        return rows
    ground = [
        [" ".join(f"{v:.{digits}f}" for v in row[at : at + 2] if v != "") for at, digits in ((10, 2), (8, 6))]
        for row in table
    ]
    headers = [*PAGE_COLUMNS[:4], f"centre, {crs_of(place)}", "longitude, latitude", PAGE_COLUMNS[4]]
    return {"headers": headers, "data": [[*r[:4], *g, r[4]] for r, g in zip(rows, ground, strict=True)]}


def found_boxes(results: Sequence[ExpressionResult]) -> np.ndarray:
    """Return all boxes [N, 6]: xyxy in pixels, confidence, index of the expression."""
    rows = [[*box.xyxy, box.conf, j] for j, result in enumerate(results) for box in result.boxes]
    return np.array(rows, float).reshape(-1, 6)


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
    boxes = found_boxes(results)
    boxes[:, :4] *= scale
    texts = {j: result.text for j, result in enumerate(results)}
    return np.asarray(draw_predictions(view, boxes, texts))[..., ::-1]


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
    folder: Path,
    image: np.ndarray,
    results: Sequence[ExpressionResult],
    about: dict[str, Any],
    place: Georeference | None = None,
) -> list[Path]:
    """Write the image with its boxes, and the results as JSON and CSV, with a georeference also as GeoJSON.

    Args:
        folder: Folder of the files.
        image: The drawn image, BGR.
        results: The results.
        about: Other entries of the JSON file.
        place: The image's georeference.

    Returns:
        The files, the image first.
    """
    answers: list[dict[str, Any]] = [
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
    columns = [*CSV_COLUMNS, *(GROUND_COLUMNS if place else ())]
    csv.writer(table, quoting=csv.QUOTE_NONNUMERIC).writerows([columns, *csv_rows(results, place=place)])
    files: dict[str, Any] = {"answers.json": about | {"answers": answers}}
    if place:
        files["answers.json"] = {"crs": place.crs.to_string(), **files["answers.json"]}
        boxes, texts = found_boxes(results), [r.text for r in results]
        ground = iter(centres(boxes[:, :4], place))
        for entry in (box for answer in answers for box in answer["boxes"]):
            entry["centre"] = {k: float(v) for k, v in zip(GROUND_COLUMNS, next(ground), strict=True) if v}
        if place.on_earth:
            files["answers.geojson"] = feature_collection(boxes, texts, place)
        files["answers-crs.geojson"] = feature_collection(boxes, texts, place, source_crs=True)
    return [
        write_png(folder / "answers.png", image),
        *(
            write_atomic(folder / name, json.dumps(content, indent=1, ensure_ascii=False))
            for name, content in files.items()
        ),
        write_atomic(folder / "answers.csv", table.getvalue()),
    ]

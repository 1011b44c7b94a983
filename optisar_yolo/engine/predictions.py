"""Predictions of any model in a file: ``val`` with ``save_json=True`` writes them, ``optisar score`` reads them.

A file is JSON: a list of records, or an object with that list under ``predictions``. A record is one box for one
expression:

* ``image``: the image's file name as in the annotation file, or its last part where that is unique; or
  ``image_id``: its id there.
* ``caption``: the expression, word for word. ``annotation_id`` in the place of both: the id of its annotation.
* ``box``: x1, y1, x2, y2 in pixels of the original image; null where the model found nothing.
* ``score``: a number, higher for more confident boxes. It is optional where an expression has one box.

Of several boxes for an expression the one of the highest score counts.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from optisar_yolo.data import (
    DataError,
    DatasetConfig,
    ImageRecord,
    Skips,
    from_xywh,
    is_id,
    is_number,
    read_json,
)
from optisar_yolo.engine.metrics import expression_indices
from optisar_yolo.utils import iou, write_atomic
from optisar_yolo.visualize import EvaluatedExpression

FEW = 4  # boxes in a file, below which their form is not checked
Key = tuple[int, int, int]  # image, object, number of the expression


class UnusableRecordError(Exception):
    """A record that cannot be used; its arguments are the reason and, where there is one, the wrong value."""


class PredictedBox(NamedTuple):
    """A predicted box: xyxy in pixels, and its score; NaN where the record has none."""

    xyxy: tuple[float, float, float, float]
    score: float


class Expressions:
    """Finds the expressions of records.

    Args:
        config: The dataset config.
        split: The split.
        images: Its images.
    """

    def __init__(self, config: DatasetConfig, split: str, images: Sequence[ImageRecord]) -> None:
        self.images = images
        self.places: dict[str, int] = {}  # by file name
        self.short: dict[str, set[int]] = {}  # by its last part
        for i, image in enumerate(images):
            name = image_name(image.path, config, split)
            self.places[name] = i
            self.short.setdefault(Path(name).name, set()).add(i)
        self.keys: dict[tuple[int, str], list[Key]] = {}
        for i, image in enumerate(images):
            for obj, n in expression_indices(image):
                self.keys.setdefault((i, image.captions[obj][n]), []).append((i, obj, n))
        content: Any = read_json(config.splits[split])
        self.files = {e["id"]: e.get("file_name") for e in content["images"] if _with_id(e)}
        self.notes = {n["id"]: n for n in reversed(content["annotations"]) if _with_id(n)}  # the first of an id counts

    def find(self, record: dict[str, Any]) -> list[Key]:
        """Return the expressions of a record: all of an image that have its text.

        Raises:
            UnusableRecordError: There is none.
        """
        if "annotation_id" in record:
            number = record["annotation_id"]
            note = self.notes.get(number) if is_id(number) else None
            if note is None:
                raise UnusableRecordError("unknown annotation_id")
            keys = self._named(self.files.get(note.get("image_id")), note.get("caption"))
            return self._nearest(keys, note)
        name = record.get("image")
        if name is None and is_id(record.get("image_id")):
            name = self.files.get(record["image_id"])
        return self._named(name, record.get("caption"))

    def _named(self, name: object, caption: object) -> list[Key]:
        """Return the expressions of an image's file name and a caption."""
        name = Path(name).as_posix() if isinstance(name, str) else ""
        places = {self.places[name]} if name in self.places else self.short.get(name, set())
        if not places:
            raise UnusableRecordError("unknown image")
        if len(places) > 1:
            raise UnusableRecordError("file name that several images have (give it with its folders)")
        if not isinstance(caption, str):
            raise UnusableRecordError("record without a caption")
        keys = self.keys.get((next(iter(places)), " ".join(caption.split())))
        if keys is None:
            raise UnusableRecordError("caption that the image does not have")
        return keys

    def _nearest(self, keys: list[Key], note: dict[str, Any]) -> list[Key]:
        """Of expressions with one text, return that of the annotation's own box."""
        box = from_xywh(note.get("bbox"))
        if len(keys) == 1 or box is None:
            return keys
        return [keys[int(np.argmax(iou(np.stack([self.images[i].boxes[obj] for i, obj, _ in keys]), box)))]]


def image_name(path: Path, config: DatasetConfig, split: str) -> str:
    """Return an image's file name as it stands in the annotations of its split."""
    folder = config.images[split]
    base = folder if path.is_relative_to(folder) else folder.parent
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.name


def write_predictions(path: Path, cases: Sequence[EvaluatedExpression], config: DatasetConfig, split: str) -> Path:
    """Write the boxes of a validation; equal records of objects that share an expression are written once.

    Args:
        path: The JSON file.
        cases: One case per expression.
        config: The dataset config of the validation.
        split: Its split.
    """
    records: dict[str, None] = {}
    for case in cases:
        box = case.predicted_box
        record: dict[str, Any] = {"image": image_name(case.path, config, split), "caption": case.caption}
        record["box"] = None if box is None else [float(v) for v in box]
        if math.isfinite(case.conf):
            record["score"] = float(case.conf)
        records[json.dumps(record, ensure_ascii=False)] = None
    return write_atomic(path, '{"predictions": [\n' + ",\n".join(records) + "\n]}\n")


def read_predictions(file: Path, expressions: Expressions, skips: Skips) -> dict[Key, PredictedBox | None]:
    """Read a file of predictions.

    Args:
        file: The JSON file.
        expressions: Those of the split.
        skips: Counts records that cannot be used.

    Returns:
        The best box of each expression in the file; None where the model found nothing.

    Raises:
        DataError: Another kind of file, no usable record in it, or boxes of another form.
    """
    content = read_json(file)
    records = content.get("predictions") if isinstance(content, dict) else content
    if not isinstance(records, list):
        raise DataError(f"{file}: expected a list of predictions, each with image, caption, box and score")
    best: dict[Key, PredictedBox | None] = {}
    seen: set[tuple[Key, PredictedBox | None]] = set()
    boxes: list[list[float]] = []
    for number, record in enumerate(records):
        place = f"predictions[{number}]"
        try:
            if not isinstance(record, dict):
                raise UnusableRecordError("record that is no JSON object")
            keys = expressions.find(record)
            corners = _corners(record)
            boxes += [corners] if corners else []
            box = _predicted(corners, record.get("score"))
        except UnusableRecordError as error:
            reason, *value = error.args
            skips.add(reason, f"{place}: {reprlib.repr(value[0] if value else record)}")
            continue
        for key in keys:
            if (key, box) in seen:
                skips.add("prediction repeated", place)
            seen.add((key, box))
            best[key] = _better(best.get(key), box, key in best, place, skips)
    _check_form(file, np.array(boxes, np.float64).reshape(-1, 4))
    if not best:
        reasons = "; ".join(skips.lines()) or "it is empty"
        raise DataError(f"{file}: no usable prediction ({reasons}); is it of this data set and split?")
    return best


def _with_id(record: object) -> bool:
    return isinstance(record, dict) and is_id(record.get("id"))


def _corners(record: dict[str, Any]) -> list[float] | None:
    """Return the four numbers of a record's box, or None where the model found nothing."""
    if "box" not in record:
        other = " (found 'bbox': give 'box', x1, y1, x2, y2 in pixels)" if "bbox" in record else ""
        raise UnusableRecordError(f"prediction without 'box'{other}")
    box = record["box"]
    if box is None:
        return None
    if not isinstance(box, list) or len(box) != 4 or not all(is_number(v) for v in box):
        raise UnusableRecordError("box that is not four finite numbers", box)
    return [float(v) for v in box]


def _predicted(corners: list[float] | None, score: Any) -> PredictedBox | None:
    """Return a box with its score, or None where the model found nothing."""
    if score is not None and not is_number(score):
        raise UnusableRecordError("score that is no finite number", score)
    if corners is None:
        return None
    x1, y1, x2, y2 = corners
    if x2 < x1 or y2 < y1:
        raise UnusableRecordError("box whose right or lower edge comes first (boxes are x1, y1, x2, y2)", corners)
    return PredictedBox((x1, y1, x2, y2), math.nan if score is None else float(score))


def _better(
    old: PredictedBox | None, new: PredictedBox | None, known: bool, place: str, skips: Skips
) -> PredictedBox | None:
    """Return the better of two predictions; a box is better than none, and of equals the first counts."""
    if not known or old is None or new is None:
        return new if old is None else old
    if math.isnan(old.score) or math.isnan(new.score):
        skips.add("further box of an expression, one of them without a score", place)
        return new if math.isnan(old.score) and not math.isnan(new.score) else old
    if old.score == new.score and old.xyxy != new.xyxy:
        skips.add("box of the same score as another one for its expression (the first counts)", place)
    return new if new.score > old.score else old


def _check_form(file: Path, boxes: np.ndarray) -> None:
    """Raise DataError where boxes [N, 4] are most likely not x1, y1, x2, y2 in pixels."""
    if len(boxes) < FEW:
        return
    turned = int(((boxes[:, 2] < boxes[:, 0]) | (boxes[:, 3] < boxes[:, 1])).sum())
    if 2 * turned > len(boxes):
        raise DataError(f"{file}: {turned} of {len(boxes)} boxes have x2 < x1 or y2 < y1: x, y, width, height? "
                        "Give x1, y1, x2, y2")  # fmt: skip
    if float(np.abs(boxes).max()) <= 1:
        raise DataError(f"{file}: no box has a value above 1: shares of the image? Give pixels of the original")

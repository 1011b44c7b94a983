"""Answers in a file, for scoring: what any model's predictions look like, and how they find their expressions.

A file is JSON: a list of records, or an object with that list under ``predictions``. A record is one box for one
expression:

* ``image``: the image's file name as in the annotation file, or its last part where that is unique; or
  ``image_id``: its id there.
* ``caption``: the expression, word for word. ``annotation_id`` in the place of both: the id of its annotation.
* ``box``: x1, y1, x2, y2 in pixels of the original image; null says that the model found nothing.
* ``score``: a number that is higher for surer boxes. It may be left out where an expression has one box.

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
from optisar_yolo.engine.metrics import overlap
from optisar_yolo.utils import write_atomic
from optisar_yolo.visualize import EvaluatedExpression

FEW = 4  # with fewer boxes than this, a file is not suspected of another form of boxes
Key = tuple[int, int, int]  # image, object, number of the expression


class PredictedBox(NamedTuple):
    """A predicted box: xyxy in pixels, and its score; NaN where the record has none."""

    xyxy: tuple[float, float, float, float]
    score: float


class Expressions:
    """Finds the expressions that records speak of.

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
            for obj, captions in enumerate(image.captions):
                for n, caption in enumerate(captions):
                    self.keys.setdefault((i, caption), []).append((i, obj, n))
        content: Any = read_json(config.splits[split])
        self.files = {e["id"]: e.get("file_name") for e in content["images"] if _with_id(e)}
        self.notes = {n["id"]: n for n in reversed(content["annotations"]) if _with_id(n)}  # the first of an id counts

    def find(self, record: dict[str, Any]) -> list[Key] | str:
        """Return the expressions that a record answers (those of one text in an image), or why there are none."""
        if "annotation_id" in record:
            number = record["annotation_id"]
            note = self.notes.get(number) if is_id(number) else None
            if note is None:
                return "unknown annotation_id"
            found = self._said(self.files.get(note.get("image_id")), note.get("caption"))
            return found if isinstance(found, str) else self._nearest(found, note)
        name = record.get("image")
        if name is None and "image_id" in record:
            name = self.files.get(record["image_id"]) if is_id(record["image_id"]) else None
        return self._said(name, record.get("caption"))

    def _said(self, name: object, caption: object) -> list[Key] | str:
        if not isinstance(name, str):
            return "unknown image"
        name = Path(name).as_posix()
        places = {self.places[name]} if name in self.places else self.short.get(name, set())
        if not places:
            return "unknown image"
        if len(places) > 1:
            return "file name that several images have (give it with its folders)"
        if not isinstance(caption, str):
            return "record without a caption"
        return self.keys.get((next(iter(places)), " ".join(caption.split())), "caption that the image does not have")

    def _nearest(self, keys: list[Key], note: dict[str, Any]) -> list[Key] | str:
        """Of expressions with one text, return that of the annotation's own box."""
        box = from_xywh(note.get("bbox"))
        if len(keys) == 1 or box is None:
            return keys
        target = np.stack([self.images[i].boxes[obj] for i, obj, _ in keys])
        inter, union = overlap(np.tile(box, (len(keys), 1)), target, np.full((len(keys), 2), math.inf))
        return [keys[int((inter / union).argmax())]]


def image_name(path: Path, config: DatasetConfig, split: str) -> str:
    """Return an image's file name as it stands in the annotations of its split."""
    folder = config.images[split]
    base = folder if path.is_relative_to(folder) else folder.parent
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.name


def write_predictions(path: Path, cases: Sequence[EvaluatedExpression], config: DatasetConfig, split: str) -> Path:
    """Write a validation's answers; an answer that several objects share by their words is written once.

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
    """Read a file of answers.

    Args:
        file: The JSON file.
        expressions: Those of the split.
        skips: Counts records that cannot be used.

    Returns:
        The best box of each expression that is in the file; None where it says that nothing was found.

    Raises:
        DataError: Not such a file, no usable record in it, or boxes of another form.
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
        found = expressions.find(record) if isinstance(record, dict) else "record that is no JSON object"
        if isinstance(found, str):
            skips.add(found, f"{place}: {reprlib.repr(record)}")
            continue
        if not _has_box(record, place, skips):
            continue
        if record["box"] is not None:
            boxes.append([float(v) for v in record["box"]])
        box = _box(record, place, skips)
        if isinstance(box, str):
            continue
        for key in found:
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


def _has_box(record: dict[str, Any], place: str, skips: Skips) -> bool:
    """Tell whether a record has a box of four numbers, or null; counts what has not."""
    if "box" not in record:
        other = " (found 'bbox': give 'box', x1, y1, x2, y2 in pixels)" if "bbox" in record else ""
        skips.add(f"prediction without 'box'{other}", place)
        return False
    box = record["box"]
    if box is not None and (not isinstance(box, list) or len(box) != 4 or not all(is_number(v) for v in box)):
        skips.add("box that is not four finite numbers", f"{place}: {reprlib.repr(box)}")
        return False
    return True


def _box(record: dict[str, Any], place: str, skips: Skips) -> PredictedBox | str | None:
    """Return a record's box, None where it says that nothing was found; a text, counted, for what cannot be used."""
    score = record.get("score")
    if score is not None and not is_number(score):
        skips.add("score that is no finite number", f"{place}: {reprlib.repr(score)}")
        return "score"
    if record["box"] is None:
        return None
    x1, y1, x2, y2 = (float(v) for v in record["box"])
    if x2 < x1 or y2 < y1:
        skips.add("box whose right or lower edge comes first (boxes are x1, y1, x2, y2)", f"{place}: {record['box']}")
        return "box"
    return PredictedBox((x1, y1, x2, y2), math.nan if score is None else float(score))


def _better(
    old: PredictedBox | None, new: PredictedBox | None, known: bool, place: str, skips: Skips
) -> PredictedBox | None:
    """Return the better of two answers to one expression; a box is better than none, the first of equals counts."""
    if not known or old is None or new is None:
        return new if old is None else old
    if math.isnan(old.score) or math.isnan(new.score):
        skips.add("further box of an expression, one of them without a score", place)
        return new if math.isnan(old.score) and not math.isnan(new.score) else old
    if old.score == new.score and old.xyxy != new.xyxy:
        skips.add("box of the same score as another one for its expression (the first counts)", place)
    return new if new.score > old.score else old


def _check_form(file: Path, boxes: np.ndarray) -> None:
    """Raise DataError where boxes [N, 4] are most likely no x1, y1, x2, y2 in pixels."""
    if len(boxes) < FEW:
        return
    turned = int(((boxes[:, 2] < boxes[:, 0]) | (boxes[:, 3] < boxes[:, 1])).sum())
    if 2 * turned > len(boxes):
        raise DataError(f"{file}: {turned} of {len(boxes)} boxes have x2 < x1 or y2 < y1: x, y, width, height? "
                        "Give x1, y1, x2, y2")  # fmt: skip
    if float(np.abs(boxes).max()) <= 1:
        raise DataError(f"{file}: no box has a value above 1: shares of the image? Give pixels of the original")

"""Looks for expressions that mean two objects, that are repeated, and that the boxes contradict."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from optisar_yolo.construction.checking.findings import Findings
from optisar_yolo.data import SAME_BOX, Box
from optisar_yolo.language import LabelledObjects


@dataclass
class ExpressionNote:
    """An annotation that can be used: its box in pixels (xyxy), its category's name, its caption or ""."""

    label: str
    box: Box
    category: str
    caption: str


@dataclass
class Told:
    """How many expressions the boxes can prove true or false, and how many of these they prove false."""

    checked: int = 0
    contradicted: int = 0


def check_expressions(
    notes: Sequence[ExpressionNote], more: Sequence[tuple[Box, str]], size: tuple[float, float], findings: Findings
) -> Told:
    """Check the expressions of one image.

    Args:
        notes: Its annotations.
        more: Boxes (xyxy in pixels) and categories of its further objects, which nobody described.
        size: (width, height) of the image in pixels.
        findings: Gets what is found.

    Returns:
        How many could be checked against the boxes, with what result.
    """
    told = Told()
    if not any(n.caption for n in notes):
        return told
    boxes = np.array([*(n.box for n in notes), *(b for b, _ in more)], dtype=np.float64).reshape(-1, 4)
    kinds = np.array([*(n.category for n in notes), *(c for _, c in more)])
    first = _first_of_each(boxes, kinds)
    kept = np.unique(first)
    place = {int(row): i for i, row in enumerate(kept)}
    scene = LabelledObjects(boxes[kept], kinds[kept].tolist(), size)
    owners: dict[str, list[int]] = defaultdict(list)  # caption to the rows that it is said of
    for row, note in enumerate(notes):
        if not note.caption:
            continue
        owners[note.caption.casefold()].append(row)
        verdict = scene.verdict(note.caption, place[int(first[row])])
        told.checked += verdict is not None
        if verdict is False:
            told.contradicted += 1
            findings.warning("expression that the boxes contradict", f"{note.label}: {note.caption}")
    for rows in owners.values():
        if len(rows) > 1:
            same = len({int(first[row]) for row in rows}) == 1
            check = "repeated for the same object" if same else "said of several objects of an image"
            findings.warning(f"expression {check}", f"{notes[rows[0]].label}: {notes[rows[0]].caption}")
    return told


def _first_of_each(boxes: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Return for every box [N, 4] the row of the first box that is the same object; int [N]."""
    first = np.full(len(boxes), -1, dtype=np.int64)
    for row, box in enumerate(boxes):
        if first[row] < 0:
            alike = same_object(tuple(box.tolist()), boxes, SAME_BOX) & (kinds == kinds[row]) & (first < 0)
            first[alike] = row
            first[row] = row
    return first


def same_object(box: Sequence[float], boxes: np.ndarray, limit: float) -> np.ndarray:
    """Tell which of some boxes overlap one box as much as two boxes of one object do.

    Args:
        box: xyxy in pixels.
        boxes: [N, 4] xyxy in pixels.
        limit: IoU from which they are the same.

    Returns:
        bool [N].
    """
    sides = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    common = sides.clip(0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (box[2] - box[0]) * (box[3] - box[1])
    return np.asarray(common >= limit * (areas - common))

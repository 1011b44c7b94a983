"""Checks on single records: ids, numbers, boxes and label lines. What fails is counted in `Skips`, not raised."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeGuard

EXAMPLES = 3  # records named per kind of problem
MIN_SIDE = 0.01  # pixels; thinner boxes have no area in float32 coordinates of a large image
Box = tuple[float, float, float, float]


@dataclass
class Skips:
    """Counts what was skipped or mended while reading, and remembers the first few records of each kind."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, problem: str, record: str) -> None:
        """Count one record under a problem, in words that read well after "N records: "."""
        self.counts[problem] = self.counts.get(problem, 0) + 1
        if len(shown := self.examples.setdefault(problem, [])) < EXAMPLES:
            shown.append(record)

    def lines(self) -> list[str]:
        """Return one line per problem: its count and first records."""
        return [
            f"{n} x {problem} ({'; '.join(self.examples[problem])}{'; ...' if n > len(self.examples[problem]) else ''})"
            for problem, n in self.counts.items()
        ]


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the intersection over union of two xyxy boxes of positive area."""
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    return w * h / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h)


def from_xywh(bbox: object) -> Box | None:
    """Turn COCO's [x, y, w, h] into xyxy, or None where it is not four finite numbers with w, h > 0."""
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(is_number(v) for v in bbox):
        return None
    x, y, w, h = (float(v) for v in bbox)
    return (x, y, x + w, y + h) if w > 0 and h > 0 else None


def clip(box: Box | None, size: tuple[int, int], record: str, skips: Skips) -> Box | None:
    """Clip a box to the image.

    Args:
        box: A box in pixels, xyxy, or None for one that could not be read.
        size: Width and height of the image in pixels.
        record: How messages name the box.
        skips: Counts a box that is skipped, or clipped by more than a pixel.

    Returns:
        The box inside the image, or None where it has no area there.
    """
    if box is None:
        skips.add("box that is not four finite numbers of positive area", record)
        return None
    width, height = size
    inside = (max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(width)), min(box[3], float(height)))
    if inside[2] - inside[0] < MIN_SIDE or inside[3] - inside[1] < MIN_SIDE:
        skips.add("box outside its image", f"{record}, image {width}x{height}")
        return None
    if max(abs(a - b) for a, b in zip(box, inside, strict=True)) > 1:  # a pixel is rounding, not worth a word
        skips.add("box partly outside its image, clipped", record)
    return inside


def label_boxes(file: Path, size: tuple[int, int], categories: int, skips: Skips) -> Iterator[tuple[Box, int]]:
    """Read a YOLO label file: class, centre x, centre y, width, height, all four as shares of the image.

    Args:
        file: The label file.
        size: Width and height of the image in pixels.
        categories: Number of categories; a class is 0 to this number, exclusive.
        skips: Counts the lines that are skipped.

    Yields:
        A box in pixels, xyxy and inside the image, and its category.
    """
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        record = f"{file.name} line {number}"
        try:
            values = [float(v) for v in line.split()]
        except ValueError:
            values = []
        if len(values) != 5 or not all(map(math.isfinite, values)):
            skips.add("label line that is not five finite numbers", record)
        elif not values[0].is_integer() or not 0 <= values[0] < categories:
            skips.add("label line of unknown category", f"{record}, {values[0]:g}")
        else:
            x, y, w, h = values[1] * size[0], values[2] * size[1], values[3] * size[0], values[4] * size[1]
            box = (x - w / 2, y - h / 2, x + w / 2, y + h / 2) if w > 0 and h > 0 else None
            if (inside := clip(box, size, record, skips)) is not None:
                yield inside, int(values[0])


def is_id(value: object) -> TypeGuard[int | str]:
    """Tell whether a JSON value can serve as an id: a whole number or text."""
    return isinstance(value, int | str) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Tell whether a JSON value is a finite number (Python reads NaN, Infinity and any length from JSON)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= 2**53 if isinstance(value, int) else math.isfinite(value)

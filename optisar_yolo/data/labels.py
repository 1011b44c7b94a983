"""Lines of YOLO label files: boxes, boxes with a confidence or keypoints, and outlines (oriented boxes, segments).

All numbers after the class are shares of the image. Of an outline the outer box counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_FAR = 1.5  # share of the image beyond which no corner of an object lies

Box = tuple[float, float, float, float]

OUTLINE = "label line of an outline (oriented box or segment), read as its outer box"
SCORED = "label line with a confidence or a track number, which is left out"
POSE = "label line with keypoints, which are left out"
READ_AS = (OUTLINE, SCORED, POSE)
"""What messages say of lines that are no plain boxes."""


@dataclass(frozen=True)
class LabelLine:
    """One line.

    Attributes:
        number: The class as written, which may be none of the data set.
        box: Centre x, centre y, width and height as shares of the image.
        made_of: One of `READ_AS`, or "" for a plain box.
    """

    number: float
    box: Box
    made_of: str = ""


def read_label_line(line: str) -> LabelLine | None:
    """Read a line of a label file, or return None for what is none.

    Five numbers are a box, six a box with its confidence or track number, as Ultralytics' ``save_txt`` writes them, and
    seven a box with both where the last is a whole number above 1. Three and more points are an outline; behind four
    and more, the same two numbers may stand. A box before points of three numbers each, the last of them 0, 1 or 2 (how
    visible it is), is one with keypoints. A sixth number that is neither a confidence nor a track number, such as an
    angle, makes the line unreadable: the box that is meant is not known.
    """
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        return None
    if len(values) < 5:
        return None
    number, rest = values[0], values[1:]
    box, more = (rest[0], rest[1], rest[2], rest[3]), rest[4:]
    if not more:
        return LabelLine(number, box)
    if len(more) == 1:
        return LabelLine(number, box, SCORED) if _is_score(more[0]) or _is_track(more[0]) else None
    if len(more) == 2 and _is_track(more[1]) and more[1] > 1:
        return LabelLine(number, box, SCORED) if _is_score(more[0]) else None
    if _is_pose(box, more):
        return LabelLine(number, box, POSE)
    if len(rest) % 2 and len(rest) > 8 and (_is_score(rest[-1]) or _is_track(rest[-1])):
        rest = rest[:-1]
    elif len(rest) > 9 and rest[-1] > 1 and _is_track(rest[-1]) and _is_score(rest[-2]):
        rest = rest[:-2]
    if len(rest) % 2 or not all(map(math.isfinite, rest)) or (rest != values[1:] and max(map(abs, rest)) > _FAR):
        return None
    x1, y1, x2, y2 = outer_box(rest)
    return LabelLine(number, ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1), OUTLINE)


def _is_score(value: float) -> bool:
    return 0 <= value <= 1


def _is_track(value: float) -> bool:
    return value >= 0 and value.is_integer()


def _is_pose(box: Box, more: Sequence[float]) -> bool:
    """Tell whether numbers after a box are keypoints: x, y and visibility, those that are marked within the box."""
    if len(more) % 3 or any(v not in (0, 1, 2) for v in more[2::3]):
        return False
    x, y, w, h = box
    points = [(a, b) for a, b, v in zip(more[0::3], more[1::3], more[2::3], strict=True) if v or a or b]
    return bool(w > 0 and h > 0) and all(abs(a - x) <= 0.6 * w and abs(b - y) <= 0.6 * h for a, b in points)


def outer_box(outline: Sequence[float]) -> Box:
    """Return the xyxy box around points, given as x1, y1, x2, y2 and so on."""
    across, down = outline[0::2], outline[1::2]
    return min(across), min(down), max(across), max(down)

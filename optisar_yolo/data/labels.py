"""Lines of YOLO label files: boxes, boxes with a confidence, and outlines (oriented boxes, segments).

All numbers after the class are shares of the image. Of an outline the outer box counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Box = tuple[float, float, float, float]

OUTLINE = "label line of an outline (oriented box or segment), read as its outer box"
SCORED = "label line with a confidence or a track number, which is left out"
READ_AS = (OUTLINE, SCORED)
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
    seven a box with both where the last is a whole number above 1. Three and more points are an outline.
    """
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        return None
    extra = len(values) - 5
    if extra in (1, 2) and (extra == 1 or (values[6] > 1 and values[6].is_integer())):
        return LabelLine(values[0], (values[1], values[2], values[3], values[4]), SCORED)
    if extra == 0:
        return LabelLine(values[0], (values[1], values[2], values[3], values[4]))
    if extra > 0 and extra % 2 == 0 and all(map(math.isfinite, values)):
        x1, y1, x2, y2 = outer_box(values[1:])
        return LabelLine(values[0], ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1), OUTLINE)
    return None


def outer_box(outline: Sequence[float]) -> Box:
    """Return the xyxy box around points, given as x1, y1, x2, y2 and so on."""
    across, down = outline[0::2], outline[1::2]
    return min(across), min(down), max(across), max(down)

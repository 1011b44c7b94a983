"""Outer boxes of the outlines that annotation formats hold: rotated boxes and polygons of VOC, those of COCO, masks.

All boxes are xyxy in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import accumulate
from xml.etree import ElementTree

from optisar_yolo.data import Box, is_number, outer_box

_SIDES = ("cx", "cy", "w", "h", "angle")
_PLACES = ("left_top", "right_top", "right_bottom", "left_bottom")
_POLYGONS = ("polygon", "rotated_bndbox", "robndbox", "segmentation", "bndbox")
_CORNERS = tuple(f"{axis}_{place}" for place in _PLACES for axis in "xy")


def rotated_box(element: ElementTree.Element | None) -> Box | None:
    """Return the outer box of a <robndbox>: centre, sides and angle (radians, roLabelImg), or corners (DIOR-R).

    None for no such element, one that is incomplete, or an angle beyond a full turn, which is not in radians.
    """
    if element is None:
        return None
    corners = _numbers(element, _CORNERS)
    if corners:
        return outer_box(corners)
    values = _numbers(element, _SIDES)
    if not values or abs(values[4]) > 2 * math.pi:
        return None
    x, y, w, h, angle = values
    across = (w * abs(math.cos(angle)) + h * abs(math.sin(angle))) / 2
    down = (w * abs(math.sin(angle)) + h * abs(math.cos(angle))) / 2
    return x - across, y - down, x + across, y + down


def polygon_box(element: ElementTree.Element) -> Box | None:
    """Return the outer box of the corners that an <object> of VOC lists, in any of the forms in use.

    They are <x1>, <y1>, <x2> … (CVAT, RSDD; also from <x0>) or <pt> with <x> and <y> (LabelMe), in an element
    <polygon>, <rotated_bndbox>, <segmentation> or <bndbox>. None where there are fewer than three, or none.
    """
    for name in _POLYGONS:
        if (found := element.find(name)) is None:
            continue
        points = [_numbers(pt, ("x", "y")) for pt in found.findall("pt")]
        numbered = [i for i in range(len(found)) if found.find(f"x{i}") is not None]
        points += [_numbers(found, (f"x{i}", f"y{i}")) for i in numbered]
        if len(points) >= 3 and all(points):
            return outer_box([v for point in points for v in point])
    return None


def _numbers(element: ElementTree.Element, names: tuple[str, ...]) -> list[float]:
    """Return the numbers of an element's children; empty where one is missing or no finite number."""
    try:
        values = [float(element.findtext(name) or "") for name in names]
    except ValueError:
        return []
    return values if all(map(math.isfinite, values)) else []


def segmentation_box(segmentation: object) -> Box | None:
    """Return the outer box of COCO's segmentation: polygons, or a mask in run lengths, compressed or not.

    None for anything else.
    """
    if isinstance(segmentation, list) and segmentation:
        points = _flat(segmentation)
        return outer_box(points) if points is not None and len(points) >= 4 and len(points) % 2 == 0 else None
    if isinstance(segmentation, Mapping):
        return _mask_box(segmentation.get("counts"), segmentation.get("size"))
    return None


def _flat(value: list[object], depth: int = 3) -> list[float] | None:
    """Return the numbers of polygons in a row: lists of x, y in turn, of [x, y], or of both; None for anything else."""
    numbers: list[float] = []
    for part in value:
        if isinstance(part, list):
            even = len(part) % 2 == 0 or isinstance(part[0], list)
            inner = _flat(part, depth - 1) if depth > 1 and even else None
            if inner is None:
                return None
            numbers += inner
        elif (number := as_number(part)) is not None:
            numbers.append(number)
        else:
            return None
    return numbers


def as_number(value: object) -> float | None:
    """Return a finite number, also one that is written as text; None for anything else."""
    try:
        number = float(value) if isinstance(value, str) else value
    except ValueError:
        return None
    return float(number) if is_number(number) else None


def _mask_box(counts: object, size: object) -> Box | None:
    """Return the box of a mask: lengths of runs of 0 and 1 in turn, down one column after the other."""
    if not (isinstance(size, list) and len(size) == 2 and all(isinstance(v, int) and v >= 0 for v in size)):
        return None
    if isinstance(counts, str):
        return _compressed_box(counts, size)
    if not isinstance(counts, list) or not all(isinstance(v, int) and v >= 0 for v in counts):
        return None
    if sum(counts) > size[0] * size[1]:
        return None
    height, ends = size[0], list(accumulate(counts))
    columns: list[int] = []
    rows: list[int] = []
    for start, end in zip(ends[0::2], ends[1::2], strict=False):
        if end > start:
            first, last = start // height, (end - 1) // height
            columns += [first, last]
            rows += [start % height, (end - 1) % height] if first == last else [0, height - 1]
    return (min(columns), min(rows), max(columns) + 1, max(rows) + 1) if columns else None


def _compressed_box(counts: str, size: list[int]) -> Box | None:
    """Return the box of a mask whose run lengths are compressed to text."""
    from pycocotools import mask  # a library in C, loaded where such a mask is met

    try:
        x, y, w, h = mask.toBbox({"size": size, "counts": counts.encode("ascii")}).tolist()
    except (ValueError, TypeError, MemoryError):
        return None
    inside = x + w <= size[1] and y + h <= size[0]
    return (round(x), round(y), round(x + w), round(y + h)) if w > 0 and h > 0 and inside else None

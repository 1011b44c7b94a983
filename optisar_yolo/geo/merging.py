"""Merging of the boxes that several tiles have of one object.

1. Neighbouring tiles overlap, so an object no longer than the overlap is whole in at least one tile. Among whole boxes
   of one object, those of its home tile (the tile whose core holds the centre) come first, then the most confident.
2. Boxes that a tile border cuts are dropped where a whole box covers them.
3. An object that every tile cuts is longer than the overlap; its parts are joined.
4. Where the part beyond a border was not found, the box ends at it: `open_sides` tells such boxes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from optisar_yolo.utils import intersection_union

OVERLAP = 0.5  # IoU from which two boxes are one object; boxes of different tiles differ more than those of one
INSIDE = 0.75  # share of the smaller box within the larger from which it is a part of it
MARGIN = 2.0  # working pixels from a tile's border within which a box counts as cut
ALONG = 0.5  # share that two parts of a cut object have in common along the cut
LEFT, TOP, RIGHT, BOTTOM = 1, 2, 4, 8  # bits of `cut_sides`
_FACING = ((RIGHT, LEFT, 0), (BOTTOM, TOP, 1))  # this side of one part lies in the other, cut on that side; axis


def cut_sides(
    boxes: NDArray[np.floating], tile: tuple[float, float, float, float], raster: tuple[float, float], margin: float
) -> NDArray[np.int64]:
    """Tell at which borders of its tile each box is cut; borders of the raster cut nothing.

    Args:
        boxes: [N, 4] xyxy.
        tile: (left, top, right, bottom), in the same pixels.
        raster: (width, height), likewise.
        margin: Distance from the border within which a box is cut, likewise.

    Returns:
        [N] sums of `LEFT`, `TOP`, `RIGHT` and `BOTTOM`.
    """
    x1, y1, x2, y2 = np.asarray(boxes, float).reshape(-1, 4).T
    left, top, right, bottom = tile
    sides = np.zeros(len(x1), np.int64)
    sides += LEFT * ((x1 < left + margin) & (left > 0))
    sides += TOP * ((y1 < top + margin) & (top > 0))
    sides += RIGHT * ((x2 > right - margin) & (right < raster[0]))
    sides += BOTTOM * ((y2 > bottom - margin) & (bottom < raster[1]))
    return sides


def merge(
    boxes: NDArray[np.float64],
    conf: NDArray[np.float64],
    cut: NDArray[np.int64],
    home: NDArray[np.bool_],
    tile: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Merge all boxes of the same object.

    Args:
        boxes: [N, 4] xyxy in pixels of the raster.
        conf: [N] confidences.
        cut: [N] of :func:`cut_sides`.
        home: bool [N], True where the centre lies in the core of the tile.
        tile: [N] index of the tile that each was found in.

    Returns:
        Boxes [M, 4] and confidences [M], most confident first. An object keeps the box and the confidence of one of its
        whole boxes, if there is one: that of the home tile, else the most confident.
    """
    boxes, conf = np.asarray(boxes, float).reshape(-1, 4), np.asarray(conf, float)
    whole, parts = np.flatnonzero(cut == 0), np.flatnonzero(cut)
    whole = whole[suppress(boxes[whole], np.lexsort((-conf[whole], ~home[whole])))]
    hidden = np.zeros(len(parts), bool)
    for i in whole:
        inter, union = intersection_union(boxes[i], boxes[parts])
        hidden |= (inter >= OVERLAP * union.clip(1e-12)) | (inter >= INSIDE * _areas(boxes[parts]))
    parts = parts[~hidden]
    joined, sure = join(boxes[parts], conf[parts], cut[parts], tile[parts])
    objects, sure = np.concatenate([boxes[whole], joined]), np.concatenate([conf[whole], sure])
    last = suppress(objects, np.argsort(-sure, kind="stable"))  # most confident first
    return objects[last], sure[last]


def open_sides(objects: NDArray[np.float64], boxes: NDArray[np.float64], cut: NDArray[np.int64]) -> NDArray[np.int64]:
    """Tell on which sides merged objects still end at the border of a tile, so that they may be longer.

    Args:
        objects: [M, 4] of :func:`merge`.
        boxes: [N, 4], what it was given.
        cut: [N] likewise.

    Returns:
        [M] sums of `LEFT`, `TOP`, `RIGHT` and `BOTTOM`.
    """
    out = np.zeros(len(objects), np.int64)
    for i, box in enumerate(objects):
        if (boxes[cut == 0] == box).all(1).any():
            continue
        # A union has the very coordinates of its outermost parts.
        near = _same(box, boxes)
        for side, column in ((LEFT, 0), (TOP, 1), (RIGHT, 2), (BOTTOM, 3)):
            out[i] += side * bool((near & (cut & side > 0) & (boxes[:, column] == box[column])).any())
    return out


def suppress(boxes: NDArray[np.float64], order: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the indices of boxes that remain after non-maximum suppression by `_same`.

    Args:
        boxes: [N, 4] xyxy.
        order: [N] indices, preferred ones first.
    """
    kept: list[int] = []
    left = order
    while len(left):
        first, left = int(left[0]), left[1:]
        kept.append(first)
        left = left[~_same(boxes[first], boxes[left])]
    return np.asarray(kept, np.intp)


def join(
    boxes: NDArray[np.float64], conf: NDArray[np.float64], cut: NDArray[np.int64], tile: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Join the parts of objects that every tile cuts.

    Two parts belong together by `_same`, or if all of this holds: one is cut on the side on which the other lies, the
    other is cut on the facing side, they overlap (as their tiles do), and they share at least `ALONG` of the shorter
    one's extent along the cut.

    Args:
        boxes: [N, 4] xyxy.
        conf: [N] confidences.
        cut: [N] of :func:`cut_sides`.
        tile: [N] indices of their tiles.

    Returns:
        Boxes and confidences (the highest of the parts).
    """
    parent = list(range(len(boxes)))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    for i in range(len(boxes)):
        near = _touching(boxes[i], boxes)
        same = _same(boxes[i], boxes)
        for j in np.flatnonzero(near).tolist():
            if same[j] or (tile[i] != tile[j] and any(_continues(boxes, cut, i, j, *f) for f in _FACING)):
                parent[root(j)] = root(i)
    groups: dict[int, list[int]] = {}
    for i in range(len(boxes)):
        groups.setdefault(root(i), []).append(i)
    unions = [[*boxes[m, :2].min(0), *boxes[m, 2:].max(0)] for m in groups.values()]
    best = [conf[m].max() for m in groups.values()]
    return np.asarray(unions, float).reshape(-1, 4), np.asarray(best, float)


def _continues(
    boxes: NDArray[np.float64], cut: NDArray[np.int64], i: int, j: int, mine: int, other: int, axis: int
) -> bool:
    """Tell whether part j continues part i beyond the border that cuts i."""
    if not (cut[i] & mine and cut[j] & other) or boxes[j, axis + 2] <= boxes[i, axis + 2]:
        return False
    across = 1 - axis
    low, high = max(boxes[i, across], boxes[j, across]), min(boxes[i, across + 2], boxes[j, across + 2])
    shorter = min(boxes[i, across + 2] - boxes[i, across], boxes[j, across + 2] - boxes[j, across])
    return bool(boxes[j, axis] <= boxes[i, axis + 2] and high - low >= ALONG * shorter)


def _touching(box: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which boxes overlap one, or touch it."""
    return np.all(np.maximum(box[:2], others[:, :2]) <= np.minimum(box[2:], others[:, 2:]), axis=1)


def _areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the areas of boxes [..., 4], above 0 so that a box without area lies in none."""
    return (boxes[..., 2:] - boxes[..., :2]).prod(-1).clip(1e-12)


def _same(box: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which boxes are of the same object as one: an IoU of `OVERLAP`, or `INSIDE` of the smaller in the larger."""
    inter, union = intersection_union(box, others)
    return (inter >= OVERLAP * union.clip(1e-12)) | (inter >= INSIDE * np.minimum(_areas(box), _areas(others)))

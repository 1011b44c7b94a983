"""Merging of the boxes that several tiles have of one object.

1. Neighbouring tiles overlap, so an object no longer than the overlap is whole in at least one tile. Among whole boxes
   of one object, those of its home tile (the tile whose core holds the centre) come first, then the most confident.
2. Boxes that a tile border cuts are dropped where a whole box covers them.
3. An object that every tile cuts is longer than the overlap; its parts are joined.
4. Where the part beyond a border was not found, the box ends at it: `open_sides` tells such boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from optisar_yolo.utils import BoxTree, intersection_union

OVERLAP = 0.5  # IoU from which two boxes are one object; boxes of different tiles differ more than those of one
INSIDE = 0.75  # share of the smaller box within the larger from which it is a part of it
MARGIN = 2.0  # working pixels from a tile's border within which a box counts as cut
ALONG = 0.5  # share that two parts of a cut object have in common along the cut
FEWEST, MOST = 64, 4096  # boxes that are compared with their neighbours at once
PAIRS = 1 << 20  # pairs at once from which on fewer boxes are taken
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
    advance: Callable[[int], object] = int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Merge all boxes of the same object, in O(N log N) where few boxes overlap any one.

    Args:
        boxes: [N, 4] xyxy in pixels of the raster.
        conf: [N] confidences.
        cut: [N] of :func:`cut_sides`.
        home: bool [N], True where the centre lies in the core of the tile.
        tile: [N] index of the tile that each was found in.
        advance: Called with the number of boxes that were dealt with since the last call, N in all.

    Returns:
        Boxes [M, 4] and confidences [M], most confident first. An object keeps the box and the confidence of one of its
        whole boxes, if there is one: that of the home tile, else the most confident.
    """
    boxes, conf = np.asarray(boxes, float).reshape(-1, 4), np.asarray(conf, float)
    whole, parts = np.flatnonzero(cut == 0), np.flatnonzero(cut)
    whole = whole[suppress(boxes[whole], np.lexsort((-conf[whole], ~home[whole])), advance)]
    hidden = np.zeros(len(parts), bool)
    tree = BoxTree(boxes[whole])
    for chunk in (chunks := _Chunks(len(parts))):
        i, j = tree.meeting(boxes[parts[chunk]])
        chunks.met(len(i))
        part, cover = boxes[parts[chunk]][i], boxes[whole][j]
        inter, union = intersection_union(cover, part)
        covered = (inter >= OVERLAP * union.clip(1e-12)) | (inter >= INSIDE * _areas(part))
        hidden[chunk.start + i[covered]] = True
    advance(int(hidden.sum()))
    parts = parts[~hidden]
    joined, sure = join(boxes[parts], conf[parts], cut[parts], tile[parts], advance)
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
    whole = set(map(tuple, boxes[cut == 0].tolist()))
    asked = np.array([i for i, box in enumerate(objects.tolist()) if tuple(box) not in whole], np.intp)
    boxes, cut = boxes[cut > 0], cut[cut > 0]
    tree = BoxTree(boxes)
    for chunk in (chunks := _Chunks(len(asked))):
        i, j = tree.meeting(objects[asked[chunk]])
        chunks.met(len(i))
        i = asked[chunk][i]
        near = _same(objects[i], boxes[j])
        i, j = i[near], j[near]
        # A union has the very coordinates of its outermost parts.
        for side, column in ((LEFT, 0), (TOP, 1), (RIGHT, 2), (BOTTOM, 3)):
            ends = (cut[j] & side > 0) & (boxes[j, column] == objects[i, column])
            out[np.unique(i[ends])] += side
    return out


def suppress(
    boxes: NDArray[np.float64], order: NDArray[np.intp], advance: Callable[[int], object] = int
) -> NDArray[np.intp]:
    """Return the indices of boxes that remain after non-maximum suppression by `_same`.

    Args:
        boxes: [N, 4] xyxy.
        order: [N] indices, preferred ones first.
        advance: As of :func:`merge`.
    """
    tree, alive, kept = BoxTree(boxes), np.ones(len(boxes), bool), []
    # Where each box meets thousands of others, the first few suppress the rest before it is asked for.
    for chunk in (chunks := _Chunks(len(order))):
        asked = order[chunk][alive[order[chunk]]]
        i, j = tree.meeting(boxes[asked])
        chunks.met(len(i))
        same = _same(boxes[asked[i]], boxes[j])
        i, j = i[same], j[same]
        ends = np.searchsorted(i, np.arange(len(asked) + 1))
        for n, box in enumerate(asked.tolist()):
            if alive[box]:
                kept.append(box)
                alive[j[ends[n] : ends[n + 1]]] = False  # itself too, which does not come again
        advance(chunk.stop - chunk.start)
    return np.asarray(kept, np.intp)


def join(
    boxes: NDArray[np.float64],
    conf: NDArray[np.float64],
    cut: NDArray[np.int64],
    tile: NDArray[np.int64],
    advance: Callable[[int], object] = int,
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
        advance: As of :func:`merge`.

    Returns:
        Boxes and confidences (the highest of the parts).
    """
    parent = list(range(len(boxes)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    tree = BoxTree(boxes)
    for chunk in (chunks := _Chunks(len(boxes))):
        i, j = tree.meeting(boxes[chunk])
        chunks.met(len(i))
        i += chunk.start
        i, j = i[i != j], j[i != j]
        belong = _same(boxes[i], boxes[j])
        for facing in _FACING:
            belong |= (tile[i] != tile[j]) & _continues(boxes, cut, i, j, *facing)
        for one, other in zip(i[belong].tolist(), j[belong].tolist(), strict=True):
            parent[root(other)] = root(one)
        advance(chunk.stop - chunk.start)
    groups: dict[int, list[int]] = {}
    for box in range(len(boxes)):
        groups.setdefault(root(box), []).append(box)
    unions = [[*boxes[m, :2].min(0), *boxes[m, 2:].max(0)] for m in groups.values()]
    best = [conf[m].max() for m in groups.values()]
    return np.asarray(unions, float).reshape(-1, 4), np.asarray(best, float)


class _Chunks:
    """The parts of [0, count) that are compared at once: few boxes where each meets many, which bounds memory."""

    def __init__(self, count: int) -> None:
        self.count, self.size = count, FEWEST

    def __iter__(self) -> Iterator[slice]:
        start = 0
        while start < self.count:
            stop = min(start + self.size, self.count)
            yield slice(start, stop)
            start = stop

    def met(self, pairs: int) -> None:
        """Take more boxes next time, or fewer after many pairs."""
        self.size = self.size // 4 + 1 if pairs > PAIRS else min(self.size * 2, MOST)


def _continues(
    boxes: NDArray[np.float64],
    cut: NDArray[np.int64],
    i: NDArray[np.intp],
    j: NDArray[np.intp],
    mine: int,
    other: int,
    axis: int,
) -> NDArray[np.bool_]:
    """Tell of pairs of parts that overlap or touch whether part j continues part i beyond the border that cuts i."""
    across = 1 - axis
    a, b = boxes[i], boxes[j]
    shared = np.minimum(a[:, across + 2], b[:, across + 2]) - np.maximum(a[:, across], b[:, across])
    shorter = np.minimum(a[:, across + 2] - a[:, across], b[:, across + 2] - b[:, across])
    facing = (cut[i] & mine > 0) & (cut[j] & other > 0) & (b[:, axis + 2] > a[:, axis + 2])
    return facing & (b[:, axis] <= a[:, axis + 2]) & (shared >= ALONG * shorter)


def _areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the areas of boxes [..., 4], above 0 so that a box without area lies in none."""
    return (boxes[..., 2:] - boxes[..., :2]).prod(-1).clip(1e-12)


def _same(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell of pairs whether they are one object: an IoU of `OVERLAP`, or `INSIDE` of the smaller in the larger."""
    inter, union = intersection_union(first, second)
    return (inter >= OVERLAP * union.clip(1e-12)) | (inter >= INSIDE * np.minimum(_areas(first), _areas(second)))

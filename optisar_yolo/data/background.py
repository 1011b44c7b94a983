"""Pictures of nothing but ground: windows between the objects, of which every sentence about an object is false.

A picture of a data set shows what its sentences ask for, so that a network never learns what it looks like where
nothing is; in a large scene most tiles are like that, and many show the same throughout: water, a wood, a field.
Ultralytics' background pictures, made of the pictures at hand. Labels are taken for complete: a window without boxes
shows no object of the categories.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optisar_yolo.data.augment import View, mirror
from optisar_yolo.data.mosaic import mosaic

LEAST = 0.25  # smallest share of each side that a window keeps
SQUARE = (0.1, 0.4)  # side of the square that a canvas of one kind of ground is covered with, of the shorter side
CALMEST = 4  # free squares of which the calmest is taken
ALIKE = 0.5  # share of such canvases
MARGIN = 0.02  # share of the longer side that stays between a window and a box: labelled boxes are not exact
TRIES = 40  # windows that are drawn of a picture
PICTURES = 12  # pictures that are drawn for the four windows of a canvas, at most


def bare(view: View, rng: np.random.Generator) -> View | None:
    """Cut out a window that no box touches: the largest of `TRIES` random ones.

    Args:
        view: What to cut it from.
        rng: Source of all choices.

    Returns:
        The window, or None where none of those drawn is free.
    """
    h, w = view.img.shape[:2]
    sides = np.array([w, h])
    lengths = np.ceil(sides * rng.uniform(LEAST, 1, (TRIES, 2))).astype(int)
    first = (rng.random((TRIES, 2)) * (sides - lengths + 1)).astype(int)
    free = _free(view, first, first + lengths)
    if not free.any():
        return None
    best = int(np.argmax(lengths.prod(1) * free))
    (left, top), (right, bottom) = first[best].tolist(), (first + lengths)[best].tolist()
    return _nothing(np.ascontiguousarray(view.img[top:bottom, left:right]), view.modality)


def alike(view: View, imgsz: int, rng: np.random.Generator) -> View | None:
    """Cover a canvas with one small square that no box touches: the same ground throughout.

    Args:
        view: What to cut it from.
        imgsz: Side of the canvas in pixels.
        rng: Source of all choices.

    Returns:
        The canvas [imgsz, imgsz, 3], or None where none of `TRIES` squares is free.
    """
    h, w = view.img.shape[:2]
    side = max(round(rng.uniform(*SQUARE) * min(h, w)), 2)
    first = (rng.random((TRIES, 2)) * (np.array([w, h]) - side + 1)).astype(int)
    free = np.flatnonzero(_free(view, first, first + side))
    if not len(free):
        return None
    squares = [view.img[top : top + side, left : left + side] for left, top in first[free[:CALMEST]].tolist()]
    square = min(squares, key=np.std)
    blend = max(side // 5, 1)
    canvas = strew(lambda r, c: np.rot90(square, int(rng.integers(4))), side, blend, 0, imgsz, imgsz)
    return _nothing(canvas, view.modality, fills=True)


def strew(
    draw: Callable[[int, int], NDArray[Any]], side: int, blend: int, top: int, rows: int, columns: int
) -> NDArray[np.uint8]:
    """Cover an area with squares that fade into each other.

    Mirroring a square instead draws rings and diamonds, which look like courts and fields.

    Args:
        draw: Gives the square [side, side, 3] in a row and a column of squares.
        side: Of the squares in pixels.
        blend: Over how many pixels a square fades into the next.
        top: First row of pixels that is wanted of the area.
        rows: How many.
        columns: Width of the area in pixels.

    Returns:
        The rows, [rows, columns, 3].
    """
    pitch = side - blend
    along = np.minimum(np.arange(side) + 1, side - np.arange(side)).clip(max=blend).astype(np.float32)
    alpha = (along[:, None] * along)[..., None]
    total, weight = np.zeros((rows, columns, 3), np.float32), np.zeros((rows, columns, 1), np.float32)
    for r in range(top // pitch, -(-(top + rows + blend) // pitch)):
        y = r * pitch - blend
        first, last = max(y, top), min(y + side, top + rows)
        for c in range(-(-(columns + blend) // pitch)):
            x = c * pitch - blend
            left, right = max(x, 0), min(x + side, columns)
            there, here = np.s_[first - top : last - top, left:right], np.s_[first - y : last - y, left - x : right - x]
            total[there] += draw(r, c)[here] * alpha[here]
            weight[there] += alpha[here]
    return (total / weight).round().astype(np.uint8)


def _free(view: View, first: NDArray[np.integer], last: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Tell of windows, [N, 2] left and top and [N, 2] right and bottom in pixels of the array, which no box touches."""
    h, w = view.img.shape[:2]
    boxes = view.boxes * np.tile(np.array([w, h]) / np.array(view.size), 2)
    room = MARGIN * max(h, w)
    apart = (boxes[:, :2] >= last[:, None] + room) | (boxes[:, 2:] <= first[:, None] - room)  # [N, boxes, 2]
    return apart.any(2).all(1)


def _nothing(img: NDArray[np.uint8], modality: str, fills: bool = False) -> View:
    """Return a picture without objects."""
    return View(
        img=img,
        boxes=np.zeros((0, 4), np.float32),
        names=(),
        captions=(),
        size=(img.shape[1], img.shape[0]),
        modality=modality,
        fills=fills,
    )


def background(draw: Callable[[], View], imgsz: int, rng: np.random.Generator) -> View | None:
    """Fill a canvas with four windows of ground, or with one kind of ground throughout.

    Args:
        draw: Gives a random picture of one modality.
        imgsz: Side of the canvas in pixels.
        rng: Source of all choices.

    Returns:
        The canvas [imgsz, imgsz, 3] without objects; fewer than four windows are repeated, mirrored. None where none
        of `PICTURES` pictures has room between its objects.
    """
    covered = alike(draw(), imgsz, rng) if rng.random() < ALIKE else None
    if covered is not None:
        return covered
    windows: list[View] = []
    for _ in range(PICTURES):
        window = bare(draw(), rng)
        windows += [window] if window else []
        if len(windows) == 4:
            break
    if not windows:
        return None
    for i in range(len(windows), 4):
        windows.append(mirror(windows[i % len(windows)], horizontal=True, vertical=False))
    return mosaic(windows, imgsz, rng)

"""Images of nothing but ground: windows between the objects, of which every expression about an object is false.

An image of a data set shows what its expressions ask for, so that a network never learns what it looks like where
nothing is; in a large scene most tiles are like that. Ultralytics' background images, made of the images at hand.
Labels are taken for complete: a window without boxes shows no object of the categories.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from optisar_yolo.data.augment import View, mirror
from optisar_yolo.data.geometry import untouched
from optisar_yolo.data.mosaic import mosaic

LEAST = 0.25  # smallest share of each side that a window keeps
MARGIN = 0.02  # share of the longer side that stays between a window and a box: labelled boxes are not exact
TRIES = 40  # windows that are drawn of an image
IMAGES = 12  # images that are drawn for the four windows of a canvas, at most


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
    last = first + lengths
    boxes = view.boxes * np.tile(sides / np.array(view.size), 2)
    room = MARGIN * max(h, w)
    free = untouched(first - room, last + room, boxes)
    if not free.any():
        return None
    best = int(np.argmax(lengths.prod(1) * free))
    (left, top), (right, bottom) = first[best].tolist(), last[best].tolist()
    return View(
        img=np.ascontiguousarray(view.img[top:bottom, left:right]),
        boxes=np.zeros((0, 4), np.float32),
        names=(),
        captions=(),
        size=(right - left, bottom - top),
        modality=view.modality,
    )


def background(draw: Callable[[], View], imgsz: int, rng: np.random.Generator) -> View | None:
    """Fill a canvas with four windows of ground.

    Args:
        draw: Gives a random image of one modality.
        imgsz: Side of the canvas in pixels.
        rng: Source of all choices.

    Returns:
        The canvas [imgsz, imgsz, 3] without objects; fewer than four windows are repeated, mirrored. None where none
        of `IMAGES` images has room between its objects.
    """
    windows: list[View] = []
    for _ in range(IMAGES):
        window = bare(draw(), rng)
        windows += [window] if window else []
        if len(windows) == 4:
            break
    if not windows:
        return None
    for i in range(len(windows), 4):
        windows.append(mirror(windows[i % len(windows)], horizontal=True, vertical=False))
    return mosaic(windows, imgsz, rng)

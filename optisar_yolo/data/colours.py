"""Colours of objects, measured from pixels.

For expressions that are **written** of labelled objects a colour must be certain (:func:`distinguishing_colour`):

1. Pixels are counted by colour in the middle of a box (`INNER` of its sides), and in a margin around the box.
2. An object has a colour where at least `SHARE` of the middle has it, and at most `AROUND` times as much of the margin:
   a white roof on snow is not "the white building".
3. The colour distinguishes the object where every other object that could be meant has at most `OTHERS` times as much
   of it.

The limits were chosen on 143 optical objects of real images whose expression names one colour: 37 get that colour (32
of these white), 3 another one ("orange" passes for red), and the others none. With green and black, or with half of the
middle as the least share, fewer were right.

For the **choice** among objects that were found, how much each has of the colour that the expression names is enough
(:func:`how_coloured`): a pixel belongs to a colour by degrees, and of an object its most coloured pixels count. Of 46
free English expressions of training images that name an object by its colour ("the leftmost blue aircraft") the network
alone finds 24, and 32 are found with this choice (benchmarks/coloured.py). Shares of the pixels and of the box were
compared there.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

SHARE = 0.3  # of the pixels; an airplane fills little more of its box
OTHERS = 0.33  # of the object's own share
AROUND = 0.33
INNER = 0.7  # of a box's sides: labelled boxes have background in their corners
MARGIN = 0.35  # of a box's sides
LEAST = 8  # pixels of a side, below which pixels mix
MOST_COLOURED = 0.15  # share of the middle's pixels that counts for the choice; the others are shadow and ground
GREYS = 4  # mean difference of the channels, 0..255, up to which an image has no hues
# Of the soft colours: hue (0 to 179) and the distance from it at which a pixel is no longer of the colour.
_HUES = {
    "red": (0, 14), "orange": (14, 11), "yellow": (28, 13), "green": (58, 32), "blue": (110, 26), "purple": (145, 18),
    "brown": (12, 14),
}  # fmt: skip
# Hue (0 to 179), saturation and value (0 to 255), each from and to. Other colours are too easily confused.
_RANGES: dict[str, tuple[tuple[tuple[int, int, int], tuple[int, int, int]], ...]] = {
    "red": (((0, 80, 60), (9, 255, 255)), ((168, 80, 60), (179, 255, 255))),
    "yellow": (((20, 90, 100), (34, 255, 255)),),
    "blue": (((95, 75, 75), (130, 255, 255)),),
    "white": (((0, 0, 195), (179, 45, 255)),),
}


def colour_shares(img: NDArray[np.uint8], box: Sequence[float]) -> dict[str, tuple[float, float]]:
    """Return the shares of the pixels of each colour in the middle of a box, and in a margin around it.

    Args:
        img: [h, w, 3], BGR.
        box: xyxy in its pixels.

    Returns:
        Empty for a box that is too small.
    """
    x1, y1, x2, y2 = (float(v) for v in box)
    w, h = x2 - x1, y2 - y1
    if min(w, h) < LEAST:
        return {}
    middle = _cut(
        img, x1 + w * (1 - INNER) / 2, y1 + h * (1 - INNER) / 2, x2 - w * (1 - INNER) / 2, y2 - h * (1 - INNER) / 2
    )
    whole = _cut(img, x1, y1, x2, y2)
    around = _cut(img, x1 - w * MARGIN, y1 - h * MARGIN, x2 + w * MARGIN, y2 + h * MARGIN)
    shares = {}
    for colour, ranges in _RANGES.items():
        inside, box_count, outer = (_count(part, ranges) for part in (middle, whole, around))
        margin = around.shape[0] * around.shape[1] - whole.shape[0] * whole.shape[1]
        shares[colour] = (
            inside / max(middle.shape[0] * middle.shape[1], 1),
            max(outer - box_count, 0) / max(margin, 1),
        )
    return shares


def clear_colour(shares: dict[str, tuple[float, float]]) -> str | None:
    """Return the colour that an object clearly has, or None."""
    clear = [c for c, (inside, margin) in shares.items() if inside >= SHARE and margin <= AROUND * inside]
    return clear[0] if len(clear) == 1 else None


def distinguishing_colour(
    img: NDArray[np.uint8], boxes: NDArray[np.floating], index: int, others: Sequence[int]
) -> str | None:
    """Return the colour of an object that no other object has, or None.

    Args:
        img: [h, w, 3], BGR.
        boxes: [N, 4], xyxy in its pixels.
        index: The object.
        others: The objects that could be meant as well.
    """
    own = colour_shares(img, boxes[index])
    colour = clear_colour(own)
    if colour is None:
        return None
    for k in others:
        shares = colour_shares(img, boxes[k])
        if not shares or shares[colour][0] > OTHERS * own[colour][0]:
            return None
    return colour


def _cut(img: NDArray[np.uint8], x1: float, y1: float, x2: float, y2: float) -> NDArray[np.uint8]:
    height, width = img.shape[:2]
    left, top = max(round(x1), 0), max(round(y1), 0)
    part = img[top : max(min(round(y2), height), top), left : max(min(round(x2), width), left)]
    return np.asarray(cv2.cvtColor(part, cv2.COLOR_BGR2HSV) if part.size else part, np.uint8)


def _count(hsv: NDArray[np.uint8], ranges: Sequence[tuple[tuple[int, int, int], tuple[int, int, int]]]) -> int:
    if not hsv.size:
        return 0
    return sum(int(np.count_nonzero(cv2.inRange(hsv, np.array(low), np.array(high)))) for low, high in ranges)


def has_hues(img: NDArray[np.uint8]) -> bool:
    """Tell whether an image [h, w, 3] has colours at all: one of a radar is grey."""
    spread = img.max(2).astype(np.int16) - img.min(2)
    return bool(spread.mean() > GREYS)


def how_coloured(img: NDArray[np.uint8], boxes: NDArray[np.floating], colour: str) -> NDArray[np.float64]:
    """Return how much of a colour each object has: the mean degree of its most coloured pixels.

    Args:
        img: [h, w, 3], RGB.
        boxes: [N, 4], xyxy in its pixels.
        colour: One of `language.COLOUR_WORDS`' colours.

    Returns:
        [N], 0 to 1.
    """
    degree = _degrees(cv2.cvtColor(img, cv2.COLOR_RGB2HSV), colour)
    height, width = degree.shape
    found = np.zeros(len(boxes))
    for i, (x1, y1, x2, y2) in enumerate(np.asarray(boxes, np.float64)):
        dx, dy = (x2 - x1) * (1 - INNER) / 2, (y2 - y1) * (1 - INNER) / 2
        left, top = max(int(x1 + dx), 0), max(int(y1 + dy), 0)
        right, bottom = min(int(np.ceil(x2 - dx)), width), min(int(np.ceil(y2 - dy)), height)
        pixels = np.sort(degree[top:bottom, left:right], axis=None)[::-1]
        if len(pixels):
            found[i] = pixels[: max(int(len(pixels) * MOST_COLOURED), 1)].mean()
    return found


def _degrees(hsv: NDArray[np.integer], colour: str) -> NDArray[np.floating]:
    """Return how much each pixel belongs to a colour, 0 to 1 [h, w]."""
    hue, saturation, value = (hsv[..., i].astype(np.float32) for i in range(3))
    if colour == "white":
        return np.clip(1 - saturation / 70, 0, 1) * np.clip((value - 150) / 80, 0, 1)
    if colour == "black":
        return np.clip((110 - value) / 70, 0, 1)
    middle, width = _HUES[colour]
    near = np.clip(1 - (((hue - middle + 90) % 180 - 90) / width) ** 2, 0, 1)
    chroma = saturation * value / 255**2  # pale and dark pixels have any hue
    if colour == "brown":  # a dark orange
        return near * np.clip((chroma - 0.04) / 0.15, 0, 1) * np.clip((200 - value) / 60, 0, 1)
    if colour == "orange":
        near = near * np.clip((value - 110) / 60, 0, 1)
    return near * np.clip((chroma - 0.06) / 0.25, 0, 1)

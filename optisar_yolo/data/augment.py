"""Augmentation that keeps captions true: geometry is changed together with the words, or not at all.

Flips rewrite direction words; a caption that cannot be rewritten is left out for that sample. Zoom draws the whole
picture
smaller, anywhere on the canvas and with a slightly changed aspect: positions in the unpadded picture stay what they
are.
Hue is never touched (captions name colours); brightness and contrast are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from optisar_yolo import language

ASPECT = 0.1  # largest relative stretch of one side against the other


class Flipped(NamedTuple):
    """A flipped sample: picture [h, w, 3], boxes [N, 4] in pixels, captions per object."""

    img: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    captions: tuple[tuple[str, ...], ...]


def flip(
    img: NDArray[np.uint8],
    boxes: NDArray[np.float32],
    captions: tuple[tuple[str, ...], ...],
    size: tuple[int, int],
    horizontal: bool,
    vertical: bool,
) -> Flipped:
    """Mirror a picture with its boxes and captions.

    Args:
        img: Picture [h, w, 3]; it may be at another scale than the boxes.
        boxes: [N, 4] xyxy in pixels of the original.
        captions: Expressions of each object.
        size: Width and height of the original.
        horizontal: Swap left and right.
        vertical: Swap top and bottom.

    Returns:
        The mirrored sample.
    """
    if not (horizontal or vertical):
        return Flipped(img, boxes, captions)
    boxes = boxes.copy()
    if horizontal:
        img = img[:, ::-1]
        boxes[:, [0, 2]] = size[0] - boxes[:, [2, 0]]
    if vertical:
        img = img[::-1]
        boxes[:, [1, 3]] = size[1] - boxes[:, [3, 1]]
    rewritten = tuple(
        tuple(c for c in (language.flip(text, horizontal, vertical) for text in texts) if c is not None)
        for texts in captions
    )
    return Flipped(np.ascontiguousarray(img), boxes, rewritten)


def zoom(
    imgsz: int, height: int, width: int, scale: float, rng: np.random.Generator
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Choose how large and where on a square canvas a picture is drawn.

    Args:
        imgsz: Side of the canvas.
        height: Of the picture.
        width: Of the picture.
        scale: Largest relative reduction; 0 draws the picture as large as it goes and centred.
        rng: Source of chance.

    Returns:
        Drawn (height, width) and (top, left).
    """
    r = imgsz / max(height, width)
    h, w = height * r, width * r
    if scale > 0:
        r = 1 - rng.random() * scale
        stretch = 1 - rng.random() * min(ASPECT, scale)
        h, w = (h * r * stretch, w * r) if rng.random() < 0.5 else (h * r, w * r * stretch)
    drawn = min(max(round(h), 1), imgsz), min(max(round(w), 1), imgsz)
    room = imgsz - drawn[0], imgsz - drawn[1]
    at = (int(rng.integers(room[0] + 1)), int(rng.integers(room[1] + 1))) if scale > 0 else (room[0] // 2, room[1] // 2)
    return drawn, at


def light(img: NDArray[np.uint8], amount: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Change brightness, contrast and gamma at random by up to a share ``amount``; 0 leaves the picture alone."""
    if amount <= 0:
        return img
    gain, gamma, shift = (1 + (rng.random(3) * 2 - 1) * amount * (0.5, 0.5, 0.25)).tolist()
    x = np.linspace(0, 1, 256, dtype=np.float32) ** gamma
    table = (np.clip((x - 0.5) * gain + 0.5 * shift, 0, 1) * 255).astype(np.uint8)
    return table[img]

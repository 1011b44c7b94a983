"""Mosaic with true captions: four images of one modality on one canvas, described as the one image they now are.

Every image fills its quarter, the parts that do not fit are cut off. The canvas is the new image: "left", "the
largest" and "the only one" are meant of all four quarters together, so captions are proven by the mosaic's boxes or
derived from them (`optisar_yolo.data.augment.retell`). Images of one modality only, as an expression without "SAR" or
"optical" could mean objects of both.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from optisar_yolo.data.augment import KEEP, View, cut, retell

SPLIT = (0.35, 0.65)  # where the quarters meet, as shares of the sides
ENLARGE = 0.25  # most that an image is enlarged beyond what fills its quarter


def mosaic(views: Sequence[View], imgsz: int, rng: np.random.Generator, rewrite: bool = True) -> View:
    """Put four images on one canvas.

    Args:
        views: Four images of one modality: upper left, upper right, lower left, lower right.
        imgsz: Side of the canvas in pixels.
        rng: Source of all choices.
        rewrite: Prove captions or derive them anew; otherwise they stay as they are, and most become false.

    Returns:
        The mosaic, [imgsz, imgsz, 3], with the visible parts of all objects.

    Raises:
        ValueError: Not four images, or of different modalities.
    """
    if len(views) != 4 or len({v.modality for v in views}) != 1:
        raise ValueError(f"a mosaic needs four images of one modality, got {[v.modality for v in views]}")
    x, y = (round(imgsz * (SPLIT[0] + rng.random() * (SPLIT[1] - SPLIT[0]))) for _ in range(2))
    quarters = ((0, 0, x, y), (x, 0, imgsz, y), (0, y, x, imgsz), (x, y, imgsz, imgsz))
    canvas = np.empty((imgsz, imgsz, 3), np.uint8)
    boxes: list[NDArray[np.float32]] = []
    names: list[str] = []
    captions: list[tuple[str, ...]] = []
    shares: list[float] = []
    for view, (left, top, right, bottom) in zip(views, quarters, strict=True):
        tile, visible, share = _tile(view, right - left, bottom - top, rng)
        canvas[top:bottom, left:right] = tile
        share = share * view.share
        for i in np.flatnonzero(share > 0):
            boxes.append(visible[i] + np.array([left, top] * 2, np.float32))
            names.append(view.names[i])
            captions.append(view.captions[i] if share[i] >= KEEP else ())
            shares.append(float(share[i]))
    made = View(
        img=canvas,
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        names=tuple(names),
        captions=tuple(captions),
        size=(imgsz, imgsz),
        modality=views[0].modality,
        share=np.array(shares, np.float32),
        fills=True,
    )
    return retell(made, rng) if rewrite else made


def _tile(
    view: View, width: int, height: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Fill a quarter with a part of an image: its pixels, the visible parts of the boxes, and what share they are."""
    h, w = view.img.shape[:2]
    scale = max(width / w, height / h) * (1 + rng.random() * ENLARGE)
    drawn_w, drawn_h = max(round(w * scale), width), max(round(h * scale), height)
    left, top = int(rng.integers(drawn_w - width + 1)), int(rng.integers(drawn_h - height + 1))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    drawn = cv2.resize(view.img, (drawn_w, drawn_h), interpolation=method)
    boxes = view.boxes * np.tile(np.array([drawn_w, drawn_h], np.float32) / np.array(view.size, np.float32), 2)
    visible, share = cut(boxes, (left, top, left + width, top + height))
    return drawn[top : top + height, left : left + width], visible, share  # type: ignore[return-value]

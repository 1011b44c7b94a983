"""Images on canvases: where an image lies in the network's input, and how boxes are converted.

The *extent* [left, top, right, bottom] is the image's place as shares of the canvas. Positions in expressions, position
codes and boxes refer to the unpadded image, so the extent is all that is needed to convert between the two.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

STRIDE = 32  # of the network's coarsest map
GREY = 114  # YOLO's padding


def canvas_for(height: int, width: int, imgsz: int) -> tuple[int, int, int, int]:
    """Return the smallest canvas for an image whose long side becomes imgsz.

    Args:
        height: Of the image, pixels.
        width: Of the image, pixels.
        imgsz: Long side in the network, pixels.

    Returns:
        Height and width of the canvas (multiples of the stride) and of the image drawn on it.
    """
    r = imgsz / max(height, width)
    h, w = max(round(height * r), 1), max(round(width * r), 1)
    return -(-h // STRIDE) * STRIDE, -(-w // STRIDE) * STRIDE, h, w


def draw_on_canvas(
    img: NDArray[np.uint8], canvas: tuple[int, int], drawn: tuple[int, int], at: tuple[int, int] | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Draw an image on a grey canvas.

    Args:
        img: Image [h, w, 3].
        canvas: Height and width of the canvas.
        drawn: Height and width of the image on it.
        at: Top and left of the image on it; centred by default.

    Returns:
        The canvas [H, W, 3] and the extent [4].
    """
    (ch, cw), (h, w) = canvas, drawn
    top, left = at if at is not None else ((ch - h) // 2, (cw - w) // 2)
    if img.shape[:2] != (h, w):
        shrinks = h * w < img.shape[0] * img.shape[1]
        img = resized(img, (w, h), cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    if (h, w) == (ch, cw):
        out = img
    else:
        out = np.full((ch, cw, img.shape[2]), GREY, np.uint8)
        out[top : top + h, left : left + w] = img
    return out, np.array([left / cw, top / ch, (left + w) / cw, (top + h) / ch], np.float32)


def resized(img: NDArray[np.uint8], size: tuple[int, int], method: int) -> NDArray[np.uint8]:
    """Resize an image [h, w, C] to (width, height) by a method of OpenCV, which takes four channels at a time."""
    parts = [cv2.resize(img[..., k : k + 4], size, interpolation=method) for k in range(0, img.shape[2], 4)]
    if len(parts) == 1:
        return parts[0].reshape(size[1], size[0], img.shape[2])  # type: ignore[return-value]
    return np.dstack(parts)


def letterbox(
    img: NDArray[np.uint8], imgsz: int, square: bool = False
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Resize an image to a long side of imgsz, centred on the smallest canvas or on a square one: canvas and extent."""
    ch, cw, h, w = canvas_for(img.shape[0], img.shape[1], imgsz)
    return draw_on_canvas(img, (imgsz, imgsz) if square else (ch, cw), (h, w))


def to_canvas(boxes: NDArray[np.float32], size: tuple[int, int], extent: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convert boxes [N, 4] xyxy in pixels of an image of size (width, height) to shares of the canvas."""
    scale = np.array([extent[2] - extent[0], extent[3] - extent[1]], np.float32) / np.array(size, np.float32)
    return boxes * np.tile(scale, 2) + np.tile(extent[:2], 2)


def to_image(
    boxes: NDArray[np.float32], size: tuple[int, int], extent: NDArray[np.float32], canvas: tuple[int, int]
) -> NDArray[np.float32]:
    """Convert boxes [N, 4] xyxy in canvas pixels to pixels of the image, clipped to it.

    Args:
        boxes: Boxes on the canvas.
        size: Width and height of the image.
        extent: Of the image in the canvas.
        canvas: Height and width of the canvas.

    Returns:
        Boxes [N, 4] xyxy.
    """
    shares = boxes / np.tile(np.array(canvas[::-1], np.float32), 2)
    scale = np.array(size, np.float32) / np.array([extent[2] - extent[0], extent[3] - extent[1]], np.float32)
    out = (shares - np.tile(extent[:2], 2)) * np.tile(scale, 2)
    limit = np.tile(np.array(size, np.float32), 2)
    return np.clip(out, 0, limit).astype(np.float32)


def free_of_boxes(first: NDArray[Any], last: NDArray[Any], boxes: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Tell which windows no box overlaps.

    Args:
        first: Left and top of M windows, [M, 2].
        last: Their right and bottom, [M, 2].
        boxes: [N, 4] xyxy in the same pixels.

    Returns:
        bool [M], all true where there is no box.
    """
    apart = (boxes[:, :2] >= last[:, None]) | (boxes[:, 2:] <= first[:, None])  # [M, N, 2]
    return np.all(np.any(apart, axis=2), axis=1)

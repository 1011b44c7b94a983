"""Areas of overlap between boxes. In PyTorch code, ``torchvision.ops`` has the same (``box_iou``, ``nms``)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def intersection_union(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return intersection and union areas of boxes, in square pixels.

    Args:
        a: [..., 4] xyxy.
        b: [..., 4] xyxy; leading dimensions are broadcast, so that ``a[:, None], b[None]`` compares all with all.

    Returns:
        Intersections and unions, of the broadcast leading shape.
    """
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    areas = [(box[..., 2:] - box[..., :2]).clip(0).prod(-1) for box in (first, second)]
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    inter = sides.clip(0).prod(-1)
    return inter, areas[0] + areas[1] - inter


def iou(a: ArrayLike, b: ArrayLike) -> Any:
    """Return the intersection over union of boxes: a number for two boxes, an array for more.

    Args:
        a: [..., 4] xyxy.
        b: [..., 4] xyxy, broadcast against `a`.

    Returns:
        IoU, 0 where both boxes have no area.
    """
    inter, union = intersection_union(a, b)
    found = np.divide(inter, union, out=np.zeros_like(union), where=union > 0)
    return float(found) if found.ndim == 0 else found

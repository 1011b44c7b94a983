"""The whole scene in one image, with the boxes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from optisar_yolo.geo.result import SceneResult
from optisar_yolo.utils import write_atomic
from optisar_yolo.visualize import draw_answers

LEAST = 14.0  # pixels of the quick-look: a ship of a few pixels would otherwise be a dot


def quicklook(result: SceneResult, path: Path) -> Path:
    """Draw the scene with its answers.

    Args:
        result: The answers.
        path: A JPEG.

    Returns:
        The path.
    """
    boxes = result.found.copy()
    boxes[:, :4] = visible(result.found[:, :4] * shrink(result))
    texts = {j: q.text for j, q in enumerate(result.questions)}
    image = draw_answers(result.image[..., ::-1], boxes, texts)
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=90)
    return write_atomic(path, file.getvalue())


def shrink(result: SceneResult) -> NDArray[np.float64]:
    """Return the factors [4] from pixels of the scene to pixels of its decimated image."""
    height, width = result.image.shape[:2]
    return np.array([width / result.size[0], height / result.size[1]] * 2)


def visible(boxes: NDArray[np.float64], least: float = LEAST) -> NDArray[np.float64]:
    """Return boxes [N, 4] grown about their centres to a least side."""
    centre, side = (boxes[:, :2] + boxes[:, 2:]) / 2, np.maximum(boxes[:, 2:] - boxes[:, :2], least)
    return np.concatenate([centre - side / 2, centre + side / 2], 1)

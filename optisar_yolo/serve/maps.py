"""Score maps: how well each place of an image fits an expression, drawn over the image."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from optisar_yolo.nn import Encoded, GroundingModel
from optisar_yolo.serve.answers import Engine
from optisar_yolo.serve.session import CachedImage
from optisar_yolo.visualize import Frame

STRENGTH = 0.55  # of the colours over the image
RANGE = 6.0  # logits below the highest that get a colour: what has e^-6 of its odds is as good as excluded


def score_maps(engine: Engine, seen: CachedImage, texts: Sequence[str]) -> list[np.ndarray]:
    """Score every place of an image.

    Args:
        engine: The model.
        seen: The image.
        texts: Expressions.

    Returns:
        Per expression the logits float32 [h, w] of the image without its padding, on the grid of the finest level; the
        highest of the levels, before candidates are compared (:mod:`optisar_yolo.explain` shows them one by one).
        Empty for an export, which does not tell its scores.
    """
    if not isinstance(engine.network, GroundingModel) or not isinstance(seen.encoded, Encoded):
        return []
    network = engine.network
    frame = Frame(seen.size, seen.canvas, seen.encoded.extent[0].cpu().numpy())
    strides = [float(s) for s in network.stride]
    shape = frame.grid(strides[0])
    maps = []
    with torch.inference_mode():
        for feature in engine.vectors(texts):
            levels = _levels(network, seen.encoded, feature)
            laid = [frame.cut(x, (s, s), shape) for x, s in zip(levels, strides, strict=True)]
            maps.append(np.max(laid, axis=0))
    return maps


def _levels(model: GroundingModel, scene: Encoded, feature: Tensor) -> list[np.ndarray]:
    """Logits [H_i, W_i] of one expression [D] on each level of the canvas, before candidates are compared."""
    text = model.head.adapt(feature[None, None])
    looked = scene.looked or model.head.look(model.head_inputs(scene, text), scene.extent)
    return [
        branch(cells, text).view(cells.shape[2:]).float().cpu().numpy()
        for branch, cells in zip(model.head.cv4, looked.cells, strict=True)
    ]


def overlay(image: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Draw a score map over an image: dark where the expression does not fit, yellow where it fits best.

    Args:
        image: Image uint8 [h, w, 3], BGR.
        logits: Scores [h', w'] of the same area.

    Returns:
        uint8 [h, w, 3], BGR.
    """
    share = np.clip((logits - logits.max()) / RANGE + 1, 0, 1)
    fine = cv2.resize((share * 255).astype(np.uint8), image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return cv2.addWeighted(image, 1 - STRENGTH, cv2.applyColorMap(fine, cv2.COLORMAP_VIRIDIS), STRENGTH, 0)

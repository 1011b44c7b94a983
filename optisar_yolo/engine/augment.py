"""Prediction with ``augment=True``: each image is also grounded mirrored, with expressions that are rewritten likewise.

1. A view is the canvas mirrored left to right, top to bottom, or both (:data:`VIEWS`). The expressions are rewritten as
   in training (:func:`optisar_yolo.language.flip`): "upper left" becomes "upper right". One that no rewriting keeps
   true ("clockwise", "over the road") is left out of that view.
2. The best boxes of each view are mirrored back.
3. Boxes of an expression that overlap by :data:`TOGETHER` are one: their mean, weighted by confidence, with the sum of
   the best confidence of each view over the number of views that were asked (weighted boxes fusion, Solovyev et al.,
   2021). A box that one view alone gives thus falls behind one that all give.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optisar_yolo.engine.grounding import CanvasImages, Detections, best_boxes
from optisar_yolo.language import flip
from optisar_yolo.nn import Encoded
from optisar_yolo.utils import iou

VIEWS = ((True, False), (False, True), (True, True))  # mirrored left to right, top to bottom
TOGETHER = 0.55  # IoU from which on boxes are fused; that of Solovyev et al.
CANDIDATES = 5  # boxes per expression and view that are fused


def grounded_views(
    network: Any,
    canvas: Tensor,
    extent: Tensor,
    plain: Encoded | CanvasImages,
    texts: Sequence[str],
    features: Callable[[Sequence[str]], Tensor],
    sizes: Sequence[tuple[int, int]],
    topk: int,
    overlap: float,
) -> list[Detections]:
    """Ground expressions in the images of one canvas size, as they are and mirrored.

    Args:
        network: The network, of PyTorch or an export.
        canvas: B images on canvases of one size, [B, 3, H, W].
        extent: Their extents [B, 4].
        plain: The images as they are, encoded.
        texts: T expressions.
        features: Returns the features [N, D] of N expressions.
        sizes: Width and height of each image.
        topk: Boxes per expression.
        overlap: IoU above which two boxes of an expression in one view are duplicates.

    Returns:
        The detections of each image, as of :func:`~optisar_yolo.engine.grounding.best_boxes`.
    """
    size = (canvas.shape[2], canvas.shape[3])
    known = getattr(features, "texts", None)  # an export with fixed expressions
    asked = np.zeros(len(texts), np.int64)  # views of each expression
    found: list[list[Detections]] = [[] for _ in sizes]
    for horizontal, vertical in ((False, False), *VIEWS):
        said = [flip(text, horizontal, vertical) if horizontal or vertical else text for text in texts]
        kept = [i for i, text in enumerate(said) if text is not None and (known is None or text in known)]
        if not kept:
            continue
        asked[kept] += 1
        dims = [dim for dim, used in ((3, horizontal), (2, vertical)) if used]
        encoded = network.encode(canvas.flip(dims), _mirrored(extent, horizontal, vertical)) if dims else plain
        vectors = features([str(said[i]) for i in kept]).to(canvas.device)
        boxes = best_boxes(network, encoded, vectors, size, sizes, max(topk, CANDIDATES), overlap)
        for views, one, (width, height) in zip(found, boxes, sizes, strict=True):
            back = one.boxes.copy()
            if horizontal:
                back[:, [0, 2]] = width - back[:, [2, 0]]
            if vertical:
                back[:, [1, 3]] = height - back[:, [3, 1]]
            views.append(Detections(back, one.confidence, np.asarray(kept, np.int64)[one.expression]))
    return [fused(views, asked, topk) for views in found]


def fused(views: Sequence[Detections], asked: np.ndarray, topk: int) -> Detections:
    """Fuse the boxes of one image over its views.

    Args:
        views: The detections of each view, in the image as it is.
        asked: int [T], number of views that each expression was grounded in.
        topk: Boxes per expression.

    Returns:
        Up to `topk` boxes of each expression, best first.
    """
    kept: list[tuple[np.ndarray, float, int]] = []
    for expression, count in enumerate(asked.tolist()):
        parts = [(view, found) for view, one in enumerate(views) for found in [one.of(expression)] if len(found)]
        boxes = np.concatenate([p.boxes for _, p in parts]) if parts else np.zeros((0, 4), np.float32)
        conf = np.concatenate([p.confidence for _, p in parts]) if parts else np.zeros(0, np.float32)
        view = np.repeat([v for v, _ in parts], [len(p) for _, p in parts]) if parts else np.zeros(0, int)
        own: list[tuple[np.ndarray, float, int]] = []
        free = np.ones(len(boxes), bool)
        for best in np.argsort(-conf, kind="stable"):
            if not free[best]:
                continue
            member = free & (iou(boxes[best], boxes) >= TOGETHER)
            member[best] = True
            free &= ~member
            # one box of each view, its best: the others are neighbours that the view itself ranks lower
            rows = [np.flatnonzero(member & (view == v))[0] for v in np.unique(view[member])]
            weight = conf[rows] + 1e-9
            own.append(((boxes[rows] * (weight / weight.sum())[:, None]).sum(0), conf[rows].sum() / count, expression))
        kept += sorted(own, key=lambda entry: -entry[1])[:topk]
    if not kept:
        return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    box, confidence, index = zip(*kept, strict=True)
    return Detections(np.stack(box).astype(np.float32), np.float32(confidence), np.asarray(index, np.int64))


def _mirrored(extent: Tensor, horizontal: bool, vertical: bool) -> Tensor:
    """Mirror extents [B, 4] with their canvases."""
    left, top, right, bottom = extent.unbind(-1)
    if horizontal:
        left, right = 1 - right, 1 - left
    if vertical:
        top, bottom = 1 - bottom, 1 - top
    return torch.stack((left, top, right, bottom), -1)

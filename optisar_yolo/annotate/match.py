"""Matching of captions with an image: the boxes that prediction gives each caption of the pool.

1. The best box of every caption is found. Where it is below the threshold, the caption has no box: most captions of a
   pool are of other images.
2. The others get their best boxes without duplicates, as by ``predict`` with ``topk``, ``iou`` and ``reason=False``.

A network without text-guided rows computes the anchors of an image once, and scoring is a matrix product [captions, D]
x [D, anchors] (OptiSAR-Net++, Eq. 4). A network with text-guided rows runs its neck once per caption.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from optisar_yolo.engine import OVERLAP, TEXT_BATCH, CanvasImages, Detections, NetworkRunner, best_boxes
from optisar_yolo.nn import Encoded, GroundingModel

SCORES = 1 << 24  # scores held at once: 64 MB in single precision, whatever the size of the image and of the pool
STRIDES = (8, 16, 32)  # of the levels, for the number of anchors; other levels have fewer
DECIMALS = 2  # of a pixel; rounded before the captions are checked, so that the written boxes are the checked ones
SMALLEST_SIDE = 1.0  # pixels; boxes that are thinner after clipping to the image are dropped


class CaptionMatches(NamedTuple):
    """Pairs of a box and a caption, the most confident first.

    Attributes:
        boxes: float64 [M, 4] xyxy in pixels of the image, inside it.
        conf: float64 [M] confidences, calibrated where the model has a calibration.
        captions: int64 [M] indices of the captions in the pool.
    """

    boxes: np.ndarray
    conf: np.ndarray
    captions: np.ndarray

    def above(self, conf: float) -> CaptionMatches:
        """Return the pairs of at least a confidence."""
        kept = self.conf >= conf
        return CaptionMatches(self.boxes[kept], self.conf[kept], self.captions[kept])


def captions_at_once(anchors: int) -> int:
    """Return how many captions are scored at once, so that memory is bounded."""
    return max(1, min(TEXT_BATCH, SCORES // max(anchors, 1)))


@torch.inference_mode()
def match(
    net: GroundingModel | NetworkRunner,
    encoded: Encoded | CanvasImages,
    texts: Tensor,
    canvas: tuple[int, int],
    size: tuple[int, int],
    conf: float,
    topk: int,
    iou: float = OVERLAP,
    chunk: int | None = None,
) -> CaptionMatches:
    """Score all captions on one image, and keep the boxes above the threshold.

    Args:
        net: The network, fused for inference, or what runs it in PyTorch's place.
        encoded: Features of one image.
        texts: [T, D] features of the captions.
        canvas: Height and width of the canvas.
        size: Width and height of the image in pixels.
        conf: Confidence threshold.
        topk: Boxes per caption at most, without duplicates.
        iou: IoU above which two boxes of a caption are duplicates.
        chunk: Captions at once; by default as many as memory allows (`captions_at_once`). It does not change the
            result.

    Returns:
        The pairs.
    """
    chunk = chunk or captions_at_once(sum((canvas[0] // s) * (canvas[1] // s) for s in STRIDES))

    def best(captions: np.ndarray, k: int) -> Detections:
        """Return the best k boxes of some captions that are above the threshold; ``expression`` is the caption."""
        found = []
        for few in np.split(captions, range(chunk, len(captions), chunk)):
            (part,) = best_boxes(net, encoded, texts[torch.from_numpy(few).to(texts.device)], canvas, [size], k, iou)
            part.expression[:] = few[part.expression]
            found.append(part[part.confidence >= conf])
        columns = zip(*((part.boxes, part.confidence, part.expression) for part in found), strict=True)
        return Detections(*map(np.concatenate, columns))

    found = best(np.arange(len(texts)), 1)
    if topk > 1 and len(found):
        found = best(found.expression, topk)
    boxes = found.boxes.astype(np.float64).round(DECIMALS)
    return _sorted(CaptionMatches(boxes, found.confidence.astype(np.float64), found.expression))


def _sorted(matches: CaptionMatches) -> CaptionMatches:
    """Drop boxes that are too thin, and sort by confidence; of equals the earlier caption comes first."""
    wide = (matches.boxes[:, 2:] - matches.boxes[:, :2]).min(axis=1, initial=np.inf) >= SMALLEST_SIDE
    order = np.argsort(-matches.conf, kind="stable")
    order = order[wide[order]]
    return CaptionMatches(matches.boxes[order], matches.conf[order], matches.captions[order])

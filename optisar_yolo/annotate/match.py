"""Matching of captions with an image: every anchor is scored with every caption of the pool.

A network without text-guided rows computes the anchors of an image once, and scoring is a matrix product [captions, D]
x [D, anchors] (OptiSAR-Net++, Eq. 4). A network with text-guided rows runs its neck once per caption.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from optisar_yolo.data import to_image
from optisar_yolo.engine import TEXT_BATCH, calibration_of, outputs
from optisar_yolo.nn import Encoded, GroundingModel, local_maxima

SCORES = 1 << 24  # scores held at once: 64 MB in single precision, whatever the size of the image and of the pool
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
    net: GroundingModel,
    encoded: Encoded,
    texts: Tensor,
    canvas: tuple[int, int],
    size: tuple[int, int],
    conf: float,
    topk: int,
    chunk: int | None = None,
) -> CaptionMatches:
    """Score all captions on one image, and keep the boxes above the threshold.

    Args:
        net: The network, fused for inference.
        encoded: Features of one image.
        texts: [T, D] features of the captions.
        canvas: Height and width of the canvas.
        size: Width and height of the image in pixels.
        conf: Confidence threshold.
        topk: Boxes per caption at most: local maxima of its score map.
        chunk: Captions at once; by default as many as memory allows (`captions_at_once`). It does not change the
            result.

    Returns:
        The pairs.
    """
    count = sum((canvas[0] // int(s)) * (canvas[1] // int(s)) for s in net.stride.tolist())
    chunk = chunk or captions_at_once(count)
    calibration = calibration_of(net)
    boxes, confs, captions, anchors = [], [], [], []
    for start in range(0, len(texts), chunk):
        few = texts[start : start + chunk]
        rows = torch.zeros(len(few), dtype=torch.long, device=few.device)
        for part, preds in outputs(net, encoded, rows, few):
            index = local_maxima(preds["scores"], [f.shape[2:] for f in preds["feats"]], topk)[:, 0]  # [n, k]
            raw = preds["scores"][:, 0].gather(1, index).float().sigmoid().cpu().numpy()
            conf_here = raw.astype(np.float64) if calibration is None else calibration(raw)
            row, column = np.nonzero(conf_here >= conf)
            if not len(row):
                continue
            captions.append(start + part.start + row)
            confs.append(conf_here[row, column])
            hit = index[torch.from_numpy(row).to(index.device), torch.from_numpy(column).to(index.device)]  # [m]
            if net.guided:  # each caption has its own pyramid
                boxes.append(_own_boxes(net, preds, index, row, column))
            else:
                anchors.append(hit)
    if not confs:
        return CaptionMatches(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))
    if anchors:
        boxes = [_shared_boxes(net, encoded, torch.cat(anchors))]
    extent = encoded.extent[0].cpu().numpy()
    xyxy = to_image(torch.cat(boxes).float().cpu().numpy(), size, extent, canvas).astype(np.float64)
    return _sorted(
        CaptionMatches(xyxy.round(DECIMALS), np.concatenate(confs), np.concatenate(captions).astype(np.int64))
    )


def _shared_boxes(net: GroundingModel, encoded: Encoded, hit: Tensor) -> Tensor:
    """Return the boxes [M, 4] of anchors [M] of a pyramid that all captions share; each anchor is decoded once."""
    assert encoded.head is not None
    unique, back = hit.unique(return_inverse=True)
    shared = {"boxes": encoded.head.boxes, "feats": encoded.head.feats}
    return net.head.boxes_at(shared, unique[None])[0][back]


def _own_boxes(
    net: GroundingModel, preds: dict[str, Any], index: Tensor, row: np.ndarray, column: np.ndarray
) -> Tensor:
    """Return the boxes [M, 4] of anchors index[row, column], each on the pyramid of its row."""
    rows, back = np.unique(row, return_inverse=True)
    at = torch.from_numpy(rows).to(index.device)
    boxes = None if preds["boxes"] is None else preds["boxes"][at]
    decoded = net.head.boxes_at({"boxes": boxes, "feats": [f[at] for f in preds["feats"]]}, index[at])
    return decoded[torch.from_numpy(back).to(index.device), torch.from_numpy(column).to(index.device)]


def _sorted(matches: CaptionMatches) -> CaptionMatches:
    """Drop boxes that are too thin, and sort by confidence; of equals the earlier caption comes first."""
    wide = (matches.boxes[:, 2:] - matches.boxes[:, :2]).min(axis=1) >= SMALLEST_SIDE
    order = np.argsort(-matches.conf, kind="stable")
    order = order[wide[order]]
    return CaptionMatches(matches.boxes[order], matches.conf[order], matches.captions[order])

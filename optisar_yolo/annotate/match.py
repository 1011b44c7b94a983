"""Captions against images: every anchor of an encoded image scored with every caption of a pool.

A network without text-guided rows makes an image's anchors once, and a part of the pool is one matrix product
[captions, D] x [D, anchors] (OptiSAR-Net++, Eq. 4). A network that is guided by the text runs its neck for each
caption.
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
DECIMALS = 2  # of a pixel, in what is written; rounded here so that what is checked is what is written
LEAST_SIDE = 1.0  # pixels; what is thinner after clipping to the image is no box


class Found(NamedTuple):
    """Pairs of a box and a caption that fit each other, the surest first.

    Attributes:
        boxes: float64 [M, 4] xyxy in pixels of the image, inside it.
        conf: float64 [M] confidences, calibrated where the model has a calibration.
        captions: int64 [M] places of the captions in the pool.
    """

    boxes: np.ndarray
    conf: np.ndarray
    captions: np.ndarray

    def least(self, conf: float) -> Found:
        """Keep the pairs of a confidence or more."""
        kept = self.conf >= conf
        return Found(self.boxes[kept], self.conf[kept], self.captions[kept])


def captions_at_once(anchors: int) -> int:
    """Return how many captions are scored at once, so that memory is bounded."""
    return max(1, min(TEXT_BATCH, SCORES // max(anchors, 1)))


@torch.inference_mode()
def match(
    net: GroundingModel,
    scene: Encoded,
    texts: Tensor,
    canvas: tuple[int, int],
    size: tuple[int, int],
    conf: float,
    topk: int,
    chunk: int | None = None,
) -> Found:
    """Score all captions on one image, and keep the boxes that are confident enough.

    Args:
        net: The network, fused for inference.
        scene: One encoded image.
        texts: [T, D] features of the captions.
        canvas: Height and width of the canvas.
        size: Width and height of the image in pixels.
        conf: Least confidence.
        topk: Boxes per caption at most: local maxima of its score map, so that each is another place.
        chunk: Captions at once; by default as many as memory allows (`captions_at_once`). The answer does not depend
            on it.

    Returns:
        The pairs.
    """
    anchors = sum((canvas[0] // int(s)) * (canvas[1] // int(s)) for s in net.stride.tolist())
    chunk = chunk or captions_at_once(anchors)
    calibration = calibration_of(net)
    boxes, confs, said, places = [], [], [], []
    for start in range(0, len(texts), chunk):
        few = texts[start : start + chunk]
        rows = torch.zeros(len(few), dtype=torch.long, device=few.device)
        for part, preds in outputs(net, scene, rows, few):
            index = local_maxima(preds["scores"], [f.shape[2:] for f in preds["feats"]], topk)[:, 0]  # [n, k]
            raw = preds["scores"][:, 0].gather(1, index).float().sigmoid().cpu().numpy()
            sure = raw.astype(np.float64) if calibration is None else calibration(raw)
            row, column = np.nonzero(sure >= conf)
            if not len(row):
                continue
            said.append(start + part.start + row)
            confs.append(sure[row, column])
            hit = index[torch.from_numpy(row).to(index.device), torch.from_numpy(column).to(index.device)]  # [m]
            if net.guided:  # boxes of an expression's own pyramid
                boxes.append(_own_boxes(net, preds, index, row, column))
            else:
                places.append(hit)
    if not confs:
        return Found(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))
    if places:
        boxes = [_shared_boxes(net, scene, torch.cat(places))]
    extent = scene.extent[0].cpu().numpy()
    xyxy = to_image(torch.cat(boxes).float().cpu().numpy(), size, extent, canvas).astype(np.float64)
    return _sorted(Found(xyxy.round(DECIMALS), np.concatenate(confs), np.concatenate(said).astype(np.int64)))


def _shared_boxes(net: GroundingModel, scene: Encoded, hit: Tensor) -> Tensor:
    """Boxes [M, 4] of anchors [M] of a pyramid that all captions share; each anchor is decoded once."""
    assert scene.head is not None
    unique, back = hit.unique(return_inverse=True)
    shared = {"boxes": scene.head.boxes, "feats": scene.head.feats}
    return net.head.boxes_at(shared, unique[None])[0][back]


def _own_boxes(
    net: GroundingModel, preds: dict[str, Any], index: Tensor, row: np.ndarray, column: np.ndarray
) -> Tensor:
    """Boxes [M, 4] of anchors index[row, column], each on the pyramid of its row; other rows are not decoded."""
    rows, back = np.unique(row, return_inverse=True)
    at = torch.from_numpy(rows).to(index.device)
    boxes = None if preds["boxes"] is None else preds["boxes"][at]
    decoded = net.head.boxes_at({"boxes": boxes, "feats": [f[at] for f in preds["feats"]]}, index[at])
    return decoded[torch.from_numpy(back).to(index.device), torch.from_numpy(column).to(index.device)]


def _sorted(found: Found) -> Found:
    """Leave out boxes without area in the image, and put the surest first; of equals the earlier caption."""
    wide = (found.boxes[:, 2:] - found.boxes[:, :2]).min(axis=1) >= LEAST_SIDE
    order = np.argsort(-found.conf, kind="stable")
    order = order[wide[order]]
    return Found(found.boxes[order], found.conf[order], found.captions[order])

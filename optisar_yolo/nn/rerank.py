"""Comparison of candidates: one more look at the best boxes of an expression, side by side, before one is chosen.

Not in the paper. "The leftmost ship" is a claim about all the ships of the image, while a convolutional score judges
each place almost by itself. Here the local maxima of an expression's score map become candidates; every pair of them is
compared by position and size, in the light of the expression, and each candidate's score is corrected by what its
rivals look like. A relation network (Santoro et al., 2017) over a few dozen boxes: its cost does not depend on the
image.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from ultralytics.utils.metrics import bbox_iou

SUPPRESSED = -30.0  # added to the logit of an anchor that is no candidate: it is never the answer
MATCH = 0.5  # IoU from which a candidate stands for an object
GEOMETRY = 5  # x, y, log width, log height, score
PAIR = 7  # differences of x, y and log area, each also saturated, and the overlap along both axes


class Candidates(NamedTuple):
    """The best local maxima of each expression's score map.

    Attributes:
        anchor: [B, T, K] indices.
        boxes: [B, T, K, 4] xyxy in canvas pixels.
        logits: [B, T, K] scores after the comparison.
    """

    anchor: Tensor
    boxes: Tensor
    logits: Tensor


def local_maxima(scores: Tensor, shapes: list[tuple[int, int]], k: int) -> Tensor:
    """Anchors that score highest in their 3 x 3 neighbourhood on their level.

    Args:
        scores: Logits [B, T, A].
        shapes: Rows and columns of the levels, A cells in all.
        k: Number of anchors wanted.

    Returns:
        Indices [B, T, min(k, A)], best first; where there are fewer maxima, other anchors follow.
    """
    b, t, a = scores.shape
    peaks = []
    for level, (h, w) in zip(scores.split([h * w for h, w in shapes], 2), shapes, strict=True):
        level = level.reshape(b, t, h, w)
        highest = F.max_pool2d(level, 3, 1, 1)
        peaks.append(torch.where(level == highest, level, level + SUPPRESSED).flatten(2))
    return torch.cat(peaks, 2).topk(min(k, a), 2).indices


class CandidateComparison(nn.Module):
    """Correct the scores of an expression's candidates by comparing them pairwise.

    Args:
        c: Channels of the cells' features.
        text_dim: Width D of a text feature.
        candidates: Number K of candidates.
        width: Of the hidden layers.
    """

    def __init__(self, c: int, text_dim: int, candidates: int = 24, width: int = 48) -> None:
        super().__init__()
        self.candidates = candidates
        self.look = nn.Linear(c, width)
        self.place = nn.Sequential(nn.Linear(GEOMETRY, width), nn.GELU(), nn.Linear(width, width))
        self.norm = nn.LayerNorm(width)
        self.pair = nn.Linear(PAIR, width)
        self.say = nn.Linear(text_dim, 4 * width)  # scale and shift of a candidate's features and of a pair's
        self.matter = nn.Linear(width, width)  # how much a rival counts: "leftmost ship" is not about airplanes
        self.judge = nn.Sequential(nn.Linear(3 * width, width), nn.GELU(), nn.Linear(width, 1))
        last: Any = self.judge[-1]
        nn.init.zeros_(last.weight)  # at first the comparison changes nothing
        nn.init.zeros_(last.bias)

    def forward(self, feature: Tensor, geometry: Tensor, logits: Tensor, text: Tensor) -> Tensor:
        """Score candidates anew.

        Args:
            feature: Of the candidates' cells [B, T, K, c].
            geometry: Boxes [B, T, K, 4]: centre, 0 to 1 over the unpadded image, and logarithms of width and height
                as shares of it.
            logits: Scores so far [B, T, K].
            text: Adapted texts [B, T, D].

        Returns:
            Logits [B, T, K].
        """
        text = text * text.shape[-1] ** 0.5  # entries of about 1: those of a unit vector would hardly be heard
        scale, shift, pair_scale, pair_shift = self.say(text)[:, :, None].chunk(4, -1)  # [B, T, 1, W] each
        known = torch.cat((geometry, logits.unsqueeze(-1) / 4), -1)
        one = self.norm(self.look(feature) + self.place(known))
        one = F.gelu(one * (1 + scale) + shift)  # [B, T, K, W]
        pairs = self.pair(pair_features(geometry))  # [B, T, K, K, W]: candidate, rival
        pairs = F.gelu(pairs * (1 + pair_scale[:, :, None]) + pair_shift[:, :, None])
        pairs = pairs * torch.sigmoid(self.matter(one))[:, :, None]
        seen = torch.cat((one, pairs.mean(3), pairs.amax(3)), -1)
        return logits + self.judge(seen)[..., 0]


def pair_features(geometry: Tensor) -> Tensor:
    """How each candidate lies to each rival: geometry [B, T, K, 4] to [B, T, K, K, PAIR]."""
    area = geometry[..., 2:].sum(-1, keepdim=True)
    place = torch.cat((geometry[..., :2], area / 4), -1)  # [B, T, K, 3]
    gap = place[:, :, :, None] - place[:, :, None]  # [B, T, K, K, 3]
    half = geometry[..., 2:].exp() / 2
    reach = half[:, :, :, None] + half[:, :, None]  # boxes overlap where the gap is smaller
    overlap = ((reach - gap[..., :2].abs()) / (reach + 1e-6)).clamp(min=0).prod(-1, keepdim=True)
    return torch.cat((gap, (gap * 12).tanh(), overlap), -1)


def comparison_loss(found: Candidates, boxes: Tensor, truth: Tensor) -> Tensor:
    """Of the corrected scores: cross-entropy over an expression's candidates, and binary cross-entropy on each.

    Args:
        found: The candidates.
        boxes: Objects [B, n, 4] xyxy in canvas pixels, padded with zeros.
        truth: [B, n, T] 1 the expression means the object, 0 it does not, -1 it may.

    Returns:
        The sum of both: the first is the mean over the expressions one of whose candidates is right, the second is
        normalised by the candidates that are right, as YOLO's classification loss is.
    """
    logits = found.logits.float()
    b, t, k = logits.shape
    n = boxes.shape[1]
    if n == 0:
        return F.softplus(logits).sum()
    iou = bbox_iou(found.boxes.reshape(b, t * k, 1, 4), boxes[:, None], xywh=False)[..., 0].view(b, t, k, n)
    iou = iou * (boxes.sum(-1) > 0)[:, None, None]
    hit = iou >= MATCH
    told = truth.transpose(1, 2)[:, :, None]  # [B, T, 1, n]
    right = (hit & (told > 0)).any(-1)
    doubtful = (hit & (told < 0)).any(-1) & ~right
    target = torch.where(right, (iou * (told > 0)).amax(-1), torch.zeros_like(logits))
    each = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * ~doubtful
    loss = each.sum() / target.sum().clamp(min=1)
    asked = right.any(-1)
    if asked.any():
        everything = logits.masked_fill(doubtful, SUPPRESSED).logsumexp(-1)
        own = logits.masked_fill(~right, SUPPRESSED).logsumexp(-1)
        loss = loss + (everything - own)[asked].mean()
    return loss

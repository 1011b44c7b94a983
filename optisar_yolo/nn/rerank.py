"""Reranker: the best boxes of an expression are compared with each other before one is chosen.

Not in the paper. "The leftmost ship" is a statement about all ships of the image, while a convolutional score depends
on little more than one place. A relation network (Santoro et al., 2017) over a few dozen boxes corrects the scores; its
cost does not depend on the image size. For B images, T expressions and K candidates:

1. Candidates: the K best local maxima of each score map [B, T, A] (:func:`local_maxima`).
2. Each candidate's region feature, geometry and score become a vector [B, T, K, W].
3. Each pair of candidates becomes a vector of relative positions and sizes [B, T, K, K, W].
4. The expression scales and shifts both (FiLM, Perez et al., 2018).
5. Each pair is multiplied by a gate of its second candidate, the rival, then averaged and maximised over the rivals.
6. A scorer adds a correction to each candidate's logit: [B, T, K].

The loss is :func:`rerank_loss`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from ultralytics.utils.metrics import bbox_iou

SUPPRESSED = -30.0  # added to the logit of an anchor that is no candidate, so that it is never the best
MATCH = 0.5  # IoU from which a candidate counts as a detection of an object
GEOMETRY = 5  # x, y, log width, log height, score
PAIR = 7  # differences of x, y and log area, each also saturated, and the overlap

OLD_NAMES = {
    "look": "embed_feature",
    "place": "embed_geometry",
    "pair": "embed_pair",
    "say": "film",
    "matter": "gate",
    "judge": "scorer",
}
"""Layers by the names in earlier weights files and checkpoints, the bundled ones among them, to those of today."""


class Candidates(NamedTuple):
    """The best local maxima of each expression's score map.

    Attributes:
        anchor: [B, T, K] indices.
        boxes: [B, T, K, 4] xyxy in canvas pixels.
        logits: [B, T, K] scores after reranking.
    """

    anchor: Tensor
    boxes: Tensor
    logits: Tensor


def local_maxima(scores: Tensor, shapes: list[tuple[int, int]], k: int) -> Tensor:
    """Return the anchors that score highest in their 3 x 3 neighbourhood on their level.

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


class CandidateReranker(nn.Module):
    """Correct the scores of an expression's candidates by comparing them pairwise; see the steps above.

    Args:
        c: Channels of the region features.
        text_dim: Width D of a text feature.
        candidates: Number K of candidates.
        width: Width W of the hidden layers.
    """

    def __init__(self, c: int, text_dim: int, candidates: int = 24, width: int = 48) -> None:
        super().__init__()
        self.candidates = candidates
        self.embed_feature = nn.Linear(c, width)
        self.embed_geometry = nn.Sequential(nn.Linear(GEOMETRY, width), nn.GELU(), nn.Linear(width, width))
        self.norm = nn.LayerNorm(width)
        self.embed_pair = nn.Linear(PAIR, width)
        self.film = nn.Linear(text_dim, 4 * width)  # scale and shift of a candidate's vector and of a pair's
        self.gate = nn.Linear(width, width)  # weight of a rival: airplanes are no rivals for "the leftmost ship"
        self.scorer = nn.Sequential(nn.Linear(3 * width, width), nn.GELU(), nn.Linear(width, 1))
        last: Any = self.scorer[-1]
        nn.init.zeros_(last.weight)  # before training the correction is 0
        nn.init.zeros_(last.bias)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open checkpoints that were pickled with the layers' old names."""
        modules = {OLD_NAMES.get(name, name): module for name, module in state["_modules"].items()}
        super().__setstate__(state | {"_modules": modules})

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Accept weights with the layers' old names."""
        for key in [k for k in state_dict if k.startswith(prefix)]:
            name, dot, rest = key.removeprefix(prefix).partition(".")
            if name in OLD_NAMES:
                state_dict[f"{prefix}{OLD_NAMES[name]}{dot}{rest}"] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, feature: Tensor, geometry: Tensor, logits: Tensor, text: Tensor) -> Tensor:
        """Rescore candidates.

        Args:
            feature: Region features of the candidates' cells [B, T, K, c].
            geometry: Boxes [B, T, K, 4]: centre, 0 to 1 over the unpadded image, and logarithms of width and height
                as shares of it.
            logits: Scores so far [B, T, K].
            text: Adapted texts [B, T, D].

        Returns:
            Logits [B, T, K].
        """
        text = text * text.shape[-1] ** 0.5  # entries of about 1: those of a unit vector would have little effect
        scale, shift, pair_scale, pair_shift = self.film(text)[:, :, None].chunk(4, -1)  # [B, T, 1, W] each
        known = torch.cat((geometry, logits.unsqueeze(-1) / 4), -1)
        one = self.norm(self.embed_feature(feature) + self.embed_geometry(known))
        one = F.gelu(one * (1 + scale) + shift)  # [B, T, K, W]
        pairs = self.embed_pair(pair_features(geometry))  # [B, T, K, K, W]: candidate, rival
        pairs = F.gelu(pairs * (1 + pair_scale[:, :, None]) + pair_shift[:, :, None])
        pairs = pairs * torch.sigmoid(self.gate(one))[:, :, None]
        pooled = torch.cat((one, pairs.mean(3), pairs.amax(3)), -1)
        return logits + self.scorer(pooled)[..., 0]


def pair_features(geometry: Tensor) -> Tensor:
    """Compare positions and sizes of each candidate and each rival: [B, T, K, 4] to [B, T, K, K, PAIR]."""
    area = geometry[..., 2:].sum(-1, keepdim=True)
    place = torch.cat((geometry[..., :2], area / 4), -1)  # [B, T, K, 3]
    gap = place[:, :, :, None] - place[:, :, None]  # [B, T, K, K, 3]
    half = geometry[..., 2:].exp() / 2
    reach = half[:, :, :, None] + half[:, :, None]  # boxes overlap where the gap is smaller
    overlap = ((reach - gap[..., :2].abs()) / (reach + 1e-6)).clamp(min=0).prod(-1, keepdim=True)
    return torch.cat((gap, (gap * 12).tanh(), overlap), -1)


def rerank_loss(found: Candidates, boxes: Tensor, truth: Tensor) -> Tensor:
    """Return the loss of the reranked scores: cross-entropy over the candidates plus binary cross-entropy on each.

    Args:
        found: The candidates.
        boxes: Objects [B, n, 4] xyxy in canvas pixels, padded with zeros.
        truth: [B, n, T] 1 the expression refers to the object, 0 it does not, -1 undecided.

    Returns:
        The sum of both. The first is the mean over the expressions with at least one correct candidate. The second is
        divided by the sum of its targets, as YOLO's classification loss is.
    """
    logits = found.logits.float()
    b, t, k = logits.shape
    n = boxes.shape[1]
    if n == 0:
        return F.softplus(logits).sum()
    iou = bbox_iou(found.boxes.reshape(b, t * k, 1, 4), boxes[:, None], xywh=False)[..., 0].view(b, t, k, n)
    iou = iou * (boxes.sum(-1) > 0)[:, None, None]
    hit = iou >= MATCH
    label = truth.transpose(1, 2)[:, :, None]  # [B, T, 1, n]
    correct = (hit & (label > 0)).any(-1)  # [B, T, K]
    undecided = (hit & (label < 0)).any(-1) & ~correct
    target = torch.where(correct, (iou * (label > 0)).amax(-1), torch.zeros_like(logits))
    each = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * ~undecided
    loss = each.sum() / target.sum().clamp(min=1)
    answerable = correct.any(-1)  # [B, T]
    if answerable.any():
        everything = logits.masked_fill(undecided, SUPPRESSED).logsumexp(-1)
        own = logits.masked_fill(~correct, SUPPRESSED).logsumexp(-1)
        loss = loss + (everything - own)[answerable].mean()
    return loss

"""Boxes of a few anchors without a box map: the box branch is run in the 5 x 5 cells that each anchor's box depends on.

YOLO's box branch is two 3x3 convolutions and a 1x1 one, over all cells of all levels. One answer needs one anchor.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

REACH = 2  # cells on each side that two 3x3 convolutions see
SIDE = 2 * REACH + 1
COST = 27  # cells that one anchor costs: 3 x 3 of the first convolution, on each of three levels


def distributions_at(branches: nn.ModuleList, feats: list[Tensor], index: Tensor) -> Tensor:
    """Box distributions of some anchors, equal to those of the branches' whole maps.

    Every anchor is computed on every level and the level that it belongs to is kept: no shape depends on the values.

    Args:
        branches: Box branches of the levels, with their norms folded: Conv 3x3, Conv 3x3, 1x1.
        feats: Maps of the levels [B, C_i, H_i, W_i].
        index: Anchors [B, N], counted over all levels.

    Returns:
        [B, 4 * reg_max, N].
    """
    start, kept = 0, None
    for branch, f in zip(branches, feats, strict=True):
        size = f.shape[2] * f.shape[3]
        local = (index - start).clamp(0, size - 1)
        found = _run(branch, *_windows(f, local)).view(*index.shape, -1).transpose(1, 2)
        kept = found if kept is None else torch.where((index >= start)[:, None], found, kept)
        start += size
    assert kept is not None
    return kept


def _windows(f: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Cut windows out of f [B, C, H, W] around cells [B, N]: [B * N, C, 5, 5], zero beyond the map, and where it is."""
    b, c, h, w = f.shape
    step = torch.arange(-REACH, REACH + 1, device=f.device)
    y = torch.div(index, w, rounding_mode="floor")[..., None] + step  # [B, N, 5]
    x = (index % w)[..., None] + step
    inside = ((y >= 0) & (y < h))[..., :, None] & ((x >= 0) & (x < w))[..., None, :]  # [B, N, 5, 5]
    cell = y.clamp(0, h - 1)[..., :, None] * w + x.clamp(0, w - 1)[..., None, :]
    flat = cell.reshape(b, 1, -1).expand(-1, c, -1)
    cut = f.flatten(2).gather(2, flat).view(b, c, -1, SIDE, SIDE).transpose(1, 2).reshape(-1, c, SIDE, SIDE)
    mask = inside.view(-1, 1, SIDE, SIDE).to(f.dtype)
    return cut * mask, mask


def _run(branch: Any, cut: Tensor, mask: Tensor) -> Tensor:  # noqa: ANN401
    """Run a box branch on windows [M, C, 5, 5]: [M, 4 * reg_max]."""
    first, second, last = branch
    inner = first.act(F.conv2d(cut, first.conv.weight, first.conv.bias))  # [M, c, 3, 3]
    inner = inner * mask[:, :, 1:-1, 1:-1]  # the second convolution pads with zeros, not with what the first says there
    return last(second.act(F.conv2d(inner, second.conv.weight, second.conv.bias))).flatten(1)

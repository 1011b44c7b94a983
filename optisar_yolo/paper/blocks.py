"""Blocks that the authors' released weights need, and that no other network here has.

* :class:`FittedPLMoE`: PL-MoE with the patch rule of the release. The release aims at a number of patches per side and
  takes, for each side of the map by itself, the divisor nearest to that. Sides without a fitting divisor get patches of
  1: at 640 px (a map of 20 x 20) patches are 2 x 2, at 608 px (19 x 19) they are single pixels, which the 3x3
  convolutions cannot look beyond.
* :class:`ClosedTGDFSSA`: TGDF-SSA whose gates are 0. Its factor of Eq. 7 is then exactly 1 for every expression and
  everywhere, so that only the convolution of the values remains and the pyramid is the same for all expressions.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from ultralytics.nn.modules.block import Bottleneck
from ultralytics.nn.modules.conv import Conv

from optisar_yolo.nn import LowRankExperts, MoEBlock, PLMoE, SpatialShuffleAttention

LARGEST = 32  # side of a patch; reached by maps of 640 cells and more


def fitted_side(size: int, smallest: int, per_side: int) -> int:
    """Side of the patches along a side of the map.

    Args:
        size: Cells of the map along this side.
        smallest: Wanted at least.
        per_side: Patches aimed at.

    Returns:
        The divisor of size nearest to ``size // per_side`` (within ``smallest`` and ``LARGEST``), the smaller one of
        two that are equally near.
    """
    ideal = max(smallest, min(LARGEST, size // per_side))
    divisors = (d for d in range(1, 2 * ideal) if size % d == 0)  # 1 is as far below as the last of them is above
    return min(divisors, key=lambda d: (abs(d - ideal), d))


def convolve_patches(x: Tensor, weight: Tensor, patch: tuple[int, int]) -> Tensor:
    """Convolve 3x3 with zero padding inside each patch: x [B, c1, H, W] and weight [c2, c1, 3, 3] to [B, c2, H, W]."""
    b, c, h, w = x.shape
    ph, pw = patch
    gh, gw = h // ph, w // pw
    x = x.view(b, c, gh, ph, gw, pw).permute(0, 2, 4, 1, 3, 5).reshape(-1, c, ph, pw)
    y = F.conv2d(x, weight.to(x.dtype), padding=1)  # [B * gh * gw, c2, ph, pw]
    return y.view(b, gh, gw, -1, ph, pw).permute(0, 3, 1, 4, 2, 5).reshape(b, -1, h, w)


class FittedExperts(LowRankExperts):
    """:class:`~optisar_yolo.nn.plmoe.LowRankExperts` for patches of any sides; those of p x p are convolved fastest."""

    def convolve(self, conv: Any, x: Tensor, patch: tuple[int, int]) -> Tensor:
        """Convolve inside the patches, in the fast way where they are square and of the expected side."""
        return conv(x) if patch == (conv.patch, conv.patch) else convolve_patches(x, conv.weight, patch)


class FittedMoEBlock(MoEBlock):
    """A :class:`~optisar_yolo.nn.plmoe.MoEBlock` whose patches follow the map's size; p is the smallest side aimed at.

    Attributes:
        per_side: Patches per side of the map that are aimed at.
    """

    mixer = FittedExperts
    per_side = 20

    def mixture(self, v: Tensor) -> Tensor:
        """Route and process the patches of v [B, C, H, W]."""
        if torch.jit.is_tracing():
            raise ValueError(
                "the released patch rule follows the image's size, which is free in an exported graph: import the "
                "authors' weights with fixed_patch=True"
            )
        height, width = (fitted_side(int(side), self.patch, self.per_side) for side in v.shape[2:])
        gates = self.route(F.avg_pool2d(v, (height, width)))
        return self.experts(v, gates, (height, width))


class FittedPLMoE(PLMoE):
    """A :class:`~optisar_yolo.nn.plmoe.PLMoE` of :class:`FittedMoEBlock`.

    Args:
        *arguments: All those of ``PLMoE``, then ``per_side`` of the blocks.
    """

    block = FittedMoEBlock

    def __init__(self, *arguments: Any) -> None:
        *same, per_side = arguments
        super().__init__(*same)
        for block in self.m:
            block.per_side = per_side


class ClosedTGDFSSA(nn.Module):
    """C2f-like block: SSA, split, bottlenecks, convolution of the last, concatenate, 1x1 convolution.

    Its tensors have the names of :class:`~optisar_yolo.nn.tgdf.TGDFSSA`, but for ``value``, which is ``attn.value``
    there.

    Args:
        c1: Input channels.
        c2: Output channels.
        n: Number of bottlenecks.
        groups: Groups of the shuffle attention.
    """

    def __init__(self, c1: int, c2: int, n: int = 1, groups: int = 32) -> None:
        super().__init__()
        c = c2 // 2
        self.ssa = SpatialShuffleAttention(c1, groups)
        self.cv1 = Conv(c1, 2 * c, 1)
        self.cv2 = Conv((3 + n) * c, c2, 1)
        self.m = nn.ModuleList(Bottleneck(c, c, True, k=(3, 3), e=0.5) for _ in range(n))
        self.value = Conv(c, c, 3, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, c1, H, W] to [B, c2, H, W]."""
        y = list(self.cv1(self.ssa(x)).chunk(2, 1))
        for block in self.m:
            y.append(block(y[-1]))
        return self.cv2(torch.cat((*y, self.value(y[-1])), 1))

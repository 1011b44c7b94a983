"""TGDF-SSA without its text: what is left of it where its gates are at zero.

A gate at zero makes the factor of Eq. 7 exactly 1, for every expression and everywhere, so that only the convolution of
the values remains (``value``), and the pyramid is the same for all expressions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from ultralytics.nn.modules.block import Bottleneck
from ultralytics.nn.modules.conv import Conv

from optisar_yolo.nn import SpatialShuffleAttention


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

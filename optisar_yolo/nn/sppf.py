"""Spatial pyramid pooling as the authors' release has it: YOLO11's without the activation of its first convolution."""

from __future__ import annotations

from torch import nn
from ultralytics.nn.modules.block import SPPF


class LinearSPPF(SPPF):
    """SPPF whose first convolution is linear, in every version of ultralytics.

    Args:
        c1: Input channels.
        c2: Output channels.
        k: Side of the pooled window.
    """

    def __init__(self, c1: int, c2: int, k: int = 5) -> None:
        super().__init__(c1, c2, k)
        self.cv1.act = nn.Identity()

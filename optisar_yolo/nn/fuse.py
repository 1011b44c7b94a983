"""Fusing for inference: whatever does not depend on the input is computed once, when the network is loaded.

Ultralytics' ``fuse`` folds batch norms into the convolutions it knows. :func:`fuse_parts` does the rest:

1. PL-MoE: patch convolutions become dense convolutions with their norms folded in (:class:`DensePatchConv`).
2. TGDF-SSA: the shuffle attention becomes one factor per channel (:class:`ChannelFactors`). The next 1x1 convolution
   takes over the shuffles, and the last one is split, so that only the text's part of it runs per expression
   (:class:`FusedTGDFSSA`).
3. Head: norm and scale are folded into one small matrix per level (:class:`FusedContrastiveHead`), region branches are
   removed, and the box branches run for chosen anchors only (:func:`optisar_yolo.nn.head.distributions_at`).

The fused network gives the same outputs up to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from ultralytics.utils.torch_utils import fuse_conv_and_bn

from optisar_yolo.nn.head import ContrastiveHead, GroundingDetect
from optisar_yolo.nn.plmoe import DualAdaptiveAttention, LowRankExperts, PatchConv
from optisar_yolo.nn.precision import upcast
from optisar_yolo.nn.tgdf import TGDFSSA, SpatialShuffleAttention


class DensePatchConv(nn.Module):
    """A :class:`~optisar_yolo.nn.plmoe.PatchConv` and its norm as one convolution of kernel and stride p.

    Args:
        conv: The patch convolution.
        norm: The norm after it.
    """

    def __init__(self, conv: PatchConv, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        gain, shift = _affine(norm)
        cells = conv.patch**2
        self.patch = conv.patch
        self.kernel: Tensor
        self.bias: Tensor
        self.register_buffer("kernel", conv.dense() * gain.repeat_interleave(cells)[:, None, None, None])
        self.register_buffer("bias", shift.repeat_interleave(cells))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and normalise x [B, c1, H, W] to [B, c2, H, W]."""
        return F.pixel_shuffle(F.conv2d(x, self.kernel, self.bias, stride=self.patch), self.patch)


class FusedContrastiveHead(nn.Module):
    """A :class:`~optisar_yolo.nn.head.ContrastiveHead` whose norm and scale are folded into its matrix.

    Args:
        head: The head, with running statistics.
    """

    def __init__(self, head: ContrastiveHead) -> None:
        super().__init__()
        norm: Any = head.norm
        embed: Any = head.embed
        gain, shift = _affine(norm)
        scale = head.logit_scale.exp()
        self.weight: Tensor
        self.offset: Tensor
        self.bias: Tensor
        self.register_buffer("weight", embed.weight.flatten(1) * gain[:, None] * scale)  # [D, c]
        self.register_buffer("offset", (embed.bias * gain + shift) * scale)  # [D]
        self.register_buffer("bias", head.bias.detach().clone())

    def forward(self, f: Tensor, text: Tensor) -> Tensor:
        """Map features [B, c, H, W] and unit texts [B, T, D] to logits [B, T, H * W]."""
        with torch.autocast(f.device.type, enabled=False):
            text = upcast(text)
            offset = (text @ self.offset + self.bias).unsqueeze(-1)
            return torch.baddbmm(offset, text @ self.weight, upcast(f).flatten(2))


class ChannelFactors(nn.Module):
    """The factors by which :class:`~optisar_yolo.nn.tgdf.SpatialShuffleAttention` multiplies its input channels.

    Its shuffles only reorder channels, and the next layer's weights take over the order.

    Args:
        ssa: The attention.
        channels: Channels of its map.
    """

    def __init__(self, ssa: SpatialShuffleAttention, channels: int) -> None:
        super().__init__()
        shuffled = (
            torch.arange(channels, device=ssa.weight_max.device).view(ssa.groups, 2, -1).transpose(1, 2)
        )  # the first shuffle, group by group
        first, second = shuffled.reshape(ssa.groups, 2, -1).unbind(1)  # [G, C / 2G] input channels of the two halves
        self.order = torch.stack((first, second), 1).view(2, -1).T.flatten()  # input channel of each output channel
        self.partner = self._both(first, second, second, first)  # each gates the other
        yes = torch.ones_like(first, dtype=torch.bool)
        self.maximum = self._both(first, second, yes, ~yes)
        self.weight = self._both(first, second, ssa.weight_max.detach().flatten(), ssa.weight_avg.detach().flatten())
        self.bias = self._both(first, second, ssa.bias_max.detach().flatten(), ssa.bias_avg.detach().flatten())
        for name in ("order", "partner", "maximum", "weight", "bias"):
            self.register_buffer(name, self.__dict__.pop(name))

    @staticmethod
    def _both(first: Tensor, second: Tensor, of_first: Tensor, of_second: Tensor) -> Tensor:
        """Return values [C] of all channels from those of the two halves."""
        values = torch.empty(first.numel() + second.numel(), dtype=of_first.dtype, device=of_first.device)
        values[first], values[second] = of_first, of_second
        return values

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, C, H, W] to factors [B, C, 1, 1]."""
        pooled = torch.where(self.maximum, x.amax((2, 3))[:, self.partner], x.mean((2, 3))[:, self.partner])
        return torch.sigmoid(self.weight * pooled + self.bias)[..., None, None]


class FusedTGDFSSA(TGDFSSA):
    """A :class:`~optisar_yolo.nn.tgdf.TGDFSSA` with the shuffles in its weights, and all but the text in ``shared``.

    Args:
        block: The block; ultralytics has fused its convolutions.
    """

    def __init__(self, block: TGDFSSA) -> None:
        nn.Module.__init__(self)
        conv: Any = block.cv1.conv
        last: Any = block.cv2.conv
        attn: Any = block.attn
        self.c, self.cv1, self.m, self.attn, self.act = block.c, block.cv1, block.m, block.attn, block.cv2.act
        self.factors = ChannelFactors(block.ssa, conv.in_channels)
        known = last.in_channels - self.c
        where = last.weight.device
        # the part of the last convolution that needs no text
        self.before = nn.Conv2d(known, last.out_channels, 1, device=where)
        self.after = nn.Conv2d(self.c, last.out_channels, 1, bias=False, device=where)
        weight = conv.weight.detach().clone()
        conv.weight.data[:, self.factors.order] = weight
        self.before.weight.data, self.after.weight.data = last.weight.data.split([known, self.c], 1)
        self.before.bias.data = last.bias.data  # type: ignore[union-attr]
        self.sizes = [last.out_channels, self.c, attn.guide[-1].normalized_shape[0]]

    def shared(self, x: Tensor) -> Tensor:
        """Run the part without text: [B, c1, H, W] to its part of the output, values and embeddings, concatenated."""
        y = list(self.cv1(x * self.factors(x)).chunk(2, 1))
        for block in self.m:
            y.append(block(y[-1]))
        return torch.cat((self.before(torch.cat(y, 1)), self.attn.value(y[-1]), self.attn.embed(y[-1])), 1)

    def guided(self, y: Tensor, text: Tensor) -> Tensor:
        """Run the part with text: the map of :meth:`shared` and texts [B, T, D] to [B, c2, H, W]."""
        known, value, embedding = y.split(self.sizes, 1)
        return self.act(known + self.after(self.attn.modulate(value, embedding, text)))


@torch.no_grad()
def fuse_parts(root: nn.Module) -> None:
    """Replace the parts of a network by their fused forms.

    Args:
        root: The network in evaluation mode, with the convolutions that ultralytics fuses; changed in place.
    """
    for parent in list(root.modules()):
        if type(parent) is LowRankExperts:  # not a subclass, whose patches follow the map's size
            parent.conv1, parent.norm1 = DensePatchConv(parent.conv1, parent.norm1), nn.Identity()  # type: ignore[assignment]
            parent.conv2, parent.norm2 = DensePatchConv(parent.conv2, parent.norm2), nn.Identity()  # type: ignore[assignment]
        elif isinstance(parent, DualAdaptiveAttention):
            parent.spatial[0], parent.spatial[1] = fuse_conv_and_bn(parent.spatial[0], parent.spatial[1]), nn.Identity()
        elif isinstance(parent, GroundingDetect):
            parent.cv4 = nn.ModuleList(FusedContrastiveHead(h) for h in parent.cv4)  # type: ignore[arg-type]
            parent.regions = nn.ModuleList()  # used in training only
            parent.windows = True
        for name, child in parent.named_children():
            if type(child) is TGDFSSA:
                setattr(parent, name, _as_row(FusedTGDFSSA(child), child))
    root.requires_grad_(False)


def _as_row(new: Any, old: Any) -> nn.Module:  # noqa: ANN401
    """Give a module the row number and inputs of the one it replaces."""
    new.i, new.f, new.type, new.np = old.i, old.f, old.type, old.np
    return new.eval()


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return factor and summand [C] of a norm with its running statistics."""
    mean: Any = norm.running_mean
    var: Any = norm.running_var
    gain = norm.weight / (var + norm.eps).sqrt()
    return gain.detach(), (norm.bias - mean * gain).detach()

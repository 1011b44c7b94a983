"""Text-guided dual-gate fusion with spatial shuffle attention (TGDF-SSA).

OptiSAR-Net++, Sect. III-D, Eq. 5-7. For a map [B, c1, H, W] and texts [B, T, D]:

1. SSA (:class:`SpatialShuffleAttention`): channels are interleaved within each group; each half of a group is gated by
   the other half, pooled (the first by the maximum of the second, the second by the mean of the first); all channels
   are interleaved once more, which is not the inverse (as in the release).
2. As in C2f: a 1x1 convolution to two halves of c = c2 / 2 channels, n bottlenecks on the second.
3. Text branch on the last map x (:class:`DualGateFusion`), with h heads of width d: image embedding f [B, h, d, H, W]
   by a 1x1 convolution (none where c = ec = 256), guides g [B, T, h, d] by an MLP.
   Eq. 5: a = max_t <f, g_t>, per head and pixel. Eq. 6: attention = sigmoid(a / tau + b).
   Eq. 7, with an attention gate alpha and a feature gate beta per head: w = 1 + alpha * (attention - 1),
   v = conv3x3(x), output = v + beta * (w * v - v).
4. All maps are concatenated, and a 1x1 convolution gives [B, c2, H, W].

Steps 1 and 2 need no text and run once per image (:meth:`TGDFSSA.shared`).

Deviations from the authors' release:

* the optional scale s of Eq. 6 is left out;
* both gates start at 1, not 0. At (0, 0) each gate's gradient is multiplied by the other gate, so the release's text
  never reaches the pyramid (``gate_init=0`` reproduces it);
* each row of the batch is guided by one expression, in training and in inference. With several texts (T > 1), Eq. 5
  makes the prediction for one expression depend on the others; the model uses it with ``guide=union`` alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from ultralytics.nn.modules.block import Bottleneck
from ultralytics.nn.modules.conv import Conv


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave channels: [B, groups * k, H, W] read as groups x k is written as k x groups."""
    b, c, h, w = x.shape
    return x.view(b, groups, c // groups, h, w).transpose(1, 2).reshape(b, c, h, w)


class SpatialShuffleAttention(nn.Module):
    """Spatial shuffle attention (SSA of OptiSAR-Net): the two halves of each channel group gate each other.

    Each half is gated by the pooled other half, and the closing shuffle runs over all channels, as in the release.

    Args:
        c: Channels, a multiple of 2 * groups.
        groups: Channel groups.
        dropout: Dropout rate of the gates.
    """

    def __init__(self, c: int, groups: int = 32, dropout: float = 0.01) -> None:
        super().__init__()
        if c % (2 * groups):
            raise ValueError(f"SpatialShuffleAttention: {c} channels do not divide into {groups} groups of two halves")
        self.groups = groups
        half = c // groups // 2
        self.weight_avg = nn.Parameter(torch.zeros(1, half, 1, 1))
        self.weight_max = nn.Parameter(torch.zeros(1, half, 1, 1))
        self.bias_avg = nn.Parameter(torch.ones(1, half, 1, 1))
        self.bias_max = nn.Parameter(torch.ones(1, half, 1, 1))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, C, H, W] to the same shape."""
        b, c, h, w = x.shape
        y = shuffle(x.reshape(b * self.groups, c // self.groups, h, w), 2)
        first, second = y.chunk(2, 1)  # [B*G, C/2G, H, W] each
        by_max = torch.sigmoid(self.weight_max * second.amax((2, 3), keepdim=True) + self.bias_max)
        by_avg = torch.sigmoid(self.weight_avg * first.mean((2, 3), keepdim=True) + self.bias_avg)
        y = torch.cat((first * self.dropout(by_max), second * self.dropout(by_avg)), 1).view(b, c, h, w)
        return shuffle(y, 2)


class DualGateFusion(nn.Module):
    """Text-guided attention with an attention gate and a feature gate per head (Eq. 5-7).

    Args:
        c: Channels of the map.
        text_dim: Width D of a text feature.
        embed: Width ec of the common embedding, split into the heads.
        heads: Number of heads h.
        gate_init: Initial value of both gates.
    """

    def __init__(self, c: int, text_dim: int, embed: int = 256, heads: int = 4, gate_init: float = 1.0) -> None:
        super().__init__()
        self.heads = heads
        self.embed = Conv(c, embed, 1, act=False) if c != embed else nn.Identity()
        self.guide = nn.Sequential(
            nn.Linear(text_dim, 2 * embed),
            nn.LayerNorm(2 * embed),
            nn.GELU(),
            nn.Linear(2 * embed, embed),
            nn.LayerNorm(embed),
        )
        self.value = Conv(c, c, 3, act=False)
        self.bias = nn.Parameter(torch.zeros(heads))
        self.temperature = nn.Parameter(torch.tensor([math.sqrt(embed / heads)]))
        self.attention_gate = nn.Parameter(torch.full((1, heads, 1, 1), gate_init))
        self.feature_gate = nn.Parameter(torch.full((1, heads, 1, 1), gate_init))

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """Fuse a map with its guide.

        Args:
            x: Map [B, C, H, W].
            text: Text features [B, T, D]; T = 1 in this model.

        Returns:
            Map [B, C, H, W].
        """
        return self.modulate(self.value(x), self.embed(x), text)

    def modulate(self, value: Tensor, embedding: Tensor, text: Tensor) -> Tensor:
        """Multiply values [B, C, H, W] by the attention between embedding [B, ec, H, W] and texts [B, T, D]."""
        b, c, h, w = value.shape
        f = embedding.view(b, self.heads, -1, h * w)  # [B, heads, d, HW]
        g = self.guide(text).view(b, text.shape[1], self.heads, -1).permute(0, 2, 1, 3)  # [B, heads, T, d]
        a = (g.to(f.dtype) @ f).amax(2).view(b, self.heads, h, w)  # Eq. 5
        a = torch.sigmoid(a / self.temperature + self.bias[:, None, None])  # Eq. 6
        v = value.view(b, self.heads, -1, h, w)
        # Eq. 7: out = v + beta * (w * v - v) with w = 1 + alpha * (a - 1), that is one factor per head and pixel
        factor = 1 + self.feature_gate * self.attention_gate * (a - 1)
        return (v * factor.unsqueeze(2).to(v.dtype)).view(b, c, h, w)


class TGDFSSA(nn.Module):
    """The whole block (rows 16, 19 and 22 of the network), see the steps above.

    Args:
        c1: Input channels.
        c2: Output channels.
        n: Number of bottlenecks.
        text_dim: Width D of a text feature.
        embed: Width of the common embedding.
        heads: Number of heads.
        groups: Groups of the shuffle attention.
        gate_init: Initial value of both fusion gates.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        n: int = 1,
        text_dim: int = 512,
        embed: int = 256,
        heads: int = 4,
        groups: int = 32,
        gate_init: float = 1.0,
    ) -> None:
        super().__init__()
        self.c = c2 // 2
        self.ssa = SpatialShuffleAttention(c1, groups)
        self.cv1 = Conv(c1, 2 * self.c, 1)
        self.cv2 = Conv((3 + n) * self.c, c2, 1)
        self.m = nn.ModuleList(Bottleneck(self.c, self.c, True, k=(3, 3), e=0.5) for _ in range(n))
        self.attn = DualGateFusion(self.c, text_dim, embed, heads, gate_init)

    def shared(self, x: Tensor) -> Tensor:
        """Run the part without text: [B, c1, H, W] to the concatenation [B, (2 + n) * c2 / 2, H, W]."""
        y = list(self.cv1(self.ssa(x)).chunk(2, 1))
        for block in self.m:
            y.append(block(y[-1]))
        return torch.cat(y, 1)

    def guided(self, y: Tensor, text: Tensor) -> Tensor:
        """Run the part with text: shared map [B, (2 + n) * c2 / 2, H, W] and texts [B, T, D] to [B, c2, H, W]."""
        return self.cv2(torch.cat((y, self.attn(y[:, -self.c :], text)), 1))

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """Map x [B, c1, H, W] and texts [B, T, D] to [B, c2, H, W]."""
        return self.guided(self.shared(x), text)

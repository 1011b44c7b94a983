"""Patch-level mixture of experts with low-rank adapters (PL-MoE).

OptiSAR-Net++, Sect. III-B, Eq. 1-3. For a map [B, C, H, W] and E experts:

1. CSP split as in C2f: a 1x1 convolution to two halves of c channels; the n blocks below run on the second half; all
   halves are concatenated and a 1x1 convolution closes (:class:`PLMoE`).
2. u = x + s1 * DAA(BN(x)), the dual adaptive attention with a layer scale (Eq. 2). Steps 3-6 compute
   y = u + s2 * MoE(BN(u)) (Eq. 3) (:class:`MoEBlock`).
3. The map is cut into p x p patches; a patch's descriptor g [c] is its mean.
4. Router (:class:`CosineGate`): logits = cos(W g, S) * exp(min(tau, ln 100)), plus learned noise in training; a softmax
   over the top k gives the gate weights [B, E, H/p, W/p].
5. Expert i (Eq. 1, :class:`LowRankExperts`): a shared convolution, then h + gamma * B_i A_i h on its output h. This is
   done twice: 3x3, c to c / 2, BN, SiLU; 3x3, c / 2 to c, BN. All experts share the convolutions, which stay inside the
   patches (:class:`PatchConv`). They differ by A_i [r, c'] and B_i [c', r] alone, with c' = c / 2 and c.
6. The patch's output is the gated sum of its experts. In training the router gets the load-balance loss
   E * sum_i f_i P_i, with f_i the share of patches sent to expert i and P_i its mean probability.

Deviations from the authors' release (``optisar++-official.yaml`` reproduces it, with ``paper/blocks.py``):

* DAA stays in the residual (``daa_residual=True``), as the paper's "progressive feature refinement and residual
  connection" says; the release drops it;
* the adapters have rank 8; the release's 256 exceeds its own channel counts;
* p is constant and the map is padded where p does not divide it; the release falls back to smaller patches
  (``paper/blocks.py``).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from ultralytics.nn.modules.conv import Conv

from optisar_yolo.nn.precision import upcast

BALANCE_COEFFICIENT = 1e-3  # of the load-balance term, from the release; the gain ``moe`` multiplies it
MAX_LOG_SCALE = math.log(100)  # CLIP's bound on a learned temperature


class DualAdaptiveAttention(nn.Module):
    """Dual adaptive attention (DAA of OptiSAR-Net): x times a channel gate and a spatial gate.

    Args:
        c: Channels.
        reduction: Ratio of C to the channels of the gates' hidden layers.
    """

    def __init__(self, c: int, reduction: int = 4) -> None:
        super().__init__()
        hidden = max(c // reduction, 1)
        self.channel = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(c, hidden, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, c, 1),
            nn.Sigmoid(),
        )
        self.spatial = nn.Sequential(
            nn.Conv2d(c, hidden, 1),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, 1, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Multiply x [B, C, H, W] by both gates."""
        return x * self.channel(x) * self.spatial(x)


class CosineGate(nn.Module):
    """Adaptive cosine top-k router (Sect. III-B): logits = cos(W g, S) * exp(min(tau, ln 100)).

    Args:
        c: Channels of a patch descriptor.
        experts: Number of experts E.
        top_k: Experts kept per patch.
    """

    def __init__(self, c: int, experts: int, top_k: int) -> None:
        super().__init__()
        width = min(c // 2, 256)
        self.top_k = top_k
        self.project = nn.Linear(c, width)
        self.experts = nn.Parameter(torch.randn(width, experts) * 0.02)
        self.temperature = nn.Parameter(torch.tensor([math.log(2.0)]))
        self.noise = nn.Parameter(torch.zeros(c, experts))

    def forward(self, g: Tensor) -> tuple[Tensor, Tensor]:
        """Route patch descriptors.

        Args:
            g: Descriptors [N, C] of N patches.

        Returns:
            Gate weights [N, E], zero outside the top k and summing to 1, and the router's probabilities [N, E].
        """
        with torch.autocast(g.device.type, enabled=False):  # cosines and a softmax over near ties need full precision
            g = upcast(g)
            logits = F.normalize(self.project(g), dim=-1) @ F.normalize(self.experts, dim=0)
            logits = logits * self.temperature.clamp(max=MAX_LOG_SCALE).exp()
            noisy = logits
            if self.training:
                noisy = logits + torch.randn_like(logits) * (F.softplus(g @ self.noise) + 0.01)
            top, index = noisy.topk(self.top_k, dim=-1)
            gates = torch.zeros_like(noisy).scatter(-1, index, top.softmax(-1))
            return gates, noisy.softmax(-1)


class PatchConv(nn.Module):
    """A 3x3 convolution inside each p x p patch, with zero padding at the patch's border.

    Inside a patch it is linear in the p*p pixels. It is therefore computed as one convolution of kernel p and stride p
    with p*p*c2 outputs, and a pixel shuffle: exact, and far faster than a loop over patches.

    Args:
        c1: Input channels.
        c2: Output channels.
        patch: Side p of a patch.
    """

    def __init__(self, c1: int, c2: int, patch: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(c2, c1, 3, 3))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))  # the default of nn.Conv2d
        self.patch = patch
        out, into = torch.arange(patch)[:, None], torch.arange(patch)[None]
        tap = into - out + 1  # kernel tap that carries input pixel `into` to output pixel `out`, along one axis
        self.tap: Tensor
        self.near: Tensor
        self.register_buffer("tap", tap.clamp(0, 2), persistent=False)
        self.register_buffer("near", ((tap >= 0) & (tap <= 2)).float(), persistent=False)

    def dense(self) -> Tensor:
        """Return the equivalent kernel [c2*p*p, c1, p, p]."""
        tap, near = self.tap, self.near
        w = self.weight[:, :, tap[:, None, :, None], tap[None, :, None, :]]  # [c2, c1, out y, out x, in y, in x]
        w = w * (near[:, None, :, None] * near[None, :, None, :])
        return w.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)  # ordered as pixel_shuffle expects

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x [B, c1, H, W] (H and W multiples of p) to [B, c2, H, W]."""
        return F.pixel_shuffle(F.conv2d(x, self.dense().to(x.dtype), stride=self.patch), self.patch)


def _pair(c: int, rank: int) -> tuple[nn.Conv2d, nn.Conv2d]:
    """Return the down- and up-projection of a low-rank map of c channels."""
    return nn.Conv2d(c, rank, 1, bias=False), nn.Conv2d(rank, c, 1, bias=False)


class LowRankExperts(nn.Module):
    """Shared convolutions, each followed by h + gamma * sum_i g_i B_i A_i h on its output h (Eq. 1).

    Args:
        c: Channels.
        experts: Number of experts E.
        rank: Rank r of the adapters.
        patch: Side p of a patch.
    """

    def __init__(self, c: int, experts: int, rank: int, patch: int) -> None:
        super().__init__()
        hidden = c // 2
        self.patch, self.rank = patch, rank
        self.conv1, self.norm1 = PatchConv(c, hidden, patch), nn.BatchNorm2d(hidden)
        self.conv2, self.norm2 = PatchConv(hidden, c, patch), nn.BatchNorm2d(c)
        # After each convolution: down A [E*r, C'] and up B [C', E*r]. B starts at 0, so that all experts start equal.
        self.down1, self.up1 = _pair(hidden, experts * rank)
        self.down2, self.up2 = _pair(c, experts * rank)
        self.gamma = nn.Parameter(torch.tensor([0.1]))
        for up in (self.up1, self.up2):
            nn.init.zeros_(up.weight)

    def forward(self, x: Tensor, gates: Tensor, patch: tuple[int, int] | None = None) -> Tensor:
        """Apply the gated experts.

        Args:
            x: Map [B, C, H, W], H and W multiples of the patch's sides.
            gates: Gate weights [B, E, H/p, W/p].
            patch: Sides of a patch; p x p by default.

        Returns:
            Map [B, C, H, W].
        """
        ph, pw = patch = patch or (self.patch, self.patch)
        g = gates.repeat_interleave(self.rank, 1).to(x.dtype)  # [B, E*r, H/p, W/p]
        g = g.repeat_interleave(ph, 2).repeat_interleave(pw, 3)
        h = F.silu(self.norm1(self.convolve(self.conv1, x, patch)))
        h = h + self.gamma * self.up1(self.down1(h) * g)
        y = self.norm2(self.convolve(self.conv2, h, patch))
        return y + self.gamma * self.up2(self.down2(y) * g)

    def convolve(self, conv: nn.Module, x: Tensor, patch: tuple[int, int]) -> Tensor:
        """Convolve inside the patches; a subclass may use other patches than p x p."""
        return conv(x)


class MoEBlock(nn.Module):
    """DAA, then routed low-rank experts, both residual with a per-channel layer scale (Eq. 2-3).

    After a forward in training, ``balance`` holds the load-balance loss and ``gates`` the gate weights [N, E].

    Args:
        c: Channels.
        experts: Number of experts E.
        top_k: Experts per patch.
        rank: Rank of the adapters.
        patch: Side p of a patch.
        daa_residual: Include the output of DAA in the residual of the experts.
    """

    mixer: type[LowRankExperts] = LowRankExperts

    def __init__(self, c: int, experts: int, top_k: int, rank: int, patch: int, daa_residual: bool = True) -> None:
        super().__init__()
        self.patch, self.daa_residual = patch, daa_residual
        self.norm1, self.norm2 = nn.BatchNorm2d(c), nn.BatchNorm2d(c)
        self.scale1, self.scale2 = nn.Parameter(torch.full((c,), 1e-2)), nn.Parameter(torch.full((c,), 1e-2))
        self.daa = DualAdaptiveAttention(c)
        self.gate = CosineGate(c, experts, top_k)
        self.experts = self.mixer(c, experts, rank, patch)
        self.balance: Tensor | None = None
        self.gates: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, C, H, W] to the same shape."""
        u = x + self.scale1[:, None, None] * self.daa(self.norm1(x))
        y = self.mixture(self.norm2(u))
        return (u if self.daa_residual else x) + self.scale2[:, None, None] * y

    def mixture(self, v: Tensor) -> Tensor:
        """Route and process the patches of v [B, C, H, W]."""
        _, _, h, w = v.shape
        p = self.patch
        v = F.pad(v, (0, -w % p, 0, -h % p), mode="replicate")  # zeros would look like an edge
        return self.experts(v, self.route(F.avg_pool2d(v, p)))[..., :h, :w]

    def route(self, g: Tensor) -> Tensor:
        """Map patch descriptors [B, C, H/p, W/p] to gate weights [B, E, H/p, W/p]."""
        b, c, gh, gw = g.shape
        gates, probability = self.gate(g.permute(0, 2, 3, 1).reshape(-1, c))
        if self.training:
            # E * sum_i f_i P_i over all patches of the batch (Switch Transformer); its minimum is top_k
            share = (gates > 0).float().mean(0)
            self.balance = BALANCE_COEFFICIENT * gates.shape[1] * (share * probability.mean(0)).sum()
            self.gates = gates.detach()
        return gates.view(b, gh, gw, -1).permute(0, 3, 1, 2)


class PLMoE(nn.Module):
    """CSP block around :class:`MoEBlock` (row 8 of the network), see the steps above.

    Args:
        c1: Input channels.
        c2: Output channels.
        n: Number of blocks.
        experts: Number of experts E.
        top_k: Experts per patch.
        rank: Rank of the adapters.
        patch: Side p of a patch (2 is the paper's best, Table VI).
        daa_residual: Include the output of DAA in the residual of the experts.
    """

    block: type[MoEBlock] = MoEBlock

    def __init__(
        self,
        c1: int,
        c2: int,
        n: int = 1,
        experts: int = 8,
        top_k: int = 2,
        rank: int = 8,
        patch: int = 2,
        daa_residual: bool = True,
    ) -> None:
        super().__init__()
        if not 1 <= top_k <= experts:
            raise ValueError(f"PLMoE: top_k={top_k} must lie between 1 and experts={experts}")
        c = c2 // 2
        self.cv1 = Conv(c1, 2 * c, 1)
        self.cv2 = Conv((2 + n) * c, c2, 1)
        self.m = nn.ModuleList(self.block(c, experts, top_k, rank, patch, daa_residual) for _ in range(n))

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, c1, H, W] to [B, c2, H, W]."""
        y = list(self.cv1(x).chunk(2, 1))
        for block in self.m:
            y.append(block(y[-1]))
        return self.cv2(torch.cat(y, 1))

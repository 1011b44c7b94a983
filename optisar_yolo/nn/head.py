"""Contrastive grounding head with a position code and a region-aware auxiliary branch.

OptiSAR-Net++, Sect. III-C (Eq. 4) and III-D (Eq. 8-9). Deviations from the authors' release: YOLOE's visual-prompt
part, which the release carries and never uses, is left out; the region branch runs in training only; a position code is
added to the region embedding, because a convolution sees where it is only through its zero padding.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from ultralytics.nn.modules.block import Residual, SwiGLUFFN
from ultralytics.nn.modules.conv import Conv, DWConv
from ultralytics.nn.modules.head import Detect
from ultralytics.utils.tal import dist2bbox, make_anchors

from optisar_yolo.nn.position import POSITION_CHANNELS, position_code
from optisar_yolo.nn.precision import full
from optisar_yolo.nn.rerank import SUPPRESSED, CandidateComparison, Candidates, local_maxima
from optisar_yolo.nn.window import COST, distributions_at


class ContrastiveHead(nn.Module):
    """Score of text t at a cell: exp(scale) * <BN(e), t> + bias (Eq. 4), without ever forming the embedding map e.

    e = W f + b is linear in the c features f of a cell, so its mean and variance follow from those of f (c x c
    numbers), and
    the score is <W' t', f> with normalisation and text folded into one small vector per text. The same numbers as
    with a D-channel
    map and a BatchNorm on it, at c / D of the work, in training and in inference.

    Args:
        c: Channels of f.
        dim: Width D of embeddings and texts.
    """

    def __init__(self, c: int, dim: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(c, dim, 1)
        self.norm = nn.BatchNorm2d(dim)
        self.logit_scale = nn.Parameter(torch.tensor(-1.0))
        self.bias = nn.Parameter(torch.tensor([-10.0]))  # replaced by bias_init once strides are known

    def statistics(self, f: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance [D] of the embedding: this batch's in training, which the running ones follow."""
        norm: Any = self.norm
        if not self.training:
            return norm.running_mean, norm.running_var
        x = full(f).transpose(0, 1).flatten(1)  # [c, n]
        centre = x.mean(1, keepdim=True)
        covariance = (x - centre) @ (x - centre).T / x.shape[1]  # [c, c]
        mean = (weight @ centre)[:, 0] + bias
        var = ((weight @ covariance) * weight).sum(1)
        with torch.no_grad():
            unbiased = var * (x.shape[1] / max(x.shape[1] - 1, 1))
            norm.running_mean.lerp_(mean, norm.momentum)
            norm.running_var.lerp_(unbiased, norm.momentum)
            norm.num_batches_tracked += 1
        return mean, var

    def forward(self, f: Tensor, text: Tensor) -> Tensor:
        """Features [B, c, H, W] and unit texts [B, T, D] to logits [B, T, H * W]."""
        with torch.autocast(f.device.type, enabled=False):  # small tensors whose rounding would reach every score
            weight = full(self.embed.weight).flatten(1)  # [D, c]
            bias: Any = self.embed.bias
            mean, var = self.statistics(f, weight, bias)
            gain = self.norm.weight / (var + self.norm.eps).sqrt()  # [D]
            text = full(text)
            folded = (text * gain) @ weight * self.logit_scale.exp()  # [B, T, c]
            offset = text @ ((bias - mean) * gain + self.norm.bias)  # [B, T]
            offset = offset * self.logit_scale.exp() + self.bias
            return torch.baddbmm(offset.unsqueeze(-1), folded, full(f).flatten(2))


class Looked(NamedTuple):
    """What the head makes of B images' maps before it sees an expression."""

    cells: list[Tensor]  # [B, c, H_i, W_i] features of the levels' cells, the linear region embeddings' inputs
    boxes: Tensor | None  # [B, 4 * reg_max, A] distributions; of a fused network made when they are asked for
    feats: list[Tensor]  # [B, C_i, H_i, W_i] the maps themselves

    def rows(self, index: Tensor | slice) -> Looked:
        """Pick (and repeat) images."""
        boxes = None if self.boxes is None else self.boxes[index]
        return Looked([c[index] for c in self.cells], boxes, [f[index] for f in self.feats])


class GroundingDetect(Detect):
    """Boxes as YOLO11 (DFL), class branch as text-matched region embeddings.

    Args:
        nc: Nominal number of classes, which only sets the score's starting bias.
        text_dim: Width D of a text feature.
        ch: Channels of the three levels.
        reg_max: Bins of the box distribution.
        region_rows: Cells per side of the region grid at stride 8; half of it at the other strides.
        position: Add the position code to the region embedding.
        compare: Candidates per expression that are compared with each other before one is chosen; 0 for none.
        hidden: Width of the region branches; that of the class branches by default.
    """

    def __init__(
        self,
        nc: int = 80,
        text_dim: int = 512,
        ch: tuple[int, ...] = (),
        reg_max: int = 16,
        region_rows: int = 4,
        position: bool = True,
        compare: int = 0,
        hidden: int | None = None,
    ) -> None:
        super().__init__(nc, reg_max, False, ch)
        self.text_dim = text_dim
        c3 = ch[0]
        self.cv3 = nn.ModuleList(
            nn.Sequential(
                nn.Sequential(DWConv(x, x, 3), Conv(x, c3, 1)),
                nn.Sequential(DWConv(c3, c3, 3), Conv(c3, c3, 1)),
            )
            for x in ch
        )
        # the position code enters as more input channels of the linear embedding: the same as a 1x1 map of its own,
        # added to it
        self.position = position
        self.cv4 = nn.ModuleList(ContrastiveHead(c3 + POSITION_CHANNELS * position, text_dim) for _ in ch)
        self.compare = CandidateComparison(c3 + POSITION_CHANNELS * position, text_dim, compare) if compare else None
        self.windows = False  # boxes of chosen anchors only; set when the network is fused
        self.adapter = Residual(SwiGLUFFN(text_dim, text_dim))
        self.grids = [region_rows] + [max(region_rows // 2, 1)] * (len(ch) - 1)
        self.regions = nn.ModuleList(
            nn.Sequential(nn.Conv2d(text_dim, wide, 1), nn.ReLU(inplace=True), nn.Conv2d(wide, g * g, 1))
            for wide, g in zip([hidden or c3] * len(ch), self.grids, strict=True)
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open checkpoints that were pickled before candidates were compared, or boxes computed in windows."""
        super().__setstate__({"windows": False} | state)
        if "compare" not in self._modules:
            self.compare = None

    def adapt(self, text: Tensor) -> Tensor:
        """Encoder's features [B, T, D] to the unit texts [B, T, D] that guide and score share."""
        return F.normalize(self.adapter(text), dim=-1)

    def forward(self, x: list[Tensor], text: Tensor, extent: Tensor | None = None) -> dict[str, Any]:  # type: ignore[override]
        """Run the head.

        Args:
            x: Maps of the levels, [B, C_i, H_i, W_i].
            text: Adapted texts [B, T, D].
            extent: [B, 4] of the unpadded image in the canvas; all of it by default.

        Returns:
            boxes [B, 4 * reg_max, A], scores (logits) [B, T, A], feats, and, in training, regions (list of [B, cells,
            H_i, W_i]) and candidates (where they are compared; otherwise in scores, for all that follows, only the
            candidates can be chosen).
        """
        if extent is None:
            extent = x[0].new_tensor([0.0, 0.0, 1.0, 1.0]).expand(x[0].shape[0], 4)
        return self.match(self.look(x, extent), text, extent)

    def look(self, x: list[Tensor], extent: Tensor) -> Looked:
        """Run all that no expression touches; arguments as in :meth:`forward`."""
        cells = [branch(f) for branch, f in zip(self.cv3, x, strict=True)]
        if self.position:
            cells = [torch.cat((e, position_code(e.shape[2], e.shape[3], extent).to(e.dtype)), 1) for e in cells]
        return Looked(cells, None if self.windows else self._distributions(x), x)

    def _distributions(self, x: list[Tensor]) -> Tensor:
        """Box distributions [B, 4 * reg_max, A] of all anchors."""
        return torch.cat([branch(f).flatten(2) for branch, f in zip(self.cv2, x, strict=True)], 2)

    def match(self, looked: Looked, text: Tensor, extent: Tensor) -> dict[str, Any]:
        """Score texts [B, T, D] against what was seen; the result is that of :meth:`forward`."""
        scores = torch.cat([branch(e, text) for branch, e in zip(self.cv4, looked.cells, strict=True)], 2)
        preds: dict[str, Any] = {"boxes": looked.boxes, "scores": scores, "feats": looked.feats}
        preds["regions"] = [self._region(i, e) for i, e in enumerate(looked.cells)] if self.training else []
        if self.compare is not None:
            found = self._compared(preds, torch.cat([e.flatten(2) for e in looked.cells], 2), text, extent)
            if self.training:
                preds["candidates"] = found
            else:
                # below every candidate, so that they are never chosen, and still in their order
                below = scores - scores.amax(2, True) + found.logits.amin(2, True).to(scores.dtype) + SUPPRESSED
                preds["scores"] = below.scatter(2, found.anchor, found.logits.to(scores.dtype))
        return preds

    def _compared(self, preds: dict[str, Any], cells: Tensor, text: Tensor, extent: Tensor) -> Candidates:
        """Compare the candidates of each expression; cells are the region embeddings' inputs [B, c, A].

        A second opinion: no gradient of the comparison reaches what it compares, or tighter boxes would be traded for
        it.
        """
        assert self.compare is not None
        scores, cells, text = (full(x.detach()) for x in (preds["scores"], cells, text))
        index = local_maxima(scores, [f.shape[2:] for f in preds["feats"]], self.compare.candidates)
        b, t, k = index.shape
        flat = index.flatten(1)  # [B, T*K]
        with torch.no_grad():
            boxes = self.boxes_at(preds, flat)  # [B, T*K, 4]
        h, w = (preds["feats"][0].shape[i] * self.stride[0] for i in (2, 3))
        left, top, right, bottom = full(extent[:, None]).unbind(-1)  # [B, 1]
        size = torch.stack(((right - left) * w, (bottom - top) * h), -1)  # [B, 1, 2], pixels
        centre = ((boxes[..., :2] + boxes[..., 2:]) / 2 - torch.stack((left * w, top * h), -1)) / size
        shares = ((boxes[..., 2:] - boxes[..., :2]) / size).clamp(min=1e-3).log()
        geometry = torch.cat((centre, shares), -1).view(b, t, k, 4)
        feature = cells.gather(2, flat[:, None].expand(-1, cells.shape[1], -1)).transpose(1, 2)
        with torch.autocast(cells.device.type, enabled=False):
            logits = self.compare(feature.reshape(b, t, k, -1), geometry, scores.gather(2, index), text)
        return Candidates(index, boxes.view(b, t, k, 4), logits)

    def boxes_at(self, preds: dict[str, Any], index: Tensor) -> Tensor:
        """Decode some anchors: the head's output and index [B, N] to xyxy canvas pixels [B, N, 4].

        Where the output has no boxes yet, those of all anchors are added to it, unless windows around N are cheaper; a
        trace, which cannot decide, takes windows.
        """
        feats = preds["feats"]
        anchors, strides = make_anchors(feats, self.stride, 0.5)  # [A, 2], [A, 1]
        if preds["boxes"] is None and (torch.jit.is_tracing() or index.shape[1] * COST < len(anchors)):
            d = full(distributions_at(self.cv2, feats, index))  # [B, 4 * reg_max, N]
        else:
            if preds["boxes"] is None:
                preds["boxes"] = self._distributions(feats)
            d = full(preds["boxes"].gather(2, index[:, None].expand(-1, 4 * self.reg_max, -1)))
        d = d.view(d.shape[0], 4, self.reg_max, -1).softmax(2)
        d = (d * torch.arange(self.reg_max, device=d.device, dtype=d.dtype)[:, None]).sum(2).transpose(1, 2)
        return dist2bbox(d, anchors[index], xywh=False) * strides[index]

    def _region(self, i: int, f: Tensor) -> Tensor:
        """Region logits [B, cells, H, W] of a level; the first 1x1 layer is merged with the linear embedding."""
        contrastive: Any = self.cv4[i]
        layers: Any = self.regions[i]
        embed, (first, act, last) = contrastive.embed, layers
        weight = first.weight.flatten(1) @ embed.weight.flatten(1)  # [hidden, c]
        bias = first.weight.flatten(1) @ embed.bias + first.bias
        return last(act(F.conv2d(f, weight[..., None, None], bias)))

    def decode(self, preds: dict[str, Any], k: int = 1) -> tuple[Tensor, Tensor]:
        """Best k anchors of each text, over all levels.

        Args:
            preds: The head's output.
            k: Anchors per text; only these are decoded.

        Returns:
            Boxes [B, T, k, 4] as xyxy canvas pixels and confidences [B, T, k], best first.
        """
        best, index = preds["scores"].topk(min(k, preds["scores"].shape[2]), dim=2)
        b, t, k = index.shape
        boxes = self.boxes_at(preds, index.flatten(1))
        return boxes.view(b, t, k, 4), best.float().sigmoid()

    def bias_init(self) -> None:
        """Start boxes and scores as YOLO does: about 5 objects of nc classes in a 640 px image."""
        box: Any
        head: Any
        for box, head, stride in zip(self.cv2, self.cv4, self.stride, strict=True):
            box[-1].bias.data[:] = 2.0
            head.bias.data[:] = math.log(5 / self.nc / (640 / float(stride)) ** 2)

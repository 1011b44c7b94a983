"""Grounding head: boxes as YOLO11 predicts them, scores as the match of region embeddings with expressions.

OptiSAR-Net++, Sect. III-C (Eq. 4) and the region-aware auxiliary head of Sect. III-D (Eq. 8-9). For B images, T
expressions of width D, and A cells over the levels P3-P5:

1. Text (:meth:`GroundingDetect.adapt`): a residual SwiGLU layer, then unit length: [B, T, D] to [B, T, D].
2. Region features (:meth:`GroundingDetect.features`): a class branch per level, [B, C_i, H_i, W_i] to
   [B, c, H_i, W_i], with a position code of the unpadded image appended (:func:`position_code`).
3. Scores (:class:`ContrastiveHead`, Eq. 4): exp(scale) * <BN(W f + b), t> + bias, logits [B, T, A].
4. Optionally the best local maxima of each score map are reranked (:mod:`optisar_yolo.nn.rerank`).
5. Boxes (:meth:`GroundingDetect.decode`): the best k cells of each expression over all levels. YOLO11's box branch
   gives a distribution over reg_max bins for each side [B, 4 * reg_max, A], and its mean is the distance from the
   cell's centre (DFL). No NMS is needed.
6. In training also region logits [B, cells, H_i, W_i] for the grid labels of Eq. 8 (:func:`region_labels`). With the
   position code in the embedding, these labels can be predicted without the image.

Deviations from the authors' release: YOLOE's visual-prompt part, which the release carries and never uses, is left out;
region logits are computed in training only; the position code is new, because a convolution can infer its position
only from its zero padding; so is the reranker.
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

from optisar_yolo.nn.averaging import mean_box, neighbourhood
from optisar_yolo.nn.precision import upcast
from optisar_yolo.nn.rerank import SUPPRESSED, CandidateReranker, Candidates, local_maxima

# sines and cosines of pi*x and 2*pi*x: enough to tell thirds of an image apart, too few to memorise places
OCTAVES = 2
POSITION_CHANNELS = 2 + 4 * OCTAVES
REACH = 2  # cells on each side of a cell that YOLO's box branch, two 3x3 convolutions and a 1x1 one, depends on
SIDE = 2 * REACH + 1
WINDOW_COST = 27  # cells computed for one anchor in windows: 3 x 3 of the first convolution, on each of three levels


class ContrastiveHead(nn.Module):
    """Score of text t at a cell: exp(scale) * <BN(e), t> + bias (Eq. 4), without forming the D-channel map e.

    e = W f + b is linear in the c features f of a cell. Its mean and variance follow from the mean and the c x c
    covariance of f, and the score is <W' t', f> with the normalisation folded into one small vector per text. The
    result equals that of a D-channel map with a BatchNorm, at c / D of the work, in training and in inference.

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
        """Return mean and variance [D] of the embedding; training takes the batch's and updates the running ones."""
        norm: Any = self.norm
        if not self.training:
            return norm.running_mean, norm.running_var
        x = upcast(f).transpose(0, 1).flatten(1)  # [c, n]
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
        """Map features [B, c, H, W] and unit texts [B, T, D] to logits [B, T, H * W]."""
        with torch.autocast(f.device.type, enabled=False):  # small tensors whose rounding would reach every score
            weight = upcast(self.embed.weight).flatten(1)  # [D, c]
            bias: Any = self.embed.bias
            mean, var = self.statistics(f, weight, bias)
            gain = self.norm.weight / (var + self.norm.eps).sqrt()  # [D]
            text = upcast(text)
            folded = (text * gain) @ weight * self.logit_scale.exp()  # [B, T, c]
            offset = text @ ((bias - mean) * gain + self.norm.bias)  # [B, T]
            offset = offset * self.logit_scale.exp() + self.bias
            return torch.baddbmm(offset.unsqueeze(-1), folded, upcast(f).flatten(2))


class HeadFeatures(NamedTuple):
    """What the head computes from B images before an expression is known."""

    cells: list[Tensor]  # [B, c, H_i, W_i] region features of the levels, with the position code
    boxes: Tensor | None  # [B, 4 * reg_max, A] distributions; None in a fused network until all of them are needed
    feats: list[Tensor]  # [B, C_i, H_i, W_i] the head's inputs

    def rows(self, index: Tensor | slice) -> HeadFeatures:
        """Select (and repeat) images."""
        boxes = None if self.boxes is None else self.boxes[index]
        return HeadFeatures([c[index] for c in self.cells], boxes, [f[index] for f in self.feats])


class GroundingDetect(Detect):
    """YOLO11's detection head with expressions in the place of classes; see the steps above.

    Args:
        nc: Nominal number of classes, which only sets the score's starting bias.
        text_dim: Width D of a text feature.
        ch: Channels of the three levels.
        reg_max: Bins of the box distribution.
        region_rows: Cells per side of the region grid at stride 8; half of it at the other strides.
        position: Append the position code to the region features.
        candidates: Candidates per expression that are reranked; 0 for no reranker.
        hidden: Width of the region branches; that of the class branches by default.
        average: Answer with the mean of the boxes around the best cell (:mod:`optisar_yolo.nn.averaging`).
    """

    def __init__(
        self,
        nc: int = 80,
        text_dim: int = 512,
        ch: tuple[int, ...] = (),
        reg_max: int = 16,
        region_rows: int = 4,
        position: bool = True,
        candidates: int = 0,
        hidden: int | None = None,
        average: bool = False,
    ) -> None:
        super().__init__(nc, reg_max, False, ch)
        self.average = average
        self.text_dim = text_dim
        c3 = ch[0]
        self.cv3 = nn.ModuleList(
            nn.Sequential(
                nn.Sequential(DWConv(x, x, 3), Conv(x, c3, 1)),
                nn.Sequential(DWConv(c3, c3, 3), Conv(c3, c3, 1)),
            )
            for x in ch
        )
        # The position code enters as more input channels of the linear embedding, which is the same as adding a 1x1
        # map of it to the embedding.
        self.position = position
        c = c3 + POSITION_CHANNELS * position
        self.cv4 = nn.ModuleList(ContrastiveHead(c, text_dim) for _ in ch)
        self.reranker = CandidateReranker(c, text_dim, candidates) if candidates else None
        self.windows = False  # compute boxes of chosen anchors only; set when the network is fused
        self.adapter = Residual(SwiGLUFFN(text_dim, text_dim))
        self.grids = [region_rows] + [max(region_rows // 2, 1)] * (len(ch) - 1)
        self.regions = nn.ModuleList(
            nn.Sequential(nn.Conv2d(text_dim, wide, 1), nn.ReLU(inplace=True), nn.Conv2d(wide, g * g, 1))
            for wide, g in zip([hidden or c3] * len(ch), self.grids, strict=True)
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open checkpoints that were pickled when the reranker was called ``compare``, or before there was one."""
        state = {"windows": False, "average": False} | state
        modules = {{"compare": "reranker"}.get(k, k): m for k, m in state["_modules"].items()}
        state.pop("compare", None)
        super().__setstate__(state | {"_modules": modules})
        if "reranker" not in modules:
            self.reranker = None

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Accept weights files that call the reranker ``compare``."""
        old = prefix + "compare."
        for key in [k for k in state_dict if k.startswith(old)]:
            state_dict[f"{prefix}reranker.{key.removeprefix(old)}"] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def adapt(self, text: Tensor) -> Tensor:
        """Map encoder features [B, T, D] to the unit texts [B, T, D] that both the neck and the scores use."""
        return F.normalize(self.adapter(text), dim=-1)

    def forward(self, x: list[Tensor], text: Tensor, extent: Tensor | None = None) -> dict[str, Any]:  # type: ignore[override]
        """Run the head.

        Args:
            x: Maps of the levels, [B, C_i, H_i, W_i].
            text: Adapted texts [B, T, D].
            extent: [B, 4] of the unpadded image in the canvas, as shares of it; all of it by default.

        Returns:
            ``boxes`` [B, 4 * reg_max, A] distributions, ``scores`` [B, T, A] logits, ``feats`` (x) and ``regions``: in
            training a list of [B, cells, H_i, W_i], otherwise empty. With a reranker, training adds ``candidates``;
            otherwise ``scores`` holds the reranked logits, and all other anchors are below the candidates.
        """
        if extent is None:
            extent = x[0].new_tensor([0.0, 0.0, 1.0, 1.0]).expand(x[0].shape[0], 4)
        return self.match(self.features(x, extent), text, extent)

    def features(self, x: list[Tensor], extent: Tensor) -> HeadFeatures:
        """Compute what does not depend on an expression; arguments as in :meth:`forward`."""
        cells = [branch(f) for branch, f in zip(self.cv3, x, strict=True)]
        if self.position:
            cells = [torch.cat((e, position_code(e.shape[2], e.shape[3], extent).to(e.dtype)), 1) for e in cells]
        return HeadFeatures(cells, None if self.windows else self._distributions(x), x)

    def _distributions(self, x: list[Tensor]) -> Tensor:
        """Return the box distributions [B, 4 * reg_max, A] of all anchors."""
        return torch.cat([branch(f).flatten(2) for branch, f in zip(self.cv2, x, strict=True)], 2)

    def match(self, features: HeadFeatures, text: Tensor, extent: Tensor) -> dict[str, Any]:
        """Score adapted texts [B, T, D] on the features of B images; the result is that of :meth:`forward`."""
        scores = torch.cat([branch(e, text) for branch, e in zip(self.cv4, features.cells, strict=True)], 2)
        preds: dict[str, Any] = {"boxes": features.boxes, "scores": scores, "feats": features.feats}
        if self.average and not self.training:
            preds["first_scores"] = scores  # before reranking
        preds["regions"] = [self._region(i, e) for i, e in enumerate(features.cells)] if self.training else []
        if self.reranker is not None:
            found = self._rerank(preds, torch.cat([e.flatten(2) for e in features.cells], 2), text, extent)
            if self.training:
                preds["candidates"] = found
            else:
                # All other anchors go below every candidate, and keep their order.
                below = scores - scores.amax(2, True) + found.logits.amin(2, True).to(scores.dtype) + SUPPRESSED
                preds["scores"] = below.scatter(2, found.anchor, found.logits.to(scores.dtype))
        return preds

    def _rerank(self, preds: dict[str, Any], cells: Tensor, text: Tensor, extent: Tensor) -> Candidates:
        """Rerank the candidates of each expression; cells are the region features [B, c, A].

        The inputs are detached: gradients of the reranker into the network would trade tighter boxes for its own loss.
        """
        assert self.reranker is not None
        scores, cells, text = (upcast(x.detach()) for x in (preds["scores"], cells, text))
        index = local_maxima(scores, [f.shape[2:] for f in preds["feats"]], self.reranker.candidates)
        b, t, k = index.shape
        flat = index.flatten(1)  # [B, T*K]
        with torch.no_grad():
            boxes = self.boxes_at(preds, flat)  # [B, T*K, 4]
        h, w = (preds["feats"][0].shape[i] * self.stride[0] for i in (2, 3))
        left, top, right, bottom = upcast(extent[:, None]).unbind(-1)  # [B, 1]
        size = torch.stack(((right - left) * w, (bottom - top) * h), -1)  # [B, 1, 2], pixels
        centre = ((boxes[..., :2] + boxes[..., 2:]) / 2 - torch.stack((left * w, top * h), -1)) / size
        shares = ((boxes[..., 2:] - boxes[..., :2]) / size).clamp(min=1e-3).log()
        geometry = torch.cat((centre, shares), -1).view(b, t, k, 4)
        feature = cells.gather(2, flat[:, None].expand(-1, cells.shape[1], -1)).transpose(1, 2)
        with torch.autocast(cells.device.type, enabled=False):
            logits = self.reranker(feature.reshape(b, t, k, -1), geometry, scores.gather(2, index), text)
        return Candidates(index, boxes.view(b, t, k, 4), logits)

    def boxes_at(self, preds: dict[str, Any], index: Tensor) -> Tensor:
        """Decode some anchors: the head's output and index [B, N] to xyxy canvas pixels [B, N, 4].

        Where the output has no distributions yet, those of all anchors are added to it, unless windows around the N
        anchors are cheaper. A trace, which cannot branch on sizes, always uses windows.
        """
        feats = preds["feats"]
        anchors, strides = make_anchors(feats, self.stride, 0.5)  # [A, 2], [A, 1]
        if preds["boxes"] is None and (torch.jit.is_tracing() or index.shape[1] * WINDOW_COST < len(anchors)):
            d = upcast(distributions_at(self.cv2, feats, index))  # [B, 4 * reg_max, N]
        else:
            if preds["boxes"] is None:
                preds["boxes"] = self._distributions(feats)
            d = upcast(preds["boxes"].gather(2, index[:, None].expand(-1, 4 * self.reg_max, -1)))
        d = d.view(d.shape[0], 4, self.reg_max, -1).softmax(2)
        d = (d * torch.arange(self.reg_max, device=d.device, dtype=d.dtype)[:, None]).sum(2).transpose(1, 2)
        return dist2bbox(d, anchors[index], xywh=False) * strides[index]

    def _region(self, i: int, f: Tensor) -> Tensor:
        """Return region logits [B, cells, H, W] of a level; the first 1x1 layer is merged with the linear embedding."""
        contrastive: Any = self.cv4[i]
        layers: Any = self.regions[i]
        embed, (first, act, last) = contrastive.embed, layers
        weight = first.weight.flatten(1) @ embed.weight.flatten(1)  # [hidden, c]
        bias = first.weight.flatten(1) @ embed.bias + first.bias
        return last(act(F.conv2d(f, weight[..., None, None], bias)))

    def decode(self, preds: dict[str, Any], k: int | Tensor = 1) -> tuple[Tensor, Tensor]:
        """Return the best k anchors of each text over all levels.

        Args:
            preds: The head's output.
            k: Anchors per text; only these are decoded. In a trace a tensor without axes stays an input of the graph.

        Returns:
            Boxes [B, T, k, 4] as xyxy canvas pixels and confidences [B, T, k], best first.
        """
        count = preds["scores"].shape[2]
        if torch.jit.is_tracing() and not (isinstance(k, int) and k == 1):
            # a comparison of Python numbers would be frozen, and a small canvas has fewer anchors
            wanted: Any = torch.minimum(torch.as_tensor(k), torch.as_tensor(count))
        else:
            wanted = min(int(k), count)
        best, index = preds["scores"].topk(wanted, dim=2)
        b, t, found = index.shape
        if "first_scores" in preds:
            return self._averaged(preds, index), best.float().sigmoid()
        boxes = self.boxes_at(preds, index.flatten(1))
        return boxes.view(b, t, found, 4), best.float().sigmoid()

    def _averaged(self, preds: dict[str, Any], index: Tensor) -> Tensor:
        """Return the mean of the boxes around anchors [B, T, k]: [B, T, k, 4]."""
        around = neighbourhood([f.shape[2:] for f in preds["feats"]], index.device)[index]  # [B, T, k, n]
        inside, around = around >= 0, around.clamp(min=0)
        b, t, k, n = around.shape
        boxes = self.boxes_at(preds, around.flatten(1)).view(b, t, k, n, 4)
        scores = preds["first_scores"].gather(2, around.flatten(2)).view(b, t, k, n)
        return mean_box(boxes, scores, inside)

    def bias_init(self) -> None:
        """Start boxes and scores as YOLO does: about 5 objects of nc classes in a 640 px image."""
        box: Any
        head: Any
        for box, head, stride in zip(self.cv2, self.cv4, self.stride, strict=True):
            box[-1].bias.data[:] = 2.0
            head.bias.data[:] = math.log(5 / self.nc / (640 / float(stride)) ** 2)


# positions in the unpadded image


def unpadded_grid(h: int, w: int, extent: Tensor) -> Tensor:
    """Return the coordinates of a map's cells in the unpadded image.

    Args:
        h: Rows of the map.
        w: Columns of the map.
        extent: [B, 4] left, top, right and bottom of the image as shares of the padded canvas.

    Returns:
        [B, 2, h, w]: x and y of each cell's centre, 0 to 1 inside the image, outside that range in the padding.
    """
    x = (torch.arange(w, device=extent.device, dtype=extent.dtype) + 0.5) / w
    y = (torch.arange(h, device=extent.device, dtype=extent.dtype) + 0.5) / h
    left, top, right, bottom = extent.unbind(1)
    x = (x[None] - left[:, None]) / (right - left)[:, None]  # [B, w]
    y = (y[None] - top[:, None]) / (bottom - top)[:, None]  # [B, h]
    return torch.stack((x[:, None].expand(-1, h, -1), y[:, :, None].expand(-1, -1, w)), 1)


def position_code(h: int, w: int, extent: Tensor) -> Tensor:
    """Return normalised x and y with their first sines and cosines: [B, POSITION_CHANNELS, h, w]."""
    p = unpadded_grid(h, w, extent).clamp(0, 1) * 2 - 1
    waves = [f(p * (math.pi * 2**k)) for k in range(OCTAVES) for f in (torch.sin, torch.cos)]
    return torch.cat((p, *waves), 1)


def region_labels(h: int, w: int, extent: Tensor, rows: int, cols: int) -> Tensor:
    """Return the grid cell (row * cols + col, Eq. 8) of each map cell, -1 in the padding: [B, h, w]."""
    x, y = unpadded_grid(h, w, extent).unbind(1)
    label = (y * rows).floor() * cols + (x * cols).floor()
    inside = (x >= 0) & (x < 1) & (y >= 0) & (y < 1)
    return torch.where(inside, label, torch.full_like(label, -1)).long()


# boxes of a few anchors without the box maps


def distributions_at(branches: nn.ModuleList, feats: list[Tensor], index: Tensor) -> Tensor:
    """Return the box distributions of some anchors, equal to those in the branches' whole maps.

    The box branch runs in the 5 x 5 cells that an anchor's box depends on. Every anchor is computed on every level and
    the result of its own level is kept, so that no shape depends on the values.

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
        found = _run_branch(branch, *_windows(f, local)).view(*index.shape, -1).transpose(1, 2)
        kept = found if kept is None else torch.where((index >= start)[:, None], found, kept)
        start += size
    assert kept is not None
    return kept


def _windows(f: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Cut windows out of f [B, C, H, W] around cells [B, N]: [B * N, C, 5, 5], zero beyond the map, and its mask."""
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


def _run_branch(branch: Any, cut: Tensor, mask: Tensor) -> Tensor:  # noqa: ANN401
    """Run a box branch on windows [M, C, 5, 5]: [M, 4 * reg_max]."""
    first, second, last = branch
    inner = first.act(F.conv2d(cut, first.conv.weight, first.conv.bias))  # [M, c, 3, 3]
    inner = inner * mask[:, :, 1:-1, 1:-1]  # beyond the map the second convolution pads with zeros
    return last(second.act(F.conv2d(inner, second.conv.weight, second.conv.bias))).flatten(1)

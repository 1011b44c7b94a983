"""Training loss: box (CIoU) + DFL + classification + choice + region + load balance, and the reranker's.

OptiSAR-Net++, Sect. III-C "Training Objective" and Eq. 8-9. For B images with up to n objects, T expressions and A
anchors:

1. Assignment: YOLO's task-aligned rule (top 10) with the object's own expression as its class gives each anchor at most
   one object, and a weight [B, A, 1].
2. Target: every assigned anchor gets its object's row of truth over the T expressions [B, A, T], times the weight. One
   object may match several expressions (its own and "an optical ship"); undecided pairs (-1) are masked.
3. Classification: binary cross-entropy of the logits with the target. The guiding expression counts
   ``guide_gain`` times; the sum is divided by the weights of all processes.
4. Box: CIoU and DFL of the assigned anchors, as YOLO11.
5. Choice (not in the paper; off by default, gain ``choice=0``): cross-entropy over all anchors, see
:func:`choice_loss`.
6. Region: cross-entropy of the grid cells, Eq. 8-9. Balance: from the router of PL-MoE. Reranker: see
   :func:`~optisar_yolo.nn.rerank.rerank_loss`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from ultralytics.utils.loss import v8DetectionLoss
from ultralytics.utils.tal import make_anchors

from optisar_yolo.nn.head import region_labels
from optisar_yolo.nn.rerank import rerank_loss
from optisar_yolo.utils import sum_over_processes, world_size

FOREGROUND_WEIGHT = 2.0  # of assigned cells in the region loss, Eq. 9
Watch = Callable[[int, Tensor, Tensor, Tensor], None]


def choice_loss(scores: Tensor, chosen: Tensor, keep: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the cross-entropy of each expression's anchors among all anchors of the image.

    Binary cross-entropy treats each anchor alone, but the prediction is the single best anchor: "the leftmost ship" is
    wrong as soon as another ship scores higher. Not in the paper.

    Args:
        scores: Logits [B, A, T].
        chosen: [B, A, T], True where an anchor is assigned to an object that the expression refers to.
        keep: [B, A, T], 0 for undecided anchors.
        weight: [B, T] of the expressions, equal by default.

    Returns:
        Mean over the expressions with at least one anchor; 0 where there is none.
    """
    lowest = torch.finfo(scores.dtype).min
    present = chosen.any(1)  # [B, T]
    if not present.any():
        return scores.new_zeros(())
    everything = scores.masked_fill(keep == 0, lowest).logsumexp(1)
    own = scores.masked_fill(~chosen, lowest).logsumexp(1)
    share = present.float() if weight is None else present * weight
    return ((everything - own).masked_fill(~present, 0) * share).sum() / share.sum().clamp(min=1e-9)


class GroundingLoss(v8DetectionLoss):
    """The training loss; gains come from ``model.args`` (box, cls, dfl, choice, compare, region, moe).

    Args:
        model: The model, not wrapped for parallel training.
    """

    watch: Watch | None = None  # called with each level's number, region logits, labels and foreground (the monitor)

    def __init__(self, model: Any) -> None:
        super().__init__(model, tal_topk=10)
        self.model = [model]  # in a list: a plain attribute would be taken for a submodule when the model is pickled
        self.grids = model.head.grids

    def __call__(self, preds: Any, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss.

        Args:
            preds: The head's output for B images and T texts.
            batch: ``batch_idx`` [N], ``cls`` [N] (column of the object's own expression), ``bboxes`` [N, 4] (xywh,
                shares of the canvas), ``targets`` [N, T] (1 true, 0 false, -1 undecided), ``extent`` [B, 4] and
                ``guide`` [B].

        Returns:
            The terms (six; seven with a reranker) with their gains, times B, and the same per image, by name.
        """
        with torch.autocast(preds["scores"].device.type, enabled=False):
            scores = preds["scores"].float().transpose(1, 2).contiguous()  # [B, A, T]
            dist = preds["boxes"].float().transpose(1, 2).contiguous()  # [B, A, 4 * reg_max]
            b, _, t = scores.shape
            anchors, strides = make_anchors(preds["feats"], self.stride, 0.5)
            anchors, strides = anchors.float(), strides.float()
            canvas = (
                torch.tensor(preds["feats"][0].shape[2:], device=scores.device, dtype=torch.float32) * self.stride[0]
            )
            rows = self._padded(batch, b, canvas)  # [B, n, 5 + T]
            labels, boxes, truth = rows[..., :1], rows[..., 1:5], rows[..., 5:]
            predicted = self.bbox_decode(anchors, dist)  # [B, A, 4], in cells

            self.assigner.num_classes = t
            _, target_boxes, aligned, foreground, index = self.assigner(
                scores.detach().sigmoid(),
                predicted.detach() * strides,
                anchors * strides,
                labels,
                boxes,
                boxes.sum(2, keepdim=True) > 0,
            )
            weight = aligned.sum(-1, keepdim=True)  # [B, A, 1], alignment of each assigned anchor
            # one normaliser for all processes: objects count the same on a process with few of them
            total = sum_over_processes(weight.sum()).clamp(min=1) / world_size()
            keep = torch.ones_like(scores)
            target = torch.zeros_like(scores)
            chosen = torch.zeros_like(scores, dtype=torch.bool)
            if truth.shape[1]:
                of_anchor = truth.gather(1, index.unsqueeze(-1).expand(-1, -1, t))  # [B, A, T]
                keep = torch.where(foreground.unsqueeze(-1) & (of_anchor < 0), 0.0, 1.0)
                target = of_anchor.clamp(min=0) * weight
                chosen = foreground.unsqueeze(-1) & (of_anchor > 0)
            emphasis = self._emphasis(batch["guide"], t)  # [B, T]
            entropy = F.binary_cross_entropy_with_logits(scores, target, reduction="none")
            classification = (entropy * keep * emphasis[:, None]).sum() / total
            box, dfl = self.bbox_loss(
                dist, predicted, anchors, target_boxes / strides, weight, total, foreground, canvas, strides
            )
            terms = {
                "box_loss": box * self.hyp.box,
                "cls_loss": classification * self.hyp.cls,
                "dfl_loss": dfl * self.hyp.dfl,
                "choice_loss": choice_loss(scores, chosen, keep, emphasis) * self.hyp.choice,
                "region_loss": self._region(preds["regions"], foreground, batch["extent"].float()) * self.hyp.region,
                "moe_loss": self.model[0].balance() * self.hyp.moe,
            }
            if "candidates" in preds:
                terms["compare_loss"] = rerank_loss(preds["candidates"], boxes, truth) * self.hyp.compare
        return torch.stack(list(terms.values())) * b, {k: v.detach() for k, v in terms.items()}

    def _emphasis(self, guide: Tensor, t: int) -> Tensor:
        """Return the weights [B, T] of the expressions: guide_gain for the guiding one, 1 for the others."""
        guides = guide[:, None] == torch.arange(t, device=guide.device)
        return torch.ones_like(guides, dtype=torch.float32).masked_fill(guides, self.hyp.guide_gain)

    def _padded(self, batch: dict[str, Any], b: int, canvas: Tensor) -> Tensor:
        """Return the objects per image [B, n, 5 + T], zero-padded: own column, xyxy in canvas pixels, targets."""
        flat = torch.cat(
            (batch["batch_idx"].view(-1, 1), batch["cls"].view(-1, 1), batch["bboxes"], batch["targets"]), 1
        ).float()
        return self.preprocess(flat.to(self.device), b, scale_tensor=canvas[[1, 0, 1, 0]])

    def _region(self, maps: list[Tensor], foreground: Tensor, extent: Tensor) -> Tensor:
        """Return the mean over levels of the weighted cross-entropy of Eq. 9; cells in the padding do not count."""
        if not maps:
            return extent.new_zeros(())
        losses: list[Tensor] = []
        start = 0
        for m, g in zip(maps, self.grids, strict=True):
            _, _, h, w = m.shape
            label = region_labels(h, w, extent, g, g)
            own = foreground[:, start : start + h * w].view(-1, h, w)
            if self.watch is not None:
                self.watch(len(losses), m, label, own)
            weight = 1 + (FOREGROUND_WEIGHT - 1) * own.float()
            weight = weight * (label >= 0)
            start += h * w
            ce = F.cross_entropy(m.float(), label.clamp(min=0), reduction="none")
            losses.append((ce * weight).sum() / weight.sum().clamp(min=1))
        return torch.stack(losses).mean()

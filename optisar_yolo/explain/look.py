"""What a network saw in one image: scores, activations, fusion and routing, all laid on the image.

Nothing in the network is changed: forward hooks read what it computes, on a copy in evaluation mode that is not fused,
since fusing dissolves the parts that are to be looked at.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from optisar_yolo.data import to_image
from optisar_yolo.engine import Routing, RoutingRecorder, calibration_of, canvas, checked_bank, default_conf
from optisar_yolo.explain.explanation import ExplainedBox, Explanation
from optisar_yolo.export import ExportedModel
from optisar_yolo.nn import DualGateFusion, Encoded, GroundingModel, MoEBlock, named_parts
from optisar_yolo.paper import gates
from optisar_yolo.visualize import Frame

LATE = "No text reaches the pyramid of this network: its maps are the same for every expression."
CLOSED = "The gates of the text-guided fusion are closed: no text reaches the pyramid, its maps are the same for all."
NO_EXPERTS = "This network has no experts (PL-MoE): there is no routing to show."


class ExplainError(ValueError):
    """A model that cannot be looked into; the message says what to give instead."""


class Explainer:
    """Looks into a model.

    Args:
        model: An open :class:`~optisar_yolo.api.OptiSAR` of weights or a YAML; it is not changed.
        imgsz: Long side in the network; that of training by default.
        conf: Least confidence of an answer; that of ``predict`` by default.
        text_weights: Weights file of the text encoder, where it does not bring its own.
        device: Where to compute; where the model is by default.

    Raises:
        ExplainError: An export, or a model that was fused.
        ValueError: Another text encoder than the model was trained with.
    """

    def __init__(
        self,
        model: Any,
        imgsz: int | None = None,
        conf: float | None = None,
        text_weights: str | None = None,
        device: torch.device | None = None,
    ) -> None:
        net = checked_network(model.model)
        self.net = copy.deepcopy(net).float().eval().to(device or next(net.parameters()).device)
        self.bank = checked_bank(self.net, text_weights or model.overrides.get("text_weights"), None)
        self.imgsz = int(imgsz or model.imgsz)
        self.conf = default_conf(net) if conf is None else conf
        self.guided = any(gates(self.net).values())  # text reaches the pyramid
        self.notes = _notes(self.net, self.guided)

    @torch.inference_mode()
    def __call__(self, image: NDArray[np.uint8], texts: Sequence[str], path: str = "") -> Explanation:
        """Look at an image.

        Args:
            image: Image uint8 [h, w, 3] BGR.
            texts: Expressions, at least one.
            path: Name of the image.
        """
        scene, frame, routing = self._encode(image)
        features = self.bank(list(texts)).to(scene.extent.device)
        asked = [self._ask(scene, feature[None], frame) for feature in features]
        own = asked if self.guided else asked[:1]  # expressions with a pyramid of their own
        return Explanation(
            path=path,
            image=image,
            texts=list(texts),
            frame=frame,
            strides=[float(s) for s in self.net.stride],
            logits=[np.concatenate(level) for level in zip(*(a.logits for a in asked), strict=True)],
            activations=[np.concatenate(level) for level in zip(*(a.activations for a in own), strict=True)],
            fusions={name: np.concatenate([a.fusions[name] for a in asked]) for name in asked[0].fusions},
            candidates=np.stack([a.candidates for a in asked]),
            answers=[a.answer for a in asked],
            routing=routing,
            guided=self.guided,
            notes=self.notes,
        )

    @torch.inference_mode()
    def routes(self, image: NDArray[np.uint8]) -> tuple[Frame, dict[str, Routing]]:
        """Look at the choices of the experts in an image uint8 [h, w, 3] BGR, which no expression has a part in."""
        _, frame, routing = self._encode(image)
        return frame, routing

    def _encode(self, image: NDArray[np.uint8]) -> tuple[Encoded, Frame, dict[str, Routing]]:
        device = next(self.net.parameters()).device
        x, extent = (t[None].to(device) for t in canvas(image, self.imgsz))
        frame = Frame((image.shape[1], image.shape[0]), (x.shape[2], x.shape[3]), extent[0].cpu().numpy())
        recorder = RoutingRecorder(self.net)
        try:
            return self.net.encode(x, extent), frame, recorder.of(0, frame.canvas)
        finally:
            recorder.close()

    def _ask(self, scene: Encoded, feature: Tensor, frame: Frame) -> _Asked:
        """Ask one expression [1, D] of one encoded image."""
        head = self.net.head
        with _reading(self.net) as (logits, fusions):
            preds = self.net.query(scene, feature)
        shapes = [(f.shape[2], f.shape[3]) for f in preds["feats"]]
        k = min(head.compare.candidates, preds["scores"].shape[2]) if head.compare is not None else 0
        # what is no candidate lies below every candidate, so that the best ones are the candidates
        best, index = preds["scores"][0].topk(max(k, 1), dim=1)  # [1, k]
        boxes = head.boxes_at(preds, index)[0].float().cpu().numpy()
        boxes = to_image(boxes, frame.size, frame.extent, frame.canvas)
        scores = best[0].float().sigmoid().cpu().numpy()
        calibration = calibration_of(self.net)
        conf = float(scores[0] if calibration is None else calibration(scores[:1])[0])
        level, cell = _place(int(index[0, 0]), shapes)
        return _Asked(
            [_array(x.view(1, *shape)) for x, shape in zip(logits, shapes, strict=True)],
            [_array(f.abs().mean(1)) for f in preds["feats"]],
            {name: _array(f) for name, f in fusions.items()},
            np.concatenate((boxes, scores[:, None]), 1)[:k],
            ExplainedBox(boxes[0], conf, float(scores[0]), conf >= self.conf, level, cell),
        )


class _Asked(NamedTuple):
    """What one expression gives; entries as in :class:`Explanation`, with T = 1."""

    logits: list[NDArray[np.float32]]
    activations: list[NDArray[np.float32]]
    fusions: dict[str, NDArray[np.float32]]
    candidates: NDArray[np.float32]  # [K, 5]
    answer: ExplainedBox


def checked_network(net: Any) -> GroundingModel:
    """Return a model's network, where it can be looked into.

    Raises:
        ExplainError: An export, or a fused network.
    """
    if isinstance(net, ExportedModel):
        raise ExplainError(
            f"{net.path}: an export does not show what happens inside it; explain the weights (.pt or .safetensors) "
            "that it was made from"
        )
    if net.is_fused():
        raise ExplainError("the model is fused for inference, which dissolves its parts; open its weights anew")
    return net


@contextmanager
def _reading(net: GroundingModel) -> Iterator[tuple[list[Tensor], dict[str, Tensor]]]:
    """Read one question: the levels' contrastive logits [1, 1, cells], and of each fusion the factors [1, heads, h, w].

    The factor of Eq. 7 is one number per head and pixel, so it follows from the map before and after the text.
    """
    logits: list[Tensor] = []
    before: dict[str, Tensor] = {}
    factors: dict[str, Tensor] = {}

    def scored(_module: nn.Module, _args: Any, output: Tensor) -> None:
        logits.append(output)

    def kept(name: str) -> Any:
        def hook(_module: nn.Module, _args: Any, output: Tensor) -> None:
            before[name] = output

        return hook

    def fused(name: str) -> Any:
        def hook(module: nn.Module, _args: Any, output: Tensor) -> None:
            v, out = (_heads(x, module) for x in (before.pop(name), output))
            square = (v * v).sum(2)
            factors[name] = torch.where(square > 0, (out * v).sum(2) / square, 1.0)

        return hook

    handles = [level.register_forward_hook(scored) for level in net.head.cv4]
    for name, part in named_parts(net, DualGateFusion, "fusion").items():
        handles += [part.value.register_forward_hook(kept(name)), part.register_forward_hook(fused(name))]
    try:
        yield logits, factors
    finally:
        for handle in handles:
            handle.remove()


def _heads(x: Tensor, fusion: Any) -> Tensor:
    """Split a map [B, C, H, W] into the fusion's heads: float32 [B, heads, C / heads, H, W]."""
    return x.float().view(x.shape[0], fusion.heads, -1, *x.shape[2:])


def _place(anchor: int, shapes: Sequence[tuple[int, int]]) -> tuple[int, tuple[int, int]]:
    """Level, and row and column in it, of an anchor among those of all levels."""
    for level, (rows, columns) in enumerate(shapes):
        if anchor < rows * columns:
            return level, divmod(anchor, columns)
        anchor -= rows * columns
    raise IndexError(f"anchor lies {anchor} beyond the last cell")


def _array(x: Tensor) -> NDArray[np.float32]:
    return x.float().cpu().numpy()


def _notes(net: GroundingModel, guided: bool) -> list[str]:
    """Say what the network has no maps for."""
    notes = [] if guided else [CLOSED if net.guided else LATE]
    return notes if named_parts(net, MoEBlock, "moe") else [*notes, NO_EXPERTS]

"""Reads the inside of a grounding network for one image: scores, activations, fusion and expert routing.

1. The image is encoded once. A hook records which experts the gate chose for each patch.
2. Each expression is grounded by itself. Hooks on the contrastive head and on the text-guided fusion record their maps.
3. The best anchor is decoded, reranked and calibrated as ``predict`` does it.

The network is a copy in evaluation mode that is not fused, because fusing removes the layers that the hooks read.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from optisar_yolo.data import ImageRendering, to_image
from optisar_yolo.engine import (
    ImageFiles,
    Routing,
    RoutingRecorder,
    calibration_of,
    canvas,
    checked_expressions,
    default_conf,
    read_sources,
    side_for,
    text_features_for,
)
from optisar_yolo.export import ExportedModel
from optisar_yolo.nn import DualGateFusion, Encoded, GroundingModel, MoEBlock, named_parts
from optisar_yolo.paper import gates
from optisar_yolo.visualize import Frame

LATE = "No text reaches the pyramid of this network: its maps are the same for every expression."
CLOSED = "The gates of the text-guided fusion are closed: no text reaches the pyramid, its maps are the same for all."
NO_EXPERTS = "This network has no experts (PL-MoE): there is no routing to show."


class ExplainError(ValueError):
    """A model that cannot be explained; the message says what to give instead."""


class ExplainedBox(NamedTuple):
    """The best box of an expression, and the anchor that it comes from.

    Attributes:
        box: [4] xyxy in pixels of the image.
        conf: Confidence, calibrated where the model has a calibration.
        score: Raw score of the network, 0..1.
        found: The confidence reaches the threshold, so that ``predict`` returns this box.
        level: Index of the anchor's level.
        cell: Row and column of the anchor in the map of that level.
    """

    box: NDArray[np.float32]
    conf: float
    score: float
    found: bool
    level: int
    cell: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Explanation:
    """Maps and boxes of one image and T expressions. Maps cover the canvas; ``frame`` locates the image in it.

    Attributes:
        path: Name of the image.
        image: Image uint8 [h, w, 3] BGR.
        texts: The expressions.
        frame: Place of the image in the canvas.
        strides: Canvas pixels per cell of each level.
        logits: Contrastive scores of each level (Eq. 4) float32 [T, rows, columns], before reranking.
        activations: Mean absolute feature of each pyramid level [T, rows, columns]; [1, rows, columns] where the
            pyramid is the same for all expressions.
        fusions: By name, the factor by which the text weighs the features (Eq. 7) [T, heads, rows, columns].
        candidates: [T, K, 5] candidates of the reranker: xyxy in pixels of the image and score after reranking, best
            first; K = 0 without a reranker.
        boxes: The best box of each expression.
        routing: Expert choices by block.
        guided: The text reaches the pyramid, so that each expression has its own pyramid.
        notes: Which maps this network cannot have, and why.
    """

    path: str
    image: NDArray[np.uint8]
    texts: list[str]
    frame: Frame
    strides: list[float]
    logits: list[NDArray[np.float32]]
    activations: list[NDArray[np.float32]]
    fusions: dict[str, NDArray[np.float32]]
    candidates: NDArray[np.float32]
    boxes: list[ExplainedBox]
    routing: dict[str, Routing]
    guided: bool
    notes: list[str]

    @property
    def answers(self) -> list[ExplainedBox]:
        """Former name of ``boxes``."""
        warnings.warn("Explanation.answers is now Explanation.boxes", FutureWarning, stacklevel=2)
        return self.boxes

    @property
    def levels(self) -> list[str]:
        """Names of the levels, such as P3."""
        return [f"P{round(math.log2(s))}" for s in self.strides]

    @property
    def score_maps(self) -> NDArray[np.float32]:
        """Scores 0..1 of the image without padding, the highest of all levels, [T, H, W] at the finest stride."""
        shape = self.frame.grid(self.strides[0])
        levels = [self.frame.cut(x, (s, s), shape) for x, s in zip(self.logits, self.strides, strict=True)]
        return sigmoid(np.max(levels, axis=0))


class Explainer:
    """Explains images with one model.

    Args:
        model: An open :class:`~optisar_yolo.api.OptiSAR` of weights or a YAML; it is not changed.
        imgsz: Long side in the network; chosen by the image by default, as in ``predict``.
        conf: Confidence threshold; that of ``predict`` by default.
        text_weights: Weights file of the text encoder, where it does not bring its own.
        device: Where to compute; where the model is by default.

    Raises:
        ExplainError: An export, or a fused model.
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
        self.bank = text_features_for(self.net, text_weights or model.overrides.get("text_weights"), None)
        self.imgsz, self.trained = imgsz, model.imgsz
        self.conf = default_conf(net) if conf is None else conf
        self.guided = any(gates(self.net).values())
        self.notes = [] if self.guided else [CLOSED if net.guided else LATE]
        if not named_parts(net, MoEBlock, "moe"):
            self.notes.append(NO_EXPERTS)

    @torch.inference_mode()
    def __call__(self, image: NDArray[np.uint8], texts: Sequence[str], path: str = "") -> Explanation:
        """Explain an image.

        Args:
            image: Image uint8 [h, w, 3] BGR.
            texts: Expressions, at least one.
            path: Name of the image.
        """
        encoded, frame, routing = self._encode(image)
        features = self.bank(list(texts)).to(encoded.extent.device)
        grounded = [self._ground(encoded, feature[None], frame) for feature in features]
        own = grounded if self.guided else grounded[:1]  # expressions with a pyramid of their own
        return Explanation(
            path=path,
            image=image,
            texts=list(texts),
            frame=frame,
            strides=[float(s) for s in self.net.stride],
            logits=[np.concatenate(level) for level in zip(*(g.logits for g in grounded), strict=True)],
            activations=[np.concatenate(level) for level in zip(*(g.activations for g in own), strict=True)],
            fusions={name: np.concatenate([g.fusions[name] for g in grounded]) for name in grounded[0].fusions},
            candidates=np.stack([g.candidates for g in grounded]),
            boxes=[g.box for g in grounded],
            routing=routing,
            guided=self.guided,
            notes=self.notes,
        )

    @torch.inference_mode()
    def routes(self, image: NDArray[np.uint8]) -> tuple[Frame, dict[str, Routing]]:
        """Return the expert choices in an image uint8 [h, w, 3] BGR; they do not depend on the expression."""
        _, frame, routing = self._encode(image)
        return frame, routing

    def _encode(self, image: NDArray[np.uint8]) -> tuple[Encoded, Frame, dict[str, Routing]]:
        device = next(self.net.parameters()).device
        side = self.imgsz or side_for(self.net, (image.shape[0], image.shape[1]), self.trained)
        x, extent = (t[None].to(device) for t in canvas(image, side))
        frame = Frame((image.shape[1], image.shape[0]), (x.shape[2], x.shape[3]), extent[0].cpu().numpy())
        recorder = RoutingRecorder(self.net)
        try:
            return self.net.encode(x, extent), frame, recorder.of(0, frame.canvas)
        finally:
            recorder.close()

    def _ground(self, encoded: Encoded, feature: Tensor, frame: Frame) -> _Grounded:
        """Ground one expression [1, D] in an encoded image."""
        head = self.net.head
        with _recording(self.net) as (logits, fusions):
            preds = self.net.match(encoded, feature)
        shapes = [(f.shape[2], f.shape[3]) for f in preds["feats"]]
        k = min(head.reranker.candidates, preds["scores"].shape[2]) if head.reranker is not None else 0
        # The reranker leaves anchors that are no candidates below all candidates, so the best k are the candidates.
        best, index = preds["scores"][0].topk(max(k, 1), dim=1)  # [1, k]
        boxes = head.boxes_at(preds, index)[0].float().cpu().numpy()
        boxes = to_image(boxes, frame.size, frame.extent, frame.canvas)
        scores = best[0].float().sigmoid().cpu().numpy()
        calibration = calibration_of(self.net)
        conf = float(scores[0] if calibration is None else calibration(scores[:1])[0])
        level, cell = _place(int(index[0, 0]), shapes)
        return _Grounded(
            [_array(x.view(1, *shape)) for x, shape in zip(logits, shapes, strict=True)],
            [_array(f.abs().mean(1)) for f in preds["feats"]],
            {name: _array(f) for name, f in fusions.items()},
            np.concatenate((boxes, scores[:, None]), 1)[:k],
            ExplainedBox(boxes[0], conf, float(scores[0]), conf >= self.conf, level, cell),
        )


class _Grounded(NamedTuple):
    """What one expression gives; entries as in :class:`Explanation`, with T = 1."""

    logits: list[NDArray[np.float32]]
    activations: list[NDArray[np.float32]]
    fusions: dict[str, NDArray[np.float32]]
    candidates: NDArray[np.float32]  # [K, 5]
    box: ExplainedBox


def explain(
    model: Any, source: Any, text: Any, imgsz: int | None = None, conf: float | None = None, **where: Any
) -> list[Explanation]:
    """Explain how a model grounds expressions in images.

    Args:
        model: An open :class:`~optisar_yolo.api.OptiSAR`; it is not changed.
        source: File, folder, pattern, array (BGR) or PIL image, or a list of them.
        text: An expression or several.
        imgsz: Long side in the network; chosen by the image by default, as in ``predict``.
        conf: Confidence threshold; that of ``predict`` by default.
        **where: ``text_weights`` and ``device`` of :class:`Explainer`.

    Returns:
        One explanation per image; :func:`write_explanation` writes it as files.

    Raises:
        ExplainError: An export, or a fused model.
        ValueError: No expression or no image.

    Example:
        >>> from optisar_yolo import OptiSAR
        >>> from optisar_yolo.explain import explain
        >>> explanation = explain(OptiSAR("optisar++n-pocket.safetensors"), "port.jpg", "the ship at the top")[0]
        >>> explanation.score_maps.shape
    """
    texts = checked_expressions(text)
    explainer = Explainer(model, imgsz, conf, **where)
    return [explainer(image, texts, name) for image, name in read_source(source, explainer.net.channels)]


def read_source(source: Any, channels: int = 3) -> Iterator[tuple[NDArray[np.uint8], str]]:
    """Yield the images of a source, uint8 [h, w, channels] (three are BGR), and their names.

    Raises:
        ValueError: The source is a video.
    """
    rendering = ImageRendering(channels=channels)
    source, names = read_sources(source, rendering)
    if names:
        yield from zip(source, names, strict=True)
        return
    loader = ImageFiles(source)
    loader.rendering = rendering
    if any(loader.video_flag):
        raise ValueError(f"{loader.files[-1]}: a video; explain takes images, so give single frames")
    for paths, images, _ in loader:
        yield from zip(images, paths, strict=True)


def checked_network(net: Any) -> GroundingModel:
    """Return the network of a model that can be explained.

    Raises:
        ExplainError: An export, or a fused network.
    """
    if isinstance(net, ExportedModel):
        raise ExplainError(
            f"{net.path}: an export has no inner maps to show; explain the weights (.pt or .safetensors) that it was "
            "made from"
        )
    if net.is_fused():
        raise ExplainError("the model is fused for inference, so its inner maps are gone; open its weights anew")
    return net


@contextmanager
def _recording(net: GroundingModel) -> Iterator[tuple[list[Tensor], dict[str, Tensor]]]:
    """Record one query: contrastive logits [1, 1, cells] of each level, and factors [1, heads, h, w] of each fusion.

    The factor of Eq. 7 is one number per head and pixel, so it follows from the map before and after the fusion.
    """
    logits: list[Tensor] = []
    before: dict[str, Tensor] = {}
    factors: dict[str, Tensor] = {}

    def keep_before(name: str) -> Any:
        return lambda _module, _args, output: before.update({name: output})

    def keep_factor(name: str) -> Any:
        def hook(module: nn.Module, _args: Any, output: Tensor) -> None:
            v, out = (_heads(x, module) for x in (before.pop(name), output))
            square = (v * v).sum(2)
            factors[name] = torch.where(square > 0, (out * v).sum(2) / square, 1.0)

        return hook

    handles = [
        level.register_forward_hook(lambda _module, _args, output: logits.append(output)) for level in net.head.cv4
    ]
    for name, part in named_parts(net, DualGateFusion, "fusion").items():
        handles += [part.value.register_forward_hook(keep_before(name)), part.register_forward_hook(keep_factor(name))]
    try:
        yield logits, factors
    finally:
        for handle in handles:
            handle.remove()


def _heads(x: Tensor, fusion: Any) -> Tensor:
    """Split a map [B, C, H, W] into the fusion's heads: float32 [B, heads, C / heads, H, W]."""
    return x.float().view(x.shape[0], fusion.heads, -1, *x.shape[2:])


def _place(anchor: int, shapes: Sequence[tuple[int, int]]) -> tuple[int, tuple[int, int]]:
    """Return the level of an anchor, and its row and column there, from its index among the anchors of all levels."""
    for level, (rows, columns) in enumerate(shapes):
        if anchor < rows * columns:
            return level, divmod(anchor, columns)
        anchor -= rows * columns
    raise IndexError(f"anchor lies {anchor} beyond the last cell")


def _array(x: Tensor) -> NDArray[np.float32]:
    return x.float().cpu().numpy()


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 1 / (1 + exp(-x)), without overflow and exact for small scores too."""
    return np.exp(-np.logaddexp(0, -logits))

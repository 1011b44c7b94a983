"""Expressions grounded in encoded images: the one interface of PyTorch networks and of exports, and their text encoder.

1. `encode` of a network takes images on canvases and keeps what does not depend on an expression.
2. :func:`ground` grounds expressions in them, a few at a time, so that memory is bounded.
3. :func:`checked_bank` finds the text encoder that the network was trained with.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from optisar_yolo.nn import Encoded, GroundingModel
from optisar_yolo.text import TextBank, load_text_encoder

QUERY_BATCH = 16  # expressions that run through the text-guided rows at once: bounds memory, not the answer
TEXT_BATCH = 256  # expressions that are scored at once on a pyramid without text


class CanvasImages(NamedTuple):
    """Images on their canvases, waiting for expressions (:class:`optisar_yolo.nn.model.Encoded` of a PyTorch model)."""

    images: Tensor  # [B, 3, H, W]
    extent: Tensor  # [B, 4]
    made: dict[str, Tensor] = {}  # what an encoder graph made of them; empty where each run encodes them anew


class KnownExpressions:
    """Takes the place of a text encoder where the expressions are in the graph: features are their numbers.

    Args:
        texts: The expressions.
        path: The export, for messages.
    """

    def __init__(self, texts: Sequence[str], path: Path) -> None:
        self.texts, self.path = list(texts), path

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Numbers [N, 1] of expressions.

        Raises:
            ValueError: One that was not baked in.
        """
        for text in texts:
            if text not in self.texts:
                raise ValueError(
                    f'{self.path}: exported with fixed expressions, and "{text}" is none of them; it knows '
                    f"{'; '.join(self.texts)}. Export without text= for any expression"
                )
        return torch.tensor([[float(self.texts.index(text))] for text in texts])


class ExportedNetwork(ABC):
    """What prediction and validation need of an exported network (:class:`optisar_yolo.export.ExportedModel`).

    Attributes:
        path: The export.
        texts: Expressions that are part of the graph; empty where any may be asked.
        text_model: Name of the text encoder.
        text_fingerprint: Fingerprint of its weights.
    """

    path: Path
    texts: list[str]
    text_model: str
    text_fingerprint: str
    calibration: dict[str, Any] | None

    @abstractmethod
    def to(self, device: torch.device) -> ExportedNetwork:
        """Run on a device, as far as what runs the graph can."""

    @abstractmethod
    def encode(self, images: Tensor, extent: Tensor | None = None) -> CanvasImages:
        """Keep images for :meth:`ground`, encoded where the export has a graph for that."""

    @abstractmethod
    def ground(self, scene: CanvasImages, rows: Tensor, texts: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
        """Ground expressions: boxes [N, k, 4] xyxy on the canvas and raw confidences [N, k]."""


def ground(
    model: GroundingModel | ExportedNetwork, scene: Encoded | CanvasImages, rows: Tensor, texts: Tensor, k: int = 1
) -> tuple[Tensor, Tensor]:
    """Ask expressions of encoded images.

    Args:
        model: The network.
        scene: Encoded images.
        rows: [N] image of each expression.
        texts: [N, D] features of the expressions.
        k: Anchors per expression.

    Returns:
        Boxes [N, k, 4] xyxy on the canvas and raw confidences [N, k].
    """
    if isinstance(model, ExportedNetwork):
        assert isinstance(scene, CanvasImages)
        return model.ground(scene, rows, texts, k)
    assert isinstance(scene, Encoded)
    boxes, confs = [], []
    for _, preds in outputs(model, scene, rows, texts):
        b, c = model.head.decode(preds, k)
        boxes.append(b[:, 0])
        confs.append(c[:, 0])
    return torch.cat(boxes), torch.cat(confs)


def outputs(
    model: GroundingModel, scene: Encoded, rows: Tensor, texts: Tensor
) -> Iterator[tuple[slice, dict[str, Any]]]:
    """Yield the head's outputs on parts of the expressions (one row each, T = 1), with the part as a slice of [0, N).

    Args:
        model: The network.
        scene: Encoded images.
        rows: [N] image of each expression.
        texts: [N, D] features of the expressions.
    """
    if model.guided:
        for i in range(0, len(rows), QUERY_BATCH):
            part = slice(i, min(i + QUERY_BATCH, len(rows)))
            yield part, model.query(scene.rows(rows[part]), texts[part])
        return
    start = 0
    for row, count in zip(*(x.tolist() for x in torch.unique_consecutive(rows, return_counts=True)), strict=True):
        for i in range(start, start + count, TEXT_BATCH):
            part = slice(i, min(i + TEXT_BATCH, start + count))
            yield part, as_rows(model.query_all(scene.rows(slice(row, row + 1)), texts[None, part]))
        start += count


def as_rows(preds: dict[str, Any]) -> dict[str, Any]:
    """Turn the head's output on one image and N expressions into N rows of one expression; nothing is copied."""
    scores = preds["scores"][0][:, None]  # [N, 1, A]
    n = len(scores)
    feats = [f.expand(n, -1, -1, -1) for f in preds["feats"]]
    boxes = None if preds["boxes"] is None else preds["boxes"].expand(n, -1, -1)
    return preds | {"scores": scores, "boxes": boxes, "feats": feats}


def checked_bank(
    model: GroundingModel | ExportedNetwork, weights: str | Path | None, directory: Path | None
) -> TextBank | KnownExpressions:
    """The text encoder a model was trained with.

    Args:
        model: The model.
        weights: The encoder's weights file, where it does not bring its own.
        directory: Where features are cached.

    Returns:
        Its bank; of an export with fixed expressions, the list of these.

    Raises:
        ValueError: The encoder found under the name has other weights than the one used in training.
    """
    if isinstance(model, ExportedNetwork) and model.texts:
        return KnownExpressions(model.texts, model.path)
    encoder = load_text_encoder(model.text_model or "pocket", weights)
    if model.text_fingerprint and encoder.fingerprint != model.text_fingerprint:
        raise ValueError(
            f"the model was trained with the text encoder {model.text_model} {model.text_fingerprint[:12]}, but "
            f"the one found is {encoder.fingerprint[:12]}: give the right weights with text_weights=<file>"
        )
    return TextBank(encoder, directory)

"""Grounding: images and expressions in, boxes out. PyTorch networks and exports have one interface here.

1. :func:`text_features_for` opens the text encoder that the network was trained with. Called with expressions, it
   returns their features [N, D].
2. ``network.encode`` takes images on canvases and computes what does not depend on an expression.
3. :func:`ground` scores the anchors for pairs of an image and an expression, a few at a time to bound memory.
4. :func:`best_boxes` maps the best of them to the images, calibrates their confidences and removes duplicates. The
   result is one :class:`Detections` per image, the form in which boxes reach every output.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import nms
from ultralytics.engine.results import Results
from ultralytics.utils import LOGGER

from optisar_yolo.data import to_image
from optisar_yolo.engine.calibrate import calibration_of
from optisar_yolo.engine.checkpoint import model_vocabulary
from optisar_yolo.engine.facts import facts_of, with_unmet_noun
from optisar_yolo.language import ExpressionNotes, ObjectQuery, read_notes, read_query
from optisar_yolo.nn import Encoded, GroundingModel
from optisar_yolo.text import TextFeatureCache, load_text_encoder
from optisar_yolo.visualize import GroundingResults

QUERY_BATCH = 16  # expressions that run through the text-guided layers at once; bounds memory, changes no result
TEXT_BATCH = 256  # expressions that are scored at once on a pyramid without text
CANDIDATES = 100  # anchors per expression that compete where several boxes are wanted
OVERLAP = 0.7  # IoU threshold of their non-maximum suppression
NO_HUES = "the image has no hues, so the network alone reads the colour"  # note of such an expression


@dataclass(frozen=True)
class Detections:
    """Boxes of one image. An index, a slice or a mask selects some of them.

    Attributes:
        boxes: float32 [N, 4], xyxy in pixels of the image.
        confidence: float32 [N], 0..1; calibrated where the model has a calibration.
        expression: int64 [N], index of the expression that a box belongs to.
    """

    boxes: np.ndarray
    confidence: np.ndarray
    expression: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, kept: Any) -> Detections:
        return Detections(self.boxes[kept], self.confidence[kept], self.expression[kept])

    def of(self, expression: int) -> Detections:
        """Return the boxes of one expression."""
        return self[self.expression == expression]

    def data(self) -> np.ndarray:
        """Return float32 [N, 6]: xyxy, confidence, index of the expression, the layout of Ultralytics' ``Boxes``."""
        return np.column_stack((self.boxes, self.confidence, self.expression)).astype(np.float32)

    def results(
        self,
        image: np.ndarray,
        path: str,
        texts: Sequence[str],
        conf: float,
        verbose: bool = True,
        notes: Mapping[str, ExpressionNotes] | None = None,
        queries: Sequence[ObjectQuery] = (),
        thresholds: np.ndarray | None = None,
    ) -> Results:
        """Return Ultralytics' results of the boxes with enough confidence; ``names[cls]`` is the expression of a box.

        Args:
            image: The image, uint8 [h, w, 3] BGR.
            path: Its name.
            texts: The expressions.
            conf: Confidence threshold.
            verbose: Log each expression without a box.
            notes: What expressions ask for beyond one object, from :func:`notes_of`. One that is not grounded gets no
                box, unless the threshold is 0. ``result.notes`` holds the message of each.
            queries: How the expressions were read: ``result.query``. Of a set the number found is in ``result.notes``
                where it was asked for, or is not the number that the expression names.
            thresholds: Confidence threshold of each expression, where they differ.
        """
        notes = notes or {}
        least = np.full(len(texts), conf) if thresholds is None else thresholds
        silent = [j for j, text in enumerate(texts) if text in notes and not notes[text].grounded and conf > 0]
        if verbose:
            for j, text in enumerate(texts):
                if j in silent:
                    continue
                if (best := self.of(j).confidence.max(initial=0.0)) < least[j]:
                    LOGGER.info(
                        f'nothing found for "{text}" in {path}: best confidence {best:.3f}, below conf={least[j]:.3g}'
                    )
        boxes = torch.from_numpy(
            self[(self.confidence >= least[self.expression]) & ~np.isin(self.expression, silent)].data()
        )
        result = GroundingResults(image, path=path, names=dict(enumerate(texts)), boxes=boxes)
        result.notes = {text: notes[text].message(conf) for text in texts if text in notes}
        result.query = {query.text: query for query in queries}
        for text, query in result.query.items():
            n = result.count[text]
            if query.counted:
                result.notes[text] = f"{n} found"
            elif query.kind == "set" and query.amount is not None and n != query.amount:
                more = [result.notes[text]] if text in result.notes else []
                result.notes[text] = "; ".join([*more, f"{n} found, not {query.amount}"])
            if query.note == NO_HUES:
                more = [result.notes[text]] if text in result.notes else []
                result.notes[text] = "; ".join([*more, NO_HUES])
        return result


ROUTING, SIZES = "routing_", "_sizes"  # names of the outputs of an encoder graph that tell the routing of the experts


class CanvasImages(NamedTuple):
    """Images on their canvases: what ``encode`` of an export returns."""

    images: Tensor  # [B, 3, H, W]
    extent: Tensor  # [B, 4]
    made: dict[str, Tensor] = {}  # outputs of the encoder graph; empty where the export is one graph

    def rows(self, index: Tensor | slice) -> CanvasImages:
        """Select images, as :meth:`optisar_yolo.nn.Encoded.rows` does."""
        return CanvasImages(self.images[index], self.extent[index], {k: v[index] for k, v in self.made.items()})


class KnownExpressions:
    """Takes the place of a text encoder where the export has fixed expressions: the features are their indices.

    Args:
        texts: The expressions.
        path: The export, for messages.
    """

    def __init__(self, texts: Sequence[str], path: Path) -> None:
        self.texts, self.path = list(texts), path

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return the indices [N, 1] of expressions.

        Raises:
            ValueError: An expression that the export does not have.
        """
        for text in texts:
            if text not in self.texts:
                raise ValueError(
                    f'{self.path}: exported with fixed expressions, and "{text}" is none of them; it knows '
                    f"{'; '.join(self.texts)}. Export without text= for any expression"
                )
        return torch.tensor([[float(self.texts.index(text))] for text in texts])


class NetworkRunner(ABC):
    """What runs a network in the place of PyTorch: an export, or an engine of the CPU.

    Attributes:
        path: The export, or the weights file.
        texts: Fixed expressions; empty where any expression is taken.
        text_model: Name of the text encoder.
        text_fingerprint: Fingerprint of its weights.
        batches: Takes several images at once, also of its encoded images.
        channels: Bands of an image.
    """

    batches = False
    channels: int
    path: Path
    texts: list[str]
    text_model: str
    text_fingerprint: str
    calibration: dict[str, Any] | None

    @abstractmethod
    def to(self, device: torch.device) -> NetworkRunner:
        """Run on a device, as far as the runtime supports it."""

    def expect(self, images: int) -> None:  # noqa: B027 - most need not know
        """Say how many images are ahead."""

    def torch_copy(self) -> GroundingModel | None:
        """Return the network as PyTorch runs it, fused; None where it cannot be had, as of an export."""
        return None

    def in_torch(self, encoded: Any) -> tuple[GroundingModel, Encoded] | None:
        """Return the network in PyTorch and the images as it encodes them, for maps that no graph gives.

        Args:
            encoded: The result of :meth:`encode`.

        Returns:
            None where they cannot be had, as of an export.
        """
        return None

    @abstractmethod
    def encode(self, images: Tensor, extent: Tensor | None = None) -> Any:
        """Return images for :meth:`ground`: :class:`CanvasImages`, or what else `ground` takes."""

    @abstractmethod
    def ground(self, encoded: Any, rows: Tensor, texts: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
        """Ground expressions: boxes [N, k, 4] xyxy on the canvas and raw confidences [N, k]."""


class ExportedNetwork(NetworkRunner):
    """The interface of :class:`optisar_yolo.export.ExportedModel`, with the boxes that it was exported with."""


def ground(
    model: GroundingModel | NetworkRunner, encoded: Encoded | CanvasImages, rows: Tensor, texts: Tensor, k: int = 1
) -> tuple[Tensor, Tensor]:
    """Ground expressions in encoded images.

    Args:
        model: The network.
        encoded: Encoded images.
        rows: [N] image of each expression.
        texts: [N, D] features of the expressions.
        k: Anchors per expression.

    Returns:
        Boxes [N, k, 4] xyxy on the canvas and raw confidences [N, k].
    """
    if isinstance(model, NetworkRunner):
        return model.ground(encoded, rows, texts, k)
    features = cast(Encoded, encoded)  # only what runs in PyTorch's place takes anything else
    boxes, confs = [], []
    # A GPU spends more time on starting an image's operations than on computing them.
    for _, preds in _scored(model, features, rows, texts, texts.device.type != "cpu"):
        b, c = model.head.decode(preds, k)
        boxes.append(b.flatten(0, 1))
        confs.append(c.flatten(0, 1))
    return torch.cat(boxes), torch.cat(confs)


def outputs(
    model: GroundingModel, encoded: Encoded, rows: Tensor, texts: Tensor
) -> Iterator[tuple[slice, dict[str, Any]]]:
    """Yield the head's outputs on parts of the expressions (one row each, T = 1), and each part as a slice of [0, N).

    Args:
        model: The network.
        encoded: Encoded images.
        rows: [N] image of each expression.
        texts: [N, D] features of the expressions.
    """
    for part, preds in _scored(model, encoded, rows, texts):
        yield part, preds if model.guided else _as_rows(preds)


def _scored(
    model: GroundingModel, encoded: Encoded, rows: Tensor, texts: Tensor, together: bool = False
) -> Iterator[tuple[slice, dict[str, Any]]]:
    """Yield the head's outputs on B images with T expressions each, B * T of all expressions at once.

    Args:
        model: The network. With text-guided layers T is 1, as each expression needs its own row.
        encoded: Encoded images.
        rows: [N] image of each expression.
        texts: [N, D] features of the expressions.
        together: Several images at once, where they have equally many expressions.
    """
    if model.guided:
        for i in range(0, len(rows), QUERY_BATCH):
            part = slice(i, min(i + QUERY_BATCH, len(rows)))
            yield part, model.match(encoded.rows(rows[part]), texts[part])
        return
    runs = zip(*(x.tolist() for x in torch.unique_consecutive(rows, return_counts=True)), strict=True)
    start = 0
    for count, alike in groupby(runs, key=lambda run: run[1]):
        images = [image for image, _ in alike]
        size = max(TEXT_BATCH // count, 1) if together else 1
        for group in (images[i : i + size] for i in range(0, len(images), size)):
            own = encoded.rows(slice(group[0], group[0] + 1) if len(group) == 1 else torch.tensor(group))
            expressions = texts[start : start + len(group) * count].view(len(group), count, -1)
            for i in range(0, count, TEXT_BATCH):
                few = expressions[:, i : i + TEXT_BATCH]
                yield slice(start + i, start + i + len(group) * few.shape[1]), model.match_all(own, few)
            start += len(group) * count


def _as_rows(preds: dict[str, Any]) -> dict[str, Any]:
    """Turn the head's output on one image and N expressions into N rows of one expression; nothing is copied."""
    rows = {k: v[0][:, None] for k, v in preds.items() if k in ("scores", "first_scores")}  # [N, 1, A]
    n = len(rows["scores"])
    feats = [f.expand(n, -1, -1, -1) for f in preds["feats"]]
    boxes = None if preds["boxes"] is None else preds["boxes"].expand(n, -1, -1)
    return preds | rows | {"boxes": boxes, "feats": feats}


def best_boxes(
    model: GroundingModel | NetworkRunner,
    encoded: Encoded | CanvasImages,
    texts: Tensor,
    canvas: tuple[int, int],
    sizes: Sequence[tuple[int, int]],
    topk: int,
    overlap: float = OVERLAP,
) -> list[Detections]:
    """Find the best boxes of every expression in every image.

    Args:
        model: The network.
        encoded: B encoded images.
        texts: [T, D] features of the expressions.
        canvas: Height and width of the canvas.
        sizes: Width and height of each image.
        topk: Boxes per expression.
        overlap: IoU above which two boxes of an expression are duplicates.

    Returns:
        The detections of each image: for one expression after the other up to `topk` boxes, best first.
    """
    found = []
    for own in candidates(model, encoded, texts, canvas, sizes, 1 if topk == 1 else max(topk, CANDIDATES)):
        kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for j, (xyxy, conf) in enumerate(own):
            keep = distinct_boxes(xyxy, conf, overlap)[:topk] if topk > 1 else np.zeros(1, np.int64)
            kept.append((xyxy[keep], conf[keep], np.full(len(keep), j, np.int64)))
        found.append(Detections(*(np.concatenate(parts) for parts in zip(*kept, strict=True))))
    return found


def distinct_boxes(boxes: np.ndarray, conf: np.ndarray, overlap: float = OVERLAP) -> np.ndarray:
    """Return the indices of one expression's boxes without duplicates, best first.

    Args:
        boxes: [N, 4] xyxy, clipped to the image.
        conf: [N] confidences.
        overlap: IoU above which two boxes are duplicates.
    """
    return nms(torch.from_numpy(boxes), torch.from_numpy(conf), overlap).numpy()


def candidates(
    model: GroundingModel | NetworkRunner,
    encoded: Encoded | CanvasImages,
    texts: Tensor,
    canvas: tuple[int, int],
    sizes: Sequence[tuple[int, int]],
    k: int,
) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    """Ground every expression in every image.

    Args:
        model: The network.
        encoded: B encoded images.
        texts: [T, D] features of the expressions.
        canvas: Height and width of the canvas.
        sizes: Width and height of each image.
        k: Anchors per expression.

    Returns:
        For each image and expression boxes float32 [k, 4], xyxy in pixels of the image, and confidences [k], calibrated
        where the model has a calibration; best first, duplicates included.
    """
    calibration = calibration_of(model)
    b, t = len(sizes), len(texts)
    rows = torch.arange(b, device=texts.device).repeat_interleave(t)
    # copied at once: each copy from a GPU waits for it
    boxes, confs = (x.float().cpu().numpy() for x in ground(model, encoded, rows, texts.repeat(b, 1), k))
    extents = encoded.extent.cpu().numpy()
    out = []
    for i, size in enumerate(sizes):
        own = []
        for j in range(t):
            box, conf = boxes[i * t + j], confs[i * t + j]
            if calibration is not None:
                conf = calibration(conf).astype(np.float32)
            # Boxes are clipped before NMS: two that differ only outside the image are duplicates.
            own.append((to_image(box, size, extents[i], canvas), conf))
        out.append(own)
    return out


def notes_of(model: Any, texts: Sequence[str], topk: int | str = 1, several: bool = True) -> dict[str, ExpressionNotes]:
    """Return what expressions ask for beyond one object, for those that do.

    Args:
        model: The network; its ``wordings`` are the kinds that its training had, and its facts hold the words, where
            it says so.
        texts: The expressions.
        topk: Boxes per expression.
        several: Expressions of several objects get several boxes; of an export they never do.
    """
    taught = getattr(model, "wordings", None)
    several = several and not isinstance(model, ExportedNetwork)
    known = None if taught is None else tuple(taught)
    words, facts = model_vocabulary(model), facts_of(model)
    read = {text: read_notes(text, topk, known, several and read_query(text, words).kind == "set") for text in texts}
    read |= {text: with_unmet_noun(notes, facts) for text, notes in read.items()}
    return {text: notes for text, notes in read.items() if notes.message()}


def log_notes(notes: Mapping[str, ExpressionNotes], conf: float) -> None:
    """Log one line per expression that has a note, at a confidence threshold."""
    for text, found in notes.items():
        LOGGER.info(f"'{text}': {found.message(conf)}")


def text_features_for(
    model: GroundingModel | NetworkRunner, weights: str | Path | None = None, directory: Path | None = None
) -> TextFeatureCache | KnownExpressions:
    """Open the text encoder that a model was trained with.

    Args:
        model: The model.
        weights: Weights file of the encoder, where the package does not include them.
        directory: Folder for cached features.

    Returns:
        A callable that returns the features [N, D] of N expressions.

    Raises:
        ValueError: The encoder of that name has other weights than the one used in training.
    """
    if isinstance(model, NetworkRunner) and model.texts:
        return KnownExpressions(model.texts, model.path)
    encoder = load_text_encoder(model.text_model or "pocket", weights)
    if model.text_fingerprint and encoder.fingerprint != model.text_fingerprint:
        raise ValueError(
            f"the model was trained with the text encoder {model.text_model} {model.text_fingerprint[:12]}, but "
            f"the one found is {encoder.fingerprint[:12]}: give the right weights with text_weights=<file>"
        )
    return TextFeatureCache(encoder, directory)

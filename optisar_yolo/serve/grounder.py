"""Ground expressions in images from several threads: one open model, a cache of encoded images, requests in batches."""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from optisar_yolo.api import OptiSAR
from optisar_yolo.engine import (
    CanvasImages,
    Detections,
    KnownExpressions,
    NetworkRunner,
    calibration_of,
    canvas,
    default_conf,
    match,
    notes_of,
    plan_of,
    queries_in,
    side_for,
    thresholds,
)
from optisar_yolo.nn import Encoded, GroundingModel, HeadFeatures
from optisar_yolo.serve.limits import Refusal
from optisar_yolo.text import TextFeatureCache

Value = TypeVar("Value")
_NO_PIXELS = np.zeros((1, 1, 3), np.uint8)  # results are read for their boxes and notes, not drawn
TEXTS = 20_000  # expressions whose features are cached: bounds memory (1.5 KiB each with the bundled encoder)


@dataclass(frozen=True)
class PreparedImage:
    """An image ready for the network.

    Attributes:
        key: Name of the image in the cache.
        pixels: [3, H, W] RGB in 0..1, on its canvas.
        extent: [4] of the unpadded image in the canvas.
        size: Width and height of the image itself, pixels.
    """

    key: str
    pixels: Tensor
    extent: Tensor
    size: tuple[int, int]

    @classmethod
    def of(cls, key: str, image: np.ndarray, imgsz: int) -> PreparedImage:
        """Fit an image uint8 [h, w, 3] BGR on its canvas, long side to imgsz."""
        pixels, extent = canvas(image, imgsz)
        return cls(key, pixels, extent, (image.shape[1], image.shape[0]))


@dataclass(frozen=True)
class CachedImage:
    """An encoded image in the cache.

    Attributes:
        key: Name of the image in the cache.
        encoded: Its features, one row.
        canvas: Height and width of the canvas, pixels.
        size: Width and height of the image itself, pixels.
        pixels: [3, H, W] RGB in 0..1, on its canvas.
    """

    key: str
    encoded: Encoded | CanvasImages
    canvas: tuple[int, int]
    size: tuple[int, int]
    pixels: Tensor


@dataclass(frozen=True)
class GroundingRequest:
    """Expressions to ground in an image.

    Attributes:
        image: A new image, or one from the cache.
        texts: The expressions, cleaned.
        conf: Confidence threshold; that of the model's calibration where None.
        topk: Boxes per expression; "all" for every match.
        several: An expression of several objects gets all of them; otherwise one box, that of the network alone.
    """

    image: PreparedImage | CachedImage
    texts: tuple[str, ...]
    conf: float | None = None
    topk: int | str = 1
    several: bool = True


@dataclass(frozen=True)
class ScoredBox:
    """A box.

    Attributes:
        xyxy: Left, top, right and bottom, pixels of the image.
        conf: Confidence, 0..1.
    """

    xyxy: tuple[float, float, float, float]
    conf: float


@dataclass(frozen=True)
class ExpressionResult:
    """The boxes of one expression.

    Attributes:
        text: The expression.
        boxes: Boxes above the threshold, best first; empty where nothing was found.
        best: Confidence of the best box, above the threshold or not.
        note: A remark for the reader, such as that the end of the expression was not read.
        query: How the expression was read, in one line.
    """

    text: str
    boxes: tuple[ScoredBox, ...]
    best: float
    note: str = ""
    query: str = ""


class LRUCache(Generic[Value]):
    """A cache that drops the least recently used value; safe to use from several threads.

    Args:
        capacity: Most values that are kept.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._values: OrderedDict[str, Value] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: str) -> Value | None:
        """Return a value, or None where it is not in the cache (any more)."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: str, value: Value) -> None:
        """Add a value; the least recently used one is dropped where the cache is full."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > self.capacity:
                self._values.popitem(last=False)


class Grounder:
    """An open model that grounds expressions in images, one call at a time, from any thread.

    Args:
        model: Weights, an export, or an open model.
        imgsz: Long side of images in the network; chosen by the image by default.
        remembered: Capacity of the cache of encoded images.
        engine: As in :meth:`OptiSAR.predict`.

    Attributes:
        cache: The encoded images that were used last.
        conf: Confidence threshold of requests that set none.
        calibrated: Whether confidences are probabilities.
    """

    def __init__(
        self, model: str | Path | OptiSAR, imgsz: int | None = None, remembered: int = 32, engine: str = "auto"
    ) -> None:
        opened = model if isinstance(model, OptiSAR) else OptiSAR(model)
        self.name = Path(str(opened.model_name)).name
        self.imgsz, self.trained = imgsz, opened.imgsz
        first = opened.encode(np.zeros((64, 64, 3), np.uint8), imgsz, engine)  # also warms it up
        self.network, self.bank, self.device = first.model, first.text_features, first.device
        self.cache: LRUCache[CachedImage] = LRUCache(remembered)
        self.conf = default_conf(self.network)
        self.calibrated = calibration_of(self.network) is not None
        self._lock = threading.Lock()

    def ground(self, requests: Sequence[GroundingRequest]) -> list[list[ExpressionResult]]:
        """Ground the expressions of several requests.

        1. New images of one canvas size are encoded as one batch; cached images are not encoded again.
        2. All expressions are encoded as one list.
        3. Expressions about the same image run together.

        Args:
            requests: At least one.

        Returns:
            Per request one result per expression, equal to the results of the request alone.
        """
        with self._lock, torch.inference_mode():
            images = self._encode_images([r.image for r in requests])
            groups: dict[tuple[str, int | str, float, bool], list[int]] = defaultdict(list)
            for i, request in enumerate(requests):
                conf = self.conf if request.conf is None else request.conf
                groups[request.image.key, request.topk, conf, request.several].append(i)
            plans = {
                group: plan_of(self.network, [t for i in members for t in requests[i].texts], several=group[3])
                for group, members in groups.items()
            }
            features = self._encode_texts([t for plan in plans.values() for t in plan.searched])
            out: list[list[ExpressionResult]] = [[]] * len(requests)
            for group, members in groups.items():
                (key, topk, conf, several), plan = group, plans[group]
                image, stacked = images[key], torch.stack([features[t] for t in plan.searched]).to(self.device)
                (found,) = match(
                    self.network, image.encoded, plan, stacked, image.canvas, [image.size], topk, conf=conf,
                    images=image.pixels[None],
                )  # fmt: skip
                notes = notes_of(self.network, plan.texts, topk, several)
                least = thresholds(self.network, plan, topk, conf)
                (read,) = queries_in(plan.queries, image.pixels[None], image.encoded.extent)
                results = found.results(_NO_PIXELS, "", plan.texts, conf, False, notes, read, least)
                own = iter(range(len(plan.texts)))
                for i in members:
                    out[i] = [self._result(t, next(own), found, results) for t in requests[i].texts]
            return out

    def prepare(self, key: str, image: np.ndarray) -> PreparedImage:
        """Fit an image uint8 [h, w, 3] BGR on its canvas."""
        size = (image.shape[0], image.shape[1])
        return PreparedImage.of(key, image, self.imgsz or side_for(self.network, size, self.trained))

    def encode(self, image: PreparedImage) -> CachedImage:
        """Encode an image, or return it from the cache."""
        with self._lock, torch.inference_mode():
            return self._encode_images([image])[image.key]

    def in_torch(self, image: CachedImage) -> tuple[GroundingModel, Encoded] | None:
        """Return the network in PyTorch and an image as it encodes it, for score maps; None for an export."""
        network: Any = self.network
        encoded: Any = image.encoded
        return network.in_torch(encoded) if isinstance(network, NetworkRunner) else (network, encoded)

    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Return the features [N, D] of expressions."""
        with self._lock, torch.inference_mode():
            features = self._encode_texts(list(texts))
            return torch.stack([features[t] for t in texts]).to(self.device)

    def _encode_images(self, images: Sequence[PreparedImage | CachedImage]) -> dict[str, CachedImage]:
        """Encode the images that are not in the cache, each once."""
        out = {image.key: image for image in images if isinstance(image, CachedImage)}
        new: dict[tuple[int, ...], dict[str, PreparedImage]] = defaultdict(dict)  # by shape
        for image in images:
            if isinstance(image, PreparedImage) and image.key not in out:
                cached = self.cache.get(image.key)
                if cached is None:
                    new[image.pixels.shape][image.key] = image
                else:
                    out[image.key] = cached
        for group in (list(by_key.values()) for by_key in new.values()):
            # an export may be fixed to batches of one image
            alone = isinstance(self.network, NetworkRunner) and not self.network.batches
            size = 1 if alone else len(group)
            for batch in (group[i : i + size] for i in range(0, len(group), size)):
                x = torch.stack([image.pixels for image in batch]).to(self.device)
                encoded = self.network.encode(x, torch.stack([image.extent for image in batch]).to(self.device))
                for i, image in enumerate(batch):
                    row = encoded if len(batch) == 1 else _copy_row(encoded, i)
                    out[image.key] = CachedImage(image.key, row, (x.shape[2], x.shape[3]), image.size, image.pixels)
                    self.cache.put(image.key, out[image.key])
        return out

    def _encode_texts(self, texts: list[str]) -> dict[str, Tensor]:
        """Encode expressions; the number of cached features is bounded.

        Raises:
            Refusal: The model is an export with fixed expressions, and one of the texts is not among them.
        """
        if isinstance(self.bank, KnownExpressions) and not set(texts) <= set(self.bank.texts):
            raise Refusal(422, "the model was exported with fixed expressions", f"send {'; '.join(self.bank.texts)}")
        if isinstance(self.bank, TextFeatureCache) and len(self.bank) > TEXTS:
            self.bank = TextFeatureCache(self.bank.encoder)
        return dict(zip(texts, self.bank(texts), strict=True))

    def _result(self, text: str, j: int, found: Detections, results: Any) -> ExpressionResult:
        """Return the boxes above the threshold; a negation, for instance, has none but a note."""
        rows = results.boxes.data[results.boxes.cls == j].tolist()
        boxes = tuple(ScoredBox((x1, y1, x2, y2), c) for x1, y1, x2, y2, c, _ in rows)
        note = "; ".join(part for part in (results.notes.get(text, ""), self._note(text)) if part)
        best = float(found.of(j).confidence.max(initial=0.0))
        return ExpressionResult(text, boxes, best, note, str(results.query[text]))

    def _note(self, text: str) -> str:
        """Return a remark where the text encoder does not read an expression to its end."""
        if not isinstance(self.bank, TextFeatureCache):
            return ""
        encoder = self.bank.encoder
        tokens = len(encoder._tokens([text])[0])
        if tokens <= encoder.max_tokens:
            return ""
        return f"only the first {encoder.max_tokens} of {tokens} tokens were read"


def _copy_row(encoded: Encoded | CanvasImages, i: int) -> Encoded | CanvasImages:
    """Copy one image out of a batch, so that the cached image does not keep the memory of the whole batch."""
    if isinstance(encoded, CanvasImages):
        made = {name: v[i : i + 1].clone() for name, v in encoded.made.items()}
        return CanvasImages(encoded.images[i : i + 1].clone(), encoded.extent[i : i + 1].clone(), made)
    copies: dict[int, Tensor] = {}

    def copy(x: Tensor) -> Tensor:
        row = x[i : i + 1]
        if row.data_ptr() not in copies:  # the head's maps are those of the network and stay shared
            copies[row.data_ptr()] = row.clone()
        return copies[row.data_ptr()]

    head = encoded.head
    if head is not None:
        boxes = None if head.boxes is None else copy(head.boxes)
        head = HeadFeatures([copy(c) for c in head.cells], boxes, [copy(f) for f in head.feats])
    return Encoded({k: copy(v) for k, v in encoded.maps.items()}, copy(encoded.first), copy(encoded.extent), head)

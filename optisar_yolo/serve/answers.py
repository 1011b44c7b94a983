"""Expressions about images to answers: the one place where the app, the service and batches use the model."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from optisar_yolo.api import OptiSAR
from optisar_yolo.engine import CanvasImages, KnownExpressions, answer, calibration_of, default_conf
from optisar_yolo.nn import Encoded, GroundingModel, Looked
from optisar_yolo.serve.limits import Refusal
from optisar_yolo.serve.session import CachedImage, Prepared, Remembered
from optisar_yolo.text import TextBank

TEXTS = 20_000  # expressions whose vectors are kept: bounds memory (1.5 KiB each with the bundled encoder)


@dataclass(frozen=True)
class AnswerBox:
    """A box.

    Attributes:
        xyxy: Left, top, right and bottom, pixels of the image.
        conf: Confidence, 0..1.
    """

    xyxy: tuple[float, float, float, float]
    conf: float


@dataclass(frozen=True)
class GroundingAnswer:
    """The answer to one expression.

    Attributes:
        text: The expression.
        boxes: Those of enough confidence, best first; empty where nothing was found.
        best: Confidence of the best box, kept or not.
        note: What the reader should know, such as that the end of the expression was not read.
    """

    text: str
    boxes: tuple[AnswerBox, ...]
    best: float
    note: str = ""


@dataclass(frozen=True)
class GroundingRequest:
    """Expressions about an image.

    Attributes:
        image: New, or seen before.
        texts: The expressions, cleaned.
        conf: Least confidence of a box; that of the model's calibration where None.
        topk: Boxes per expression.
    """

    image: Prepared | CachedImage
    texts: tuple[str, ...]
    conf: float | None = None
    topk: int = 1


class Engine:
    """A model that answers questions about images, one call at a time, from any thread.

    Args:
        model: Weights, an export, or an open model.
        imgsz: Long side of images in the network; that of training by default.
        remembered: Encoded images that are kept.

    Attributes:
        seen: The images that were asked about last.
        conf: Least confidence of an answer where the question sets none.
        calibrated: Whether confidences are probabilities.
    """

    def __init__(self, model: str | Path | OptiSAR, imgsz: int | None = None, remembered: int = 32) -> None:
        opened = model if isinstance(model, OptiSAR) else OptiSAR(model)
        self.name = Path(str(opened.model_name)).name
        self.imgsz = int(imgsz or opened.imgsz)
        first = opened.encode(np.zeros((64, 64, 3), np.uint8), self.imgsz)  # also warms it up
        self.network, self.bank, self.device = first.model, first.bank, first.device
        self.seen: Remembered[CachedImage] = Remembered(remembered)
        self.conf = default_conf(self.network)
        self.calibrated = calibration_of(self.network) is not None
        self._lock = threading.Lock()

    def answer(self, questions: Sequence[GroundingRequest]) -> list[list[GroundingAnswer]]:
        """Answer questions together: images of one size run as one batch, expressions are encoded as one list.

        Args:
            questions: At least one.

        Returns:
            Per question one answer per expression, the same as if it had been asked alone.
        """
        with self._lock, torch.inference_mode():
            images = self._look([q.image for q in questions])
            vectors = self._encode_texts([t for q in questions for t in q.texts])
            # expressions about the same image are asked together
            order = sorted(range(len(questions)), key=lambda i: (questions[i].image.key, questions[i].topk))
            out: list[list[GroundingAnswer]] = [[]] * len(questions)
            for (key, topk), group in groupby(order, lambda i: (questions[i].image.key, questions[i].topk)):
                mine = list(group)
                texts = [t for i in mine for t in questions[i].texts]
                features = torch.stack([vectors[t] for t in texts]).to(self.device)
                found = self._ask(images[key], features, topk)
                start = 0
                for i in mine:
                    asked = questions[i]
                    rows = [found[found[:, 5] == start + j] for j in range(len(asked.texts))]
                    out[i] = [self._judged(t, r, asked.conf) for t, r in zip(asked.texts, rows, strict=True)]
                    start += len(asked.texts)
            return out

    def see(self, image: Prepared) -> CachedImage:
        """Encode an image, unless it is remembered."""
        with self._lock, torch.inference_mode():
            return self._look([image])[image.key]

    def vectors(self, texts: Sequence[str]) -> Tensor:
        """Return the features [N, D] of expressions."""
        with self._lock, torch.inference_mode():
            known = self._encode_texts(list(texts))
            return torch.stack([known[t] for t in texts]).to(self.device)

    def _look(self, images: Sequence[Prepared | CachedImage]) -> dict[str, CachedImage]:
        """Encode the images that are new, each once."""
        out = {p.key: p for p in images if isinstance(p, CachedImage)}
        new: dict[str, Prepared] = {}
        for p in images:
            if isinstance(p, Prepared) and p.key not in out:
                before = self.seen.get(p.key)
                if before is None:
                    new[p.key] = p
                else:
                    out[p.key] = before
        for shape in dict.fromkeys(p.pixels.shape for p in new.values()):
            group = [p for p in new.values() if p.pixels.shape == shape]
            if not isinstance(self.network, GroundingModel):  # an export may be fixed to one image a run
                parts = [[p] for p in group]
            else:
                parts = [group]
            for part in parts:
                x = torch.stack([p.pixels for p in part]).to(self.device)
                scene = self.network.encode(x, torch.stack([p.extent for p in part]).to(self.device))
                for i, p in enumerate(part):
                    row = scene if len(part) == 1 else _row(scene, i)
                    out[p.key] = CachedImage(p.key, row, (x.shape[2], x.shape[3]), p.size)
                    self.seen.put(p.key, out[p.key])
        return out

    def _encode_texts(self, texts: list[str]) -> dict[str, Tensor]:
        """Encode expressions, with a bound on what is remembered.

        Raises:
            Refusal: The model is an export with expressions of its own, and one is none of these.
        """
        if isinstance(self.bank, KnownExpressions) and not set(texts) <= set(self.bank.texts):
            raise Refusal(422, "the model was exported with fixed expressions", f"ask {'; '.join(self.bank.texts)}")
        if isinstance(self.bank, TextBank) and len(self.bank) > TEXTS:
            self.bank = TextBank(self.bank.encoder)
        return dict(zip(texts, self.bank(texts), strict=True))

    def _ask(self, seen: CachedImage, features: Tensor, topk: int) -> np.ndarray:
        return answer(self.network, seen.encoded, features, seen.canvas, [seen.size], topk)[0]

    def _judged(self, text: str, found: np.ndarray, conf: float | None) -> GroundingAnswer:
        """Keep the boxes [n, 6] of enough confidence."""
        least = self.conf if conf is None else conf
        boxes = [AnswerBox((x1, y1, x2, y2), c) for x1, y1, x2, y2, c, _ in found.tolist() if c >= least]
        return GroundingAnswer(text, tuple(boxes), float(found[:, 4].max()), self._note(text))

    def _note(self, text: str) -> str:
        """Say where the text encoder reads the beginning of an expression only."""
        if not isinstance(self.bank, TextBank):
            return ""
        encoder = self.bank.encoder
        tokens = len(encoder._tokens([text])[0])
        if tokens <= encoder.max_tokens:
            return ""
        return f"only the first {encoder.max_tokens} of {tokens} tokens were read"


def _row(scene: Encoded | CanvasImages, i: int) -> Encoded:
    """Take one image out of a batch, with memory of its own, so that the batch is not kept alive by it."""
    assert isinstance(scene, Encoded)
    copies: dict[int, Tensor] = {}

    def own(x: Tensor) -> Tensor:
        part = x[i : i + 1]
        if part.data_ptr() not in copies:  # the head's maps are the network's, which stay shared
            copies[part.data_ptr()] = part.clone()
        return copies[part.data_ptr()]

    looked = scene.looked
    if looked is not None:
        boxes = None if looked.boxes is None else own(looked.boxes)
        looked = Looked([own(c) for c in looked.cells], boxes, [own(f) for f in looked.feats])
    return Encoded({k: own(v) for k, v in scene.maps.items()}, own(scene.first), own(scene.extent), looked)

"""What is known of one image and its expressions after a look into the network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from optisar_yolo.engine import Routing
from optisar_yolo.visualize import Frame


class ExplainedBox(NamedTuple):
    """An expression's answer and the place in the score map that it comes from.

    Attributes:
        box: [4] xyxy in pixels of the image.
        conf: Confidence, calibrated where the model has a calibration.
        score: As the network gives it, 0..1.
        found: The confidence reaches the threshold: ``predict`` gives this box.
        level: Index of the anchor's level.
        cell: Row and column of the anchor in that level's map.
    """

    box: NDArray[np.float32]
    conf: float
    score: float
    found: bool
    level: int
    cell: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Explanation:
    """One image and T expressions; maps lie over the canvas, and ``frame`` says where the image is in it.

    Attributes:
        path: Name of the image.
        image: Image uint8 [h, w, 3] BGR.
        texts: The expressions.
        frame: Place of the image in the canvas.
        strides: Of the levels, canvas pixels per cell.
        logits: Of each level the contrastive scores (Eq. 4) float32 [T, rows, columns], before any comparison.
        activations: Of each level the mean absolute feature of the pyramid [T, rows, columns]; [1, ...] where no
            expression has a pyramid of its own.
        fusions: By name, the factor by which the text weighs the features (Eq. 7) [T, heads, rows, columns].
        candidates: [T, K, 5] what the head compares: xyxy in pixels of the image and score afterwards, best first;
            K = 0 where it compares none.
        answers: One per expression.
        routing: Choices of the experts, by block.
        guided: Text reaches the pyramid, so that each expression has its own.
        notes: What this network has no maps for, and why.
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
    answers: list[ExplainedBox]
    routing: dict[str, Routing]
    guided: bool
    notes: list[str]

    @property
    def levels(self) -> list[str]:
        """Names of the levels, such as P3."""
        return [f"P{round(math.log2(s))}" for s in self.strides]

    @property
    def score_maps(self) -> NDArray[np.float32]:
        """Scores 0..1 over the image alone, the highest of all levels, [T, H, W] at the finest stride."""
        shape = self.frame.grid(self.strides[0])
        found = [self.frame.cut(x, (s, s), shape) for x, s in zip(self.logits, self.strides, strict=True)]
        return sigmoid(np.max(found, axis=0))


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 1 / (1 + exp(-x)), without overflow and exact for small scores too."""
    return np.exp(-np.logaddexp(0, -logits))

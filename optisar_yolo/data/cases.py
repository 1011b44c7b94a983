"""Single cases of a validation: which expression was asked of which image, and what the answer was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Case(NamedTuple):
    """One expression with its answer.

    Attributes:
        path: The image file.
        caption: The expression.
        target: True box, xyxy in pixels of the image.
        pred: Predicted box, likewise; None or NaN for no box.
        conf: Confidence of the predicted box; NaN for none.
        iou: IoU of the two boxes.
    """

    path: Path
    caption: str
    target: Sequence[float] | np.ndarray
    pred: Sequence[float] | np.ndarray | None
    conf: float
    iou: float


def predicted_box(case: Case) -> np.ndarray | None:
    """Return the predicted box as float64 [4], or None where there is none."""
    box = None if case.pred is None else np.asarray(case.pred, np.float64)
    return box if box is not None and np.isfinite(box).all() else None

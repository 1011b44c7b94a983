"""Single cases of a validation: which expression was asked of which picture, and what the answer was."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from optisar_yolo.engine.metrics import GroundingMetrics


class Case(NamedTuple):
    """One expression with its answer.

    Attributes:
        path: The picture file.
        caption: The expression.
        target: True box, xyxy in pixels of the picture.
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


def answer(case: Case) -> np.ndarray | None:
    """Return the predicted box as float64 [4], or None where there is none."""
    box = None if case.pred is None else np.asarray(case.pred, np.float64)
    return box if box is not None and np.isfinite(box).all() else None


def choose(cases: Sequence[Case], modalities: Sequence[str], count: int, best: bool) -> list[Case]:
    """Pick the best or worst cases: modalities in turn, and pictures new as long as there are any.

    Among equal IoUs the more confident answer comes first: the surest hits, and the surest mistakes.

    Args:
        cases: All cases.
        modalities: The modality of each.
        count: Cases to pick at most.
        best: The highest IoUs, or the lowest.

    Returns:
        The chosen cases, by IoU.
    """
    paired = sorted(
        zip(cases, modalities, strict=True),
        key=lambda p: (-p[0].iou if best else p[0].iou, -p[0].conf if math.isfinite(p[0].conf) else 1.0),
    )
    queues = [[case for case, m in paired if m == modality] for modality in sorted(set(modalities))]
    seen: set[Path] = set()
    chosen: list[Case] = []
    while any(queues) and len(chosen) < count:
        for queue in queues:
            if queue and len(chosen) < count:
                place = next((i for i, case in enumerate(queue) if case.path not in seen), 0)
                chosen.append(queue.pop(place))
                seen.add(chosen[-1].path)
    return sorted(chosen, key=lambda c: c.iou, reverse=best)


def table(cases: Sequence[Case], metrics: GroundingMetrics) -> str:
    """List all cases as CSV; coordinates to a hundredth of a pixel.

    Args:
        cases: One case per expression of `metrics`, in its order.
        metrics: Knows each expression's modality, category, kind and difficulty.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    corners = ("x1", "y1", "x2", "y2")
    writer.writerow(
        ["picture", "modality", "category", "kind", "hard", "caption", "iou", "conf"]
        + [f"{box}_{corner}" for box in ("true", "pred") for corner in corners]
    )
    columns = (metrics.column(name) for name in ("modality", "category", "kind", "hard"))
    for case, modality, category, kind, hard in zip(cases, *columns, strict=True):
        conf = f"{case.conf:.4f}" if math.isfinite(case.conf) else ""
        box = answer(case)
        pred = [""] * 4 if box is None else [f"{v:.2f}" for v in box]
        writer.writerow(
            [case.path, modality, category, kind, "" if hard is None else int(hard), case.caption, f"{case.iou:.4f}"]
            + [conf, *(f"{v:.2f}" for v in case.target), *pred]
        )
    return out.getvalue()

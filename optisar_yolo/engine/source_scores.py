"""Figures of further expressions, which a dataset config names beside its splits (see `optisar_yolo.data.sources`).

The true ones get the figures of every expression, of all and by kind. Of those that are false of their whole image, the
share that is answered counts: that gets a box at the confidence threshold.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from optisar_yolo.data import DatasetConfig, ImageRecord, SourceSplit
from optisar_yolo.engine.calibrate import Calibration
from optisar_yolo.engine.metrics import FIGURES, GroundingMetrics, expression_indices, score_image


class SourceScores:
    """Collects the boxes of one source's expressions.

    Args:
        split: The expressions.
        config: The dataset config.

    Attributes:
        metrics: Of the true ones.
        absent: Raw confidences of those that are false of their image.
    """

    def __init__(self, split: SourceSplit, config: DatasetConfig) -> None:
        self.split, self.names = split, config.names
        self.metrics = GroundingMetrics(modalities=config.modalities)
        self.absent: list[float] = []

    def __call__(
        self,
        index: int,
        ground: Callable[[list[str]], tuple[np.ndarray, np.ndarray]],
        probe: Callable[..., None] | None = None,
    ) -> None:
        """Add one image.

        Args:
            index: Of the image.
            ground: Takes N expressions and returns their boxes [N, 4], xyxy in the image, and raw confidences [N].
            probe: Grounds reworded ones; called with the image, its pairs, and the confidences and IoU of their boxes.
        """
        image: ImageRecord = self.split.images[index]
        pairs, absent = expression_indices(image), self.split.absent[index]
        texts = [image.captions[o][n] for o, n in pairs] + absent
        if not texts:
            return
        boxes, conf = ground(texts)
        true = len(pairs)
        if true:
            cases = score_image(self.metrics, image, self.names, pairs, boxes[:true], conf[:true])
            if probe is not None:
                probe(image, pairs, conf[:true], np.array([case.iou for case in cases]))
        self.absent += [float(c) for c in conf[true:]]

    def figures(self, threshold: float, calibration: Calibration | None = None) -> dict[str, Any]:
        """Compute the figures.

        Args:
            threshold: Confidence threshold, calibrated where there is a calibration.
            calibration: The model's, if it has one.

        Returns:
            ``rows``: one record for all and one per kind, with ``group``, `FIGURES`, ``count`` and ``missing``;
            ``absent_answered`` (NaN without any), ``absent_count`` and ``threshold``.
        """
        name, rows = self.split.name, []
        if len(self.metrics):
            kind = self.metrics.column("kind")
            rows = [{"group": name, **self.metrics.figures()}]
            rows += [{"group": f"{name} {k}", **self.metrics.figures(kind == k)} for k in sorted(set(kind) - {""})]
        conf = np.array(self.absent, np.float64)
        answered = (conf if calibration is None else calibration(conf)) >= threshold if len(conf) else conf
        return {
            "rows": rows,
            "absent_answered": float(answered.mean()) if len(conf) else math.nan,
            "absent_count": len(conf),
            "threshold": threshold,
        }


def flat_sources(sources: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Return the figures by their names for callbacks and loggers, such as ``metrics/meanIoU(natural)``."""
    named: dict[str, float] = {}
    for name, figures in sources.items():
        named |= {f"metrics/{f}({row['group']})": row[f] for row in figures["rows"] for f in FIGURES}
        if figures["absent_count"]:
            named[f"metrics/absent_answered({name})"] = figures["absent_answered"]
    return named


def source_table(sources: dict[str, dict[str, Any]]) -> str:
    """Return a monospace table in percent."""
    rows = [row for figures in sources.values() for row in figures["rows"]]
    title = "further expressions"
    width = max([len(title), *(len(row["group"]) for row in rows)])
    lines = [title.ljust(width) + "".join(f"{head:>9}" for head in (*FIGURES, "count"))]
    for name, figures in sources.items():
        for row in figures["rows"]:
            cells = [f"{100 * row[f]:.2f}" for f in FIGURES]
            lines.append(f"{row['group']:<{width}}" + "".join(f"{cell:>9}" for cell in (*cells, str(row["count"]))))
        if figures["absent_count"]:
            lines.append(
                f"{name}: {100 * figures['absent_answered']:.2f} % of {figures['absent_count']} expressions that are "
                f"false of their image are answered (confidence {figures['threshold']:.3g})"
            )
    return "\n".join(lines)

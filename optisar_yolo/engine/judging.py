"""Judging the answers to an image's expressions, whoever gave them: validation of a model, or scoring of a file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from optisar_yolo.data import Case, ImageRecord
from optisar_yolo.engine.metrics import GroundingMetrics, is_hard


def judge(
    metrics: GroundingMetrics,
    cases: list[Case],
    image: ImageRecord,
    names: Sequence[str],
    asked: Sequence[tuple[int, int]],
    pred: np.ndarray,
    conf: np.ndarray,
) -> np.ndarray:
    """Compare an image's answers with its objects.

    Args:
        metrics: Gets one row per answer.
        cases: Gets one case per answer.
        image: The image.
        names: Category names by index.
        asked: N pairs of object and number of its expression.
        pred: [N, 4] boxes, xyxy in pixels of the image; a row of NaN is no box.
        conf: [N] confidences; NaN for no box.

    Returns:
        IoU of each answer [N].
    """
    hard = is_hard(image.categories)
    iou = metrics.update(
        pred,
        image.boxes[[obj for obj, _ in asked]],
        (image.width, image.height),
        image.modality,
        [names[image.categories[o]] for o, _ in asked],
        conf,
        [bool(hard[o]) for o, _ in asked],
        [image.kinds[o][n] for o, n in asked],
    )
    for j, (o, n) in enumerate(asked):
        cases.append(Case(image.path, image.captions[o][n], image.boxes[o], pred[j], float(conf[j]), float(iou[j])))
    return iou

"""Judging the answers to a picture's expressions, whoever gave them: validation of a model, or scoring of a file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from optisar_yolo.data import Case, Picture
from optisar_yolo.engine.metrics import GroundingMetrics, is_hard


def judge(
    metrics: GroundingMetrics,
    cases: list[Case],
    picture: Picture,
    names: Sequence[str],
    asked: Sequence[tuple[int, int]],
    pred: np.ndarray,
    conf: np.ndarray,
) -> np.ndarray:
    """Compare a picture's answers with its objects.

    Args:
        metrics: Gets one row per answer.
        cases: Gets one case per answer.
        picture: The picture.
        names: Category names by index.
        asked: N pairs of object and number of its expression.
        pred: [N, 4] boxes, xyxy in pixels of the picture; a row of NaN is no box.
        conf: [N] confidences; NaN for no box.

    Returns:
        IoU of each answer [N].
    """
    hard = is_hard(picture.categories)
    iou = metrics.update(
        pred,
        picture.boxes[[obj for obj, _ in asked]],
        (picture.width, picture.height),
        picture.modality,
        [names[picture.categories[o]] for o, _ in asked],
        conf,
        [bool(hard[o]) for o, _ in asked],
        [picture.kinds[o][n] for o, n in asked],
    )
    for j, (o, n) in enumerate(asked):
        cases.append(
            Case(picture.path, picture.captions[o][n], picture.boxes[o], pred[j], float(conf[j]), float(iou[j]))
        )
    return iou

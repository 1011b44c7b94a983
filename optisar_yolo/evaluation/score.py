"""Scoring of predictions in a file, made by any model (see :mod:`optisar_yolo.engine.predictions`)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from optisar_yolo.data import DatasetConfig, Skips, load_dataset_config, load_split
from optisar_yolo.engine import Expressions, GroundingMetrics, expression_indices, read_predictions, score_image
from optisar_yolo.visualize import EvaluatedExpression


class ScoredPredictions(NamedTuple):
    """The score of a file of predictions.

    Attributes:
        metrics: The figures, those of ``val``.
        cases: One per expression of the split.
        problems: Records that could not be used, one line per kind.
        absent: Number of expressions that are not in the file; they count as wrong.
    """

    metrics: GroundingMetrics
    cases: list[EvaluatedExpression]
    problems: list[str]
    absent: int


def score_predictions(
    predictions: str | Path, data: str | Path | DatasetConfig, split: str = "test"
) -> ScoredPredictions:
    """Compare the boxes of a file with the labelled objects of a split.

    Args:
        predictions: The JSON file.
        data: Dataset config.
        split: The split that the predictions are of.

    Returns:
        The figures; an expression without a usable box counts as wrong.

    Raises:
        DataError: Dataset config, split or file cannot be used.
    """
    config = load_dataset_config(data)
    images = load_split(config, split)
    skips = Skips()
    best = read_predictions(Path(predictions), Expressions(config, split, images), skips)
    metrics, cases = GroundingMetrics(modalities=config.modalities), list[EvaluatedExpression]()
    absent = 0
    for i, image in enumerate(images):
        if not (pairs := expression_indices(image)):
            continue
        pred, conf = np.full((len(pairs), 4), math.nan), np.full(len(pairs), math.nan)
        for j, (obj, n) in enumerate(pairs):
            absent += (i, obj, n) not in best
            if (box := best.get((i, obj, n))) is not None:
                pred[j], conf[j] = box.xyxy, box.score
        cases += score_image(metrics, image, config.names, pairs, pred, conf)
    return ScoredPredictions(metrics, cases, skips.lines(), absent)

"""``optisar score``: the table of ``val`` for predictions in a file, made by any model (see `engine.predictions`)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ultralytics.utils import LOGGER, RUNS_DIR, colorstr
from ultralytics.utils.files import increment_path

from optisar_yolo.data import Case, DatasetConfig, Skips, load_dataset_config, load_split
from optisar_yolo.engine import Expressions, GroundingMetrics, judge, read_predictions
from optisar_yolo.utils import UsageError, typed

DEFAULTS: dict[str, Any] = {
    "predictions": "", "data": "", "split": "test", "plots": False, "project": "", "name": "score", "exist_ok": False,
}  # fmt: skip


class Scored(NamedTuple):
    """Predictions, judged.

    Attributes:
        metrics: The figures; those of ``val``.
        cases: One per expression of the split.
        problems: Records that could not be used, one line per kind.
        unanswered: Expressions that the file does not speak of at all; they count as wrong.
    """

    metrics: GroundingMetrics
    cases: list[Case]
    problems: list[str]
    unanswered: int


def score(predictions: str | Path, data: str | Path | DatasetConfig, split: str = "test") -> Scored:
    """Judge a file of predictions.

    Args:
        predictions: The JSON file.
        data: The dataset config.
        split: The split that was asked.

    Returns:
        The figures; an expression without a usable box counts as wrong.

    Raises:
        DataError: Card, split or file cannot be used.
    """
    config = load_dataset_config(data)
    images = load_split(config, split)
    skips = Skips()
    best = read_predictions(Path(predictions), Expressions(config, split, images), skips)
    metrics, cases = GroundingMetrics(), list[Case]()
    unanswered = 0
    for i, image in enumerate(images):
        asked = [(obj, n) for obj, captions in enumerate(image.captions) for n in range(len(captions))]
        if not asked:
            continue
        pred, conf = np.full((len(asked), 4), math.nan), np.full(len(asked), math.nan)
        for j, (obj, n) in enumerate(asked):
            unanswered += (i, obj, n) not in best
            if (box := best.get((i, obj, n))) is not None:
                pred[j], conf[j] = box.xyxy, box.score
        judge(metrics, cases, image, config.names, asked, pred, conf)
    return Scored(metrics, cases, skips.lines(), unanswered)


def main(options: dict[str, str]) -> None:
    """Run ``optisar score predictions.json data=… split=test``.

    Args:
        options: ``predictions``, ``data``, ``split``, ``plots`` (figures and sheets of cases), ``project``, ``name``,
            ``exist_ok``.

    Raises:
        UsageError: No predictions or no data.
        DataError: Input that cannot be used.
    """
    from optisar_yolo.engine import SECTIONS

    o = typed(options, DEFAULTS)
    if not o["predictions"] or not o["data"]:
        raise UsageError(
            "optisar score needs a file and a dataset config: optisar score predictions.json data=optsar.yaml"
        )
    found = score(o["predictions"], o["data"], o["split"])
    LOGGER.info(found.metrics.table(SECTIONS))
    for line in found.problems:
        LOGGER.warning(f"{o['predictions']}: {line}")
    missing = int(found.metrics.column("missing").sum())
    if missing:
        LOGGER.warning(
            f"{missing} of {len(found.metrics)} expressions got no box and count as wrong; {found.unanswered} of them "
            "are not in the file"
        )
    folder = increment_path(Path(o["project"] or RUNS_DIR / "score") / o["name"], exist_ok=o["exist_ok"])
    found.metrics.sections["predictions"] = {
        "file": Path(o["predictions"]).name, "unanswered": found.unanswered, "problems": found.problems,
    }  # fmt: skip
    if o["plots"]:
        from optisar_yolo.engine import write_report

        write_report(found.metrics, found.cases, folder)
    else:
        found.metrics.to_json(folder / "metrics.json")
        found.metrics.to_csv(folder / "metrics.csv")
    LOGGER.info(f"Results saved to {colorstr('bold', folder)}")

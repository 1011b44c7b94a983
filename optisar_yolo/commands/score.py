"""``optisar score``: the table of ``val`` for predictions in a file, made by any model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optisar_yolo.utils import Command, Option, results_folder

COMMAND = Command(
    "score",
    "score a file of predictions, made by any model, as val does",
    options=(
        Option("predictions", "file", None, "JSON file of predictions", example="predictions.json", required=True),
        Option("data", "file", None, "dataset config", example="optsar.yaml", required=True),
        Option("split", "name", "test", "the split that the predictions are of"),
        Option("plots", "bool", False, "write histograms, and sheets of the best and worst cases"),
        Option("project", "file", None, "folder of the run; by default runs/score"),
        Option("name", "name", "score", "name of the run"),
        Option("exist_ok", "bool", False, "write into the folder of an earlier run"),
    ),
    first="predictions",
    example="predictions.json data=optsar.yaml split=test",
)


def main(values: dict[str, Any]) -> None:
    """Score a file of predictions, and write the figures.

    Args:
        values: See :data:`COMMAND`.

    Raises:
        DataError: Input that cannot be used.
    """
    from ultralytics.utils import LOGGER, colorstr
    from ultralytics.utils.files import increment_path

    from optisar_yolo.engine import SECTIONS, write_report
    from optisar_yolo.evaluation import score_predictions

    file = Path(values["predictions"])
    metrics, cases, problems, absent = score_predictions(file, values["data"], values["split"])
    LOGGER.info(metrics.table(SECTIONS))
    for line in problems:
        LOGGER.warning(f"{file}: {line}")
    if missing := int(metrics.column("missing").sum()):
        LOGGER.warning(
            f"{missing} of {len(metrics)} expressions got no box and count as wrong; {absent} of them are not in the "
            "file"
        )
    folder = increment_path(results_folder("score", values["project"]) / values["name"], exist_ok=values["exist_ok"])
    metrics.sections["predictions"] = {"file": file.name, "unanswered": absent, "problems": problems}
    if values["plots"]:
        write_report(metrics, cases, folder)
    else:
        metrics.to_json(folder / "metrics.json")
        metrics.to_csv(folder / "metrics.csv")
    LOGGER.info(f"Results saved to {colorstr('bold', folder)}")

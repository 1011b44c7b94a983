"""``optisar calibrate``: make confidences probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optisar_yolo.utils import BUNDLED_MODEL, Command, Option

COMMAND = Command(
    "calibrate",
    "make confidences probabilities, and find a threshold below which nothing is found",
    options=(
        Option("data", "file", None, "dataset config", example="optsar.yaml", required=True),
        Option("model", "file", BUNDLED_MODEL, "weights"),
        Option("split", "name", "val", "a split that the model was not trained on"),
        Option(
            "save", "file", None, "weights file to write; by default the weights' own, of packaged ones their name here"
        ),
        Option("imgsz", "int", None, "long side of images in the network; that of training by default", low=32),
        Option("batch", "int", 16, "images in a batch", low=1),
        Option("device", "name", None, "as in Ultralytics", example="cpu"),
        Option("fraction", "float", 1.0, "share of the split that is used", low=0, high=1),
        Option("text_weights", "file", None, "weights of the text encoder, where it does not bring its own"),
        Option("project", "file", None, "folder of the runs; runs/detect by default"),
        Option("name", "name", None, "name of the run"),
    ),
    example="model=best.pt data=optsar.yaml split=val save=calibrated.pt",
)


def main(values: dict[str, Any]) -> None:
    """Fit a calibration, and write the weights anew with it.

    Args:
        values: See :data:`COMMAND`.

    Raises:
        CalibrationError: No calibration can be fitted.
        FileNotFoundError: No such weights or dataset config.
    """
    from ultralytics.utils import LOGGER

    from optisar_yolo.api import OptiSAR
    from optisar_yolo.engine import BUNDLED, find_weights

    given = {k: v for k, v in values.items() if v is not None}
    source = find_weights(given.pop("model"))
    save = Path(given.pop("save", source.name if source.parent == BUNDLED else source))
    OptiSAR(source).calibrate(save=save, **given)
    LOGGER.info(f"Written to {save}")

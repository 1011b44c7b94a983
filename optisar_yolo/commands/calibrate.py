"""``optisar calibrate``: make confidences probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ultralytics.utils import LOGGER

from optisar_yolo.api import OptiSAR
from optisar_yolo.engine import BUNDLED, find_weights
from optisar_yolo.plugin import numbers
from optisar_yolo.utils import BUNDLED_MODEL

DEFAULTS: dict[str, Any] = {
    "model": None, "data": None, "split": "val", "save": None, "imgsz": None, "batch": 16, "device": None,
    "fraction": 1.0, "text_weights": None, "project": None, "name": None,
}  # fmt: skip
_NUMBERS = {"imgsz": int, "batch": int, "fraction": float}


def main(options: dict[str, str]) -> None:
    """Run ``optisar calibrate model=… data=… split=val save=…``.

    Args:
        options: ``model`` (the packaged weights by default), ``data``, ``split``, ``save`` (where the weights with the
            calibration go: by default the file itself, for packaged weights the working folder), and some of ``val``.

    Raises:
        ValueError: No data, or a value that is no number.
    """
    given: dict[str, Any] = {k: v for k, v in (DEFAULTS | options).items() if v is not None}
    if "data" not in given:
        raise ValueError("optisar calibrate needs data=<card>, for example data=optsar.yaml split=val")
    given |= numbers(given, _NUMBERS)
    source = find_weights(given.pop("model", BUNDLED_MODEL))
    save = Path(given.pop("save", source.name if source.parent == BUNDLED else source))
    OptiSAR(source).calibrate(save=save, **given)
    LOGGER.info(f"Written to {save}")

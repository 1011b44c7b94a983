"""``optisar view``: a contact sheet of augmented training images, to check by eye that every expression is true."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optisar_yolo.utils import Command, Option, UsageError

FORMATS = (".jpg", ".jpeg", ".png")


COMMAND = Command(
    "view",
    "draw augmented training images with their expressions, true and false",
    options=(
        Option("data", "file", "optsar.yaml", "dataset config"),
        Option("split", "name", "train", "its split"),
        Option("n", "int", 12, "number of images", low=1),
        Option("seed", "int", 0, "seed of the training, and of the choice of images", low=0),
        Option("epoch", "int", 0, "epoch of the training", low=0),
        Option("imgsz", "int", 320, "long side of the images, pixels", low=32),
        Option("save", "file", "view.jpg", f"file to write, {', '.join(FORMATS)}"),
    ),
    training=True,
    example="data=optsar.yaml mosaic=1 rot90=0.5 save=mosaic.jpg",
)


def main(values: dict[str, Any]) -> None:
    """Draw the sheet.

    Args:
        values: See :data:`COMMAND`.

    Raises:
        UsageError: An unknown setting, or a value that is not accepted.
        DataError: Data that cannot be used.
    """
    from optisar_yolo.engine import training_settings, view_samples

    changes, count, epoch, save = (values.pop(k) for k in ("settings", "n", "epoch", "save"))
    if Path(save).suffix.lower() not in FORMATS:
        raise UsageError(f"'save={save}' is not valid: the file's name must end with {', '.join(FORMATS)}")
    args = training_settings(changes, **values)
    note = " ".join(f"{k}={v}" for k, v in changes.items()) or "settings of training"
    view_samples(args, count, epoch, save, note)

"""``optisar batch``: ground a table of images and expressions."""

from __future__ import annotations

from typing import Any

from optisar_yolo.batch import BatchOptions
from optisar_yolo.utils import BUNDLED_MODEL, Command, Option, options_of

COMMAND = Command(
    "batch",
    "ground a table of images and expressions with several workers, into Parquet files",
    options=(
        Option(
            "manifest", "file", None, "table with the columns image and text", example="asks.parquet", required=True
        ),
        Option("out", "file", None, "folder of the Parquet files, or a URI", example="answers", required=True),
        Option("model", "file", BUNDLED_MODEL, "weights or an export"),
        *options_of(BatchOptions),
    ),
    example="manifest=asks.parquet out=answers workers=4",
)


def main(values: dict[str, Any]) -> None:
    """Ground all rows of the manifest that have no result yet.

    Args:
        values: See :data:`COMMAND`.

    Raises:
        ValueError: Input that cannot be used.
    """
    from optisar_yolo.batch import run_batch

    manifest, out, model = (values.pop(k) for k in ("manifest", "out", "model"))
    result = run_batch(manifest, out, model, BatchOptions(**values))
    from ultralytics.utils import LOGGER

    LOGGER.info(result.summary())

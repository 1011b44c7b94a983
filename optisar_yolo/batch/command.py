"""``optisar batch``: ask a table of images and expressions, and get a table of boxes."""

from __future__ import annotations

from typing import Any

from ultralytics.utils import LOGGER

from optisar_yolo.batch.options import BatchOptions
from optisar_yolo.batch.run import report, run_batch
from optisar_yolo.utils import BUNDLED_MODEL, require, typed

DEFAULTS: dict[str, Any] = {
    "manifest": "", "out": "", "model": "", "text_weights": "", "workers": 2, "cpus": 0, "batch": 8, "conf": float,
    "topk": 1, "imgsz": 0, "device": "", "address": "",
}  # fmt: skip


def main(options: dict[str, str]) -> None:
    """Run ``optisar batch manifest=asks.parquet out=answers``.

    Args:
        options: See docs/batch.md.

    Raises:
        UsageError: No manifest or folder, or a value of a wrong type.
        ValueError: A value out of range, or input that cannot be used.
    """
    o = typed(options, DEFAULTS)
    require("batch", o, {"manifest": "manifest=asks.parquet", "out": "out=answers"})
    how = BatchOptions(
        o["workers"], o["cpus"], o["batch"], o["conf"], o["topk"], o["imgsz"] or None, o["device"] or None,
        o["address"] or None, o["text_weights"] or None,
    )  # fmt: skip
    LOGGER.info(report(run_batch(o["manifest"], o["out"], o["model"] or BUNDLED_MODEL, how)))

"""``optisar scene``: ground expressions in a raster of any size."""

from __future__ import annotations

from typing import Any

from optisar_yolo.geo import RasterOptions
from optisar_yolo.utils import BUNDLED_MODEL, Command, Option, SettingError, UsageError, options_of

COMMAND = Command(
    "scene",
    "ground expressions in a GeoTIFF of any size, and write GeoJSON, tables and a map",
    options=(
        Option("source", "file", None, "any raster that GDAL reads", example="port.tif", required=True),
        Option("text", "texts", None, "an expression or a list of them", required=True),
        Option("model", "file", BUNDLED_MODEL, "weights, or an export with topk=50"),
        Option("text_weights", "file", None, "weights of the text encoder, where it does not bring its own"),
        *options_of(RasterOptions),
    ),
    example='source=port.tif text="the northernmost ship"',
)


def main(values: dict[str, Any]) -> None:
    """Ground the expressions, and write the results into a folder.

    Args:
        values: See :data:`COMMAND`.

    Raises:
        UsageError: Options that contradict each other.
        ValueError: Input that cannot be used.
    """
    from optisar_yolo.api import OptiSAR
    from optisar_yolo.geo import ground_raster

    source, text, weights, text_weights = (values.pop(k) for k in ("source", "text", "model", "text_weights"))
    try:
        options = RasterOptions(**values)
    except SettingError as error:
        raise UsageError(str(error)) from error
    model = OptiSAR(weights)
    if text_weights:
        model.overrides["text_weights"] = text_weights
    ground_raster(model, source, text, options)

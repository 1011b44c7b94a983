"""The stretch of a raster, by the rules of `optisar_yolo.data.stretch`, from a decimated read of the whole."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from optisar_yolo.data import DB_RANGE, SIDE, DataError, Stretch, choose_bands, choose_stretch as choose, find_fill
from optisar_yolo.geo.options import RasterOptions
from optisar_yolo.geo.reading import Raster

__all__ = ["DB_RANGE", "Stretch", "choose_stretch"]


def choose_stretch(raster: Raster, options: RasterOptions, channels: int = 3) -> tuple[Stretch, NDArray[np.uint8]]:
    """Choose bands and stretch of a raster: as the options say, or automatically.

    A value that is found to mean no data becomes `raster.nodata`.

    Args:
        raster: The raster.
        options: What the user says about bands, modality, stretch, percentiles and limits.
        channels: Bands that the network takes.

    Returns:
        The stretch, and the whole raster decimated, uint8 [h, w, 3] RGB; of other than 3 channels, its first bands.

    Raises:
        DataError: No data in the raster.
        ValueError: A band that the raster does not have.
    """
    rgb, note = choose_bands(raster, options.bands, channels)
    distinct = list(dict.fromkeys(rgb))
    values, valid = raster.decimated(distinct, SIDE)
    if not valid.any():
        raise DataError(f"{raster.source}: no valid pixel in the raster: all of it is nodata, masked or not finite")
    fill, fill_note, valid = find_fill(raster, values, valid)
    if fill is not None:
        raster.nodata = fill
    stretch = choose(raster, options, rgb, note + fill_note, values, valid)
    small, _ = stretch(values[[distinct.index(b) for b in stretch.read]], valid)
    small = small[:3] if len(small) > 2 else small[:1]
    return stretch, np.ascontiguousarray(np.repeat(small, 3 // len(small), 0).transpose(1, 2, 0))

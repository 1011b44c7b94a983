"""Raster values of any depth to the 8 bits that the network was trained on.

What is chosen automatically is reported in one line. The limits of a stretch come from a decimated read of the whole
raster, so that all tiles are stretched alike, and go into the record. Presets:

* ``none``: values are 0..255 already (clipped).
* ``percentile``: each band linearly between two of its percentiles.
* ``db``: 10·log10 of the values (calibrated power), linearly between -25 and 0 dB.
* ``db-percentile``: 10·log10, then between percentiles. Power and amplitude give the same: they differ by a factor 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optisar_yolo.data import DataError, undeclared_fill
from optisar_yolo.geo.options import PERCENTILES, SAR_PERCENTILES, RasterOptions
from optisar_yolo.geo.reading import Raster

DB_RANGE = (-25.0, 0.0)  # sigma nought: calm water to bright targets
SIDE = 1600  # long side of the decimated read, pixels: 2.5 million samples, and the quick-look image
TAIL = 4.0  # 99th percentile over median from which one band of whole numbers looks like SAR: speckle has a long tail


@dataclass(frozen=True)
class Stretch:
    """How values become 8 bits.

    Attributes:
        preset: One of `optisar_yolo.geo.options.STRETCHES`.
        bands: Numbers of the bands that become red, green and blue, from 1.
        limits: (low, high) per band in `bands`, in dB where the preset says so; empty for ``none``.
        modality: "optical" or "sar".
        summary: One line for the user on what was chosen.
    """

    preset: str
    bands: tuple[int, int, int]
    limits: tuple[tuple[float, float], ...]
    modality: str
    summary: str = ""

    def record(self) -> dict[str, Any]:
        """Return plain values for records and fingerprints."""
        return {k: v for k, v in asdict(self).items() if k != "summary"}

    @property
    def read(self) -> list[int]:
        """The bands to read: one where all three are the same."""
        return [self.bands[0]] if len(set(self.bands)) == 1 else list(self.bands)

    def __call__(self, values: NDArray[Any], valid: NDArray[np.bool_]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Stretch values of the bands in :attr:`read`.

        Args:
            values: [1 or 3, h, w] of any number type.
            valid: bool [h, w].

        Returns:
            uint8 [1 or 3, h, w], 0 where there are no data, and bool [h, w], True where there are; a logarithm needs
            values above 0.
        """
        if self.preset.startswith("db"):
            valid = valid & (values > 0).all(0)
        if self.preset == "none":
            out = values if values.dtype == np.uint8 else np.nan_to_num(values).clip(0, 255).round().astype(np.uint8)
        elif values.dtype.kind == "u" and values.dtype.itemsize <= 2:
            out = np.stack([_table(self, k, values.dtype.itemsize)[v] for k, v in enumerate(values)])
        else:
            out = np.stack([self.scale(v, k) for k, v in enumerate(values)])
        if not valid.all():
            out = np.where(valid, out, np.uint8(0))
        return out, valid

    def scale(self, values: NDArray[Any], band: int) -> NDArray[np.uint8]:
        """Scale one band linearly between its limits."""
        low, high = self.limits[band]
        x = np.nan_to_num(np.asarray(values, np.float32), posinf=0, neginf=0)
        if self.preset.startswith("db"):
            x = decibels(x)
        with np.errstate(over="ignore"):  # fill values such as the lowest float, which become 0 afterwards
            return ((x - low) * (255 / (high - low))).clip(0, 255).round().astype(np.uint8)


@lru_cache(maxsize=8)
def _table(stretch: Stretch, band: int, size: int) -> NDArray[np.uint8]:
    """Return the 8-bit value of every unsigned integer of `size` bytes: a look-up table saves many logarithms."""
    return stretch.scale(np.arange(1 << 8 * size), band)


def decibels(values: NDArray[Any]) -> NDArray[np.float32]:
    """Return 10·log10 of values; values of 0 and below become -300 dB."""
    return 10 * np.log10(np.maximum(values, np.float32(1e-30)))


def choose_stretch(raster: Raster, options: RasterOptions) -> tuple[Stretch, NDArray[np.uint8]]:
    """Choose bands, modality, preset and limits: those of the options, else by the file and its values.

    Args:
        raster: The open raster.
        options: `stretch`, `bands`, `modality`, `percentiles` and `limits` of them.

    Returns:
        The stretch, and the whole raster decimated, uint8 [h, w, 3] RGB.

    Raises:
        DataError: No data in the raster.
        ValueError: A band that the raster does not have.
    """
    if options.bands and max(options.bands) > raster.count:
        raise ValueError(f"bands={list(options.bands)} is not valid: the raster has {raster.count} bands")
    rgb, band_note = _bands(raster, options.bands)
    distinct = list(dict.fromkeys(rgb))
    values, valid = raster.decimated(distinct, SIDE)
    if not valid.any():
        raise DataError(f"{raster.source}: no valid pixel in the raster: all of it is nodata, masked or not finite")
    fill = undeclared_fill(values, valid)
    fill_note = ""
    if fill is not None:
        raster.nodata = fill
        there = (values == values.dtype.type(fill)).all(0)
        valid = valid & ~there
        fill_note = f"; {there.mean():.1%} of the pixels are {fill:g}, far from all others, and taken for no data"
    if not valid.any():
        raise DataError(f"{raster.source}: no valid pixel in the raster: all of it is nodata, masked or not finite")
    modality, modality_note = _modality(raster, values, valid, options.modality)
    preset = options.stretch
    if preset == "auto" and values.dtype == np.uint8:
        preset = "none"
    elif preset == "auto":
        preset = "db-percentile" if modality == "sar" and values[:, valid].min() >= 0 else "percentile"
    use = valid & (values > 0).all(0) if preset.startswith("db") else valid
    if not use.any():
        raise DataError(f"{raster.source}: no value above 0, so there are no decibels; set stretch=percentile")
    per_band = {
        b: _limits(v[use], preset, options, modality) for b, v in zip(distinct, values, strict=True) if preset != "none"
    }
    limits = tuple(per_band[b] for b in rgb) if per_band else ()
    summary = _summary(raster, rgb, preset, limits, options, modality, f"{modality_note}; {band_note}{fill_note}")
    stretch = Stretch(preset, rgb, limits, modality, summary)
    small, _ = stretch(values[[distinct.index(b) for b in stretch.read]], valid)
    return stretch, np.ascontiguousarray(np.repeat(small, 3 // len(small), 0).transpose(1, 2, 0))


def _summary(
    raster: Raster,
    rgb: tuple[int, int, int],
    preset: str,
    limits: tuple[tuple[float, float], ...],
    options: RasterOptions,
    modality: str,
    notes: str,
) -> str:
    """Say in one line what was chosen."""
    count = len(raster.bands)
    types = "/".join(sorted({raster.dtypes[b - 1] for b in rgb}))
    low, high = _percentiles(options, modality)
    between = "between given limits" if options.limits else f"between percentiles {low:g} and {high:g}"
    effect = {
        "none": "values taken as they are",
        "percentile": f"stretched {between}",
        "db": "converted to dB",
        "db-percentile": f"converted to dB and stretched {between}",
    }[preset]
    if limits:
        ranges = ", ".join(f"{a:.4g} to {b:.4g}" for a, b in dict.fromkeys(limits))
        effect += f" ({ranges}{' dB' if preset.startswith('db') else ''} become 0 to 255)"
    return (
        f"{count} band{'s' * (count != 1)} {types}, {notes}; {effect}; set modality=, bands= or stretch= to change this"
    )


def _bands(raster: Raster, given: Sequence[int] | None) -> tuple[tuple[int, int, int], str]:
    """Return the bands for red, green and blue, and the reason in words."""
    if given is not None:
        a, b, c = given if len(given) == 3 else [given[0]] * 3
        return (a, b, c), f"bands {a}, {b}, {c} as given" if len(given) == 3 else f"band {a} as given"
    own, named = raster.bands, raster.colours
    if raster.palette is not None:
        return (1, 2, 3), "its colour table gives red, green and blue"
    if all(c in named for c in ("red", "green", "blue")):
        a, b, c = named["red"], named["green"], named["blue"]
        return (a, b, c), f"bands {a}, {b}, {c} are its red, green and blue"
    if len(own) < 3:  # of VV and VH the first: SAR images were grey in training
        names = raster.polarisations
        which = f"band {own[0]}" + (f" ({names[0]})" if names else "")
        return (own[0], own[0], own[0]), f"{which} is shown as grey"
    return (own[0], own[1], own[2]), f"bands {own[0]}, {own[1]}, {own[2]} taken for red, green and blue"


def _modality(raster: Raster, values: NDArray[Any], valid: NDArray[np.bool_], given: str) -> tuple[str, str]:
    """Return "sar" or "optical", and the reason in words."""
    if given != "auto":
        return given, f"{'SAR' if given == 'sar' else given} as given"
    if raster.polarisations:
        return "sar", f"SAR by its band names ({', '.join(raster.polarisations)})"
    if len(raster.bands) == 2:
        return "sar", "looks like SAR of two polarisations"
    grey = len(values) == 1 or all(np.array_equal(values[0], v) for v in values[1:])
    if not grey:
        return "optical", "looks optical"
    known = values[0][valid]
    if known.dtype.kind == "f":
        return ("sar", "looks like SAR in dB") if known.min() < 0 else ("sar", "looks like SAR amplitude or power")
    middle, high = np.percentile(known, (50, 99))
    return ("sar", "looks like SAR amplitude") if high > TAIL * max(middle, 1) else ("optical", "looks optical, grey")


def _percentiles(options: RasterOptions, modality: str) -> tuple[float, float]:
    """Return the percentiles of the stretch: those of the options, else those of the modality."""
    return options.percentiles or (SAR_PERCENTILES if modality == "sar" else PERCENTILES)


def _limits(values: NDArray[Any], preset: str, options: RasterOptions, modality: str) -> tuple[float, float]:
    """Return the values of one band that become 0 and 255."""
    if options.limits is not None:
        return options.limits
    if preset == "db":
        return DB_RANGE
    x = decibels(values.astype(np.float32)) if preset == "db-percentile" else values
    low, high = (float(v) for v in np.percentile(x, _percentiles(options, modality)))
    if high <= low:
        low, high = float(x.min()), float(x.max())
    return (low, high) if high > low else (low, low + 1)

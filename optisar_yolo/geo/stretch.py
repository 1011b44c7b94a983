"""From values of any depth to the 8 bits that the network was trained on, by declared presets.

What is chosen without being asked for is said in one line. The limits of a stretch come from a decimated read of the
whole scene, so that all tiles are stretched alike, and go into the record.

* ``none``: values are 0..255 as they are (clipped).
* ``percentile``: each band linearly between two percentiles of its own.
* ``db``: 10·log10 of the values (calibrated power), linearly between -25 and 0 dB.
* ``db-percentile``: 10·log10, then between percentiles. Power or amplitude is the same here: a factor of 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optisar_yolo.data import DataError
from optisar_yolo.geo.reading import Raster

STRETCHES = ("none", "percentile", "db", "db-percentile")
MODALITIES = ("optical", "sar")
PERCENTILES = (2.0, 98.0)
DB_RANGE = (-25.0, 0.0)  # sigma nought: calm water to bright targets
SIDE = 1600  # long side of the decimated read, pixels: 2.5 million samples, and the quick-look image
TAIL = 4.0  # 99th percentile over median from which one band of whole numbers looks like SAR: speckle has a long tail


@dataclass(frozen=True)
class Stretch:
    """How values become 8 bits.

    Attributes:
        preset: One of `STRETCHES`.
        bands: Numbers of the bands that become red, green and blue, from 1.
        limits: (low, high) per band in `bands`, in dB where the preset says so; empty for ``none``.
        modality: "optical" or "sar".
        told: One line on what was chosen.
    """

    preset: str
    bands: tuple[int, int, int]
    limits: tuple[tuple[float, float], ...]
    modality: str
    told: str = ""

    def record(self) -> dict[str, Any]:
        """Return plain values for records and fingerprints."""
        return {k: v for k, v in asdict(self).items() if k != "told"}

    @property
    def read(self) -> list[int]:
        """The bands to read: one where all three are the same, which saves reading and stretching it thrice."""
        return [self.bands[0]] if len(set(self.bands)) == 1 else list(self.bands)

    def __call__(self, values: NDArray[Any], valid: NDArray[np.bool_]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Stretch what was read of :attr:`read`.

        Args:
            values: [1 or 3, h, w] of any number type.
            valid: bool [h, w].

        Returns:
            uint8 [1 or 3, h, w], 0 where there are no data, and where there are: a logarithm needs values above 0.
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
        return ((x - low) * (255 / (high - low))).clip(0, 255).round().astype(np.uint8)


@lru_cache(maxsize=8)
def _table(stretch: Stretch, band: int, size: int) -> NDArray[np.uint8]:
    """Return the 8-bit value of every unsigned whole number of a size in bytes: a table saves many logarithms."""
    return stretch.scale(np.arange(1 << 8 * size), band)


def decibels(values: NDArray[Any]) -> NDArray[np.float32]:
    """Return 10·log10 of values, those of 0 and below as the smallest there can be."""
    return 10 * np.log10(np.maximum(values, np.float32(1e-30)))


def declare(
    raster: Raster,
    stretch: str = "auto",
    bands: Sequence[int] | None = None,
    modality: str = "auto",
    percentiles: tuple[float, float] = PERCENTILES,
    limits: tuple[float, float] | None = None,
) -> tuple[Stretch, NDArray[np.uint8]]:
    """Settle how a scene is shown to the network.

    Args:
        raster: The scene.
        stretch: A preset, or "auto".
        bands: One band, or three for red, green and blue; by default from the file's colours and count.
        modality: "optical", "sar" or "auto".
        percentiles: Lower and upper one, 0..100.
        limits: (low, high) for all bands, in place of percentiles or of the range of ``db``.

    Returns:
        The stretch with its line for the user, and the whole scene decimated, uint8 [h, w, 3] RGB.

    Raises:
        DataError: No data in the scene.
        ValueError: A value that means nothing.
    """
    _check(raster, stretch, bands, modality, percentiles, limits)
    shown, why = _bands(raster, bands)
    distinct = list(dict.fromkeys(shown))
    values, valid = raster.small(distinct, SIDE)
    if not valid.any():
        raise DataError(f"{raster.source}: no valid pixel in the scene: all of it is nodata, masked or not finite")
    kind, told_kind = _modality(raster, values, valid, modality)
    preset, told_preset = _preset(values, valid, kind, stretch, percentiles if limits is None else None)
    use = valid & (values > 0).all(0) if preset.startswith("db") else valid
    if not use.any():
        raise DataError(f"{raster.source}: no value above 0, so there are no decibels; set stretch=percentile")
    measured = [_limits(v[use], preset, percentiles, limits) for v in values] if preset != "none" else []
    per_band = tuple(measured[distinct.index(b)] for b in shown) if measured else ()
    kinds = "/".join(sorted({raster.data.dtypes[b - 1] for b in shown}))
    count = len(raster.bands)
    ranges = ", ".join(f"{a:.4g} to {b:.4g}" for a, b in dict.fromkeys(per_band))
    unit = " dB" if preset.startswith("db") else ""
    told = (
        f"{count} band{'s' * (count != 1)} {kinds}, {told_kind}; {why}; {told_preset}"
        + (f" ({ranges}{unit} become 0 to 255)" if ranges else "")
        + "; set modality=, bands= or stretch= to change this"
    )
    made = Stretch(preset, shown, per_band, kind, told)
    order = made.read
    small, _ = made(values[[distinct.index(b) for b in order]], valid)
    return made, np.ascontiguousarray(np.repeat(small, 3 // len(small), 0).transpose(1, 2, 0))


def _check(
    raster: Raster,
    stretch: str,
    bands: Sequence[int] | None,
    modality: str,
    percentiles: tuple[float, float],
    limits: tuple[float, float] | None,
) -> None:
    """Refuse what means nothing."""
    for key, value, known in (("stretch", stretch, STRETCHES), ("modality", modality, MODALITIES)):
        if value not in (*known, "auto"):
            raise ValueError(f"'{key}={value}' is not valid: choose from auto, {', '.join(known)}")
    if bands is not None and (len(bands) not in (1, 3) or any(not 1 <= b <= raster.data.count for b in bands)):
        raise ValueError(f"bands={list(bands)} is not valid: one number or three from 1 to {raster.data.count}")
    if not 0 <= percentiles[0] < percentiles[1] <= 100:
        raise ValueError(f"percentiles={percentiles} are not valid: two rising numbers from 0 to 100")
    if limits is not None and not limits[0] < limits[1]:
        raise ValueError(f"limits={limits} are not valid: two rising numbers")


def _bands(raster: Raster, given: Sequence[int] | None) -> tuple[tuple[int, int, int], str]:
    """Choose the bands for red, green and blue, and say why."""
    if given is not None:
        a, b, c = given if len(given) == 3 else [given[0]] * 3
        return (a, b, c), f"bands {a}, {b}, {c} as given" if len(given) == 3 else f"band {a} as given"
    own, named = raster.bands, raster.colours
    if all(c in named for c in ("red", "green", "blue")):
        a, b, c = named["red"], named["green"], named["blue"]
        return (a, b, c), f"bands {a}, {b}, {c} are its red, green and blue"
    if len(own) < 3:  # of VV and VH the first: SAR images were grey in training
        said = raster.polarisations
        which = f"band {own[0]}" + (f" ({said[0]})" if said else "")
        return (own[0], own[0], own[0]), f"{which} is shown as grey"
    return (own[0], own[1], own[2]), f"bands {own[0]}, {own[1]}, {own[2]} taken for red, green and blue"


def _modality(raster: Raster, values: NDArray[Any], valid: NDArray[np.bool_], given: str) -> tuple[str, str]:
    """Tell SAR and optical scenes apart, and say how."""
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


def _preset(
    values: NDArray[Any],
    valid: NDArray[np.bool_],
    modality: str,
    given: str,
    percentiles: tuple[float, float] | None,
) -> tuple[str, str]:
    """Choose the preset, and say what it does."""
    between = (
        f"between percentiles {percentiles[0]:g} and {percentiles[1]:g}" if percentiles else "between given limits"
    )
    said = {
        "none": "values taken as they are",
        "percentile": f"stretched {between}",
        "db": "converted to dB",
        "db-percentile": f"converted to dB and stretched {between}",
    }
    if given == "auto":
        if values.dtype == np.uint8:
            given = "none"
        else:
            given = "db-percentile" if modality == "sar" and values[:, valid].min() >= 0 else "percentile"
    return given, said[given]


def _limits(
    values: NDArray[Any], preset: str, percentiles: tuple[float, float], given: tuple[float, float] | None
) -> tuple[float, float]:
    """Return the values of one band that become 0 and 255."""
    if given is not None:
        return given
    if preset == "db":
        return DB_RANGE
    x = decibels(values.astype(np.float32)) if preset == "db-percentile" else values
    low, high = (float(v) for v in np.percentile(x, percentiles))
    if high <= low:
        low, high = float(x.min()), float(x.max())
    return (low, high) if high > low else (low, low + 1)

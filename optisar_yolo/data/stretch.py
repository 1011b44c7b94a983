"""Values of any depth to the 8 bits that the network was trained on: one set of rules for images and rasters.

1. :func:`choose_bands` chooses red, green and blue: as given, by the colours that the file names, else by number.
2. :func:`choose_stretch` chooses how values become 8 bits; its limits come from a decimated read, so that all tiles
   of a raster are stretched alike. What is chosen automatically is reported in one line (`Stretch.summary`).
3. A :class:`Stretch` is applied to values of these bands. Presets:

* ``none``: values are 0..255 already (clipped).
* ``percentile``: each band linearly between two of its percentiles, or between given limits.
* ``db``: 10·log10 of the values (calibrated power), linearly between -25 and 0 dB.
* ``db-percentile``: 10·log10, then between percentiles. Power and amplitude give the same: they differ by a factor 2.

The default is ``none`` for 8 bits, and for deeper types whose values are those of 8 bits (whole numbers to 255, or
these divided by 255); ``db-percentile`` for SAR whose values span so many orders that a linear stretch would leave half
of them black; else ``percentile``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from optisar_yolo.data.config import DataError
from optisar_yolo.data.tiff import undeclared_fill

# Deep images made of val images (benchmarks/results/image-stretch.json): of optical ones Pr@0.5 is 77 % with these,
# 76 % with 0.5 to 99.5, 72 % with 2 to 98.
PERCENTILES = (0.5, 99.9)
# Ships in SAR are the brightest pixels. Of 34 in three rasters of calm sea in dB 14 are found with 2 to 98, 28 with 2
# to 99.9 and 31 with these (benchmarks/results/sar-stretch.json); of images as amplitude Pr@0.5 is 68, 95 and 95 %.
# All grey images get them: half of the SAR images do not look like SAR.
GREY_PERCENTILES = (2.0, 99.99)
# The median of the values above 0, as a share of the linear stretch, below which SAR is shown in dB. By the same record
# SAR images as amplitude have 0.008 (5th percentile) to 0.22 (95th) and Pr@0.5 of 95 % linear, 84 % in dB; as power
# whose dB are the images' greys 0.0017 (median), 0.011 (95th) and 76 % linear, 95 % in dB.
DARK = 0.005
DB_RANGE = (-25.0, 0.0)  # sigma nought: calm water to bright targets
SIDE = 1600  # long side of the decimated values, pixels: 2.5 million samples
TAIL = 4.0  # 99th percentile over median from which one band of whole numbers looks like SAR: speckle has a long tail
FULL = 0.5  # share of 0..255 that values must reach to be taken for 8 bits in a deeper type
WHOLE = 0.1  # mean distance to whole numbers of 8-bit values divided by 255, in half precision 0.03; at random 0.25


class Bands(Protocol):
    """What a file says of its bands; numbers count from 1.

    Attributes:
        source: Its name in messages.
        count: Number of bands.
        dtypes: Their types.
        bands: Those that hold an image: all but alpha.
        colours: The first band of each colour that is named.
        polarisations: Those that are named.
        palette: Not None where the bands are those of a colour table.
    """

    @property
    def source(self) -> str:
        """See above."""
        ...

    @property
    def count(self) -> int:
        """See above."""
        ...

    @property
    def dtypes(self) -> tuple[str, ...]:
        """See above."""
        ...

    @property
    def bands(self) -> list[int]:
        """See above."""
        ...

    @property
    def colours(self) -> Mapping[str, int]:
        """See above."""
        ...

    @property
    def polarisations(self) -> list[str]:
        """See above."""
        ...

    @property
    def palette(self) -> Any:
        """See above."""
        ...


@dataclass(frozen=True)
class ImageBands:
    """The bands of an image that is read as a whole (see `Bands`)."""

    source: str
    count: int
    dtypes: tuple[str, ...]
    bands: list[int]
    colours: Mapping[str, int] = field(default_factory=dict)
    polarisations: list[str] = field(default_factory=list)
    palette: Any = None


class Rendering(Protocol):
    """What the user says about bands and stretch; see `optisar_yolo.geo.RasterOptions`."""

    @property
    def modality(self) -> str:
        """See above."""
        ...

    @property
    def stretch(self) -> str:
        """See above."""
        ...

    @property
    def percentiles(self) -> tuple[float, float] | None:
        """See above."""
        ...

    @property
    def limits(self) -> tuple[float, float] | None:
        """See above."""
        ...


@dataclass(frozen=True)
class ImageRendering:
    """The same for images, of which less can be said.

    Attributes:
        bands: One band, or three for red, green and blue, from 1; None: from the file. Of a network of other channels,
            as many as it has.
        stretch: One of `optisar_yolo.plugin.STRETCHES`, or "auto".
        channels: Bands that the network takes; 3: red, green and blue.
    """

    bands: tuple[int, ...] | None = None
    stretch: str = "auto"
    channels: int = 3
    modality: str = "auto"
    percentiles: tuple[float, float] | None = None
    limits: tuple[float, float] | None = None


@dataclass(frozen=True)
class Stretch:
    """How values become 8 bits.

    Attributes:
        preset: One of `optisar_yolo.plugin.STRETCHES`.
        bands: Numbers of the bands that become red, green and blue, from 1; or all channels of the network.
        limits: (low, high) per band in `bands`, in dB where the preset says so; empty for ``none``.
        modality: "optical" or "sar".
        summary: One line for the user on what was chosen.
        rule: The same without what differs from file to file.
    """

    preset: str
    bands: tuple[int, ...]
    limits: tuple[tuple[float, float], ...]
    modality: str
    summary: str = ""
    rule: str = ""

    def record(self) -> dict[str, Any]:
        """Return plain values for records and fingerprints."""
        return {k: v for k, v in asdict(self).items() if k not in ("summary", "rule")}

    @property
    def read(self) -> list[int]:
        """The bands to read: one where all three are the same."""
        return [self.bands[0]] if len(set(self.bands)) == 1 else list(self.bands)

    def __call__(self, values: NDArray[Any], valid: NDArray[np.bool_]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Stretch values of the bands in :attr:`read`.

        Args:
            values: [bands, h, w] of any number type.
            valid: bool [h, w].

        Returns:
            uint8 [bands, h, w], 0 where there are no data, and bool [h, w], True where there are; a logarithm needs
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
        x = np.nan_to_num(
            np.asarray(values, np.float32 if values.dtype.itemsize <= 4 else np.float64), posinf=0, neginf=0
        )
        if self.preset.startswith("db"):
            x = decibels(x)
        with np.errstate(over="ignore"):  # fill values such as the lowest float, which become 0 afterwards
            return ((x - low) * (255 / (high - low))).clip(0, 255).round().astype(np.uint8)


@lru_cache(maxsize=8)
def _table(stretch: Stretch, band: int, size: int) -> NDArray[np.uint8]:
    """Return the 8-bit value of every unsigned integer of `size` bytes: a look-up table saves many logarithms."""
    return stretch.scale(np.arange(1 << 8 * size), band)


def decibels(values: NDArray[Any]) -> NDArray[Any]:
    """Return 10·log10 of values; values of 0 and below become -300 dB."""
    return 10 * np.log10(np.maximum(values, values.dtype.type(1e-30)))


def choose_bands(layout: Bands, given: Sequence[int] | None, channels: int = 3) -> tuple[tuple[int, ...], str]:
    """Return the bands for red, green and blue, and the reason in words.

    Args:
        layout: The bands of the file.
        given: One band or three, as the user gave them; None: by the file.
        channels: Bands that the network takes; other than 3, all bands of the file are returned.

    Raises:
        ValueError: A band that the file does not have, or other than 1 or 3.
        DataError: Another number of bands than the network takes.
    """
    if channels != 3:
        return _all_bands(layout, given, channels)
    if given is not None:
        if len(given) not in (1, 3):
            raise ValueError(f"bands={list(given)} is not valid: one band, or three for red, green and blue")
        if max(given) > layout.count:
            raise ValueError(
                f"bands={list(given)} is not valid: {layout.source} has {layout.count} band{'s' * (layout.count != 1)}"
            )
        a, b, c = given if len(given) == 3 else [given[0]] * 3
        return (a, b, c), f"bands {a}, {b}, {c} as given" if len(given) == 3 else f"band {a} as given"
    own, named = layout.bands, layout.colours
    if layout.palette is not None:
        return (1, 2, 3), "its colour table gives red, green and blue"
    if all(c in named for c in ("red", "green", "blue")):
        a, b, c = named["red"], named["green"], named["blue"]
        return (a, b, c), f"bands {a}, {b}, {c} are its red, green and blue"
    if len(own) < 3:  # of VV and VH the first: SAR images were grey in training
        names = layout.polarisations
        which = f"band {own[0]}" + (f" ({names[0]})" if names else "")
        return (own[0], own[0], own[0]), f"{which} is shown as grey"
    return (own[0], own[1], own[2]), f"bands {own[0]}, {own[1]}, {own[2]} taken for red, green and blue"


def _all_bands(layout: Bands, given: Sequence[int] | None, channels: int) -> tuple[tuple[int, ...], str]:
    """Return as many bands as a network takes."""
    bands = tuple(layout.bands if given is None else given)
    if len(bands) != channels or max(bands) > layout.count:
        found = (
            f"bands={list(bands)}" if given is not None else f"an image of {len(bands)} band{'s' * (len(bands) != 1)}"
        )
        raise DataError(
            f"{layout.source}: {found}, and the network takes {channels} (channels: of its dataset config); give "
            "images of these bands, or weights for another number"
        )
    return bands, f"all {channels} bands" if given is None else f"bands {', '.join(map(str, bands))} as given"


def find_fill(
    layout: Bands, values: NDArray[Any], valid: NDArray[np.bool_]
) -> tuple[float | None, str, NDArray[np.bool_]]:
    """Find a value that means no data although the file does not say so (see `undeclared_fill`).

    Args:
        layout: The bands of the file.
        values: [bands, h, w], decimated.
        valid: bool [h, w].

    Returns:
        The value or None, a note in words, and `valid` without it.

    Raises:
        DataError: Nothing else is left.
    """
    fill, note = undeclared_fill(values, valid), ""
    if fill is not None:
        there = (values == values.dtype.type(fill)).all(0)
        valid = valid & ~there
        note = f"; {there.mean():.1%} of the pixels are {fill:g}, far from all others, and taken for no data"
    if not valid.any():
        raise DataError(f"{layout.source}: no valid pixel in it: all of it is nodata, masked or not finite")
    return fill, note, valid


def choose_stretch(
    layout: Bands,
    options: Rendering,
    rgb: tuple[int, ...],
    band_note: str,
    values: NDArray[Any],
    valid: NDArray[np.bool_],
) -> Stretch:
    """Choose how values become 8 bits.

    Args:
        layout: The bands of the file.
        options: What the user says.
        rgb: The bands of `choose_bands`.
        band_note: Its reason, and what else is to be said.
        values: The distinct ones of these bands in their order [n, h, w], decimated.
        valid: bool [h, w], True where there are data; some are.

    Raises:
        DataError: Decibels are asked for, and no value is above 0.
    """
    distinct = list(dict.fromkeys(rgb))
    modality, modality_note = _modality(layout, values, valid, options.modality)
    grey = is_grey(values)
    preset, ready = options.stretch, None
    if preset == "auto":
        ready = (0.0, 255.0) if options.limits or options.percentiles else _ready(values, valid)
        if values.dtype == np.uint8 or (ready == (0.0, 255.0) and not (options.limits or options.percentiles)):
            preset = "none"
        elif modality == "sar" and _is_dark(values, valid):
            preset = "db-percentile"
        else:
            preset = "percentile"
        ready = ready if ready == (0.0, 1.0) else None
    use = valid & (values > 0).all(0) if preset.startswith("db") else valid
    if not use.any():
        raise DataError(f"{layout.source}: no value above 0, so there are no decibels; set stretch=percentile")
    pair = options.percentiles or (GREY_PERCENTILES if modality == "sar" or grey else PERCENTILES)
    per_band = {
        b: options.limits or ready or _limits(v[use], preset, pair)
        for b, v in zip(distinct, values, strict=True)
        if preset != "none"
    }
    limits = tuple(per_band[b] for b in rgb) if per_band else ()
    count = len(layout.bands)
    types = "/".join(sorted({layout.dtypes[b - 1] for b in rgb}))
    start = f"{count} band{'s' * (count != 1)} {types}, {modality_note}; {band_note}; "
    end = "; set modality=, bands= or stretch= to change this"
    effect = _effect(preset, limits, options.limits is not None, ready is not None, pair)
    plain = _effect(preset, (), options.limits is not None, ready is not None, pair)
    return Stretch(preset, rgb, limits, modality, f"{start}{effect}{end}", f"{start}{plain}")


def _effect(
    preset: str,
    limits: tuple[tuple[float, float], ...],
    given: bool,
    ready: bool,
    percentiles: tuple[float, float],
) -> str:
    """Say in words what a stretch does."""
    low, high = percentiles
    between = "between given limits" if given else f"between percentiles {low:g} and {high:g}"
    effect = {
        "none": "values taken as they are",
        "percentile": "values from 0 to 1 become 0 to 255" if ready else f"stretched {between}",
        "db": "converted to dB",
        "db-percentile": f"converted to dB and stretched {between}",
    }[preset]
    if limits and not ready:
        ranges = ", ".join(f"{a:.4g} to {b:.4g}" for a, b in dict.fromkeys(limits))
        effect += f" ({ranges}{' dB' if preset.startswith('db') else ''} become 0 to 255)"
    return effect


def is_grey(values: NDArray[Any]) -> bool:
    """Tell whether all bands [n, h, w] are the same."""
    return len(values) == 1 or all(np.array_equal(values[0], v) for v in values[1:])


def _ready(values: NDArray[Any], valid: NDArray[np.bool_]) -> tuple[float, float] | None:
    """Return (0, 255) or (0, 1) where values are those of 8 bits, as they are or divided by 255; else None."""
    known = values[:, valid]
    lowest, highest = float(known.min()), float(known.max())
    if lowest < 0:
        return None
    if 255 * FULL <= highest <= 255 and (known.dtype.kind in "ui" or not (known % 1).any()):
        return 0.0, 255.0
    if known.dtype.kind == "f" and FULL <= highest <= 1:
        x = known.astype(np.float32) * 255
        if float(np.abs(x - x.round()).mean()) < WHOLE:
            return 0.0, 1.0
    return None


def _is_dark(values: NDArray[Any], valid: NDArray[np.bool_]) -> bool:
    """Tell whether a linear stretch would leave half of the values above 0 black (see `DARK`)."""
    known = values[0][valid]
    if float(known.min()) < 0 or not (known > 0).any():
        return False
    low, middle, high = np.percentile(
        known[known > 0].astype(np.float64), (GREY_PERCENTILES[0], 50, GREY_PERCENTILES[1])
    )
    return bool(middle - low < DARK * (high - low))


def _modality(layout: Bands, values: NDArray[Any], valid: NDArray[np.bool_], given: str) -> tuple[str, str]:
    """Return "sar" or "optical", and the reason in words."""
    if given != "auto":
        return given, f"{'SAR' if given == 'sar' else given} as given"
    if layout.polarisations:
        return "sar", f"SAR by its band names ({', '.join(layout.polarisations)})"
    if len(layout.bands) == 2:
        return "sar", "looks like SAR of two polarisations"
    if not is_grey(values):
        return "optical", "looks optical"
    known = values[0][valid]
    if known.dtype.kind == "f":
        return ("sar", "looks like SAR in dB") if known.min() < 0 else ("sar", "looks like SAR amplitude or power")
    middle, high = np.percentile(known, (50, 99))
    return ("sar", "looks like SAR amplitude") if high > TAIL * max(middle, 1) else ("optical", "looks optical, grey")


def _limits(values: NDArray[Any], preset: str, percentiles: tuple[float, float]) -> tuple[float, float]:
    """Return the values of one band that become 0 and 255."""
    if preset == "db":
        return DB_RANGE
    wide = values.astype(np.float32 if values.dtype.itemsize <= 4 else np.float64)
    x = decibels(wide) if preset == "db-percentile" else values
    low, high = (float(v) for v in np.percentile(x, percentiles))
    if high <= low:
        low, high = float(x.min()), float(x.max())
    return (low, high) if high > low else (low, low + 1)

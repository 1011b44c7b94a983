"""Reads TIFF files through GDAL (rasterio): every layout, depth and compression, with the masks that the file declares.

OpenCV is not used for TIFF: files of 16 bits or floats that are stored band by band come out of it as noise, without an
error, and it cannot open BigTIFF of 8 bits, ZSTD, LERC, WebP, or any number of bands but 1, 3 and 4.
The functions on an open dataset are the rules for bands and colours; rasters of any size follow them too.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ultralytics.utils import LOGGER

from optisar_yolo.data.config import DataError
from optisar_yolo.utils import need

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # first bytes of a file; the last two are BigTIFF
MOST_PIXELS = 1 << 30  # OpenCV's limit for other formats
BOMB_BYTES, BOMB_RATIO = 1 << 28, 200  # of 2,428 images of public data sets, the one packed most has a ratio of 103
HUGE = 1e15  # no sensor's value; the least and the largest float are ±3.4e38
COMMON = 0.01  # share of the pixels from which 0 or 65535 can be what fills them, and not a dark or saturated target
POLARISATIONS = ("VV", "VH", "HH", "HV")
_ORIENTATION = 274  # TIFF tag: which corner of the image the first pixel is


@dataclass(frozen=True)
class TiffImage:
    """What was read of a TIFF file.

    Attributes:
        values: [bands, h, w] of the file's own type, turned by the file's orientation.
        valid: bool [h, w], True where the file has data; None where it declares nothing about that.
    """

    values: NDArray[Any]
    valid: NDArray[np.bool_] | None


def read_tiff(source: Path | bytes, name: str, choose: Callable[[dict[str, Any]], Sequence[int]]) -> TiffImage:
    """Read the image of a TIFF file.

    Args:
        source: The file's path, or its content.
        name: Its name in messages.
        choose: Returns the numbers of the bands to read; it gets what the file says of its bands (`count`, `dtypes`,
            `bands`, `colours`, `polarisations`, `palette`). Those of a colour table are red, green and blue.

    Raises:
        DataError: No TIFF, damaged, too large, complex, or without data.
        MissingExtraError: rasterio is not installed.
    """
    with open_tiff(source, name) as data:
        if data.width * data.height > MOST_PIXELS:
            raise DataError(
                f"{name}: image of {data.width} x {data.height} pixels; use 'optisar scene', which reads it in tiles"
            )
        check_types(data, name)
        stored = len(source) if isinstance(source, bytes) else source.stat().st_size
        check_bomb(data.width, data.height, data.count * np.dtype(data.dtypes[0]).itemsize, stored, name)
        pages = len(data.subdatasets)
        if pages > 1:
            say_once("TIFF files of several images: only the first is read", f"{name} has {pages}")
        about = about_bands(data)
        bands = list(dict.fromkeys(choose(about)))
        if about["palette"] is not None:
            values = as_shown(data, data.read([1]))[[b - 1 for b in bands]]
        else:
            values = as_shown(data, data.read(bands))
        valid = data.dataset_mask() > 0 if is_masked(data) else None
        if valid is not None and "alpha" in colour_bands(data) and (values.dtype == np.uint8 or not valid.any()):
            valid = None  # as in a PNG, transparency hides nothing; of deeper files it says what the stretch is for
        if valid is not None and not valid.any():
            raise DataError(f"{name}: no valid pixel in the image: all of it is nodata or masked")
    turn = orientation(source)
    values = _turned(values.transpose(1, 2, 0), turn).transpose(2, 0, 1)
    return TiffImage(values, None if valid is None else _turned(valid, turn))


def about_bands(data: Any) -> dict[str, Any]:
    """Return what an open dataset says of its bands; those of a colour table are red, green and blue."""
    if (table := palette(data)) is not None:
        colours = {"red": 1, "green": 2, "blue": 3}
        return {
            "count": 3, "dtypes": ("uint8",) * 3, "bands": [1, 2, 3], "colours": colours, "polarisations": [],
            "palette": table,
        }  # fmt: skip
    return {
        "count": int(data.count), "dtypes": tuple(data.dtypes), "bands": image_bands(data),
        "colours": colour_bands(data), "polarisations": polarisations(data), "palette": None,
    }  # fmt: skip


def polarisations(data: Any) -> list[str]:
    """Return those among `POLARISATIONS` that the descriptions of a dataset's bands name."""
    names = " ".join(str(d) for d in data.descriptions if d).upper()
    return [p for p in POLARISATIONS if p in names]


def check_bomb(width: int, height: int, pixel: int, stored: int, name: str) -> None:
    """Check that an image is not a small file made to fill the memory.

    Args:
        width: Pixels.
        height: Pixels.
        pixel: Bytes of a pixel.
        stored: Bytes of the file.
        name: Its name in messages.

    Raises:
        DataError: It takes more than `BOMB_BYTES`, and more than `BOMB_RATIO` times the file.
    """
    size = width * height * pixel
    if size > BOMB_BYTES and size > BOMB_RATIO * stored:
        raise DataError(
            f"{name}: an image of {width} x {height} pixels in a file of {stored:,} bytes, as made to fill the memory; "
            "'optisar scene' reads it in tiles where it is meant"
        )


def tiff_size(source: Path | bytes, name: str) -> tuple[int, int]:
    """Return the width and height of a TIFF's image as `read_tiff` gives it, from its header.

    Raises:
        DataError: No TIFF, or damaged.
    """
    with open_tiff(source, name) as data:
        width, height = int(data.width), int(data.height)
    return (height, width) if orientation(source) >= 5 else (width, height)


@contextmanager
def open_tiff(source: Path | bytes, name: str) -> Iterator[Any]:
    """Open a TIFF file as a rasterio dataset.

    Raises:
        DataError: It cannot be opened, or not be read within the ``with``.
    """
    rasterio = need("rasterio")
    try:
        # A file in memory cannot refer to other files: GDAL may use its TIFF reader alone.
        with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR" if isinstance(source, bytes) else "FALSE"):
            if isinstance(source, bytes):
                with rasterio.MemoryFile(source) as file, _quiet(), file.open(driver="GTiff") as data:
                    yield data
            else:
                with _quiet(), rasterio.open(str(source.absolute()), driver="GTiff") as data:
                    yield data
    except rasterio.errors.RasterioError as error:
        reason = str(error.__cause__ or error).strip() or "unknown reason"
        raise DataError(
            f"{name}: TIFF that is damaged or not an image that can be decoded ({reason}); copy it again, or write it "
            "anew with gdal_translate"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep rasterio from warning that an image has no georeference."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def check_types(data: Any, name: str) -> None:
    """Check that all bands of a dataset hold real numbers.

    Raises:
        DataError: Complex values, or others that are no numbers.
    """
    if any("complex" in str(d) for d in data.dtypes):
        raise DataError(
            f"{name}: bands of complex values (SAR single-look complex); expected whole numbers or floats: write the "
            "amplitude (the absolute value) to a file first"
        )
    if any(np.dtype(d).kind not in "uif" for d in data.dtypes):
        kinds = ", ".join(sorted(set(data.dtypes)))
        raise DataError(f"{name}: bands of type {kinds}; expected whole numbers or floats")
    if data.tags(ns="IMAGE_STRUCTURE").get("SOURCE_COLOR_SPACE", "").upper() in ("CIELAB", "ICCLAB", "ITULAB"):
        raise DataError(f"{name}: TIFF with colours in L*a*b*; convert it to RGB")


def colour_bands(data: Any) -> dict[str, int]:
    """Return the first band of each colour that a dataset names ("red", "alpha" …), counted from 1."""
    named: dict[str, int] = {}
    for i, colour in enumerate(data.colorinterp, 1):
        named.setdefault(colour.name, i)
    return named


def image_bands(data: Any) -> list[int]:
    """Return the numbers of the bands that hold an image, from 1: all but alpha."""
    alpha = colour_bands(data).get("alpha")
    return [i for i in range(1, data.count + 1) if i != alpha]


def is_masked(data: Any) -> bool:
    """Tell whether a dataset declares nodata, a mask or alpha in any band."""
    return any("all_valid" not in {flag.name for flag in flags} for flags in data.mask_flag_enums)


def palette(data: Any) -> NDArray[np.uint8] | None:
    """Return the colour table of a dataset of one band, uint8 [n, 3] RGB; None where it has none."""
    if data.count > 2 or data.colorinterp[0].name != "palette":
        return None
    entries = data.colormap(1)
    table = np.zeros((max(256, *entries) + 1 if max(entries) > 255 else 256, 3), np.uint8)
    for index, colour in entries.items():
        table[index] = colour[:3]
    return table


def as_shown(data: Any, values: NDArray[Any]) -> NDArray[Any]:
    """Turn stored numbers into what they show: colour tables, fewer than 8 bits, and "0 is white".

    Args:
        data: The open dataset.
        values: [bands, h, w] as they were read.

    Returns:
        The same, or [3, h, w] RGB of the colour table.
    """
    table = palette(data)
    if table is not None:
        return table[values[0]].transpose(2, 0, 1)
    bits = int(data.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", 0))
    if values.dtype == np.uint8 and 0 < bits < 8:
        values = np.round(values * (255 / ((1 << bits) - 1))).astype(np.uint8)
    if data.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES" and values.dtype.kind == "u":
        top = (1 << bits) - 1 if bits > 8 else np.iinfo(values.dtype).max
        values = values.dtype.type(top) - values
    return values


def orientation(source: Path | bytes) -> int:
    """Return the orientation (1 to 8) that the first directory of a TIFF names; 1 where it names none."""
    try:
        if isinstance(source, bytes):
            return _orientation(lambda start, count: source[start : start + count])
        with open(source, "rb") as file:

            def part(start: int, count: int) -> bytes:
                file.seek(start)
                return file.read(count)

            return _orientation(part)
    except (OSError, struct.error, IndexError):
        return 1


def _orientation(part: Any) -> int:
    """Walk through the entries of the first directory."""
    head = part(0, 16)
    order = "<" if head[:1] == b"I" else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    (start,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", head, 8 if big else 4)
    width, size = (8, 20) if big else (2, 12)
    (count,) = struct.unpack(f"{order}{'Q' if big else 'H'}", part(start, width))
    entries = part(start + width, min(count, 4096) * size)
    for at in range(0, len(entries) - size + 1, size):
        tag, _ = struct.unpack_from(f"{order}HH", entries, at)
        if tag == _ORIENTATION:
            (found,) = struct.unpack_from(f"{order}H", entries, at + (12 if big else 8))
            return int(found) if 1 <= found <= 8 else 1
    return 1


def _turned(image: NDArray[Any], turn: int) -> NDArray[Any]:
    """Bring an image [H, W, …] into the position that its orientation means."""
    if turn >= 5:
        image = image.swapaxes(0, 1)
    if turn in (2, 3, 6, 7):
        image = image[:, ::-1]
    if turn in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def undeclared_fill(values: NDArray[Any], valid: NDArray[np.bool_]) -> float | None:
    """Find a value that fills pixels without data although the file does not declare it.

    It is the lowest or the highest value, a usual fill value (or beyond `HUGE`), and further from the nearest other
    value than half of the range between the others' percentiles 1 and 99. Of 0 and of the highest number of unsigned
    types, which also occur as values, a share of `COMMON` is needed.

    Args:
        values: [bands, h, w] of any real type.
        valid: bool [h, w], False where the file says that there are no data.

    Returns:
        The value; None where there is none.
    """
    kind = values.dtype.kind
    if kind not in "uif" or values.dtype.itemsize == 1:
        return None
    if kind == "f":
        valid = valid & np.isfinite(values).all(0)
    known = values[:, valid]
    if not known.size:
        return None
    for extreme in (known.min(), known.max()):
        fill = float(extreme)
        also_value = fill == 0 or (kind == "u" and extreme == np.iinfo(values.dtype).max)
        named = kind != "u" and (
            any(abs(fill - f) <= 1e-6 * abs(f) for f in _FILLS) or (kind == "f" and abs(fill) >= HUGE)
        )
        if not (named or also_value) or (also_value and (known == extreme).mean() < COMMON):
            continue
        rest = known[known != extreme].astype(np.float64)
        rest = rest[np.abs(rest) < HUGE] if kind == "f" else rest
        if not rest.size:
            return None
        low, high = np.percentile(rest, (1, 99))
        if also_value and high <= low:  # two values alone, such as a mask
            continue
        if min(abs(fill - rest.min()), abs(fill - rest.max())) > (high - low) / 2:
            return fill
    return None


# What GDAL, ESA's, NASA's and Esri's tools write where there are no data
_FILLS = (-9999.0, -99999.0, -999.0, -9999.9, -32768.0, -32767.0, -3000.0, -1e10, -1e20, 1e20, -2147483648.0)


def say_once(rule: str, example: str = "") -> None:
    """Log a warning once in a process.

    Args:
        rule: What is said, the same for all files.
        example: The first file that it applies to.
    """
    if rule not in _SAID:
        _SAID.add(rule)
        LOGGER.warning(f"{rule} ({example})" if example else rule)


_SAID: set[str] = set()

"""Reads images of every usual depth and channel count into one form: uint8 [H, W, 3], BGR, contiguous.

Remote-sensing images often use 11 or 12 of 16 bits, and SAR amplitudes have a long bright tail, so division by the
full range would leave them dark. An image of more than 8 bits is therefore stretched between its own 0.5 and 99.5
percentiles. There are two exceptions: floats within 0..1 are multiplied by 255, and values within 0..255 are kept.
What a file declares as no data (a value, a mask, alpha) has no part in this. TIFF files: `optisar_yolo.data.tiff`.
"""

from __future__ import annotations

from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
from PIL import Image, ImageOps, JpegImagePlugin, PngImagePlugin, WebPImagePlugin
from ultralytics.utils import LOGGER

from optisar_yolo.data.config import DataError
from optisar_yolo.data.tiff import MAGIC, check_bomb, read_tiff, say_once, undeclared_fill

LOW, HIGH = 0.5, 99.5  # percentiles of the stretch
BOMB_FILE = 1 << 25  # bytes of a file; a larger one is no bomb, as decoders stop at 2^30 pixels
Source: TypeAlias = str | Path | np.ndarray | Image.Image


def read_image(source: Source) -> np.ndarray:
    """Read one image.

    Args:
        source: A file's path; an array [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] of any number type, BGR(A) as OpenCV
            keeps it; or a PIL image of any mode. Alpha is dropped, grey is repeated, a file's or PIL image's EXIF
            orientation is applied. NaN, infinities and pixels without data are treated as the darkest value. Of a TIFF
            of two bands the first is taken.

    Returns:
        uint8 [H, W, 3], BGR, contiguous; a copy where the source is an array.

    Raises:
        DataError: The file is missing, empty or no image, or the array has another shape or no finite value.
    """
    if isinstance(source, np.ndarray):
        return _to_bgr8(source, "array")
    if isinstance(source, Image.Image):
        name = str(getattr(source, "filename", "") or "PIL image")
        return _to_bgr8(_from_pil(source, name), name)
    path = Path(source)
    try:
        with open(path, "rb") as file:
            start = file.read(4)
        if start in MAGIC:
            pixels, valid = read_tiff(path, str(path))
            return _to_bgr8(pixels, str(path), valid)
        data = np.fromfile(path, np.uint8)  # OpenCV's own reader fails on non-ASCII names under Windows
    except OSError as error:
        raise DataError(f"{path}: image cannot be read ({error.strerror or error}); correct the path") from error
    return _to_bgr8(_decode(data, str(path)), str(source))


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Read one image from a file's content.

    Args:
        data: The content.
        name: Its name in error messages.

    Returns:
        As :func:`read_image`.

    Raises:
        DataError: Empty, or no image.
    """
    if data[:4] in MAGIC:
        pixels, valid = read_tiff(data, name)
        return _to_bgr8(pixels, name, valid)
    return _to_bgr8(_decode(np.frombuffer(data, np.uint8), name), name)


_HEADERS = (
    (b"\x89PNG", PngImagePlugin.PngImageFile),
    (b"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
    (b"RIFF", WebPImagePlugin.WebPImageFile),
)


def _check_size(data: np.ndarray, name: str) -> None:
    """Refuse a small file that unfolds into a huge image, before it is decoded; its header says so.

    Raises:
        DataError: It does.
    """
    reader = next((r for start, r in _HEADERS if bytes(data[:4]).startswith(start)), None)
    if reader is None or data.size > BOMB_FILE:
        return
    try:
        width, height = reader(BytesIO(data.tobytes())).size
    except Exception:  # noqa: BLE001 - hostile bytes make a parser fail in any way; the decoder has the last word
        return
    check_bomb(width, height, 3, data.size, name)


def _decode(data: np.ndarray, name: str) -> np.ndarray:
    """Decode a file's bytes, keeping their depth."""
    if not data.size:
        raise DataError(f"{name}: image file of zero bytes; copy it again")
    _check_size(data, name)
    # Three channels of the file's own type, alpha dropped, orientation applied. PIL cannot be used: Ultralytics patches
    # it so that it tries to install a plugin when a file is no image.
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:  # refused before decoding, such as a size beyond OpenCV's limit
        raise DataError(f"{name}: image cannot be decoded ({error.err}); convert it or cut it up") from error
    if image is None:
        raise DataError(f"{name}: not an image that can be decoded; copy it again or convert it to PNG, JPEG or TIFF")
    return image


def _from_pil(image: Image.Image, name: str) -> np.ndarray:
    """Turn a PIL image into an array, BGR where it has colours."""
    try:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith(("I", "F")):  # 16- and 32-bit integers, floats: one channel
            return np.asarray(image)
        return np.asarray(image.convert("RGB"))[..., ::-1]
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{name}: not an image that can be decoded ({error}); copy or convert it again") from error


def _to_bgr8(image: np.ndarray[Any, Any], name: str, valid: np.ndarray[Any, Any] | None = None) -> np.ndarray:
    """Bring an array to uint8 [H, W, 3]; `valid` [H, W] is False where it has no data."""
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or 0 in image.shape:
        hint = "; move the channels last" if image.ndim == 3 and image.shape[0] in (1, 3, 4) else ""
        raise DataError(
            f"{name}: image of shape {image.shape}; expected height x width with 1, 3 or 4 channels last{hint}"
        )
    if image.dtype.kind not in "buif":
        raise DataError(f"{name}: image of type {image.dtype}; expected whole numbers, floats or booleans")
    image = _to_uint8(image[..., :3], name, valid)
    return np.ascontiguousarray(np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image)


def _to_uint8(image: np.ndarray[Any, Any], name: str, valid: np.ndarray[Any, Any] | None) -> np.ndarray:
    """Scale values to 0..255 as described at the top of this file."""
    if image.dtype == np.uint8:
        return image.copy() if valid is None else np.where(valid[..., None], image, np.uint8(0))
    if image.dtype.kind == "b":
        return image.astype(np.uint8) * 255
    values = image.astype(np.float32 if image.dtype.itemsize <= 4 else np.float64)
    finite = np.isfinite(values)
    if valid is not None:
        finite &= valid[..., None]
    if not finite.any():
        raise DataError(f"{name}: image without a finite value")
    fill = undeclared_fill(image.transpose(2, 0, 1), finite.all(2))
    if fill is not None:
        there = image == image.dtype.type(fill)
        say_once(
            f"values of {fill:g}, far from all others, are taken for no data, although the file does not declare them "
            f"(gdal_edit.py -a_nodata {fill:g} does)",
            f"{name}: {there.mean():.1%} of its values",
        )
        finite &= ~there
    known = values[finite]
    lowest, highest = float(known.min()), float(known.max())
    values = np.where(finite, values, lowest)
    if lowest >= 0 and highest <= 1 and image.dtype.kind == "f":
        return _dark((values * 255).round().astype(np.uint8), finite)
    if lowest >= 0 and highest <= 255:
        return _dark(values.round().astype(np.uint8), finite)
    _warn_once(str(image.dtype))
    low, high = np.percentile(known, (LOW, HIGH))
    if high <= low:  # nearly constant
        low, high = lowest, highest
    if high <= low:
        return np.full(image.shape, 128, np.uint8)  # a constant of unknown scale: mid-grey
    return _dark(((values - low) * (255 / (high - low))).clip(0, 255).round().astype(np.uint8), finite)


def _dark(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Make all values black that are no data; NaN and infinities among them."""
    image[~known] = 0
    return image


@cache
def _warn_once(dtype: str) -> None:
    LOGGER.warning(
        f"images of type {dtype} are stretched between their {LOW} and {HIGH} percentiles to 8 bits, each by itself; "
        "convert them beforehand where another scale is wanted"
    )

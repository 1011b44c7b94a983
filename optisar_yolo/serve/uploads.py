"""Read untrusted image files: check the kind by the first bytes and the size by the header, then decode the pixels."""

from __future__ import annotations

import hashlib
from io import BytesIO
from typing import Any

import numpy as np
from PIL import BmpImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from optisar_yolo.data import MAGIC, DataError, decode_image, tiff_size
from optisar_yolo.serve.limits import MIB, Limits, Refusal

# The readers themselves, not `PIL.Image.open`: ultralytics replaces that by a function that tries to install a package
# when it meets a file that is not an image.
READERS: tuple[tuple[bytes, str, Any], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG", PngImagePlugin.PngImageFile),
    (b"\xff\xd8\xff", "JPEG", JpegImagePlugin.JpegImageFile),
    (b"BM", "BMP", BmpImagePlugin.BmpImageFile),
    (b"RIFF", "WebP", WebPImagePlugin.WebPImageFile),
)
KINDS = "PNG, JPEG, TIFF, BMP or WebP"
JPEG_SCAN, JPEG_END = b"\xff\xda", b"\xff\xd9"  # markers; compressed data never holds either


def image_key(data: bytes) -> str:
    """Return the name of an image in the cache: the SHA-256 of its file, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def read_upload(data: bytes, limits: Limits) -> np.ndarray:
    """Decode an image after its header was checked.

    Args:
        data: Content of the file.
        limits: Largest file and most pixels.

    Returns:
        uint8 [h, w, 3] BGR, as :func:`~optisar_yolo.data.images.read_image` gives it.

    Raises:
        Refusal: 400 empty, damaged or incomplete, 413 too large, 415 of another kind.
    """
    check_bytes(len(data), limits)
    width, height = image_size(data)
    if width * height > limits.max_pixels:
        error = f"an image of {width} x {height} pixels; at most {limits.max_pixels / 1e6:g} million are accepted"
        raise Refusal(413, error, "cut it into tiles or reduce it")
    try:
        return decode_image(data, "image")
    except DataError as error:
        reason, _, remedy = str(error).removeprefix("image: ").rpartition("; ")
        raise (_unreadable(reason, remedy) if reason else _unreadable(remedy)) from error


def check_bytes(count: int, limits: Limits) -> None:
    """Check the size of a file.

    Raises:
        Refusal: It is empty (400) or too large (413).
    """
    if not count:
        raise Refusal(400, "the image file is empty", "send the content of the file")
    if count > limits.max_bytes:
        error = f"an upload of {count / MIB:.1f} MiB; at most {limits.max_mib:g} MiB are accepted"
        raise Refusal(413, error, "cut the image into tiles or compress it")


def image_size(data: bytes) -> tuple[int, int]:
    """Read width and height of an image from its header, without decoding a pixel.

    Raises:
        Refusal: 415 of another kind, 400 damaged or incomplete.
    """
    if data[:4] in MAGIC:
        try:
            return tiff_size(data, "image")
        except DataError as error:
            raise _unreadable("damaged or incomplete TIFF file") from error
    kind, reader = next(((k, r) for start, k, r in READERS if data.startswith(start)), ("", None))
    if reader is None or (kind == "WebP" and data[8:12] != b"WEBP"):
        raise Refusal(415, "the file is not an image of a known kind", f"send a {KINDS} file")
    try:
        image = reader(BytesIO(data))
        size = image.size
        if kind == "PNG":
            image.verify()  # checksums and the end mark
    except Exception as error:  # hostile bytes make a parser fail in any way; all of them mean the same
        raise _unreadable(f"damaged or incomplete {kind} file") from error
    # Decoders fill the missing part of a JPEG with grey; boxes there would be guesses.
    if kind == "JPEG" and data.rfind(JPEG_END) < data.rfind(JPEG_SCAN):
        raise _unreadable("the JPEG file ends before the image does")
    return int(size[0]), int(size[1])


def _unreadable(reason: str, remedy: str = "copy or convert it again") -> Refusal:
    return Refusal(400, f"the image cannot be read: {reason}", remedy)

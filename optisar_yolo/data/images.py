"""Reads images of every usual depth and band count into one form: uint8 [H, W, 3], BGR, contiguous.

Remote-sensing images often use 11 or 12 of 16 bits, and SAR amplitudes have a long bright tail, so division by the
full range would leave them dark. Which bands become red, green and blue, and how an image of more than 8 bits becomes 8
bits, is decided by the rules of `optisar_yolo.data.stretch`, as for rasters. There is one exception: values of arrays
and PIL images within 0..255 are kept, and floats of theirs within 0..1 multiplied by 255, as is usual in Python.
What a file declares as no data (a value, a mask, alpha) has no part in this. TIFF files: `optisar_yolo.data.tiff`.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import cv2
import numpy as np
from PIL import Image, ImageOps, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from optisar_yolo.data.config import DataError
from optisar_yolo.data.stretch import (
    SIDE,
    ImageBands,
    ImageRendering,
    Stretch,
    choose_bands,
    choose_stretch,
    find_fill,
)
from optisar_yolo.data.tiff import MAGIC, check_bomb, read_tiff, say_once

BOMB_FILE = 1 << 25  # bytes of a file; a larger one is no bomb, as decoders stop at 2^30 pixels
AUTO = ImageRendering()
Source: TypeAlias = str | Path | np.ndarray | Image.Image


class BandChoice(NamedTuple):
    """Which bands of an image are shown, and what is known of them."""

    layout: ImageBands
    rgb: tuple[int, ...]  # numbers from 1, of red, green and blue; of the channels for other networks
    note: str
    options: ImageRendering

    @classmethod
    def of(cls, layout: ImageBands, options: ImageRendering) -> BandChoice:
        """Choose the bands of an image as its options say."""
        return cls(layout, *choose_bands(layout, options.bands, options.channels), options)

    @property
    def distinct(self) -> list[int]:
        """The bands that are read, each once."""
        return list(dict.fromkeys(self.rgb))


def read_image(source: Source, options: ImageRendering = AUTO) -> np.ndarray:
    """Read one image.

    Args:
        source: A file's path; an array [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] of any number type, BGR(A) as OpenCV
            keeps it; or a PIL image of any mode. Alpha is dropped, grey is repeated, a file's or PIL image's EXIF
            orientation is applied. NaN, infinities and pixels without data are black. Of a TIFF of two bands the first
            is taken. With `options.bands`, an array may have any number of channels, which count from 1.
        options: Bands and stretch, where they are not chosen automatically; and the network's channels.

    Returns:
        uint8 [H, W, 3], BGR, contiguous; a copy where the source is an array. For networks of other than 3 channels
        [H, W, channels], in the order of the file.

    Raises:
        DataError: The file is missing, empty or no image, the array has another shape or no finite value, or there are
            other bands than the network takes.
        ValueError: Bands that it does not have.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, "array", options)
    if isinstance(source, Image.Image):
        name = str(getattr(source, "filename", "") or "PIL image")
        return _from_array(_from_pil(source, name), name, options)
    path = Path(source)
    try:
        with open(path, "rb") as file:
            start = file.read(4)
        if start in MAGIC:
            return _from_tiff(path, str(path), options)
        data = np.fromfile(path, np.uint8)  # OpenCV's own reader fails on non-ASCII names under Windows
    except OSError as error:
        raise DataError(f"{path}: image cannot be read ({error.strerror or error}); correct the path") from error
    return _from_array(_decode(data, str(path)), str(source), options, file=True)


def decode_image(data: bytes, name: str, options: ImageRendering = AUTO) -> np.ndarray:
    """Read one image from a file's content.

    Args:
        data: The content.
        name: Its name in error messages.
        options: As in :func:`read_image`.

    Returns:
        As :func:`read_image`.

    Raises:
        DataError: Empty, or no image.
    """
    if data[:4] in MAGIC:
        return _from_tiff(data, name, options)
    return _from_array(_decode(np.frombuffer(data, np.uint8), name), name, options, file=True)


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


def _from_tiff(source: Path | bytes, name: str, options: ImageRendering) -> np.ndarray:
    """Read a TIFF file or its content."""
    chosen: list[BandChoice] = []

    def choose(about: dict[str, Any]) -> tuple[int, ...]:
        layout = ImageBands(name, **about)
        count, named = len(layout.bands), layout.colours
        unnamed = not {"red", "green", "blue"} <= set(named)
        if options.channels == 3 and options.bands is None and count > 4 and unnamed:
            raise DataError(
                f"{name}: TIFF of {count} bands of {layout.dtypes[0]} that do not name red, green and blue; write "
                "three of them to a file (gdal_translate -b 4 -b 3 -b 2 in.tif out.tif), or choose them in predict or "
                "scene: bands=4,3,2"
            )
        chosen.append(BandChoice.of(layout, options))
        return chosen[0].rgb

    read = read_tiff(source, name, choose)
    return _shown(read.values, read.valid, chosen[0])


def _from_array(image: np.ndarray[Any, Any], name: str, options: ImageRendering, file: bool = False) -> np.ndarray:
    """Bring an array [H, W] or [H, W, C] in OpenCV's order to 8 bits; `file`: of a file, where no order is known."""
    if image.ndim == 2:
        image = image[..., None]
    free = options.bands is not None or options.channels != 3  # then any number of channels
    if image.ndim != 3 or 0 in image.shape or (image.shape[2] not in (1, 3, 4) and not free):
        hint = "; move the channels last" if image.ndim == 3 and image.shape[0] in (1, 3, 4) else ""
        if image.ndim == 3 and not hint and 0 not in image.shape:
            hint = "; choose channels with bands=, such as bands=4,3,2"
        raise DataError(
            f"{name}: image of shape {image.shape}; expected height x width with 1, 3 or 4 channels last{hint}"
        )
    if image.dtype.kind not in "buif":
        raise DataError(f"{name}: image of type {image.dtype}; expected whole numbers, floats or booleans")
    count = image.shape[2]
    order = list(range(1, count + 1))  # of the channels of arrays; files of red, green and blue are decoded as BGR
    names: dict[str, int] = {}
    if count in (3, 4):
        colours = ("blue", "green", "red", "alpha")[:count]
        if file:
            image = image[..., [2, 1, 0, 3][:count]]
            colours = ("red", "green", "blue", "alpha")[:count]
        names = dict(zip(colours, order, strict=True))
    own = order if options.channels != 3 else [b for b in order if b != names.get("alpha")]
    if options.channels == 3 and options.bands is None and image.dtype == np.uint8:
        image = image[..., [names[c] - 1 for c in ("blue", "green", "red")]] if names else image
        return np.ascontiguousarray(np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image.copy())
    layout = ImageBands(name, count, (str(image.dtype),) * count, own, names)
    choice = BandChoice.of(layout, options)
    values = image.transpose(2, 0, 1)[[b - 1 for b in choice.distinct]]
    if image.dtype.kind == "b":
        values = values.astype(np.uint8) * 255
    return _shown(values, None, choice, usual=not file)


def _shown(
    values: np.ndarray[Any, Any], valid: np.ndarray[Any, Any] | None, choice: BandChoice, usual: bool = False
) -> np.ndarray:
    """Stretch the distinct bands of a choice [n, h, w] and put them in their order, uint8 [h, w, 3] BGR.

    `usual`: values within 0..255 are kept, and floats within 0..1 multiplied by 255.
    """
    layout, rgb, options = choice.layout, choice.rgb, choice.options
    if values.dtype == np.uint8 and options.stretch in ("auto", "none"):
        if options.bands is None and options.channels == 3 and len(layout.bands) == 2:
            say_once("images of two bands: the first is shown as grey", f"{layout.source}: {choice.note}")
        out = values if valid is None else np.where(valid, values, np.uint8(0))
    else:
        out = _stretched(values, valid, choice, usual)
    order = [choice.distinct.index(b) for b in (rgb[::-1] if options.channels == 3 else rgb)]
    return np.ascontiguousarray(out[order].transpose(1, 2, 0))


def _stretched(
    values: np.ndarray[Any, Any], valid: np.ndarray[Any, Any] | None, choice: BandChoice, usual: bool
) -> np.ndarray:
    """Stretch bands [n, h, w], and say once how."""
    layout, options = choice.layout, choice.options
    if values.dtype == np.float16:
        values = values.astype(np.float32)
    known = np.ones(values.shape[1:], bool) if valid is None else valid
    if values.dtype.kind == "f":
        known = known & np.isfinite(values).all(0)
    if not known.any():
        raise DataError(f"{layout.source}: image without a finite value")
    if usual and options.stretch == "auto" and (kept := _usual(values, known)) is not None:
        return kept
    step = max(-(-max(values.shape[1:]) // SIDE), 1)
    few, few_known = values[:, ::step, ::step], known[::step, ::step]
    if not few_known.any():  # a few specks of data
        few, few_known = values, known
    fill, fill_note, few_known = find_fill(layout, few, few_known)
    if fill is not None:
        known = known & ~(values == values.dtype.type(fill)).all(0)
    if options.stretch == "auto" and (few[:, few_known] == few[:, few_known][:, :1]).all():
        return np.full(values.shape, 128, np.uint8)  # a constant of unknown scale: mid-grey
    stretch = choose_stretch(layout, options, choice.rgb, choice.note, few, few_known)
    _say(stretch, layout.source, fill_note)
    limits = tuple(dict(zip(choice.rgb, stretch.limits, strict=True)).values()) if stretch.limits else ()
    return Stretch(stretch.preset, tuple(choice.distinct), limits, stretch.modality)(values, known)[
        0
    ]  # of each band once


def _say(stretch: Stretch, name: str, fill_note: str) -> None:
    """Say what was chosen, once for all images that it was chosen for, and which value means no data."""
    say_once(f"images of {stretch.rule}, each by itself; set bands= or stretch= to change this", name)
    if fill_note:
        say_once(
            "values far from all others are taken for no data, although the file does not declare them (gdal_edit.py "
            "-a_nodata does)",
            f"{name}{fill_note}",
        )


def _usual(values: np.ndarray[Any, Any], known: np.ndarray[Any, Any]) -> np.ndarray | None:
    """Return values within 0..1 (floats) or 0..255 as 8 bits, others as None."""
    inside = values[:, known]
    lowest, highest = float(inside.min()), float(inside.max())
    if lowest < 0 or highest > 255:
        return None
    factor = 255 if highest <= 1 and values.dtype.kind == "f" else 1
    return (np.where(known & np.isfinite(values), values, 0) * factor).clip(0, 255).round().astype(np.uint8)

"""Finds image files, reads their sizes without decoding them, and links or copies them."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from unicodedata import normalize
from urllib.parse import unquote

from PIL import BmpImagePlugin, JpegImagePlugin, PngImagePlugin

from optisar_yolo.data import MAGIC, SPLITS, SUFFIXES, DataError, read_image, tiff_size
from optisar_yolo.utils import write_atomic

_SWAPPED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
_ORIENTATION = 0x0112
FLIP = {"hflip": 1, "vflip": 0, "rot180": -1}
"""`Sample.transform` to the flip code of ``cv2.flip``."""
_LABEL_STUDIO = re.compile(r"^[0-9a-f]{8}-(?=.)")  # what Label Studio puts before the name of an uploaded file

# First bytes of a file to what reads its header. Not PIL.Image.open: ultralytics replaces that by a function that tries
# to install a plugin when it meets a file that is no image.
_HEADERS: dict[bytes, Callable[[Any, str], Any]] = {
    b"\xff\xd8\xff": JpegImagePlugin.jpeg_factory,
    b"\x89PNG\r\n\x1a\n": PngImagePlugin.PngImageFile,
    b"BM": BmpImagePlugin.BmpImageFile,
}


def image_size(path: Path) -> tuple[int, int]:
    """Return an image's width and height as `read_image` would give it.

    Of a JPEG, PNG, TIFF or BMP only the header is read; any other image is decoded.

    Raises:
        DataError: The file cannot be read or is no image.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(8)
            file.seek(0)
            if start[:4] in MAGIC:
                return tiff_size(path, str(path))
            for prefix, header in _HEADERS.items():
                if start.startswith(prefix):
                    image = header(file, str(path))
                    width, height = image.size
                    # without the first condition a PNG would be decoded in search of the tag
                    turned = "exif" in image.info and image.getexif().get(_ORIENTATION) in _SWAPPED
                    return (height, width) if turned else (width, height)
    except DataError:
        raise
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error) as error:
        raise DataError(f"{path}: the image's header cannot be read ({error}); copy it again") from error
    height, width = read_image(path).shape[:2]
    return width, height


def find_image(folder: Path, bases: Sequence[str], name: str) -> tuple[str, Path] | None:
    """Find an image in the folders of its source.

    Args:
        folder: The source's folder.
        bases: Folders of its images, under `folder`; the first that holds the image counts.
        name: Its file's name as the annotation has it, which may begin with folders. The suffix may be missing or of
            another image format.

    Returns:
        The name with the file's own suffix, and the path; None where no folder holds it, or the name leads out of them.
    """
    relative = PurePosixPath(name.replace("\\", "/"))
    if relative.is_absolute() or ".." in relative.parts or not relative.name:
        return None
    stem = relative.with_suffix("") if relative.suffix.lower() in SUFFIXES else relative
    others = (f"{stem}{suffix}" for suffix in (*SUFFIXES, *map(str.upper, SUFFIXES)))
    for candidate in (str(relative), *others):
        for base in bases:
            path = os.path.join(folder, base, candidate)
            if os.path.isfile(path):  # unlike Path.is_file, False for impossible names
                return candidate, Path(path)
    return None


def guess_image(folder: Path, bases: Sequence[str], name: str, splits: Sequence[str] = ()) -> tuple[str, Path] | None:
    """Find an image under a name that other tools gave it: with folders of another disk, a prefix, or %20 for a blank.

    Args:
        folder: The source's folder.
        bases: Folders of its images, under `folder`.
        name: Its file's name as the annotation has it.
        splits: Splits whose folders are looked into as well.

    Returns:
        As `find_image`, which is to be tried first. The longest end of the name that is a file counts.
    """
    written = [name.split("?d=")[-1].replace("\\", "/").strip()]
    written += [written[0].split("?")[0]] if "://" in written[0] and "?" in written[0] else []
    written += [unquote(text) for text in written if "%" in text]
    written += [text.lower() for text in written if text.lower() != text]
    written += [normalize(form, text) for text in written if not text.isascii() for form in ("NFC", "NFD")]
    for text in written:
        parts = PurePosixPath(text).parts
        ends = [PurePosixPath(*parts[start:]) for start in range(len(parts))]
        ends += [
            end.with_name(plain) for end in ends if (plain := _LABEL_STUDIO.sub("", end.name)) not in ("", end.name)
        ]
        for end in ends:
            for inner in (end, *(PurePosixPath(split, end) for split in splits)):
                if (found := find_image(folder, bases, str(inner))) is not None:
                    return found
    return None


def in_split(folder: Path, bases: Sequence[str], name: str, split: str) -> str:
    """Return an image's name, with its split's folder before it where the images lie in folders of splits.

    Two images of one name in two such folders are then two images, and an image that several splits share is one.
    """
    if split not in SPLITS or not any(os.path.isdir(folder / base / split) for base in bases):
        return name
    inner = f"{split}/{name}"
    return inner if find_image(folder, bases, inner) is not None else name


def link_or_copy(source: Path, path: Path, link: bool) -> None:
    """Give a file a second name (a hard link), or copy it where that is not wanted or not possible (another disk).

    Raises:
        OSError: The source cannot be read, the folder cannot be written or the disk is full.
    """
    if link:
        try:
            os.link(os.path.realpath(source), path)  # of the file itself where the source is a symbolic link
            return
        except OSError:
            pass  # another disk, or a file system without links; other reasons hinder the copy too, and it says so
    write_atomic(path, source.read_bytes(), sync=False)

"""Where an uploaded image lies on the ground: the georeference of a TIFF file, and what to say about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from optisar_yolo.data import MAGIC, DataError, orientation
from optisar_yolo.geo import Georeference, georeference_of


@dataclass(frozen=True)
class Place:
    """The place of an image.

    Attributes:
        found: Its georeference; None where it has none that can be used.
        said: What follows the status of the page, with a dash before it; empty for files other than TIFF.
    """

    found: Georeference | None = None
    said: str = ""


def place_of(file: Path, size: tuple[int, int]) -> Place:
    """Return the place of an uploaded image.

    Args:
        file: The file, which has been decoded already.
        size: Width and height of the image in pixels.
    """
    with file.open("rb") as opened:
        if opened.read(4) not in MAGIC:
            return Place()
    try:
        found = georeference_of(file, "the file")
    except (DataError, ValueError):  # it is an image all the same
        return Place(said=" – no georeference can be read: results are in pixels")
    if not found:
        return Place(said=f" – {found.note}")
    if orientation(file) != 1 or found.size != size:
        return Place(said=" – its TIFF tags turn the image: the georeference is left out, results are in pixels")
    if not found.on_earth:
        return Place(found, f" – {crs_of(found)}, which leads to no longitude and latitude")
    try:
        upright = found.compass()["north"] == "top"
    except ValueError:
        upright = False
    said = f" – coordinates in {crs_of(found)} and WGS 84"
    return Place(found, said if upright else f"{said}; north is not at the top here: say top, bottom, left, right")


def crs_of(found: Georeference) -> str:
    """Return the short name of a CRS."""
    code = found.crs.to_epsg()
    return f"EPSG:{code}" if code else "the CRS of the file"

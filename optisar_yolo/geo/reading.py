"""Rasters of any size, read window by window.

Nothing here reads a raster as a whole at full resolution. GDAL's block cache, by default a share of the machine's
memory, is limited to `CACHE`. GDAL uses overviews by itself where a coarser resolution is read.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from optisar_yolo.data import (
    MAGIC,
    DataError,
    as_shown,
    check_types,
    colour_bands,
    image_bands,
    is_masked,
    orientation,
    palette,
    polarisations,
    say_once,
)
from optisar_yolo.geo.placing import Placement
from optisar_yolo.geo.sources import RasterSource
from optisar_yolo.utils import need

CACHE = 256 << 20  # bytes of decoded blocks: several rows of tiles of a raster 20,000 pixels wide
# A name that GDAL knows but the file system does not: a URL, or a part of a file (``netcdf:two.nc:vv``). One letter
# before the colon is a drive of Windows.
_NAME = re.compile(r"/vsi|<|[A-Za-z][\w+.-]+:")


class Raster:
    """An open raster; use it in a ``with``.

    Args:
        source: A path, or a name that GDAL knows (``/vsicurl/…``, ``s3://…``,
            ``netcdf:file.nc:variable``), or what :func:`~optisar_yolo.geo.sources.find_source` made of one.
        nodata: Value that means "no data", where the file does not declare it.
        crs: A CRS in place of the file's.
        transform: An affine of six numbers in place of the file's (:data:`~optisar_yolo.geo.placing.ORDER`).
        extent: West, south, east, north in degrees of WGS 84: the part that is read; the whole raster by default.

    Attributes:
        nodata: The same; set it to leave out a value that was found later.
        size: Width and height in pixels of the part that is read.
        part: Where it begins in the file, and its size: (x, y, width, height).
        placement: What places its pixels on the ground.
        palette: The colour table, uint8 [n, 3]; the raster then has three bands, red, green and blue.

    Raises:
        DataError: Missing, empty, damaged, or not a raster of numbers.
        ValueError: A CRS, an affine or an extent that cannot be used with it.
    """

    def __init__(
        self,
        source: str | Path | RasterSource,
        nodata: float | None = None,
        crs: str | None = None,
        transform: Sequence[float] | None = None,
        extent: Sequence[float] | None = None,
    ) -> None:
        self.rasterio: Any = need("rasterio")
        name, self.source = (
            (source.name, source.label) if isinstance(source, RasterSource) else (str(source), str(source))
        )
        self.nodata = nodata
        path = Path(name)
        is_name = _NAME.match(name) is not None and not _is_file(path)
        if not is_name and not _is_file(path):
            raise DataError(f"{path}: no such file; correct the path")
        if not is_name and path.stat().st_size == 0:
            raise DataError(f"{path}: file of zero bytes; copy it again")
        with self._readable_errors("opened"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "no georeference" is reported later, and only where it matters
            self._env = self.rasterio.Env(GDAL_CACHEMAX=CACHE)
            self._env.__enter__()
            try:
                self.data = self.rasterio.open(name)
            except BaseException:
                self._env.__exit__()
                raise
        if not self.data.count:
            names = ", ".join(self.data.subdatasets[:5])
            self.close()
            raise DataError(f"{self.source}: no bands in it" + (f"; open one of its parts: {names}" if names else ""))
        try:
            check_types(self.data, self.source)
            whole = int(self.data.width), int(self.data.height)
            placement = Placement.of(self.data, self.source, crs, transform)
            self.part = (0, 0, *whole) if extent is None else placement.window(extent, whole, self.source)
        except ValueError:
            self.close()
            raise
        self.size = self.part[2:]
        self.placement = placement.moved(*self.part[:2])
        self.palette = palette(self.data)
        self._say_what_is_left_out(path)

    def _say_what_is_left_out(self, path: Path) -> None:
        """Say what the file holds beside the image that is read."""
        if len(self.data.subdatasets) > 1:
            names = ", ".join(self.data.subdatasets[:5])
            say_once("rasters of several images: only the first is read", f"{self.source} has {names}")
        if _is_file(path):
            with open(path, "rb") as file:
                is_tiff = file.read(4) in MAGIC
            if is_tiff and orientation(path) != 1:
                say_once("the orientation in a raster's TIFF tags is not applied, as GDAL does", self.source)

    def __enter__(self) -> Raster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.data.close()
        self._env.__exit__()

    @property
    def count(self) -> int:
        """Number of bands; three where the file has a colour table."""
        return 3 if self.palette is not None else int(self.data.count)

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Types of the bands."""
        return ("uint8",) * 3 if self.palette is not None else tuple(self.data.dtypes)

    @property
    def colours(self) -> dict[str, int]:
        """The first band of each colour that the file names ("red", "alpha" …), counted from 1."""
        return {"red": 1, "green": 2, "blue": 3} if self.palette is not None else colour_bands(self.data)

    @property
    def polarisations(self) -> list[str]:
        """Those that the bands' descriptions name."""
        return polarisations(self.data)

    @property
    def bands(self) -> list[int]:
        """Numbers of the bands that hold an image, from 1: all but alpha."""
        return [1, 2, 3] if self.palette is not None else image_bands(self.data)

    def read(
        self, bands: list[int], window: tuple[float, float, float, float], size: tuple[int, int], smooth: bool = True
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read a window.

        Args:
            bands: Numbers from 1.
            window: (x, y, width, height) in pixels of the part.
            size: (width, height) to read it at.
            smooth: Average where it shrinks and interpolate where it grows; otherwise take the nearest pixels.

        Returns:
            Values [len(bands), height, width] of the file's own type, and bool [height, width], True where there is
            data: not nodata, not masked or transparent, and finite.

        Raises:
            DataError: The file is damaged here.
        """
        x, y = window[:2]
        w, h = min(window[2], self.size[0] - x), min(window[3], self.size[1] - y)  # rounding must not exceed the raster
        resampling = self.rasterio.enums.Resampling
        if not smooth or (round(w), round(h)) == size:
            method = resampling.nearest
        else:
            method = resampling.average if w > size[0] else resampling.bilinear
        area = self.rasterio.windows.Window(x + self.part[0], y + self.part[1], w, h)
        shape = (size[1], size[0])
        distinct = sorted(set(bands))
        stored = [1] if self.palette is not None else distinct
        # Index numbers cannot be averaged: their colours are, after they were read at full resolution.
        full = self.palette is not None and method is not resampling.nearest
        depth = (max(round(h), 1), max(round(w), 1)) if full else shape
        with self._readable_errors(f"read at x={x:.0f}, y={y:.0f}"):
            values = self.data.read(
                stored, window=area, out_shape=(len(stored), *depth),
                resampling=resampling.nearest if full else method,
            )  # fmt: skip
            if self._masked:
                valid = self.data.dataset_mask(window=area, out_shape=shape, resampling=resampling.nearest) > 0
            else:
                valid = np.ones(shape, bool)
        if values.dtype.kind == "f":
            valid &= np.isfinite(values).all(0)
        if self.nodata is not None and not full:
            valid &= ~(values == self.nodata).all(0)
        values = as_shown(self.data, values)
        if self.palette is not None:
            if full:
                how = cv2.INTER_AREA if w > size[0] else cv2.INTER_LINEAR
                values = cv2.resize(np.ascontiguousarray(values.transpose(1, 2, 0)), size, interpolation=how)
                values = values.reshape(*shape, 3).transpose(2, 0, 1)
            return values[[b - 1 for b in bands]], valid
        return (values if distinct == bands else values[[distinct.index(b) for b in bands]]), valid

    def decimated(self, bands: list[int], side: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read the whole raster decimated: every n-th pixel unchanged, so that statistics stay true.

        Args:
            bands: Numbers from 1.
            side: Long side at most, pixels.

        Returns:
            As :meth:`read`.
        """
        width, height = self.size
        shrink = min(side / max(width, height), 1.0)
        size = max(round(width * shrink), 1), max(round(height * shrink), 1)
        return self.read(bands, (0, 0, width, height), size, smooth=False)

    @property
    def _masked(self) -> bool:
        """Tell whether the file declares nodata, a mask or alpha in any band."""
        return is_masked(self.data)

    @contextmanager
    def _readable_errors(self, doing: str) -> Iterator[None]:
        """Turn GDAL's errors into a DataError that names the file and the remedy."""
        try:
            yield
        except self.rasterio.errors.RasterioError as error:
            reason = error.__cause__ or error
            raise DataError(
                f"{self.source}: not a raster that can be {doing} ({reason}); copy it again or convert it to GeoTIFF"
            ) from error


def _is_file(path: Path) -> bool:
    """Tell whether a name is that of a file; a description of a tile server is too long for one."""
    try:
        return path.is_file()
    except OSError:
        return False

"""Overlapping tiles of a raster. Every pixel lies in the core of exactly one tile.

Tiles are cut from the *working grid*: the raster at the resolution of the network. One working pixel is ``scale``
pixels of the file. All tiles have one size, so that they can be batched; the last ones are moved back into the raster.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Tile:
    """A tile.

    Attributes:
        index: Its index, row by row.
        x: Left edge, working pixels.
        y: Top edge.
        width: Working pixels.
        height: Working pixels.
        core: (left, top, right, bottom), working pixels; the cores of all tiles partition the raster.
    """

    index: int
    x: int
    y: int
    width: int
    height: int
    core: tuple[int, int, int, int]


@dataclass(frozen=True)
class Grid:
    """The tiling of a raster.

    Attributes:
        width: Of the raster in working pixels.
        height: Likewise.
        scale: (across, down) pixels of the file in a working pixel.
        columns: Left edges of the tiles.
        rows: Top edges.
        size: (width, height) of every tile.
        overlap: Smallest number of working pixels that neighbours share.
    """

    width: int
    height: int
    scale: tuple[float, float]
    columns: tuple[int, ...]
    rows: tuple[int, ...]
    size: tuple[int, int]
    overlap: int

    @classmethod
    def of(cls, width: int, height: int, imgsz: int, overlap: float, scale: float = 1.0) -> Grid:
        """Cut a raster.

        Args:
            width: Pixels of the file.
            height: Likewise.
            imgsz: Side of a tile, working pixels.
            overlap: Smallest share of a tile's side that neighbours have in common, from 0 to below 1.
            scale: Pixels of the file in a working pixel, above 0.

        Raises:
            ValueError: A value out of range.
        """
        if not 0 <= overlap < 1:
            raise ValueError(f"'overlap={overlap:g}' is not valid: a share of the tile's side, 0 up to 0.9 or so")
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(f"'scale={scale:g}' is not valid: pixels of the file in a pixel of the network, above 0")
        w, h = max(round(width / scale), 1), max(round(height / scale), 1)
        size = (min(imgsz, w), min(imgsz, h))
        shared = round(imgsz * overlap)
        columns, rows = (_starts(n, side, shared) for n, side in ((w, size[0]), (h, size[1])))
        return cls(w, h, (width / w, height / h), columns, rows, size, shared)

    def __len__(self) -> int:
        """Return the number of tiles."""
        return len(self.columns) * len(self.rows)

    def __getitem__(self, index: int) -> Tile:
        """Return a tile by its index."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        row, column = divmod(index, len(self.columns))
        left, right = _core(self.columns, column, self.size[0], self.width)
        top, bottom = _core(self.rows, row, self.size[1], self.height)
        return Tile(index, self.columns[column], self.rows[row], *self.size, (left, top, right, bottom))

    def __iter__(self) -> Iterator[Tile]:
        """Yield the tiles, row by row."""
        return (self[i] for i in range(len(self)))

    def groups(self, batch: int, done: Collection[int] = ()) -> Iterator[list[Tile]]:
        """Yield tiles that are read together: neighbours in a row, or in a few rows where the raster is narrow.

        Groups follow the rows, as blocks and strips of the file do, so that what was decoded is still in GDAL's cache
        when the next group needs it.

        Args:
            batch: Tiles in a group at most.
            done: Indices of tiles to leave out.
        """
        wide = min(batch, len(self.columns))
        parts = math.ceil(len(self.columns) / wide)
        tall = max(batch // wide, 1) if parts == 1 else 1
        for top in range(0, len(self.rows), tall):
            rows = range(top, min(top + tall, len(self.rows)))
            for part in range(parts):  # of even size, so that no single tile is left at the end
                first, last = (len(self.columns) * (part + k) // parts for k in (0, 1))
                numbers = [r * len(self.columns) + c for r in rows for c in range(first, last)]
                left = [self[i] for i in numbers if i not in done]
                if left:
                    yield left


def _starts(length: int, side: int, shared: int) -> tuple[int, ...]:
    """Return where tiles begin: evenly, the first at 0, the last at the end, with at least `shared` in common."""
    if length <= side:
        return (0,)
    step = max(side - shared, 1)
    count = math.ceil((length - side) / step) + 1
    return tuple(round(i * (length - side) / (count - 1)) for i in range(count))


def _core(starts: tuple[int, ...], i: int, side: int, length: int) -> tuple[int, int]:
    """Return the span of a tile's core: up to the middle of what it shares with its neighbours."""
    low = 0 if i == 0 else (starts[i] + starts[i - 1] + side) // 2
    high = length if i == len(starts) - 1 else (starts[i + 1] + starts[i] + side) // 2
    return low, high

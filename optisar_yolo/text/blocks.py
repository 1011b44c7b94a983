"""A file of texts and vectors that is only appended to, in blocks that are checked when they are read.

A block is a header (magic, number of texts N, width D, bytes of the texts, checksum), the texts as a JSON list, and the
vectors, float32 [N, D]. A block that was not written to its end, or that was changed, ends what is read of the file;
the next `append` cuts it off. Reading goes on where it stopped, so that what other processes appended costs no more
than its own length. The caller keeps others from appending meanwhile.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from ultralytics.utils import LOGGER

from optisar_yolo.utils import naming

MAGIC = b"OPTITXT1"
HEADER = struct.Struct("<8sIIQI")


class BlockFile:
    """One such file.

    Args:
        path: The file; it and its folder are made by the first `append`.
        width: D of the vectors.

    Attributes:
        damaged: The file has bytes behind its last whole block; `append` removes them.
    """

    def __init__(self, path: Path, width: int) -> None:
        self.path, self.width = path, width
        self.damaged = False
        self._end = 0  # bytes that were read and found whole
        self._file: tuple[int, int] | None = None  # device and number of the file that they are of

    def read(self) -> tuple[list[str], NDArray[np.float32]]:
        """Return the texts and vectors [N, D] that were not returned yet; a damaged rest is logged once and left out.

        Raises:
            OSError: The file is there and cannot be read.
        """
        try:
            with open(self.path, "rb") as file:
                about = os.fstat(file.fileno())
                if self._file != (about.st_dev, about.st_ino) or about.st_size < self._end:
                    self._end = 0  # another file, from its beginning
                self._file = (about.st_dev, about.st_ino)
                return self._rest(file, about.st_size)
        except (FileNotFoundError, NotADirectoryError):
            self._end, self._file, self.damaged = 0, None, False
            return [], np.empty((0, self.width), np.float32)

    def append(self, texts: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Write texts and their vectors as a block behind what was read, and wait for the disk.

        Args:
            texts: N texts; may be none, which repairs a damaged file.
            vectors: float32 [N, D].

        Raises:
            OSError: The file cannot be written, or the disk is full; what was in the file stays whole.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Without buffering, so that closing the file of a full disk does not write, and fail, once more.
        with naming(self.path), open(self.path, "r+b" if self.path.exists() else "x+b", buffering=0) as file:
            file.truncate(self._end)
            file.seek(self._end)
            try:
                for part in _block(texts, vectors) if len(texts) else ():
                    _write(file, part)
                os.fsync(file.fileno())  # a full disk may show only here
            except OSError:
                file.truncate(self._end)
                raise
            about = os.fstat(file.fileno())
            self._file, self._end, self.damaged = (about.st_dev, about.st_ino), file.tell(), False

    def _rest(self, file: IO[bytes], size: int) -> tuple[list[str], NDArray[np.float32]]:
        """Read all whole blocks from where reading stopped: first where they are, then into one matrix."""
        at, places, problem = self._end, [], "no block of texts begins it" if not size else ""
        while at < size and not problem:
            file.seek(at)
            head = file.read(HEADER.size)
            magic, count, width, length, check = HEADER.unpack(head.ljust(HEADER.size, b"\0"))
            end = at + HEADER.size + length + 4 * count * width
            if magic != MAGIC or width != self.width:
                problem = f"no block of texts begins at byte {at:,}"
            elif end > size:
                problem = f"the block at byte {at:,} is not whole"
            else:
                places.append((at, count, length, check))
                at = end
        texts: list[str] = []
        matrix = np.empty((sum(count for _, count, _, _ in places), self.width), np.float32)
        for start, count, length, check in places:
            rows = matrix[len(texts) : len(texts) + count]
            file.seek(start + HEADER.size)
            raw = file.read(length)
            file.readinto(rows.data.cast("B") if count else bytearray())  # type: ignore[attr-defined]
            if zlib.crc32(rows.data, zlib.crc32(raw)) != check or len(own := json.loads(raw)) != count:
                problem = f"the block at byte {start:,} was changed"
                break
            texts += own
            self._end = start + HEADER.size + length + rows.nbytes
        if problem and not self.damaged:
            LOGGER.warning(f"{self.path}: damaged text cache ({problem}); its texts are encoded anew")
        self.damaged = bool(problem)
        return texts, matrix[: len(texts)]


def _block(texts: Sequence[str], vectors: NDArray[np.float32]) -> tuple[bytes | memoryview, ...]:
    """Return the parts of a block, in their order."""
    raw = json.dumps(list(texts), ensure_ascii=False).encode()
    rows = np.ascontiguousarray(vectors, dtype="<f4")
    check = zlib.crc32(rows.data, zlib.crc32(raw))
    return HEADER.pack(MAGIC, len(texts), rows.shape[1], len(raw), check), raw, rows.data.cast("B")


def _write(file: IO[bytes], data: bytes | memoryview) -> None:
    """Write all of it: an unbuffered file may take a part at a time."""
    view = memoryview(data)
    while len(view):
        view = view[file.write(view) or 0 :]

"""What a run has done so far, so that a killed one goes on: JSON lines, a header and one line per group of tiles.

The header holds a fingerprint of all that the answers depend on (scene, expressions, weights, tiling, stretch). A file
with another one is another run's. A line that was cut off when the run was killed is left out, its tiles done again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optisar_yolo.utils import write_atomic

NAME = "state.jsonl"
FORMAT = 1  # raised when a file's lines come to mean something else
COLUMNS = 9  # of a candidate: x1, y1, x2, y2 in pixels of the scene, confidence, expression, cut sides, at home, tile


def fingerprint(parts: Mapping[str, Any]) -> str:
    """Return a hash of plain values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def file_identity(source: str) -> dict[str, Any]:
    """Return what tells a file from another without reading it: path, size and time of change; of a URL its name."""
    path = Path(source)
    if not path.is_file():
        return {"source": source}
    about = path.stat()
    return {"source": str(path.resolve()), "bytes": about.st_size, "changed": about.st_mtime_ns}


def belongs(folder: Path, key: str) -> bool:
    """Tell whether a folder holds a state with a fingerprint."""
    try:
        with open(folder / NAME, encoding="utf-8") as file:
            header = json.loads(file.readline())
        return bool(header["format"] == FORMAT and header["fingerprint"] == key)
    except (OSError, ValueError, KeyError, TypeError):
        return False


class State:
    """The candidates found so far, on disk; use it in a ``with``.

    Args:
        folder: Its folder.
        key: Fingerprint; a file of another one is begun anew.

    Attributes:
        done: Numbers of the tiles that are done.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.path = folder / NAME
        self.done: set[int] = set()
        self._found: list[NDArray[np.float64]] = []
        end = self._load() if belongs(folder, key) else 0
        if not end:
            write_atomic(self.path, json.dumps({"format": FORMAT, "fingerprint": key}) + "\n")
        else:
            os.truncate(self.path, end)  # a line that was cut off
        self._file = open(self.path, "a", encoding="utf-8")

    def __enter__(self) -> State:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def candidates(self) -> NDArray[np.float64]:
        """All candidates [N, COLUMNS], in the order of their tiles, whatever the order of the runs."""
        if not self._found:
            return np.zeros((0, COLUMNS))
        found = np.concatenate(self._found)
        return found[np.argsort(found[:, 8], kind="stable")]

    def add(self, tiles: list[int], found: NDArray[np.float64]) -> None:
        """Note that tiles are done.

        Args:
            tiles: Their numbers.
            found: Candidates [n, COLUMNS].
        """
        found = np.asarray(found, float).reshape(-1, COLUMNS)
        self._file.write(json.dumps({"tiles": tiles, "found": found.tolist()}) + "\n")
        self._file.flush()  # survives a kill of the process
        self._note(tiles, found)

    def _note(self, tiles: list[int], found: NDArray[np.float64]) -> None:
        self.done.update(tiles)
        if len(found):
            self._found.append(found)

    def _load(self) -> int:
        """Read the lines and return where the last whole one ends."""
        end = 0
        with open(self.path, "rb") as file:
            for number, line in enumerate(file):
                try:
                    entry = json.loads(line) if line.endswith(b"\n") else None
                    if number and entry is not None:
                        self._note(list(entry["tiles"]), np.asarray(entry["found"], float).reshape(-1, COLUMNS))
                except (ValueError, KeyError, TypeError):
                    entry = None
                if entry is None:
                    break
                end += len(line)
        return end

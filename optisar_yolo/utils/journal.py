"""What a long run has done so far, so that one that was killed goes on: JSON lines, a header and one line an entry.

1. The header holds a fingerprint of all that the results depend on (inputs, weights, settings). A file with another one
   is another run's, and is begun anew.
2. An entry is appended and flushed when its work is done, so that a kill of the process does not lose it.
3. A line that was cut off by a kill is dropped when the file is opened again, and its work is done again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from optisar_yolo.utils.files import write_atomic

FORMAT = 1  # raised when a file's lines come to mean something else
BLOCK = 1 << 20  # bytes of a file that are hashed at once


def fingerprint(*parts: Any, digits: int = 64) -> str:
    """Return a hash of plain values (SHA-256 of their JSON, keys sorted); what JSON has no form for, as text.

    Args:
        *parts: Values; one alone is hashed as itself, several as a list.
        digits: Hexadecimal digits that are returned.
    """
    content = parts[0] if len(parts) == 1 else list(parts)
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:digits]


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's content.

    Raises:
        OSError: The file cannot be read.
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def file_identity(source: str) -> dict[str, Any]:
    """Return what tells a file from another without reading it: path, size and time of change; of a URL its name."""
    path = Path(source)
    if not path.is_file():
        return {"source": source}
    about = path.stat()
    return {"source": str(path.resolve()), "bytes": about.st_size, "changed": about.st_mtime_ns}


class Journal:
    """The entries of a run, on disk; use it in a ``with``, or :meth:`close` it.

    Args:
        path: The file; its folder is made if it is missing.
        key: Fingerprint of the run. A file with another one is begun anew.

    Attributes:
        entries: What is there, oldest first.

    Raises:
        OSError: The folder cannot be written or the disk is full.
    """

    def __init__(self, path: str | Path, key: str) -> None:
        self.path = Path(path)
        self.entries: list[dict[str, Any]] = []
        end = self._load() if self.belongs(self.path, key) else 0
        if end:
            os.truncate(self.path, end)  # a line that was cut off
        else:
            self.entries.clear()
            write_atomic(self.path, json.dumps({"format": FORMAT, "fingerprint": key}) + "\n")
        self._file = open(self.path, "a", encoding="utf-8")

    @staticmethod
    def belongs(path: str | Path, key: str) -> bool:
        """Tell whether a file is the journal of a run with a fingerprint."""
        try:
            with open(path, encoding="utf-8") as file:
                header = json.loads(file.readline())
            return bool(header["format"] == FORMAT and header["fingerprint"] == key)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.entries)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def add(self, entry: Mapping[str, Any], sync: bool = False) -> None:
        """Append an entry; when this returns, a kill of the process does not lose it.

        Args:
            entry: Plain values.
            sync: Wait for the disk, so that a power cut does not lose it either.

        Raises:
            OSError: The disk is full.
        """
        self._file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        self._file.flush()
        if sync:
            os.fsync(self._file.fileno())
        self.entries.append(dict(entry))

    def _load(self) -> int:
        """Read the entries and return where the last whole line ends."""
        end = 0
        with open(self.path, "rb") as file:
            for number, line in enumerate(file):
                try:
                    entry = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:
                    entry = None
                if not isinstance(entry, dict):
                    break
                if number:
                    self.entries.append(entry)
                end += len(line)
        return end

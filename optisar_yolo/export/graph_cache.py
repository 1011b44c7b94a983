"""Graphs that are made once per weights and kept in the user's cache folder.

1. An entry is a folder named by a fingerprint of weights, versions and kind of graph. It is written beside its place
   and renamed when it is complete, so that a reader finds all of it or nothing.
2. ``entry.json`` holds the size and the SHA-256 of each file. What does not agree is thrown away and made anew.
3. One process at a time makes an entry; a second one waits, and then finds it.
4. Entries that were not used for longest go when all together are larger than `LIMIT`.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ultralytics.utils import LOGGER, USER_CONFIG_DIR

from optisar_yolo.utils import PART, file_sha256, is_part, locked, naming, write_atomic

FOLDER = "optisar-engines"  # in Ultralytics' configuration folder of the user, beside the text features
LIMIT = 2 << 30  # bytes of all entries together: about a dozen networks of scale m
ABOUT = "entry.json"
TRIALS = "trials.json"  # engine times on machines; the only file of an entry that changes
FAILED = ".failed.json"  # ending of the file that says why no graph could be made of some weights


@dataclass(frozen=True)
class CacheEntry:
    """An entry.

    Attributes:
        path: Its folder.
        about: What was said of it when it was made.
        size: Bytes of its files.
        used: When it was used last, seconds since 1970.
    """

    path: Path
    about: dict[str, Any]
    size: int
    used: float


class GraphCache:
    """The entries in a folder.

    Args:
        root: The folder; that of the user by default. It is made when something is written.
        limit: Bytes of all entries together.
    """

    def __init__(self, root: Path | None = None, limit: int = LIMIT) -> None:
        self.root = Path(USER_CONFIG_DIR) / FOLDER if root is None else root
        self.limit = limit

    @property
    def empty(self) -> bool:
        """Whether nothing was ever kept here."""
        return not self.root.is_dir() or not any(self.root.iterdir())

    def has(self, key: str) -> bool:
        """Tell whether there is an entry, without a look into its files."""
        return (self.root / key / ABOUT).is_file()

    def find(self, key: str) -> Path | None:
        """Return the folder of an entry whose files are whole, or None; a damaged one is removed, with a warning."""
        path = self.root / key
        if not self.has(key):
            return None
        try:
            files = json.loads((path / ABOUT).read_text(encoding="utf-8"))["files"]
            for name, (size, digest) in files.items():
                if (path / name).stat().st_size != size or file_sha256(path / name) != digest:
                    raise ValueError(f"{name} has changed")
            os.utime(path / ABOUT)
        except PermissionError:  # another user's folder that may be read
            return path
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            if path.exists():  # otherwise another process has just removed it
                LOGGER.warning(f"{path}: damaged graph ({error}); it is removed and made anew")
                self._remove(path)
            return None
        return path

    def make(self, key: str, write: Callable[[Path], dict[str, Any]]) -> Path:
        """Return the folder of an entry, and make it where it is missing or damaged.

        Args:
            key: Its name.
            write: Writes the files into a folder, and returns what ``entry.json`` shall say beside.

        Raises:
            OSError: The folder cannot be written or the disk is full; nothing is left behind.
        """
        with naming(self.root), locked(self.root / f"{key}.lock"):
            found = self.find(key)
            if found is not None:
                return found
            for left in self.root.glob(f".{key}.*{PART}"):  # of a process that was killed
                self._remove(left)
            part = self.root / f".{key}.{uuid.uuid4().hex[:8]}{PART}"
            part.mkdir()
            try:
                about = write(part)
                files = {f.name: (f.stat().st_size, file_sha256(f)) for f in sorted(part.iterdir())}
                write_atomic(part / ABOUT, json.dumps({**about, "made": time.time(), "files": files}, indent=1))
                (self.root / f"{key}{FAILED}").unlink(missing_ok=True)
                os.rename(part, self.root / key)
            finally:
                shutil.rmtree(part, ignore_errors=True)
        self._shrink(keep=key)
        return self.root / key

    def failure(self, key: str) -> str:
        """Return why no graph could be made of some weights; "" where that is not known."""
        try:
            return str(json.loads((self.root / f"{key}{FAILED}").read_text(encoding="utf-8"))["reason"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def note_failure(self, key: str, reason: str) -> None:
        """Keep why no graph can be made of some weights, so that it is not tried again and again."""
        write_atomic(self.root / f"{key}{FAILED}", json.dumps({"reason": reason}))

    def trials(self, key: str) -> dict[str, dict[str, float]]:
        """Return the engine times of an entry: milliseconds by engine, by machine."""
        try:
            found = json.loads((self.root / key / TRIALS).read_text(encoding="utf-8"))
            return {str(k): {str(e): float(ms) for e, ms in v.items()} for k, v in found.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def add_trial(self, key: str, machine: str, times: dict[str, float]) -> None:
        """Keep the engine times of a machine."""
        with locked(self.root / f"{key}.lock"):
            if self.has(key):
                write_atomic(self.root / key / TRIALS, json.dumps({**self.trials(key), machine: times}))

    def entries(self) -> list[CacheEntry]:
        """Return all entries, the one that was used last first."""
        found = []
        for path in self.root.iterdir() if self.root.is_dir() else ():
            try:
                if path.name.startswith(".") or not path.is_dir():
                    continue
                about = json.loads((path / ABOUT).read_text(encoding="utf-8"))
                size = sum(f.stat().st_size for f in path.iterdir())
                found.append(CacheEntry(path, about, size, (path / ABOUT).stat().st_mtime))
            except (OSError, ValueError):  # removed meanwhile, or damaged: `find` says so when it is wanted
                continue
        return sorted(found, key=lambda entry: -entry.used)

    def clear(self) -> int:
        """Remove everything; returns the number of entries. What another process makes just now stays."""
        count = len(self.entries())
        for path in list(self.root.iterdir()) if self.root.is_dir() else []:
            key = path.name.strip(".").partition(".")[0]
            if path.is_dir() and is_part(path.name):
                with locked(self.root / f"{key}.lock", wait=False) as mine:
                    if mine is not None:
                        self._remove(path)
            elif path.is_dir():
                self._remove(path)
            elif path.name.endswith(FAILED):
                path.unlink(missing_ok=True)
        return count

    def _shrink(self, keep: str) -> None:
        """Remove the entries that were not used for longest, until the rest is small enough."""
        entries = self.entries()
        total = sum(entry.size for entry in entries)
        for entry in reversed(entries):
            if total <= self.limit or entry.path.name == keep:
                continue
            total -= entry.size
            self._remove(entry.path)

    def _remove(self, path: Path) -> None:
        """Remove a folder; it disappears under its name first, so that nobody finds half of it."""
        gone = path.with_name(f".{path.name.strip('.')}.{uuid.uuid4().hex[:8]}{PART}")
        try:
            os.rename(path, gone)
        except OSError:  # gone already, or not ours to change
            return
        shutil.rmtree(gone, ignore_errors=True)

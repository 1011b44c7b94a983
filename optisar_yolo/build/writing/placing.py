"""Puts files into a data set's folder so that a killed run leaves whole files and hidden parts, never half a file."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

PART = ".part"


def place(path: Path, content: bytes) -> None:
    """Write a file beside its target and rename it into place.

    Unlike `optisar_yolo.files.write_atomic` it does not wait for the disk: a data set has 100,000 small files, and
    what a power cut loses of them is found by ``optisar dataset validate``.

    Raises:
        OSError: The folder cannot be written or the disk is full; the target is then as it was.
    """
    part = _part(path)
    try:
        part.write_bytes(content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def link_or_copy(source: Path, path: Path, link: bool) -> None:
    """Give a file a second name, or copy it where that is not wished or not possible (another disk).

    Raises:
        OSError: The source cannot be read, the folder cannot be written or the disk is full.
    """
    if link:
        try:
            os.link(os.path.realpath(source), path)  # of the file itself where the source is a symbolic link
            return
        except OSError:
            pass  # another disk, or a file system without links; other reasons hinder the copy too, and it says so
    place(path, source.read_bytes())


@contextmanager
def appearing(path: Path) -> Iterator[TextIO]:
    """Open a UTF-8 text file for writing that appears when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _part(path)
    try:
        with open(part, "x", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # a full disk may show only here
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def is_part(name: str) -> bool:
    """Tell whether a file's name is that of a part which a killed run left behind."""
    return name.startswith(".") and name.endswith(PART)


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{PART}")

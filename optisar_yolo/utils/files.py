"""Writes files so that a reader sees the old content or the new, never a part."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

PART = ".part"


@contextmanager
def appearing(path: Path, binary: bool = False, sync: bool = True) -> Iterator[IO[Any]]:
    """Open a new file for writing that appears under its name when the block ends without an error.

    Args:
        path: The target; its folder is made if it is missing.
        binary: Open it for bytes, not for UTF-8 text.
        sync: Wait for the disk.

    Raises:
        OSError: The folder cannot be written or the disk is full; the target is then as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{PART}")
    try:
        how: dict[str, Any] = {"mode": "xb"} if binary else {"mode": "x", "encoding": "utf-8", "newline": ""}
        with open(part, **how) as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())  # a full disk may show only here
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def is_part(name: str) -> bool:
    """Tell whether a file's name is that of a part which a killed run left behind."""
    return name.startswith(".") and name.endswith(PART)


def write_atomic(path: str | Path, content: str | bytes, sync: bool = True) -> Path:
    """Write a file beside its target and rename it into place; text is UTF-8.

    Args:
        path: The target; its folder is made if it is missing.
        content: Text or bytes.
        sync: Wait for the disk. Without it, a power cut may lose the file; use that for many small files only.

    Returns:
        The target's path.

    Raises:
        OSError: The folder cannot be written or the disk is full; the target is then as it was.
    """
    path = Path(path)
    with appearing(path, binary=True, sync=sync) as file:
        file.write(content.encode() if isinstance(content, str) else content)
    return path

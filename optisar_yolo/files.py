"""Writes files so that a reader sees the old content or the new, never a part."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def write_atomic(path: str | Path, content: str | bytes) -> Path:
    """Write a file beside its target and rename it into place; text is UTF-8.

    Args:
        path: The target; its folder is made if it is missing.
        content: Text or bytes.

    Returns:
        The target's path.

    Raises:
        OSError: The folder cannot be written or the disk is full; the target is then as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with open(part, "xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())  # a full disk may show only here
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path

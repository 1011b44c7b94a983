"""Puts files into a data set's folder so that a killed run leaves whole files and hidden parts, never half a file."""

from __future__ import annotations

import os
from pathlib import Path

from optisar_yolo.utils import appearing


def place(path: Path, content: bytes) -> None:
    """Write a file beside its target and rename it into place.

    Unlike `optisar_yolo.utils.write_atomic` it does not wait for the disk: a data set has 100,000 small files, and
    what a power cut loses of them is found by ``optisar dataset validate``.

    Raises:
        OSError: The folder cannot be written or the disk is full; the target is then as it was.
    """
    with appearing(path, binary=True, sync=False) as file:
        file.write(content)


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

"""Reads YOLO label files: boxes without words, for `describe` to write some."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from optisar_yolo.construction.recipe import Source
from optisar_yolo.construction.sources.images import in_split
from optisar_yolo.construction.sources.records import RawImage, RawObject, four_numbers
from optisar_yolo.construction.sources.voc import annotation_files, split_of
from optisar_yolo.data import DataError, Skips


def read_yolo(source: Source, folder: Path, problems: Skips) -> Iterator[RawImage]:
    """Yield the images of a YOLO source.

    Args:
        source: The source; `names` holds the words of its class numbers.
        folder: Its folder.
        problems: Counts lines that cannot be used.

    Raises:
        DataError: No label files, or no names.
    """
    if not source.names:
        raise DataError(f"source {source.name}: a YOLO source needs 'names', the words of its classes in their order")
    for file in annotation_files(folder / source.annotations, ".txt"):
        split, record = split_of(file), f"{source.name}: {file.name}"
        try:
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            problems.add("label file that cannot be read, dropped", f"{record}: {error.strerror}")
            continue
        objects = [o for n, line in enumerate(lines, 1) if (o := _object(line, source, f"{record} line {n}", problems))]
        for found in objects:
            found.split = split
        yield RawImage(in_split(folder, source.images, file.stem, split), record, objects)


def _object(line: str, source: Source, record: str, problems: Skips) -> RawObject | None:
    """Read one line: class, centre x, centre y, width, height, as shares of the image."""
    if not line.strip():
        return None
    try:
        number, *box = (float(word) for word in line.split())
    except ValueError:
        number, box = -1, []
    if len(box) != 4:
        problems.add("label line that is not five numbers, dropped", record)
        return None
    if not 0 <= number < len(source.names) or not number.is_integer():
        problems.add("label line of unknown class, dropped", f"{record}, {number:g}")
        return None
    return RawObject(four_numbers(box), source.names[int(number)], [])

"""The work cut up: rows of one image stay together, and a part is what a worker does and writes at once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import pyarrow as pa

IMAGES = 256  # of a part at most: a dead worker's part is done again, and each part is a file
ROWS = 20_000  # of a part, but for one image with more
PARTS = 8  # per worker at least, where there are images enough: so that all end at about the same time


def cut(table: pa.Table, workers: int) -> list[pa.Table]:
    """Cut a manifest into parts.

    Args:
        table: At least one row.
        workers: Workers that share them.

    Returns:
        Tables whose rows are ordered by image, images in the order in which they first occur; every image is in
        one part.
    """
    groups: dict[str, list[int]] = {}
    for row, image in enumerate(table["image"].to_pylist()):
        groups.setdefault(image, []).append(row)
    most = min(max(1, len(groups) // (workers * PARTS)), IMAGES)
    return [table.take(rows).combine_chunks() for rows in _packed(list(groups.values()), most)]


def _packed(groups: Sequence[list[int]], most: int) -> Iterator[list[int]]:
    """Yield the rows of up to ``most`` images, with no more than `ROWS` rows where that can be."""
    rows: list[int] = []
    images = 0
    for group in groups:
        if rows and (images == most or len(rows) + len(group) > ROWS):
            yield rows
            rows, images = [], 0
        rows.extend(group)
        images += 1
    yield rows


def name_of(ids: Sequence[str]) -> str:
    """Return the name of a part: the same rows always get the same, so a part that is done again replaces itself."""
    return hashlib.sha256("\0".join(sorted(ids)).encode()).hexdigest()[:16]


def pack(part: pa.Table) -> bytes:
    """Return a part as bytes."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, part.schema) as writer:
        writer.write_table(part)
    return sink.getvalue().to_pybytes()


def unpack(data: bytes) -> pa.Table:
    """Return a part from its bytes."""
    with pa.ipc.open_stream(data) as reader:
        return reader.read_all()

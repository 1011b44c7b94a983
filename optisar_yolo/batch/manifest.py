"""The manifest: read, checked, brought to one row per image and expression, and cut into parts.

A part is what a worker grounds and writes at once. All rows of an image are in one part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from optisar_yolo.batch.options import BatchError
from optisar_yolo.batch.storage import ending, locate
from optisar_yolo.language import clean

NEEDED = ("image", "text")
KEYS = ("id", "image", "text")
RESULT_TYPES = {
    **dict.fromkeys(("x1", "y1", "x2", "y2", "confidence"), pa.float32()),
    **dict.fromkeys(("width", "height"), pa.int32()),
    "answered": pa.bool_(),
    "error": pa.string(),
    "rank": pa.int32(),  # where there may be several boxes for a row
}
"""Columns of the results and their types; a manifest must not have them."""

_TEXT_COLUMNS = (*KEYS, "modality")  # read as text, not as numbers or dates: 007 is a name

IMAGES = 256  # of a part at most: the part of a dead worker is done again, and each part is a file
ROWS = 20_000  # of a part at most, unless one image has more
PARTS = 8  # per worker at least, where there are enough images, so that all workers end at about the same time


def read_manifest(source: str) -> pa.Table:
    """Read and check a manifest.

    Args:
        source: ``.parquet``, ``.csv`` or ``.jsonl``, a path or a URI.

    Returns:
        One row per image and expression: id, image and text as strings, then the manifest's other columns.

    Raises:
        FileNotFoundError: No such file.
        BatchError: Another format, a damaged file, missing or reserved columns, no row, an empty cell, an expression
            without words, or an id that is used twice.
    """
    table = _load(source)
    if missing := [c for c in NEEDED if c not in table.column_names]:
        raise BatchError(
            f"{source}: no column '{missing[0]}'; a manifest needs the columns image and text, id is optional "
            f"(found: {', '.join(table.column_names) or 'none'})"
        )
    if len(set(table.column_names)) < table.num_columns:
        raise BatchError(f"{source}: two columns have the same name; rename one")
    if taken := [c for c in table.column_names if c in RESULT_TYPES]:
        raise BatchError(f"{source}: the column '{taken[0]}' has the name of a result column; rename it")
    if not table.num_rows:
        raise BatchError(f"{source}: no row; a manifest has one row per image and expression")
    return _checked(_expanded(table, source), source)


def _load(source: str) -> pa.Table:
    """Read a file of any of the formats."""
    kind = ending(source)
    if kind not in _READERS:
        raise BatchError(f"{source}: unknown format; a manifest is a .parquet, .csv or .jsonl file")
    filesystem, path = locate(source)
    try:
        with filesystem.open_input_file(path) as file:
            return _READERS[kind](file)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{source}: no such manifest") from error
    except (pa.ArrowException, OSError) as error:
        if str(error).startswith(("Empty CSV file", "Empty JSON file")):
            raise BatchError(f"{source}: no row; a manifest has one row per image and expression") from error
        raise BatchError(f"{source}: cannot be read as .{kind} ({error}); correct the file or its ending") from error


def _read_csv(file: Any) -> pa.Table:
    convert = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(_TEXT_COLUMNS, pa.string()))
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
    return pyarrow.csv.read_csv(file, parse_options=parse, convert_options=convert)


_READERS: dict[str, Callable[[Any], pa.Table]] = {
    "parquet": pq.read_table,
    "csv": _read_csv,
    "jsonl": pyarrow.json.read_json,
}


def _expanded(table: pa.Table, source: str) -> pa.Table:
    """Give each expression of a list its own row, and append its number to the id where there is one."""
    text = table["text"].combine_chunks()
    kind = text.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return table
    _reject(pc.fill_null(pc.less(pc.list_value_length(text), 1), True), source, "text", "is empty; give an expression")
    rows = pc.list_parent_indices(text)
    numbers = [str(k) for n in pc.list_value_length(text).to_pylist() for k in range(n)]
    table = table.take(rows)
    table = table.set_column(table.column_names.index("text"), "text", pc.list_flatten(text))
    if "id" not in table.column_names:
        return table
    ids = _strings(table, "id", source)
    _reject(pc.is_null(ids), source, "id", "is empty", rows)
    ids = pc.binary_join_element_wise(ids, pa.array(numbers, pa.string()), "#")
    return table.set_column(table.column_names.index("id"), "id", ids)


def _checked(table: pa.Table, source: str) -> pa.Table:
    """Check the cells, and put id, image and text in front."""
    columns: dict[str, Any] = {name: _strings(table, name, source) for name in KEYS if name in table.column_names}
    for name, column in columns.items():
        empty = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(column)), 0)
        _reject(pc.fill_null(empty, True), source, name, "is empty")
    _check_expressions(columns["text"], source)
    if "id" not in columns:
        pairs = zip(columns["image"].to_pylist(), columns["text"].to_pylist(), strict=True)
        columns["id"] = pa.array([make_id(image, text) for image, text in pairs], pa.string())
        what, remedy = "has the image and expression of an earlier row", "remove it, or give the rows ids"
    else:
        what, remedy = "has an id that an earlier row has", "make the ids different"
    _check_unique(columns["id"].to_pylist(), source, what, remedy)
    others = {name: table[name] for name in table.column_names if name not in KEYS}
    return pa.table({**{name: columns[name] for name in KEYS}, **others})


def make_id(image: str, text: str) -> str:
    """Return the id of a row without one: a hash of image and expression, 20 hex digits."""
    return hashlib.sha256(f"{image}\0{text}".encode()).hexdigest()[:20]


def _strings(table: pa.Table, name: str, source: str) -> pa.Array:
    """Return a column as one array of strings."""
    column = table[name].combine_chunks()
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    known = (pa.types.is_string, pa.types.is_large_string, pa.types.is_null)
    if not any(test(kind) for test in known) and not (name == "id" and pa.types.is_integer(kind)):
        wanted = "expressions, or lists of expressions" if name == "text" else "strings"
        raise BatchError(f"{source}: the column '{name}' holds {kind}; it must hold {wanted}")
    return column.cast(pa.string())


def _reject(wrong: pa.Array, source: str, name: str, what: str, rows: pa.Array | None = None) -> None:
    """Raise a BatchError that names the first wrong cell, if there is one."""
    where = pc.indices_nonzero(wrong)
    if len(where):
        row = (where[0] if rows is None else rows[where[0].as_py()]).as_py() + 1
        raise BatchError(f"{source}: '{name}' of row {row} {what}")


def _check_expressions(column: pa.Array, source: str) -> None:
    """Check that the text encoder can read every expression."""
    for text in column.unique().to_pylist():
        try:
            clean(text)
        except ValueError as error:
            row = pc.index(column, text).as_py() + 1
            raise BatchError(f"{source}: 'text' of row {row}: {error}") from error


def _check_unique(ids: Sequence[str], source: str, what: str, remedy: str) -> None:
    """Check that no id occurs twice."""
    first: dict[str, int] = {}
    for row, key in enumerate(ids, 1):
        if first.setdefault(key, row) != row:
            raise BatchError(f"{source}: row {row} {what} (row {first[key]}, '{key}'); {remedy}")


def cut(table: pa.Table, workers: int, most: int = IMAGES) -> list[pa.Table]:
    """Cut a manifest into parts.

    Args:
        table: At least one row.
        workers: Workers that share them.
        most: Images of a part.

    Returns:
        Tables whose rows are ordered by image, images in the order in which they first occur; every image is in
        one part.
    """
    groups: dict[str, list[int]] = {}
    for row, image in enumerate(table["image"].to_pylist()):
        groups.setdefault(image, []).append(row)
    limit = min(max(1, len(groups) // (workers * PARTS)), most)
    return [table.take(rows).combine_chunks() for rows in _packed(list(groups.values()), limit)]


def _packed(groups: Sequence[list[int]], limit: int) -> Iterator[list[int]]:
    """Yield the rows of up to `limit` images, `ROWS` at most unless one image has more."""
    rows: list[int] = []
    images = 0
    for group in groups:
        if rows and (images == limit or len(rows) + len(group) > ROWS):
            yield rows
            rows, images = [], 0
        rows.extend(group)
        images += 1
    yield rows


def name_of(ids: Sequence[str]) -> str:
    """Return the name of a part. It depends on the rows alone, so that a part that is done again replaces itself."""
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

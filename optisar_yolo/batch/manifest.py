"""The table that is asked: read, checked, and brought to one row per image and expression."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from optisar_yolo.batch.options import BatchError
from optisar_yolo.batch.places import ending, locate
from optisar_yolo.language import clean

NEEDED = ("image", "text")
KEYS = ("id", "image", "text")
OURS = ("x1", "y1", "x2", "y2", "confidence", "width", "height", "answered", "error", "rank")
"""Columns of the answers, which a manifest must not have."""
_TEXT_COLUMNS = (*KEYS, "modality")  # never to be guessed as numbers or dates: 007 is a name


def read_manifest(source: str) -> pa.Table:
    """Read and check a manifest.

    Args:
        source: ``.parquet``, ``.csv`` or ``.jsonl``, a path or a URI.

    Returns:
        One row per image and expression: id, image and text as strings, then the manifest's other columns.

    Raises:
        FileNotFoundError: No such file.
        BatchError: Another format, a damaged file, missing or reserved columns, no row, an empty cell, an expression
            that says nothing, or an id that is used twice.
    """
    table = _load(source)
    if missing := [c for c in NEEDED if c not in table.column_names]:
        raise BatchError(
            f"{source}: no column '{missing[0]}'; a manifest needs the columns image and text, id is optional "
            f"(found: {', '.join(table.column_names) or 'none'})"
        )
    if len(set(table.column_names)) < table.num_columns:
        raise BatchError(f"{source}: two columns have the same name; rename one")
    if taken := [c for c in table.column_names if c in OURS]:
        raise BatchError(f"{source}: the column '{taken[0]}' has the name of one of the answers'; rename it")
    if not table.num_rows:
        raise BatchError(f"{source}: no row; a manifest has one row per image and expression")
    return _checked(_one_expression_a_row(table, source), source)


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


def _one_expression_a_row(table: pa.Table, source: str) -> pa.Table:
    """Give each expression of a list a row of its own, and a number after the id where there is one."""
    text = table["text"].combine_chunks()
    kind = text.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return table
    _refuse(pc.fill_null(pc.less(pc.list_value_length(text), 1), True), source, "text", "is empty; give an expression")
    rows = pc.list_parent_indices(text)
    numbers = [str(k) for n in pc.list_value_length(text).to_pylist() for k in range(n)]
    table = table.take(rows)
    table = table.set_column(table.column_names.index("text"), "text", pc.list_flatten(text))
    if "id" not in table.column_names:
        return table
    ids = _strings(table, "id", source)
    _refuse(pc.is_null(ids), source, "id", "is empty", rows)
    ids = pc.binary_join_element_wise(ids, pa.array(numbers, pa.string()), "#")
    return table.set_column(table.column_names.index("id"), "id", ids)


def _checked(table: pa.Table, source: str) -> pa.Table:
    """Check the cells, and put id, image and text in front."""
    columns: dict[str, Any] = {name: _strings(table, name, source) for name in KEYS if name in table.column_names}
    for name, column in columns.items():
        empty = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(column)), 0)
        _refuse(pc.fill_null(empty, True), source, name, "is empty")
    _check_expressions(columns["text"], source)
    if "id" not in columns:
        pairs = zip(columns["image"].to_pylist(), columns["text"].to_pylist(), strict=True)
        columns["id"] = pa.array([make_id(image, text) for image, text in pairs], pa.string())
        what, remedy = "asks what an earlier row asks", "remove it, or give the rows ids"
    else:
        what, remedy = "has an id that an earlier row has", "ids tell answers apart; make them different"
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


def _refuse(wrong: pa.Array, source: str, name: str, what: str, rows: pa.Array | None = None) -> None:
    """Raise where any cell is wrong, naming the first."""
    where = pc.indices_nonzero(wrong)
    if len(where):
        row = (where[0] if rows is None else rows[where[0].as_py()]).as_py() + 1
        raise BatchError(f"{source}: '{name}' of row {row} {what}")


def _check_expressions(column: pa.Array, source: str) -> None:
    """Check that every expression says something."""
    for text in column.unique().to_pylist():
        try:
            clean(text)
        except ValueError as error:
            row = pc.index(column, text).as_py() + 1
            raise BatchError(f"{source}: 'text' of row {row}: {error}") from error


def _check_unique(ids: Sequence[str], source: str, what: str, remedy: str) -> None:
    """Check that no id occurs twice."""
    if len(set(ids)) == len(ids):
        return
    first: dict[str, int] = {}
    for row, key in enumerate(ids, 1):
        if key in first:
            raise BatchError(f"{source}: row {row} {what} (row {first[key]}, '{key}'); {remedy}")
        first[key] = row

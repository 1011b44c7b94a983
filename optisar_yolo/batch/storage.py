"""Paths, URIs, and the folder of results: whole Parquet files and a record of the settings that they depend on.

A place is a path or a URI (``s3://``, ``gs://``, ``file://``). :func:`locate` turns it into a filesystem of Arrow and a
path in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs
from ultralytics.utils import LOGGER

from optisar_yolo.batch.options import BatchError
from optisar_yolo.utils import is_part, write_atomic

RECORD = "_run.json"  # readers of Parquet folders skip names that begin with an underscore or a dot
OLD_RECORD = "run.json"
PREFIX, SUFFIX = "answers-", ".parquet"
FORMAT = 1  # raised when the files come to mean something else


def is_uri(name: str) -> bool:
    """Tell a URI from a path."""
    return "://" in name


def locate(name: str, base: str = "") -> tuple[Any, str]:
    """Return the ``pyarrow.fs.FileSystem`` that holds a file, and the file's path in it.

    Keys of object storage are taken literally: a space is a space. ``file://`` URIs are unquoted.

    Args:
        name: Path or URI.
        base: Folder of relative paths, a path or a URI; by default the current one.

    Raises:
        BatchError: A URI of a kind that Arrow does not know, or one that cannot be reached.
    """
    if not is_uri(name):
        path = Path(name).expanduser()
        if path.is_absolute() or not is_uri(base):
            return _root("file", "", "")[0], str((Path(base) / path).absolute())
        start = urlsplit(base, allow_fragments=False)
        name = urlunsplit(start._replace(path=f"{start.path.rstrip('/')}/{name}"))
    parts = urlsplit(name, allow_fragments=False)
    filesystem, root = _root(parts.scheme, parts.netloc, parts.query)
    path_in = unquote(parts.path) if parts.scheme == "file" else parts.path
    return filesystem, f"{root.rstrip('/')}/{path_in.lstrip('/')}".rstrip("/")


@lru_cache(maxsize=64)
def _root(scheme: str, host: str, query: str) -> tuple[Any, str]:
    """Return a filesystem and the path of its URI's root; opened once, as opening may use the network."""
    if scheme == "file":
        return fs.LocalFileSystem(), "/"
    uri = f"{scheme}://{host}/" + (f"?{query}" if query else "")
    try:
        return fs.FileSystem.from_uri(uri)
    except (ValueError, OSError, ImportError, NotImplementedError) as error:  # ArrowInvalid is a ValueError
        raise BatchError(f"{uri}: cannot be opened ({error}); known are paths, file://, s3:// and gs://") from error


def parent(name: str) -> str:
    """Return the folder of a file, as an absolute path or a URI with the same query."""
    if not is_uri(name):
        return str(Path(name).expanduser().absolute().parent)
    parts = urlsplit(name, allow_fragments=False)
    return urlunsplit(parts._replace(path=parts.path.rpartition("/")[0]))


def ending(name: str) -> str:
    """Return what follows the last dot of a file's name, in lower case."""
    path = urlsplit(name, allow_fragments=False).path if is_uri(name) else name
    return path.lower().rpartition(".")[2]


@dataclass
class FolderCounts:
    """What a folder of results holds.

    Attributes:
        answered: Rows with a box.
        unanswered: Rows whose best box is below the threshold.
        failed: Rows whose image could not be read.
        problems: Those images, and why.
        ids: The rows' ids.
        doubled: Ids that are in more than one file.
    """

    answered: int = 0
    unanswered: int = 0
    failed: int = 0
    problems: dict[str, str] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)
    doubled: set[str] = field(default_factory=set)


class BatchFolder:
    """A folder of results, on a disk or in object storage.

    Args:
        name: Path or URI.

    Raises:
        BatchError: A URI that cannot be opened.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.filesystem, self.path = locate(name)
        self.local = isinstance(self.filesystem, fs.LocalFileSystem)

    def begin(self, settings: dict[str, Any]) -> None:
        """Record the settings in a new folder, or compare those of an earlier run, whose part files are removed.

        Args:
            settings: Everything that results depend on, plain values.

        Raises:
            BatchError: The folder was begun with other settings, or holds other files.
        """
        wanted = json.loads(json.dumps({"format": FORMAT, **settings}))
        names = self._names()
        record = next((name for name in (RECORD, OLD_RECORD) if name in names), None)
        if record is None and any(name.endswith(SUFFIX) for name in names):
            raise BatchError(f"{self.name} holds Parquet files that are not of a batch; give another out=")
        begun = wanted if record is None else self._record(record)
        if begun != wanted:
            keys = [k for k in sorted({*begun, *wanted}) if begun.get(k) != wanted.get(k)]
            differ = ", ".join(f"{k} {begun.get(k)} there, {wanted.get(k)} now" for k in keys)
            raise BatchError(
                f"{self.name} was begun with other settings ({differ}); run with the same, or give another out="
            )
        if record != RECORD:
            self._put(RECORD, json.dumps(wanted, indent=1).encode() + b"\n")
        for name in names:
            if name == OLD_RECORD and record == OLD_RECORD or is_part(name):  # a part: of a worker that was killed
                self.filesystem.delete_file(f"{self.path}/{name}")

    def count(self, wanted: set[str]) -> FolderCounts:
        """Count the rows that are done. A damaged file is removed, so that its rows are grounded again.

        Args:
            wanted: Ids of the manifest; other rows are left out.
        """
        counts = FolderCounts()
        for table in self._tables(["id", "image", "answered", "error"]):
            here: set[str] = set()
            for row in table.to_pylist():
                if row["id"] in here or row["id"] not in wanted:
                    continue  # a further box of the same row, or a row of another manifest
                here.add(row["id"])
                if row["error"] is not None:
                    counts.failed += 1
                    counts.problems[row["image"]] = row["error"]
                elif row["answered"]:
                    counts.answered += 1
                else:
                    counts.unanswered += 1
            counts.doubled |= here & counts.ids
            counts.ids |= here
        return counts

    def write(self, name: str, table: pa.Table) -> None:
        """Write the results of a part; the file appears when it is whole.

        Raises:
            OSError: The folder cannot be written or the disk is full.
        """
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        self._put(f"{PREFIX}{name}{SUFFIX}", sink.getvalue().to_pybytes())

    def _put(self, name: str, data: bytes) -> None:
        if self.local:
            write_atomic(Path(self.path) / name, data)
            return
        with self.filesystem.open_output_stream(f"{self.path}/{name}") as file:  # an object appears when it is closed
            file.write(data)

    def _names(self) -> list[str]:
        """Return the names of the files, sorted."""
        found = self.filesystem.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
        return sorted(f.base_name for f in found if f.type == fs.FileType.File)

    def _record(self, name: str) -> dict[str, Any]:
        try:
            with self.filesystem.open_input_file(f"{self.path}/{name}") as file:
                return dict(json.loads(file.read()))
        except (OSError, ValueError, TypeError) as error:
            raise BatchError(f"{self.name}/{name}: damaged ({error}); give another out=") from error

    def _tables(self, columns: list[str]) -> Iterator[pa.Table]:
        """Yield columns of every file that is whole."""
        for name in self._names():
            if not (name.startswith(PREFIX) and name.endswith(SUFFIX)):
                continue
            path = f"{self.path}/{name}"
            try:
                with self.filesystem.open_input_file(path) as file:
                    table = pq.read_table(file, columns=columns)
                if table.column_names != columns:
                    raise pa.ArrowInvalid("columns are missing")
            except pa.ArrowException as error:
                LOGGER.warning(f"{self.name}/{name} is damaged ({error}); it is removed, its rows are grounded again")
                self.filesystem.delete_file(path)
                continue
            yield table

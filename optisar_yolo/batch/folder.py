"""The folder of answers: whole Parquet files only, and a note of the settings that they were made with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs
from ultralytics.utils import LOGGER

from optisar_yolo.batch.options import BatchError
from optisar_yolo.batch.places import locate
from optisar_yolo.utils import is_part, write_atomic

NOTE = "run.json"
PREFIX, SUFFIX = "answers-", ".parquet"
FORMAT = 1  # raised when the files come to mean something else


@dataclass
class AnswerCounts:
    """What a folder holds.

    Attributes:
        answered: Rows with a box.
        unanswered: Rows whose best box is not sure enough.
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


class AnswerFolder:
    """A folder of answers, on a disk or in object storage.

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
        """Take the folder for a run: a new one is noted, one that was cut off goes on.

        Args:
            settings: All that answers depend on, plain values.

        Raises:
            BatchError: It was begun with other settings, or holds something else.
        """
        wanted = json.loads(json.dumps({"format": FORMAT, **settings}))
        names = self._names()
        if NOTE not in names:
            if any(name.endswith(SUFFIX) for name in names):
                raise BatchError(f"{self.name} holds Parquet files that are not of a batch; give another out=")
            self._put(NOTE, json.dumps(wanted, indent=1).encode() + b"\n")
            return
        begun = self._note()
        if begun != wanted:
            keys = [k for k in sorted({*begun, *wanted}) if begun.get(k) != wanted.get(k)]
            differ = ", ".join(f"{k} {begun.get(k)} there, {wanted.get(k)} now" for k in keys)
            raise BatchError(
                f"{self.name} was begun with other settings ({differ}); run with the same, or give another out="
            )
        for name in names:
            if is_part(name):  # of a worker that was killed while it wrote
                self.filesystem.delete_file(f"{self.path}/{name}")

    def tally(self, wanted: set[str]) -> AnswerCounts:
        """Read back which rows are done; a damaged file is removed, its rows are asked again.

        Args:
            wanted: Ids of the manifest; other rows are left out.
        """
        tally = AnswerCounts()
        for table in self._tables(["id", "image", "answered", "error"]):
            here: set[str] = set()
            for row in table.to_pylist():
                if row["id"] in here or row["id"] not in wanted:
                    continue  # second best of the same row, or of another manifest
                here.add(row["id"])
                if row["error"] is not None:
                    tally.failed += 1
                    tally.problems[row["image"]] = row["error"]
                elif row["answered"]:
                    tally.answered += 1
                else:
                    tally.unanswered += 1
            tally.doubled |= here & tally.ids
            tally.ids |= here
        return tally

    def write(self, name: str, table: pa.Table) -> None:
        """Write a part's answers; the file appears when it is whole.

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

    def _note(self) -> dict[str, Any]:
        try:
            with self.filesystem.open_input_file(f"{self.path}/{NOTE}") as file:
                return dict(json.loads(file.read()))
        except (OSError, ValueError, TypeError) as error:
            raise BatchError(f"{self.name}/{NOTE}: damaged ({error}); give another out=") from error

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
                LOGGER.warning(f"{self.name}/{name} is damaged ({error}); it is removed and its rows are asked again")
                self.filesystem.delete_file(path)
                continue
            yield table

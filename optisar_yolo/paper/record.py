"""The record of all runs: a JSON file that grows by whole entries, and what in it belongs to a cell."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import IO, Any

from optisar_yolo.data import MODALITIES, dataset_names, modality_of
from optisar_yolo.paper.networks import change
from optisar_yolo.paper.tables import TABLES, Cell, ReproduceError, Table
from optisar_yolo.plugin import OPTISAR_DEFAULTS
from optisar_yolo.utils import write_atomic

NAME = "record.json"

NEUTRAL = {"device", "workers", "plots", "verbose", "text_weights"}
"""Settings that decide where a run happens and what it shows, not what it measures."""


def digest(content: Any) -> str:
    """Return a short fingerprint of JSON content; 8 and 8.0 are the same."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(k): plain(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [plain(v) for v in value]
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    return hashlib.sha256(json.dumps(plain(content), sort_keys=True).encode()).hexdigest()[:12]


def network_of(description: Mapping[str, Any], changes: Mapping[str, Any]) -> str:
    """Return the fingerprint of a changed model description; its file's name does not count."""
    content = deepcopy(dict(description))
    change(content, changes)
    content.pop("yaml_file", None)
    return digest(content)


def measured(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that decide what a run measures, with the defaults of those that a table may fix."""
    fixed = {key: OPTISAR_DEFAULTS[key] for table in TABLES.values() for key in table.forced}
    return fixed | {k: v for k, v in settings.items() if k not in NEUTRAL}


def unfit(table: Table, names: list[str] | tuple[str, ...]) -> str:
    """Say why a data set with these categories is not what a table is about; empty where it may be."""
    if table.about == "dior":
        if {n.lower() for n in names} != {n.lower() for n in dataset_names(table.data)}:
            return f"{table.name} is about DIOR-RSVG, whose 20 categories are those of {table.data}"
    elif {modality_of(n) for n in names} - {None} != set(MODALITIES):
        return f"{table.name} is about images of both modalities; it needs optical and SAR categories"
    return ""


class Record:
    """A record file.

    Args:
        project: Its folder.
    """

    def __init__(self, project: Path) -> None:
        self.path = project / NAME

    def entries(self) -> list[dict[str, Any]]:
        """Read the entries, oldest first.

        Raises:
            ReproduceError: The file is damaged.
        """
        if not self.path.exists():
            return []
        try:
            runs = json.loads(self.path.read_text(encoding="utf-8"))["runs"]
            if not all(isinstance(run, dict) and "key" in run for run in runs):
                raise TypeError("entries without a key")
        except (ValueError, KeyError, TypeError) as error:
            raise ReproduceError(f"{self.path}: not a record of runs ({error}); move it away, or mend it") from error
        return list(runs)

    def keys(self) -> set[str]:
        """Return the keys of all runs."""
        return {entry["key"] for entry in self.entries()}

    def add(self, entry: dict[str, Any]) -> None:
        """Append an entry, in place of an earlier one with its key; other processes may be adding theirs."""
        with locked(self.path.with_suffix(".lock")):
            runs = [run for run in self.entries() if run["key"] != entry["key"]] + [entry]
            write_atomic(self.path, json.dumps({"runs": runs}, indent=1, allow_nan=False) + "\n")


def budgets(table: Table, entries: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Group the runs that a table may show: in one group all but the cells' own differences and the seed is alike."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        if unfit(table, entry["data"]["names"]) or not any(belongs(entry, cell) for cell in table.cells):
            continue
        free = table.forced | {"seed"}
        budget = {k: v for k, v in entry["settings"].items() if k not in free}
        key = digest([entry["model"], budget, entry["data"]["fingerprint"]])
        groups.setdefault(key, []).append(entry)
    return list(groups.values())


def belongs(entry: Mapping[str, Any], cell: Cell) -> bool:
    """Tell whether a run is one of a cell's."""
    if (entry["share"], entry["bare"]) != (cell.share, cell.bare):
        return False
    if any(entry["settings"].get(key) != value for key, value in cell.settings.items()):
        return False
    try:
        return bool(entry["network"] == network_of(entry["model"]["description"], cell.network))
    except ReproduceError:  # a model that has no such part
        return False


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[IO[bytes] | None]:
    """Hold a lock file; without waiting, the result is None where another process holds it.

    The system frees it when the process, and those that it passed the file to, have ended. Where there are no such
    locks, nothing is locked.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        except (ImportError, OSError):
            pass
        yield file

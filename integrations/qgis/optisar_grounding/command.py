"""The command line of the installed ``optisar``, built and read without QGIS."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import parse_qs

RUN = "run"  # name of the run's folder
FORMATS = {".gpkg": "gpkg", ".fgb": "fgb"}
# The Python of QGIS is another one than that of the command; these would make it load QGIS' modules.
_FOREIGN = ("PYTHONHOME", "PYTHONPATH", "PYTHONEXECUTABLE", "VIRTUAL_ENV")
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_PERCENT = re.compile(r"\b(\d{1,3})%")


class CommandError(ValueError):
    """Something that the command cannot be run with; the message says what to do."""


def expressions_of(text: str) -> list[str]:
    """Return the expressions of a text, one a line.

    Raises:
        CommandError: There is none.
    """
    found = [line.strip() for line in text.splitlines() if line.strip()]
    if not found:
        raise CommandError("Write an expression, such as: the northernmost ship")
    return found


def program(name: str) -> list[str]:
    """Return the words that start the command.

    Args:
        name: ``optisar``, a path of it, or several words such as ``/opt/venv/bin/python -m optisar_yolo``.

    Raises:
        CommandError: There is no such program.
    """
    name = name.strip() or "optisar"
    words = [name] if os.path.exists(name) else shlex.split(name, posix=os.name != "nt")
    found = shutil.which(words[0])
    if found is None:
        raise CommandError(
            f"The program '{words[0]}' was not found. Install it in a Python of its own (pip install "
            "'optisar-yolo[geo]'), and give the path of its 'optisar' as the command."
        )
    return [found, *words[1:]]


def source_of(provider: str, uri: str) -> str:
    """Return what the command opens for a raster layer.

    Args:
        provider: The layer's data provider, ``gdal`` or ``wms``.
        uri: Its source.

    Raises:
        CommandError: A layer that the command cannot open.
    """
    if provider == "gdal":
        return uri.split("|")[0]
    if provider == "wms":
        found = {key.lower(): values[0] for key, values in parse_qs(uri).items()}
        if found.get("type") == "xyz" and "url" in found:
            return found["url"]
    raise CommandError("Layers of files and XYZ tile layers can be read; save this one as a GeoTIFF first.")


def words_of(
    source: str,
    texts: Sequence[str],
    folder: str | Path,
    form: str,
    options: Mapping[str, object] | None = None,
    more: str = "",
) -> list[str]:
    """Return the words after the program.

    Args:
        source: See :func:`source_of`.
        texts: The expressions.
        folder: Where the command writes.
        form: ``gpkg`` or ``fgb``.
        options: Further options; those of None or an empty text are left out.
        more: Options as a user types them, ``bands=4,3,2 stretch=none``.

    Raises:
        CommandError: Typed options that are none, or that this plugin sets itself.
    """
    fixed = {"vector": form, "project": str(folder), "name": RUN, "exist_ok": True, "map": False}
    given = {k: v for k, v in (options or {}).items() if v not in (None, "")}
    typed = {}
    for word in shlex.split(more):
        key, equals, value = word.partition("=")
        if not (key and equals and value):
            raise CommandError(f"'{word}' is not an option: write key=value, such as bands=4,3,2")
        if key in fixed or key in ("source", "text"):
            raise CommandError(f"'{key}=' is set by this plugin; take it out of the further options")
        typed[key] = value
    return [
        "scene", f"source={source}", f"text={list(texts)!r}",
        *(f"{key}={value}" for key, value in {**given, **typed, **fixed}.items()),
    ]  # fmt: skip


def environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that the command gets: those of QGIS, but for what makes it load QGIS' Python."""
    return {k: v for k, v in own.items() if k not in _FOREIGN} | {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}


def plain(line: str) -> str:
    """Return a line of the command's output without colours, and only the last state of a progress bar."""
    return _COLOUR.sub("", line).rstrip().split("\r")[-1].strip()


def percent_of(line: str) -> int | None:
    """Return the progress that a line tells of, 0 to 100; None if it tells of none."""
    found = _PERCENT.search(line)
    return min(int(found[1]), 100) if found and "tiles" in line else None


def reason_of(lines: Sequence[str]) -> str:
    """Return why the command ended with an error: its last line that says something."""
    said = [line for line in lines if line]
    return said[-1].removeprefix("optisar: ") if said else "it said nothing"

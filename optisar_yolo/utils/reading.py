"""Reads YAML and JSON files that may be damaged or made to harm: whatever is wrong becomes one short message.

YAML can name a value again and again (``&a``, ``*a``), so that a few hundred bytes say billions of words where they are
written out, or contain themselves. Values are counted as if they were written out, and counting stops at a limit.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

MOST_VALUES = 1_000_000  # of a YAML file, written out; COCO's names have 80, the largest vocabularies some 10,000
MOST_CHARACTERS = 2_000_000  # of a YAML file, which are read in some 6 seconds; ours have 3,000
DEEPEST = 50  # levels of a YAML file; ours have 4
_SHORT = 120  # characters of a value in a message


class UnreadableFileError(ValueError):
    """A YAML or JSON file that cannot be read; the message names the file, what is wrong and the remedy."""


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file; nothing in it is executed.

    Raises:
        UnreadableFileError: Missing, no UTF-8, no YAML, nested too deeply, with a key that stands twice, or with more
            text or values than are accepted.
    """
    text = _text(Path(path))
    if len(text) > MOST_CHARACTERS:
        raise UnreadableFileError(
            f"{path}: {len(text):,} characters; a YAML file has at most {MOST_CHARACTERS:,} here: long lists belong "
            "into the annotation files"
        )
    try:
        content = yaml.load(text, _Loader)  # noqa: S506 - a subclass of the safe loader
    except RecursionError as error:
        raise UnreadableFileError(f"{path}: nested more than {DEEPEST} levels deep; correct the file") from error
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:  # ValueError: a number of 5,000 digits
        raise UnreadableFileError(f"{path}: not valid YAML ({_one_line(error)}); correct the file") from error
    left, level = MOST_VALUES, [content]
    for _ in range(DEEPEST):
        inside: list[Any] = []
        for value in level:
            parts: Iterable[Any] = value if isinstance(value, (list, set)) else ()
            if isinstance(value, Mapping):
                parts = (*value.keys(), *value.values())
            inside.extend(parts)
            if len(inside) > left:
                raise UnreadableFileError(
                    f"{path}: it repeats values (&name, *name) until there are more than {MOST_VALUES:,}; write the "
                    "values that are meant"
                )
        left, level = left - len(inside), inside
        if not level:
            return content
    raise UnreadableFileError(f"{path}: nested more than {DEEPEST} levels deep; correct the file")


def read_json_file(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        UnreadableFileError: Missing, no UTF-8, no JSON, or nested too deeply.
    """
    text = _text(Path(path))
    try:
        return json.loads(text)
    except RecursionError as error:
        raise UnreadableFileError(f"{path}: not valid JSON (nested too deeply); correct the file") from error
    except ValueError as error:
        reason = _one_line(error)
        raise UnreadableFileError(f"{path}: not valid JSON ({reason}); copy it again or correct it") from error


def short(value: object) -> str:
    """Return a value for a message: its form in Python, cut where it is long or deep."""
    text = _REPR.repr(value)
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 3]}..."


def _text(path: Path) -> str:
    """Return a file's text, UTF-8 with or without a byte order mark."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableFileError(f"{path}: cannot be read as UTF-8 text ({_one_line(error)})") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise UnreadableFileError(f"{path}: cannot be read ({reason}); correct the path") from error


def _one_line(error: Exception) -> str:
    """Return what an error says, in one line that is not long."""
    text = " ".join(str(error).split())
    return text if len(text) <= 2 * _SHORT else f"{text[: 2 * _SHORT]}..."


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, but of a key that stands twice the last value is not taken without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        if len(keys) > len(set(keys)):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise yaml.YAMLError(f"the key {short(twice)} stands twice in one mapping")
        return super().construct_mapping(node, deep)


_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = _SHORT - 20

"""Arguments of commands: ``key=value`` words, their types, and what is said where they mean nothing."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

BUILD_MODEL = "optisar++.yaml"
"""Model of ``optisar train`` where none is named: the network from scratch, scale m."""

BUNDLED_MODEL = "optisar++n-pocket.safetensors"
"""Model of every other mode where none is named: the weights that come with the package."""

HELP_WORDS = ("help", "--help", "-help", "-h", "h")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class UsageError(Exception):
    """A command line that means nothing; the message says what to write instead."""


def parse(words: Sequence[str]) -> dict[str, str]:
    """Turn ``key=value`` words into a dictionary.

    Raises:
        UsageError: A word without ``=`` or without a value.
    """
    options: dict[str, str] = {}
    for word in words:
        key, equals, text = word.lstrip("-").partition("=")
        if not equals or not key.strip() or not text.strip():
            raise UsageError(f"expected key=value, got '{word}'")
        options[key.strip()] = text.strip()
    return options


def check_known(key: str, known: Collection[str]) -> None:
    """Check the name of an argument.

    Raises:
        UsageError: It is none of those known; the nearest is suggested.
    """
    if key not in known:
        raise UsageError(f"unknown argument '{key}'{nearest(key, known)}")


def typed(options: Mapping[str, str], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Give every option its value, of its default's type.

    Args:
        options: Texts as they were typed.
        defaults: Known options; a default of None takes any text, one of ``int`` or ``float`` is None where no such
            number is given.

    Raises:
        UsageError: An unknown option, or a text that is no value of the type.
    """
    values = {key: None if isinstance(default, type) else default for key, default in defaults.items()}
    for key, text in options.items():
        check_known(key, defaults)
        default = defaults[key]
        kind = default if isinstance(default, type) else type(default)
        try:
            if kind is bool:
                values[key] = {"true": True, "1": True, "false": False, "0": False}[text.lower()]
            else:
                values[key] = kind(text) if kind in (int, float) else text
        except (ValueError, KeyError) as error:
            expected = {bool: "True or False", int: "a whole number", float: "a number"}[kind]
            raise UsageError(f"{key}={text}: expected {expected}") from error
    return values


def require(command: str, values: Mapping[str, Any], examples: Mapping[str, str], note: str = "") -> None:
    """Check that options (of :func:`typed`) are given; ``examples`` says how each may be written.

    Raises:
        UsageError: One is missing.
    """
    for key, example in examples.items():
        if not values[key]:
            raise UsageError(f"optisar {command} needs {key}=…, such as {example}{note}")


def plain(error: Exception) -> str:
    """Return what an error says, without the colours that some versions of Ultralytics give it."""
    return _COLOUR.sub("", str(error)).strip()


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the end of a sentence that suggests the nearest known word, or lists them all where none is near."""
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean '{near[0]}'?" if near else f"; known are {', '.join(known)}"

"""Arguments of commands that are not yet declared as options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optisar_yolo.utils.options import TRUE_WORDS, UsageError, check_known, split_words


def parse(words: Sequence[str]) -> dict[str, str]:
    """Turn ``key=value`` words into a dictionary."""
    return split_words(words)


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
                values[key] = TRUE_WORDS[text.lower()]
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

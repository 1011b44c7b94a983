"""Options of commands, declared once: name, kind, default, accepted values, one line of help, an example.

1. :class:`Option` is one declaration. :func:`option` puts it into a field of a dataclass, so that the arguments of a
   Python class and those of a command are the same declaration.
2. :meth:`Option.parse` reads what was typed, :meth:`Option.check` judges a value from Python or YAML.
3. :class:`Command` is what ``optisar VERB`` takes. From it come the parsing of ``key=value`` words, ``optisar VERB
   --help`` and the tables in the documentation.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import math
import re
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BUILD_MODEL = "optisar++.yaml"
"""Model of ``optisar train`` where none is named: the network from scratch, scale m."""

BUNDLED_MODEL = "optisar++n-pocket.safetensors"
"""Model of every other mode where none is named: the weights that come with the package."""

HELP_WORDS = ("help", "--help", "-help", "-h", "h")
TRUE_WORDS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
NONE_WORDS = ("none", "null")
_BRACKETS = {"(": ")", "[": "]", "{": "}"}
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class UsageError(Exception):
    """A command line that means nothing; the message says what to write instead."""


class SettingError(ValueError):
    """A value that cannot be used; the message names the key, the value and what is accepted."""


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        name: Its key.
        kind: ``"int"``, ``"float"``, ``"bool"``, ``"name"`` (a word), ``"file"`` (a path), ``"texts"`` (an expression
            or a list of them), ``"weights"`` (``choice:number`` pairs with commas), ``"ints"`` or ``"floats"``
            (numbers with commas).
        default: Value where none is given. None: there is none, and None is accepted.
        help: One line.
        low: Smallest accepted number.
        high: Largest accepted number; None: no limit.
        choices: Accepted names, of weights those of the pairs; empty: any.
        counts: How many numbers a list of numbers may have; empty: any.
        words: Words that are accepted beside numbers, such as ``"all"``.
        example: An accepted value, as it is typed.
        required: The command needs it.
        old: Earlier names, which still work and say the new one.
    """

    name: str
    kind: str
    default: Any
    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    words: tuple[str, ...] = ()
    example: str = ""
    required: bool = False
    old: tuple[str, ...] = ()

    def parse(self, text: str) -> Any:
        """Read a value that was typed.

        Raises:
            UsageError: It is none; the message says what is accepted.
        """
        try:
            return self.check(self._read(text.strip()))
        except ValueError as error:
            if isinstance(error, SettingError):
                raise UsageError(str(error)) from error
            raise UsageError(f"{self.name}={text}: {self.accepted()}, for example {self.sample()}") from error

    def _read(self, text: str) -> Any:
        """Turn typed text into a value of the kind; a ValueError where it is none."""
        if self.default is None and text.lower() in NONE_WORDS:
            return None
        if text.lower() in self.words:
            return text.lower()
        if self.kind == "int":
            return int(text)
        if self.kind == "float":
            return float(text)
        if self.kind == "bool":
            if text.lower() not in TRUE_WORDS:
                raise ValueError(text)
            return TRUE_WORDS[text.lower()]
        if self.kind in ("ints", "floats"):
            one = int if self.kind == "ints" else float
            return tuple(one(part) for part in text.strip("[]() ").split(","))
        if self.kind == "texts":
            return read_texts(text)
        return text

    def check(self, value: Any) -> Any:
        """Check a value and return it in its final type.

        Args:
            value: From a command line, Python or YAML. Whole numbers written as floats become ints.

        Raises:
            SettingError: A wrong type, or out of range.
        """
        if value is None and self.default is None:
            return None
        if self.kind == "int" and isinstance(value, float) and value.is_integer():
            value = int(value)
        if self.kind in ("ints", "floats") and isinstance(value, (list, tuple)):
            value = tuple(value)
        elif self.kind in ("ints", "floats") and isinstance(value, (int, float)) and not isinstance(value, bool):
            value = (value,)
        if not self._fits(value):
            raise SettingError(f"'{self.name}={value}' is not valid: {self.accepted()}, for example {self.sample()}")
        return value

    def _fits(self, value: Any) -> bool:
        """Tell whether a value has the kind and range."""
        if isinstance(value, str) and value in self.words:
            return True
        if self.kind in ("int", "float"):
            return self._is_number(value, (int,) if self.kind == "int" else (int, float))
        if self.kind in ("ints", "floats"):
            types = (int,) if self.kind == "ints" else (int, float)
            counted = isinstance(value, tuple) and (not self.counts or len(value) in self.counts)
            return counted and all(self._is_number(v, types) for v in value)
        if self.kind == "bool":
            return isinstance(value, bool)
        if self.kind == "texts":
            # What the expressions say (empty, too long) is the text encoder's to judge.
            return isinstance(value, str) or (
                isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value)
            )
        if self.kind == "weights":
            try:
                return isinstance(value, str) and set(weights_of(value)) <= set(self.choices)
            except ValueError:
                return False
        if self.kind == "file":
            return isinstance(value, Path) or (isinstance(value, str) and bool(value.strip()))
        return isinstance(value, str) and bool(value.strip()) and (not self.choices or value in self.choices)

    def _is_number(self, value: Any, types: tuple[type, ...]) -> bool:
        if isinstance(value, bool) or not isinstance(value, types):
            return False
        number = float(value)  # type: ignore[arg-type]
        return not math.isnan(number) and (-math.inf if self.low is None else self.low) <= number <= (
            math.inf if self.high is None else self.high
        )

    def accepted(self) -> str:
        """Say what the option accepts."""
        also = f", or {', '.join(self.words)}" if self.words else ""
        if self.kind in ("int", "float"):
            return f"it must be a {'whole ' if self.kind == 'int' else ''}number{self._range()}{also}"
        if self.kind in ("ints", "floats"):
            many = " or ".join(map(str, self.counts)) + " " if self.counts else ""
            return f"it must be {many}{'whole ' if self.kind == 'ints' else ''}numbers with commas{self._range()}{also}"
        if self.kind == "bool":
            return "it must be True or False"
        if self.kind == "weights":
            return f"it must be pairs like {self.choices[0]}:2 with commas, of {', '.join(self.choices)}"
        if self.choices:
            return f"it must be one of {', '.join(self.choices)}"
        if self.kind == "texts":
            return "it must be an expression in quotes or a list of expressions"
        return "it must be a file name" if self.kind == "file" else "it must be a name"

    def _range(self) -> str:
        if self.low is None:
            return ""
        return f" of at least {self.low:g}" if self.high is None else f" from {self.low:g} to {self.high:g}"

    def sample(self) -> str:
        """Return an accepted way to write the option."""
        if self.example:
            return f"{self.name}={self.example}"
        if self.kind == "texts":
            return f'{self.name}="the ship at the top"'
        if self.default not in (None, ""):
            return f"{self.name}={written(self.default)}"
        samples = {"int": "1", "float": "0.5", "bool": "True", "file": "file", "name": "name", "ints": "1,2,3"}
        return f"{self.name}={samples.get(self.kind, '1,2')}"

    def typed(self) -> str:
        """Return the kind in a word or two, for tables."""
        kinds = {"ints": "numbers", "floats": "numbers", "texts": "text", "file": "path", "weights": "name:number,…"}
        named = "|".join(self.choices) if self.choices and self.kind == "name" else kinds.get(self.kind, self.kind)
        return "|".join([named, *self.words])


def option(default: Any, kind: str, help: str, **more: Any) -> Any:
    """Declare an option as a field of a dataclass.

    Args:
        default: Its default.
        kind: See :class:`Option`.
        help: One line.
        **more: Other attributes of :class:`Option`.
    """
    return dataclasses.field(default=default, metadata={"option": {"kind": kind, "help": help, **more}})


def options_of(cls: type) -> tuple[Option, ...]:
    """Return the options that a dataclass declares, in the order of its fields."""
    return tuple(
        Option(name=f.name, default=f.default, **f.metadata["option"])
        for f in dataclasses.fields(cls)
        if "option" in f.metadata
    )


def check_options(instance: Any) -> None:
    """Check the options among a dataclass instance's fields; call it from ``__post_init__``.

    Raises:
        SettingError: A value that is not accepted.
    """
    for declared in options_of(type(instance)):
        object.__setattr__(instance, declared.name, declared.check(getattr(instance, declared.name)))


@dataclass(frozen=True)
class Command:
    """What a verb takes.

    Attributes:
        name: The verb, with the command it belongs to (``"dataset split"``).
        help: One line: what it does.
        options: Its options.
        first: Name of the option that the first word without ``=`` stands for; empty: none.
        example: A whole command line, without ``optisar`` and the verb.
        training: Other keys are settings of a training; they come, as they were typed, under ``"settings"``.
    """

    name: str
    help: str
    options: tuple[Option, ...] = ()
    first: str = ""
    example: str = ""
    training: bool = False

    def __getitem__(self, name: str) -> Option:
        return next(o for o in self.options if o.name == name)

    def parse(self, words: Sequence[str]) -> dict[str, Any]:
        """Read a command line.

        Args:
            words: The words after the verb.

        Returns:
            Every option's value.

        Raises:
            UsageError: An unknown option, a value that is not accepted, or a required option that is missing.
        """
        words = list(words)
        if self.first and words and "=" not in words[0] and not words[0].startswith("-"):
            words[0] = f"{self.first}={words[0]}"
        return self.values(split_words(words, self))

    def values(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Fill in defaults, and check what is given: typed texts are read, other values checked.

        Raises:
            UsageError: As of :meth:`parse`.
        """
        known = {o.name: o for o in self.options}
        renamed = {old: o.name for o in self.options for old in o.old}
        out: dict[str, Any] = {o.name: o.default for o in self.options}
        if self.training:
            out["settings"] = {k: v for k, v in given.items() if k not in known and k not in renamed}
            given = {k: v for k, v in given.items() if k not in out["settings"]}
        for key, value in given.items():
            if key in renamed:
                print(f"optisar: '{key}=' is now '{renamed[key]}='", file=sys.stderr)
                key = renamed[key]
            check_known(key, known)
            try:
                out[key] = known[key].parse(value) if isinstance(value, str) else known[key].check(value)
            except SettingError as error:
                raise UsageError(str(error)) from error
        for missing in (o for o in self.options if o.required and out[o.name] in (None, "")):
            raise UsageError(f"optisar {self.name} needs {missing.name}=… ({missing.help}), such as {missing.sample()}")
        return out

    def page(self) -> str:
        """Return the text of ``optisar VERB --help``."""
        first = f" [{self.first}]" if self.first else ""
        lines = [f"optisar {self.name}{first} key=value …", "", self.help]
        if self.example:
            lines += ["", f"  optisar {self.name} {self.example}"]
        if self.options:
            lines += ["", "Options", *option_lines(self.options)]
        if self.training:
            lines += ["", "All settings of a training are accepted too: optisar train --help lists them."]
        return "\n".join(lines)

    def table(self) -> str:
        """Return the options as a Markdown table."""
        rows = ["| option | kind | default | meaning |", "|---|---|---|---|"]
        for o in self.options:
            default = "required" if o.required else f"`{written(o.default)}`" if o.default not in (None, "") else ""
            cells = (f"`{o.name}`", o.typed().replace("|", " \\| "), default, o.help.replace("|", "\\|"))
            rows.append("| " + " | ".join(cells) + " |")
        return "\n".join(rows)


def option_lines(options: Iterable[Option]) -> list[str]:
    """Return one line of help per option: name, kind, help and default, in columns."""
    options = list(options)
    wide = max((len(o.name) for o in options), default=0)
    kind = min(max((len(o.typed()) for o in options), default=0), 12)
    lines = []
    for o in options:
        note = (
            " (required)" if o.required else f" (default: {written(o.default)})" if o.default not in (None, "") else ""
        )
        lines.append(f"  {o.name:<{wide}}  {o.typed():<{kind}}  {o.help}{note}")
    return lines


def written(value: Any) -> str:
    """Return a default as it would be typed."""
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def read_texts(text: str) -> str | list[str]:
    """Read an expression, or several written as a list: ``"['the leftmost ship', 'the harbor']"``.

    Raises:
        SettingError: Something that begins or ends as a list or a quotation and is none.
    """
    start, end = text[:1], text[-1:]
    if not text.startswith("["):
        inside = text[1:-1]
        unmatched = (start in "'\"" and end != start) or (end == '"' and '"' not in text[:-1])
        wrapped = _BRACKETS.get(start) == end and not set(inside) & set("()[]{}")  # (the ship), {the ship, the tower}
        if start and (unmatched or wrapped or (end in _BRACKETS.values() and not set(text) & set(_BRACKETS))):
            raise SettingError(
                f"'text={text}' is not valid: an expression has no brackets and no half of a quotation around it; "
                "several are written as a list of quoted texts, for example text=\"['the ship', 'the tower']\""
            )
        return text
    try:
        listed = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        listed = None
    if not isinstance(listed, list) or not all(isinstance(t, str) for t in listed):
        raise SettingError(
            f"'text={text}' is not valid: several expressions are written as a list of quoted texts, for example "
            "text=\"['the ship', 'the tower']\""
        )
    return listed


def weights_of(text: str) -> dict[str, float]:
    """Read ``"orientation:3,size:1"``.

    Raises:
        ValueError: No such pairs, a negative number, or nothing above 0.
    """
    weights = {k.strip(): float(v) for k, v in (pair.split(":") for pair in text.split(","))}
    if not (min(weights.values()) >= 0 < sum(weights.values()) < float("inf")):
        raise ValueError(f"weights must be numbers >= 0, some above 0, got '{text}'")
    return weights


def split_words(words: Sequence[str], command: Command | None = None) -> dict[str, str]:
    """Turn ``key=value`` words into a dictionary.

    Args:
        words: The words.
        command: Its options are suggested where a word is no ``key=value``.

    Raises:
        UsageError: A word without ``=`` or without a value.
    """
    given: dict[str, str] = {}
    for word in words:
        key, equals, text = word.lstrip("-").partition("=")
        if not equals or not key.strip() or not text.strip():
            hint = ""
            if command is not None and key.strip() in {o.name for o in command.options}:
                hint = f", for example {command[key.strip()].sample()}"
            elif given and not equals:
                last, value = list(given.items())[-1]
                hint = f'; a value with spaces needs quotes: {last}="{value} {word}"'
            raise UsageError(f"expected key=value, got '{word}'{hint}")
        given[key.strip()] = text.strip()
    return given


def check_known(key: str, known: Collection[str]) -> None:
    """Check the name of an option.

    Raises:
        UsageError: It is none of those known; the nearest is suggested.
    """
    if key not in known:
        raise UsageError(f"unknown argument '{key}'{nearest(key, known)}")


def plain(error: Exception) -> str:
    """Return what an error says, without the colours that some versions of Ultralytics give it."""
    return _COLOUR.sub("", str(error)).strip()


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the end of a message that suggests the nearest known word, or lists them all where none is near."""
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean '{near[0]}'?" if near else f"; known are {', '.join(known)}"

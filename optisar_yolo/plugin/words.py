"""The words of a ``yolo`` command that names our model, checked before Ultralytics reads them.

Ultralytics reads each value as Python where it can, so that ``text=5`` becomes a number, ``conf=0,5`` two numbers and
a list without its quotes a text with brackets. Here ``text=`` is read as our own commands read it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile

from optisar_yolo.plugin.settings import SETTINGS
from optisar_yolo.utils import SettingError, UsageError, read_texts

_DECIMAL_COMMA = re.compile(r"\d+,\d+")
NO_SOURCE = "no source= is given: name an image, a folder or a video, such as source=port.jpg"
NO_DATA = (
    "no data= is given: name a dataset config, a YAML file of images with expressions, such as data=demo.yaml "
    "(rendered images)"
)
"""What a call without images or without a data set is told."""


def merged(words: Sequence[str]) -> list[str]:
    """Join ``key = value`` and lists in pieces as Ultralytics does, but leave what ``text=`` says as it is.

    Raises:
        UsageError: An open bracket.
    """
    from ultralytics.cfg import merge_equals_args

    out: list[str] = []
    rest: list[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if _is_text(word) and (value := word.partition("=")[2].strip()):
            out += _merge(merge_equals_args, rest)
            rest = []
            if value.startswith("["):
                pieces = [" ".join([value, *queue[:n]]) for n in range(len(queue) + 1)]
                count = next((n for n, piece in enumerate(pieces) if _is_list(piece)), None)
                if count is None:
                    count = next((n for n, piece in enumerate(pieces) if piece.count("[") <= piece.count("]")), 0)
                word = " ".join([word, *queue[:count]])
                del queue[:count]
            out.append(word)
        else:
            rest.append(word)
    return out + _merge(merge_equals_args, rest)


def checked(words: Sequence[str]) -> list[str]:
    """Check the words of a command, ``key=value`` in one piece, and return them as Ultralytics reads them rightly.

    Raises:
        UsageError: Something that would be misread; the message says what to write.
    """
    from ultralytics.cfg import CFG_FLOAT_KEYS, CFG_FRACTION_KEYS, MODES, TASKS

    numbers = CFG_FLOAT_KEYS | CFG_FRACTION_KEYS
    out: list[str] = []
    text = None
    modes: list[str] = []
    for place, word in enumerate(words):
        key, equals, value = (part.strip() for part in word.partition("="))
        key = key.lstrip("-")
        if key in numbers and _DECIMAL_COMMA.fullmatch(value):
            raise UsageError(f"{key}={value}: numbers have a decimal point here: {key}={value.replace(',', '.')}")
        if equals and key in numbers and value.lower() in ("true", "false"):
            raise UsageError(f"{key}={value}: a number is expected, such as {key}=0.5")
        if equals and key in SETTINGS and SETTINGS[key].kind in ("bool", "ints"):
            out.append(f"{key}={SETTINGS[key].parse(value)}")
            continue
        if _is_text(word):
            text = value
            out.append(f"text={_written(_read(value))}")
            continue
        modes += [word] if word in MODES else []
        if text is not None and not equals and (len(modes) > 1 or not _is_known(key, (*MODES, *TASKS))):
            said = " ".join([text, *takewhile(lambda w: "=" not in w, words[place:])])
            raise UsageError(f"expected key=value, got '{word}'; a value with spaces needs quotes: text=\"{said}\"")
        out.append(word)
    asked = {*modes, *(w.partition("=")[2] for w in words if w.startswith("mode="))}
    if asked & {"predict", "track"}:
        _check_named(words, {"source", "cfg"}, NO_SOURCE)
    if "train" in asked:
        _check_named(words, {"data", "cfg", "resume"}, NO_DATA)
    return out


def _check_named(words: Sequence[str], needed: set[str], message: str) -> None:
    """Check that a command names what it works on, where Ultralytics has nothing else to say.

    Ultralytics would take images or a data set of its own.

    Args:
        words: The command.
        needed: Keys of which one suffices.
        message: What to say where there is none.

    Raises:
        UsageError: There is none.
    """
    from ultralytics.cfg import MODES, TASKS
    from ultralytics.utils import DEFAULT_CFG_DICT

    pairs = [word.lstrip("-").partition("=") for word in words]
    keys = {key.strip() for key, equals, _ in pairs if equals}
    rest = {key.strip() for key, equals, _ in pairs if not equals}
    known = rest <= {*MODES, *TASKS, *(key for key in DEFAULT_CFG_DICT if isinstance(DEFAULT_CFG_DICT[key], bool))}
    if not (keys | rest) & needed and keys <= {*DEFAULT_CFG_DICT, *SETTINGS} and known:
        raise UsageError(message)


def _is_text(word: str) -> bool:
    """Tell whether a word gives the expressions."""
    return word.lstrip("-").partition("=")[0].strip() == "text" and "=" in word


def _is_list(value: str) -> bool:
    """Tell whether a value is a list of texts."""
    try:
        return isinstance(read_texts(value), list)
    except SettingError:
        return False


def _written(texts: str | list[str] | None) -> str:
    """Write what `_read` returned such that Ultralytics reads the same; it would count brackets in the texts."""
    if isinstance(texts, list):
        return f"[{', '.join(map(_written, texts))}]"
    return repr(texts).replace("[", "\\x5b").replace("]", "\\x5d")


def _is_known(word: str, names: Sequence[str]) -> bool:
    """Tell whether a word without a value means something: a mode, a task or a switch."""
    from ultralytics.utils import DEFAULT_CFG_DICT

    return word in names or word in DEFAULT_CFG_DICT or word in ("half", "int8", "end2end", "nms")


def _read(value: str) -> str | list[str] | None:
    if value.lower() in ("none", "null"):
        return None
    try:
        return read_texts(_unquoted(value))
    except SettingError as error:
        raise UsageError(str(error)) from error


def _unquoted(value: str) -> str:
    """Return a value without quotes that the shell left around it."""
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value


def _merge(merge: object, words: list[str]) -> list[str]:
    try:
        return list(merge(words))  # type: ignore[operator]
    except SyntaxError as error:
        raise UsageError(str(error)) from error

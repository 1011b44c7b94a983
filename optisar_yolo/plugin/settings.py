"""The configuration keys that OptiSAR-Net++ adds to those of Ultralytics, with their defaults and checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class SettingError(ValueError):
    """A configuration value that cannot be used; the message names the key, the value and what is accepted."""


@dataclass(frozen=True)
class Setting:
    """One configuration key.

    Attributes:
        default: Value where the user gives none.
        kind: ``"int"``, ``"float"``, ``"bool"``, ``"name"`` (a non-empty string), ``"weights"`` (``choice:number``
            pairs with commas), ``"file"`` (a path) or ``"texts"`` (a sentence or several).
        help: One line for ``optisar help``.
        low: Smallest accepted number.
        high: Largest accepted number; ``None``: no limit.
        choices: Accepted names, of weights those of the pairs; empty: any.
    """

    default: Any
    kind: str
    help: str
    low: float = 0
    high: float | None = None
    choices: tuple[str, ...] = ()


SETTINGS: dict[str, Setting] = {
    "text_model": Setting("pocket", "name", "text encoder: pocket, mobileclip2:b or sbert:<name or folder>"),
    "text_weights": Setting(None, "file", "weights file of the text encoder, where it does not bring its own"),
    "prompts": Setting(20, "int", "training: sentences per picture, right and wrong ones together", low=1),
    "neg_ratio": Setting(
        0.5, "float", "training: reworded wrong sentences per right one (at least one where possible)"
    ),
    "negatives": Setting(
        "proven",
        "name",
        "training: wrong sentences are proven wrong by the boxes (proven), drawn from other pictures unchecked "
        "(random), or made as the authors' release makes them (released); the last two are there for comparison",
        choices=("proven", "random", "released"),
    ),
    "swap_kinds": Setting(
        "orientation:3,modality:2,relation:2,size:1,colour:1,number:0.5",
        "weights",
        "training: which words are exchanged in wrong sentences, and how often (kinds that are not named: never)",
        choices=("orientation", "modality", "relation", "size", "colour", "number"),
    ),
    "guide": Setting(
        "positive",
        "name",
        "training: the fusion is guided by one right sentence of the picture (positive), by any one (any), or by all "
        "together (union, as the authors train)",
        choices=("positive", "any", "union"),
    ),
    "guide_gain": Setting(1.0, "float", "training: weight of the sentence that guides the fusion among all sentences"),
    "reword": Setting(0.0, "float", "training: share of the right sentences that are said in other words", high=1),
    "text_noise": Setting(
        0.0,
        "float",
        "training: noise on the sentences' vectors, as a share of their length: near ones are alike",
        high=2,
    ),
    "describe": Setting(
        0.5, "float", "training: share of the objects that get an expression derived from the boxes", high=1
    ),
    "categories": Setting(
        0.0,
        "float",
        "training: probability of each category of a picture to be asked for as such (a ship: all of them), beside "
        "categories that are not there",
        high=1,
    ),
    "rewrite": Setting(
        True,
        "bool",
        "training: captions follow flips, turns, crops and mosaics; False leaves them, and many become false",
    ),
    "background": Setting(
        0.0,
        "float",
        "training: share of the pictures that show only ground from between objects, of which no sentence is true",
        high=1,
    ),
    "crop": Setting(0.0, "float", "training: probability of a random crop, captions proven by what is left", high=1),
    "rot90": Setting(0.0, "float", "training: probability of a turn by 90, 180 or 270 degrees", high=1),
    "speckle": Setting(
        0.0, "float", "training: most speckle s multiplied onto SAR pictures, as of 1/s² looks (0.5: four)", high=1
    ),
    "balance": Setting(False, "bool", "training: draw as many optical as SAR pictures in every epoch and batch"),
    "choice": Setting(0.0, "float", "gain of the choice loss: the best anchor of a sentence is one of its own"),
    "compare": Setting(1.0, "float", "gain of the comparison loss, where the model compares candidates"),
    "region": Setting(1.0, "float", "gain of the region loss"),
    "moe": Setting(1.5, "float", "gain of the expert-balance loss"),
    "text": Setting(
        None, "texts", "predict: a sentence, or a list of them; export: sentences that become part of the graph"
    ),
    "topk": Setting(1, "int", "predict: boxes per sentence", low=1),
    "parts": Setting(
        False, "bool", "export: two graphs, one run per picture and one per question, for many questions on a picture"
    ),
    "text_graph": Setting(False, "bool", "export: the text encoder too, as a graph with its tokenizer beside it"),
    "sensitivity": Setting(False, "bool", "val: also ask reworded wrong sentences: does the model heed the words?"),
}

OPTISAR_DEFAULTS: dict[str, Any] = {name: setting.default for name, setting in SETTINGS.items()}
"""Key to default value."""


def check(values: MutableMapping[str, Any]) -> None:
    """Check our keys in a configuration; other keys are left alone, missing ones are not added.

    Whole numbers written as floats (``topk=2.0``) become ints in place, as Ultralytics does for its own keys.

    Args:
        values: Configuration, key to value.

    Raises:
        SettingError: A value of a wrong type or out of range.
    """
    for name, setting in SETTINGS.items():
        if name in values:
            values[name] = _checked(name, values[name], setting)


def weights_of(text: str) -> dict[str, float]:
    """Read ``"orientation:3,size:1"``.

    Raises:
        ValueError: No such pairs, a negative number, or nothing above 0.
    """
    weights = {k.strip(): float(v) for k, v in (pair.split(":") for pair in text.split(","))}
    if not (min(weights.values()) >= 0 < sum(weights.values()) < float("inf")):
        raise ValueError(f"weights must be numbers >= 0, some above 0, got '{text}'")
    return weights


def _checked(name: str, value: Any, setting: Setting) -> Any:
    """Return the value in its final type, or raise."""
    if value is None and setting.default is None:
        return None
    if setting.kind == "int" and isinstance(value, float) and value.is_integer():
        value = int(value)
    if not _fits(value, setting):
        raise SettingError(
            f"'{name}={value}' is not valid: {_accepted(setting)}, for example {_example(name, setting)}"
        )
    return value


def _fits(value: Any, setting: Setting) -> bool:
    """Tell whether a value has the setting's type and range."""
    if setting.kind in ("int", "float"):
        types = int if setting.kind == "int" else (int, float)
        if isinstance(value, bool) or not isinstance(value, types):
            return False
        # NaN fails the first comparison, as it should.
        return setting.low <= value and (setting.high is None or value <= setting.high)
    if setting.kind == "bool":
        return isinstance(value, bool)
    if setting.kind == "texts":
        # What the sentences say (empty, too long) is the text encoder's to judge.
        return isinstance(value, str) or (isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value))
    if setting.kind == "weights":
        try:
            return isinstance(value, str) and set(weights_of(value)) <= set(setting.choices)
        except ValueError:
            return False
    if setting.kind == "file":
        return isinstance(value, Path) or (isinstance(value, str) and bool(value.strip()))
    return isinstance(value, str) and bool(value.strip()) and (not setting.choices or value in setting.choices)


def numbers(given: Mapping[str, Any], kinds: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    """Read the numbers among a command's arguments.

    Args:
        given: Arguments as they were typed.
        kinds: ``int`` or ``float`` of each that is a number.

    Returns:
        Those that are given.

    Raises:
        ValueError: One is no number.
    """
    read = {}
    for key, kind in kinds.items():
        if key not in given:
            continue
        try:
            read[key] = kind(given[key])
        except ValueError as error:
            raise ValueError(f"'{key}={given[key]}' is not a number") from error
    return read


def _accepted(setting: Setting) -> str:
    """Say what a setting accepts."""
    if setting.kind in ("int", "float"):
        number = "a whole number" if setting.kind == "int" else "a number"
        return f"it must be {number} " + (
            f"of at least {setting.low:g}" if setting.high is None else f"from {setting.low:g} to {setting.high:g}"
        )
    if setting.kind == "bool":
        return "it must be True or False"
    if setting.kind == "weights":
        return f"it must be pairs like {setting.choices[0]}:2 with commas, of {', '.join(setting.choices)}"
    if setting.choices:
        return f"it must be one of {', '.join(setting.choices)}"
    if setting.kind == "texts":
        return "it must be a sentence in quotes or a list of sentences"
    return "it must be a file name" if setting.kind == "file" else "it must be a name"


def _example(name: str, setting: Setting) -> str:
    """Return an accepted way to write the setting."""
    samples = {"texts": 'text="the ship at the top"', "file": f"{name}=weights.pt"}
    return samples.get(setting.kind, f"{name}={setting.default}")

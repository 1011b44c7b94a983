"""The configuration keys that OptiSAR-Net++ adds to those of Ultralytics, with their defaults and checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from optisar_yolo.utils import Option

_KEYS = (
    Option("text_model", "name", "pocket", "text encoder: pocket, mobileclip2:b or sbert:<name or folder>"),
    Option("text_weights", "file", None, "weights file of the text encoder, where it does not bring its own"),
    Option("prompts", "int", 20, "training: expressions per image, right and wrong ones together", low=1),
    Option(
        "neg_ratio",
        "float",
        0.5,
        "training: reworded wrong expressions per right one (at least one where possible)",
        low=0,
    ),
    Option(
        "negatives",
        "name",
        "proven",
        "training: wrong expressions are proven wrong by the boxes (proven), drawn from other images unchecked "
        "(random), or made as the authors' release makes them (released); the last two are there for comparison",
        choices=("proven", "random", "released"),
    ),
    Option(
        "swap_kinds",
        "weights",
        "orientation:3,modality:2,relation:2,size:1,colour:1,number:0.5",
        "training: which words are exchanged in wrong expressions, and how often (kinds that are not named: never)",
        choices=("orientation", "modality", "relation", "size", "colour", "number"),
    ),
    Option(
        "guide",
        "name",
        "positive",
        "training: the fusion is guided by one right expression of the image (positive), by any one (any), or by all "
        "together (union, as the authors train)",
        choices=("positive", "any", "union"),
    ),
    Option(
        "guide_gain",
        "float",
        1.0,
        "training: weight of the expression that guides the fusion among all expressions",
        low=0,
    ),
    Option(
        "reword", "float", 0.0, "training: share of the right expressions that are said in other words", high=1, low=0
    ),
    Option(
        "text_noise",
        "float",
        0.0,
        "training: noise on the expressions' vectors, as a share of their length: near ones are alike",
        high=2,
        low=0,
    ),
    Option(
        "describe",
        "float",
        0.5,
        "training: share of the objects that get an expression derived from the boxes",
        high=1,
        low=0,
    ),
    Option(
        "categories",
        "float",
        0.0,
        "training: probability of each category of an image to be asked for as such (a ship: all of them), beside "
        "categories that are not there",
        high=1,
        low=0,
    ),
    Option(
        "rewrite",
        "bool",
        True,
        "training: captions follow flips, turns, crops and mosaics; False leaves them, and many become false",
    ),
    Option(
        "background",
        "float",
        0.0,
        "training: share of the images that show only ground from between objects, of which no expression is true",
        high=1,
        low=0,
    ),
    Option(
        "crop", "float", 0.0, "training: probability of a random crop, captions proven by what is left", high=1, low=0
    ),
    Option("rot90", "float", 0.0, "training: probability of a turn by 90, 180 or 270 degrees", high=1, low=0),
    Option(
        "speckle",
        "float",
        0.0,
        "training: most speckle s multiplied onto SAR images, as of 1/s² looks (0.5: four)",
        high=1,
        low=0,
    ),
    Option("balance", "bool", False, "training: draw as many optical as SAR images in every epoch and batch"),
    Option(
        "choice", "float", 0.0, "gain of the choice loss: the best anchor of an expression is one of its own", low=0
    ),
    Option("compare", "float", 1.0, "gain of the comparison loss, where the model compares candidates", low=0),
    Option("region", "float", 1.0, "gain of the region loss", low=0),
    Option("moe", "float", 1.5, "gain of the expert-balance loss", low=0),
    Option(
        "text",
        "texts",
        None,
        "predict: an expression, or a list of them; export: expressions that become part of the graph",
    ),
    Option("topk", "int", 1, "predict: boxes per expression", low=1),
    Option(
        "parts",
        "bool",
        False,
        "export: two graphs, one run per image and one per question, for many questions on an image",
    ),
    Option("text_graph", "bool", False, "export: the text encoder too, as a graph with its tokenizer beside it"),
    Option("sensitivity", "bool", False, "val: also ask reworded wrong expressions: does the model heed the words?"),
)

SETTINGS: dict[str, Option] = {key.name: key for key in _KEYS}
"""Our configuration keys."""

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
            values[name] = setting.check(values[name])


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


_OF_MODES = {
    "predict": ("text", "topk", "text_weights"),
    "track": ("text", "topk", "text_weights"),
    "val": ("sensitivity", "text_weights"),
    "export": ("text", "parts", "text_graph", "text_weights"),
    "benchmark": ("text_weights",),
}


def keys_of_mode(mode: str) -> tuple[Option, ...]:
    """Return our keys that mean something in one of Ultralytics' modes."""
    if mode in _OF_MODES:
        return tuple(SETTINGS[name] for name in _OF_MODES[mode])
    elsewhere = {name for names in _OF_MODES.values() for name in names} - {"text_weights"}
    return tuple(key for key in SETTINGS.values() if key.name not in elsewhere)

"""The configuration keys that OptiSAR-Net++ adds to those of Ultralytics, with their defaults and checks."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from optisar_yolo.utils import Option

STRETCHES = ("none", "percentile", "db", "db-percentile")
"""Ways of turning values into 8 bits (`optisar_yolo.data.stretch`)."""


def _share(name: str, default: float, help: str, high: float | None = 1) -> Option:
    """Declare a number of at least 0."""
    return Option(name, "float", default, help, low=0, high=high)


_KEYS = (
    Option("text_model", "name", "pocket", "text encoder: pocket, mobileclip2:b or sbert:<name or folder>"),
    Option("text_weights", "file", None, "weights of the text encoder, where it does not bring its own"),
    Option(
        "prompts", "int", 20, "expressions per image and step, true and false ones together (T of the paper)", low=1
    ),
    _share(
        "neg_ratio",
        0.5,
        "adversarial negatives per positive; values below 1 act as 1 (negatives=random makes none)",
        high=None,
    ),
    Option(
        "negatives",
        "name",
        "proven",
        "how negatives are made: proven false by the boxes, random (of other images, unchecked), or released (as the "
        "authors' release does); the last two are for comparison",
        choices=("proven", "random", "released"),
    ),
    Option(
        "swap_kinds",
        "weights",
        "orientation:3,modality:2,relation:2,size:1,colour:1,number:0.5",
        "kinds of words that adversarial negatives exchange, with their weights; a kind that is not named is not used",
        choices=("orientation", "modality", "relation", "size", "colour", "number"),
    ),
    Option(
        "guide",
        "name",
        "positive",
        "expression that guides the fusion: one positive, any one, or the union of all (as the authors train)",
        choices=("positive", "any", "union"),
    ),
    _share("guide_gain", 1.0, "weight of the guiding expression in the loss", high=None),
    _share("reword", 0.0, "share of the expressions that are paraphrased"),
    _share("text_noise", 0.0, "noise on the text features, as a share of their length", high=2),
    _share("describe", 0.5, "share of the objects that get an expression derived from the boxes"),
    _share("categories", 0.0, "probability that a category is used as an expression of its own, present or absent"),
    Option(
        "exclusive",
        "bool",
        False,
        "captions that say more than a category single out their objects, as referring expressions do: where the boxes "
        "do not decide whether one is true of another object, it is taught as false of it, not left out of the loss",
    ),
    Option("rewrite", "bool", True, "rewrite captions when flips, turns, crops and mosaics change what they say"),
    _share("background", 0.0, "share of the images that show background only; every expression is false of them"),
    _share("crop", 0.0, "probability of a random crop; captions are verified against what is left"),
    _share("rot90", 0.0, "probability of a turn by 90, 180 or 270 degrees"),
    _share("speckle", 0.0, "largest speckle s on SAR images, as of 1/s² looks (0.5: four looks)"),
    _share("degrade", 0.0, "share of the images that are degraded: coarser pixels, blur, haze, noise, JPEG artefacts"),
    Option("balance", "bool", False, "draw as many optical as SAR images in every epoch and batch"),
    _share("choice", 0.0, "gain of the choice loss: the best anchor of an expression is one of its own", high=None),
    _share("compare", 1.0, "gain of the reranking loss, where the model reranks candidates", high=None),
    _share("region", 1.0, "gain of the region loss (Eq. 9)", high=None),
    _share("moe", 1.5, "gain of the load-balancing loss of the experts", high=None),
    Option(
        "ema",
        "float",
        0.0,
        "epochs that the averaged weights span, from the first step on; 0: Ultralytics' schedule. Trainings that start "
        "from weights use 1",
        low=0,
    ),
    Option(
        "freeze_norms",
        "bool",
        False,
        "keep the statistics of all normalisations; in short trainings they lag behind weights that change. Trainings "
        "that start from weights use True",
    ),
    _share("average", 0.0, "share of the starting weights in the final ones, so that old words are not forgotten"),
    Option("text", "texts", None, "an expression or a list of them; in an export they become part of the graph"),
    Option("topk", "int", 1, "boxes per expression; all for every match", low=1, words=("all",)),
    Option(
        "bands",
        "ints",
        None,
        "bands of an image file: one, or three for red, green and blue, from 1",
        low=1,
        example="4,3,2",
    ),
    Option("stretch", "name", "auto", "how values become 8 bits, as of rasters", choices=("auto", *STRETCHES)),
    Option("reason", "bool", True, "choose among the objects found (ordinals, plurals …); False: the network alone"),
    Option(
        "engine",
        "name",
        "auto",
        "what runs the network on a CPU: torch, onnx (ONNX Runtime), openvino, or auto: the fastest of those "
        "installed, once a graph of the weights is made",
        choices=("auto", "torch", "onnx", "openvino"),
    ),
    Option("parts", "bool", False, "write two graphs: one that encodes images, one that grounds expressions"),
    Option("text_graph", "bool", False, "write the text encoder too, as a graph with its tokenizer beside it"),
    Option("sensitivity", "bool", False, "measure the sensitivity to the expression, with adversarial expressions"),
    Option("matches", "bool", False, "measure all boxes of each category of an image ('a ship') against all labels"),
)

SETTINGS: dict[str, Option] = {key.name: key for key in _KEYS}
"""Our configuration keys."""

OPTISAR_DEFAULTS: dict[str, Any] = {name: setting.default for name, setting in SETTINGS.items()}
"""Key to default value."""

_OF_MODES = {
    "predict": ("text", "topk", "bands", "stretch", "reason", "engine", "text_weights"),
    "track": ("text", "topk", "bands", "stretch", "reason", "engine", "text_weights"),
    "val": ("sensitivity", "matches", "reason", "engine", "text_weights"),
    "export": ("text", "topk", "parts", "text_graph", "text_weights"),
    "benchmark": ("text_weights",),
}


def keys_of_mode(mode: str) -> tuple[Option, ...]:
    """Return our keys that mean something in one of Ultralytics' modes."""
    if mode in _OF_MODES:
        return tuple(SETTINGS[name] for name in _OF_MODES[mode])
    elsewhere = {name for names in _OF_MODES.values() for name in names} - {"text_weights"}
    return tuple(key for key in SETTINGS.values() if key.name not in elsewhere)


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

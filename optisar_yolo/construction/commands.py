"""The ``optisar dataset`` command: one verb per step of data-set construction.

Every module named here has ``DEFAULTS`` (its options) and ``main(options)``, which gets the values with their types.
"""

from __future__ import annotations

import importlib
from typing import Any

from optisar_yolo.utils import UsageError, nearest, parse, typed

COMMON: dict[str, Any] = {"work": "dataset-build", "from": "", "dry_run": False, "jobs": 2, "seed": 0}
"""Options of every verb: the work folder, the step to read from, count without writing, threads, seed of draws."""

VERBS: dict[str, tuple[str, str]] = {
    "import": ("sources.importer", "read the sources of a recipe: recipe=optsar-rsvg.yaml root=/data work=…"),
    "clean": ("cleaning.clean", "drop what cannot be right, unify categories and their words"),
    "describe": ("boxwords", "write unambiguous expressions for objects without any"),
    "screen": ("screening.screen", "train a detector on k folds and flag boxes that it does not find"),
    "review": ("review.review", "accept, correct or reject flagged objects in the browser"),
    "transform": (
        "transforms.transform",
        "mirror and turn images of rare categories, rewrite their captions",
    ),
    "split": ("writing.split", "assign images to train, val and test"),
    "write": ("writing.write", "write images, COCO JSON, VOC XML and YOLO labels: to=…"),
    "validate": ("checking.validate", "check a written data set: data=… strict=True"),
    "stats": ("checking.stats", "numbers and figures of a written data set: data=…"),
    "build": ("builder", "all steps of a recipe: recipe=optsar-rsvg.yaml root=/data to=…"),
}


def main(words: list[str]) -> int:
    """Run ``optisar dataset`` followed by these words.

    Returns:
        Exit status.

    Raises:
        UsageError: Words that mean nothing.
    """
    if not words or words[0] in ("help", "--help", "-h"):
        print(help_page())
        return 0
    verb = words[0]
    if verb not in VERBS:
        raise UsageError(f"unknown step '{verb}' of 'optisar dataset'{nearest(verb, VERBS)}")
    module = importlib.import_module(f"optisar_yolo.construction.{VERBS[verb][0]}")
    return int(module.main(typed(parse(words[1:]), COMMON | module.DEFAULTS)) or 0)


def help_page() -> str:
    """Return the text of ``optisar dataset help``."""
    lines = [f"  optisar dataset {name:<10}{text}" for name, (_, text) in VERBS.items()]
    return "Build a grounding data set, step by step; every step can be repeated and goes on where it stopped.\n\n" + (
        "\n".join(lines)
    )

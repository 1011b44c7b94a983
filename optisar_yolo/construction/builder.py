"""All steps of a recipe in one go (``optisar dataset build``); what is up to date is not run again."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from ultralytics.utils import LOGGER

from optisar_yolo.construction.commands import COMMON, VERBS
from optisar_yolo.construction.recipe import STEPS, load_recipe
from optisar_yolo.data import DataError

DEFAULTS: dict[str, Any] = {"recipe": "", "root": ".", "to": ""}


def main(options: dict[str, Any]) -> int:
    """Run `import` and the steps that the recipe names, in their order.

    Args:
        options: ``recipe``, ``root`` (of the sources), ``to`` (folder of the data set), and those of every step.

    Returns:
        The exit status of the first step that failed, or 0.

    Raises:
        DataError: A step's input cannot be used, or the recipe gives a step an option that it does not have.
    """
    recipe = load_recipe(options["recipe"])
    to = options["to"] or recipe.name
    config = str(Path(to) / f"{recipe.name.lower()}.yaml")
    given: dict[str, dict[str, Any]] = {
        "import": {k: options[k] for k in ("recipe", "root")},
        "write": {"to": to},
        "validate": {"data": config, "recipe": options["recipe"]},
        "stats": {"data": config},
    }
    for step in ("import", *(s for s in STEPS if s in recipe.build)):
        module = importlib.import_module(f"optisar_yolo.construction.{VERBS[step][0]}")
        asked = dict(recipe.build.get(step) or {})
        if unknown := [k for k in asked if k not in module.DEFAULTS and k not in COMMON]:
            raise DataError(f"{options['recipe']}: step {step} has no option '{unknown[0]}'")
        if options["dry_run"] and step != "import":
            LOGGER.info(f"{step}: would run with {asked or 'its defaults'}")
            continue
        common = {k: options[k] for k in COMMON if k != "from"} | {"from": ""}
        if status := int(module.main(common | module.DEFAULTS | given.get(step, {}) | asked) or 0):
            return status
    return 0

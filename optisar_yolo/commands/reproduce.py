"""``optisar reproduce``: trains and measures the cells of one of the paper's tables, beside the paper's figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optisar_yolo.paper import TABLES, published
from optisar_yolo.utils import Command, Option, check_known

HELP = "run the paper's tables again: each cell is a training, measured on the test split"
SHOW = "show"
OPTIONS = (
    Option("cfg", "file", "quick.yaml", "recipe: training settings in a file; paper.yaml is the paper's"),
    Option("data", "file", None, "dataset config; by default that of the paper's table"),
    Option("model", "file", None, "model YAML; by default that of the recipe, else optisar++.yaml"),
    Option("scale", "name", None, "scale of the model", choices=("n", "s", "m", "l", "x")),
    Option("cells", "name", None, "names of the cells to run, with commas; all by default", example="30,60"),
    Option("project", "file", "runs/reproduce", "folder of all runs and of their record"),
    Option("threads", "int", 0, "processor threads of a training; 0: PyTorch's choice", low=0),
    Option("dry_run", "bool", False, "build networks and data and say what would run, without training"),
    Option(SHOW, "bool", False, "only write the table from the record; the word show does the same", old=("table",)),
)


@dataclass(frozen=True)
class TableCommand(Command):
    """A command that also takes the word ``show``, and reads the settings of its training."""

    def parse(self, words: Sequence[str]) -> dict[str, Any]:
        """Read a command line; the word ``show`` stands for ``show=True``."""
        values = super().parse([f"{SHOW}=True" if word == SHOW else word for word in words])
        if values["settings"]:
            from ultralytics.cfg import smart_value
            from ultralytics.utils import DEFAULT_CFG_DICT

            from optisar_yolo.plugin import OPTISAR_DEFAULTS

            for key in values["settings"]:
                check_known(key, [*(o.name for o in self.options), *DEFAULT_CFG_DICT, *OPTISAR_DEFAULTS])
            # a list of devices stays text: "0,1" would become a pair
            values["settings"] = {k: v if k == "device" else smart_value(v) for k, v in values["settings"].items()}
        return values


COMMANDS = {
    table.name: TableCommand(
        f"reproduce {table.name}",
        f"{published()[table.name]['source']}, {len(table.cells)} run(s): {table.title}",
        options=OPTIONS,
        training=True,
        example="data=optsar.yaml scale=n epochs=8 imgsz=320 batch=16 device=cpu",
    )
    for table in TABLES.values()
}


def main(name: str, values: dict[str, Any]) -> int:
    """Run the cells of a table that are not measured yet, and write the table.

    Args:
        name: A key of :data:`COMMANDS`.
        values: See :data:`OPTIONS`; ``settings`` are those of the training.

    Returns:
        Exit status: 0, or 1 where a cell failed.

    Raises:
        ReproduceError: A table that cannot be run with these options.
    """
    from optisar_yolo.paper import dry_run, make_plan, reproduce, write_table

    own = ("cfg", "data", "model", "scale", "cells", "project", "threads")
    plan = make_plan(TABLES[name], values["settings"], **{key: values[key] for key in own})
    if values[SHOW]:
        print(write_table(plan.table, Path(plan.project)))
        return 0
    if values["dry_run"]:
        print(dry_run(plan))
        return 0
    return reproduce(plan)

"""From a command line to runs: the recipe, what the command changes in it, and what the cells fix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ultralytics.cfg import get_cfg, smart_value
from ultralytics.utils import DEFAULT_CFG_DICT

from optisar_yolo.data import SPLITS
from optisar_yolo.nn import load_model_yaml
from optisar_yolo.paper import record
from optisar_yolo.paper.networks import scaled
from optisar_yolo.paper.tables import Cell, ReproduceError, Table
from optisar_yolo.plugin import OPTISAR_DEFAULTS, config_keys, find_packaged
from optisar_yolo.utils import UsageError, check_known, plain

OWN: dict[str, Any] = {
    "cfg": "quick.yaml",
    "data": "",
    "model": "",
    "scale": None,
    "cells": "",
    "project": "runs/reproduce",
    "threads": 0,
    "dry_run": False,
    "table": False,
}
"""Arguments of the command itself; all others are settings of the training."""

FIXED = {"mode", "task", "resume", "name", "save_dir", "exist_ok", "val", "split", "fraction", "pretrained", "text"}
"""Settings that the tables decide."""


@dataclass(frozen=True)
class Plan:
    """What a command asks for.

    Attributes:
        table: The table.
        cells: Those of its cells that are wanted.
        recipe: Name of the recipe.
        model: Model YAML with its scale.
        data: Dataset config.
        settings: Of the training: the recipe's, changed by the command line.
        given: Names of those on the command line.
        project: Folder of all runs.
        threads: Of the processor, 0 for the library's choice.
        dry_run: Train nothing.
        table_only: Write the table from the record.
    """

    table: Table
    cells: tuple[Cell, ...]
    recipe: str
    model: str
    data: str
    settings: Mapping[str, Any]
    given: frozenset[str]
    project: Path
    threads: int
    dry_run: bool
    table_only: bool


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        cell: The cell that asks for it.
        key: Fingerprint of all that decides what it measures.
        folder: Where it happens.
        settings: All of the training's.
        model: Name and description of the model before the cell's changes.
        network: Fingerprint of the changed description.
    """

    cell: Cell
    key: str
    folder: Path
    settings: Mapping[str, Any]
    model: Mapping[str, Any]
    network: str

    @property
    def seed(self) -> int:
        """Seed of the training and of the draws of its data."""
        return int(self.settings["seed"])


def read_recipe(name: str) -> tuple[str, dict[str, Any]]:
    """Read a training recipe, a packaged one by its bare name.

    Returns:
        Its name and content.

    Raises:
        ReproduceError: No such file, or no mapping of keys.
    """
    try:
        path = Path(name) if Path(name).is_file() else find_packaged("cfg", f"train/{name}")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ReproduceError(f"cfg={name}: no such recipe from {Path.cwd()}, and {error}") from error
    except yaml.YAMLError as error:
        raise ReproduceError(f"cfg={name}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise ReproduceError(f"cfg={name}: a recipe is a mapping of training settings, such as epochs: 8")
    return path.name, content


def plan(table: Table, options: Mapping[str, str]) -> Plan:
    """Read a command's arguments.

    Raises:
        UsageError: An unknown argument, or a value that the training does not take.
        ReproduceError: A recipe, model or cell that does not exist, or a setting that the table decides.
    """
    known = [*OWN, *DEFAULT_CFG_DICT, *OPTISAR_DEFAULTS]
    for key in options:
        if key in FIXED:
            raise ReproduceError(f"{key}= is decided by the tables' protocol; leave it out")
        check_known(key, known)
    own = OWN | {
        k: v if k in ("cfg", "data", "model", "project", "cells") else smart_value(v)
        for k, v in options.items()
        if k in OWN
    }
    recipe, settings = read_recipe(own["cfg"])
    # a list of devices stays text: "0,1" would become a pair
    changed = {k: v if k == "device" else smart_value(v) for k, v in options.items() if k not in OWN}
    model = own["model"] or settings.get("model") or "optisar++.yaml"
    settings = {"seed": 0} | {k: v for k, v in settings.items() if k not in ("model", "data")} | changed
    if table_key := next((k for k in settings if k in FIXED), None):
        raise ReproduceError(f"{recipe}: {table_key} is decided by the tables' protocol; take it out of the recipe")
    _check(settings)
    if isinstance(own["threads"], bool) or not isinstance(own["threads"], int) or own["threads"] < 0:
        raise UsageError(f"threads={own['threads']}: expected a whole number")
    names = [n.strip() for n in own["cells"].split(",") if n.strip()]
    result = Plan(
        table,
        tuple(table.cell(name) for name in names) or table.cells,
        recipe,
        scaled(model, own["scale"]),
        own["data"] or table.data,
        settings,
        frozenset(changed),
        Path(own["project"]).expanduser().resolve(),
        own["threads"],
        bool(own["dry_run"]),
        bool(own["table"]),
    )
    for cell in result.cells:
        _settings(result, cell)
    return result


def _check(settings: Mapping[str, Any]) -> None:
    """Let ultralytics and our own checks look at the settings."""
    try:
        with config_keys():
            get_cfg(overrides={**settings, "task": "detect", "mode": "train"})
    except (SyntaxError, TypeError, ValueError) as error:
        raise UsageError(plain(error)) from error
    if isinstance(settings["seed"], bool) or not isinstance(settings["seed"], int) or settings["seed"] < 0:
        raise UsageError(f"seed={settings['seed']}: expected a whole number of at least 0")


def _settings(what: Plan, cell: Cell) -> dict[str, Any]:
    """Return a cell's settings.

    Raises:
        ReproduceError: The command line asks for another value than the cell has.
    """
    for key, value in cell.settings.items():
        if key in what.given and what.settings[key] != value:
            raise ReproduceError(
                f"{key}={what.settings[key]}: cell '{cell.name}' of {what.table.name} is about {key}={value}; "
                "leave it out"
            )
    return {**what.settings, **cell.settings}


def runs(what: Plan, fingerprint: str) -> list[Run]:
    """Return the trainings of a plan.

    Args:
        what: The plan.
        fingerprint: Of the data set.

    Raises:
        ReproduceError: The model lacks what a cell is about.
        FileNotFoundError: No such model.
    """
    base = load_model_yaml(what.model)
    name = base.pop("yaml_file")
    if "m" not in base["scales"]:
        raise ReproduceError(f"{what.model}: no scale m, at which the paper counts parameters; add it under `scales:`")
    model = {"name": name, "description": base}
    found = []
    for cell in what.cells:
        settings = _settings(what, cell)
        network = record.network_of(base, cell.network)
        key = record.digest([name, network, cell.share, cell.bare, record.measured(settings), fingerprint])
        parts = [f"share{cell.share}"] * (cell.share < 100) + [f"bare{cell.bare}"] * (cell.bare > 0)
        label = "-".join([Path(name).stem, *parts, f"seed{settings['seed']}", key])
        found.append(Run(cell, key, what.project / label, settings, model, network))
    return found


def devices(settings: Mapping[str, Any]) -> list[int]:
    """Return the numbers of the GPUs that a training asks for; none for a processor or where it may choose."""
    text = str(settings.get("device") or "").lower().replace("cuda:", "").strip("[]() ")
    return [int(d) for d in text.split(",") if d.strip().isdigit()]


def unlike_paper(counts: Mapping[str, Mapping[str, int]], about: Mapping[str, Any]) -> str:
    """Say how a data set's size differs from the paper's; empty where it is that of the paper.

    Args:
        counts: "images" and "expressions" of train, val and test.
        about: The paper's data set, as in ``published.yaml``.
    """
    for unit in ("pictures", "expressions"):
        if unit in about and [counts[split][unit] for split in SPLITS] not in about[unit]:
            return f"not the paper's {about['name']}, which has {' / '.join(map(str, about[unit][0]))} {unit}"
    return ""

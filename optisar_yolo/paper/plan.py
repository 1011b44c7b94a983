"""From the options of a command to trainings: the recipe, what the options change in it, and what the cells fix."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ultralytics.cfg import get_cfg

from optisar_yolo.data import MODALITIES, SPLITS, dataset_names, modality_of
from optisar_yolo.nn import load_model_yaml
from optisar_yolo.paper.networks import change, scaled
from optisar_yolo.paper.tables import TABLES, Cell, ReproduceError, Table
from optisar_yolo.plugin import OPTISAR_DEFAULTS, config_keys, find_packaged
from optisar_yolo.utils import UnreadableFileError, UsageError, fingerprint, plain, read_yaml

FIXED = {"mode", "task", "resume", "name", "save_dir", "exist_ok", "val", "split", "fraction", "pretrained", "text"}
"""Settings that the tables decide."""

NEUTRAL = {"device", "workers", "plots", "verbose", "text_weights"}
"""Settings that decide where a run happens and what it shows, not what it measures."""


@dataclass(frozen=True)
class Plan:
    """What a command runs.

    Attributes:
        table: The table.
        cells: Those of its cells that are run.
        recipe: Name of the recipe.
        model: Model YAML with its scale.
        data: Dataset config.
        settings: Of the training: the recipe's, changed by those given.
        given: Names of the settings that were given.
        project: Folder of all runs.
        threads: Processor threads, 0 for the library's choice.
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


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        cell: Its cell.
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
        content = read_yaml(path)
    except FileNotFoundError as error:
        raise ReproduceError(f"cfg={name}: no such recipe from {Path.cwd()}, and {error}") from error
    except UnreadableFileError as error:
        raise ReproduceError(f"cfg={name}: {error}") from error
    if not isinstance(content, dict):
        raise ReproduceError(f"cfg={name}: a recipe is a mapping of training settings, such as epochs: 8")
    return path.name, content


def make_plan(
    table: Table,
    given: Mapping[str, Any],
    cfg: str = "quick.yaml",
    data: str | None = None,
    model: str | None = None,
    scale: str | None = None,
    cells: str | None = None,
    project: str | Path = "runs/reproduce",
    threads: int = 0,
) -> Plan:
    """Plan the runs of a table.

    Args:
        table: The table.
        given: Settings of the training that take the place of the recipe's.
        cfg: Recipe: a file, or the name of a packaged one.
        data: Dataset config; by default that of the table.
        model: Model YAML; by default that of the recipe, else ``optisar++.yaml``.
        scale: Scale letter of the model.
        cells: Names of cells, with commas; all by default.
        project: Folder of all runs.
        threads: Processor threads, 0 for the library's choice.

    Raises:
        UsageError: A setting that the training does not take.
        ReproduceError: A recipe, model or cell that does not exist, or a setting that the table decides.
    """
    if key := next((k for k in given if k in FIXED), None):
        raise ReproduceError(f"{key}= is decided by the tables' protocol; leave it out")
    recipe, settings = read_recipe(cfg)
    model = model or settings.get("model") or "optisar++.yaml"
    settings = {"seed": 0} | {k: v for k, v in settings.items() if k not in ("model", "data")} | dict(given)
    if key := next((k for k in settings if k in FIXED), None):
        raise ReproduceError(f"{recipe}: {key} is decided by the tables' protocol; take it out of the recipe")
    _check(settings)
    names = [n.strip() for n in (cells or "").split(",") if n.strip()]
    plan = Plan(
        table=table,
        cells=tuple(table.cell(name) for name in names) or table.cells,
        recipe=recipe,
        model=scaled(model, scale),
        data=data or table.data,
        settings=settings,
        given=frozenset(given),
        project=Path(project).expanduser().resolve(),
        threads=threads,
    )
    for cell in plan.cells:
        _settings(plan, cell)
    return plan


def _check(settings: Mapping[str, Any]) -> None:
    """Check settings as Ultralytics and this package do for a training.

    Raises:
        UsageError: One that a training does not take.
    """
    try:
        with config_keys():
            get_cfg(overrides={**settings, "task": "detect", "mode": "train"})
    except (SyntaxError, TypeError, ValueError) as error:
        raise UsageError(plain(error)) from error
    if isinstance(settings["seed"], bool) or not isinstance(settings["seed"], int) or settings["seed"] < 0:
        raise UsageError(f"seed={settings['seed']}: expected a whole number of at least 0")


def _settings(plan: Plan, cell: Cell) -> dict[str, Any]:
    """Return a cell's settings.

    Raises:
        ReproduceError: A setting was given whose value the cell decides.
    """
    for key, value in cell.settings.items():
        if key in plan.given and plan.settings[key] != value:
            raise ReproduceError(
                f"{key}={plan.settings[key]}: cell '{cell.name}' of {plan.table.name} is about {key}={value}; "
                "leave it out"
            )
    return {**plan.settings, **cell.settings}


def runs_of(plan: Plan, data_fingerprint: str) -> list[Run]:
    """Return the trainings of a plan.

    Args:
        plan: The plan.
        data_fingerprint: Fingerprint of the data set.

    Raises:
        ReproduceError: The model lacks what a cell is about.
        FileNotFoundError: No such model.
    """
    base = load_model_yaml(plan.model)
    name = base.pop("yaml_file")
    if "m" not in base["scales"]:
        raise ReproduceError(f"{plan.model}: no scale m, at which the paper counts parameters; add it under `scales:`")
    model = {"name": name, "description": base}
    runs = []
    for cell in plan.cells:
        settings = _settings(plan, cell)
        network = network_of(base, cell.network)
        key = digest([name, network, cell.share, cell.bare, measured(settings), data_fingerprint])
        parts = [f"share{cell.share}"] * (cell.share < 100) + [f"bare{cell.bare}"] * (cell.bare > 0)
        label = "-".join([Path(name).stem, *parts, f"seed{settings['seed']}", key])
        runs.append(Run(cell, key, plan.project / label, settings, model, network))
    return runs


def digest(content: Any) -> str:
    """Return a short fingerprint of JSON content; 8 and 8.0 are the same."""

    def floats(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(k): floats(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [floats(v) for v in value]
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    return fingerprint(floats(content), digits=12)


def network_of(description: Mapping[str, Any], changes: Mapping[str, Any]) -> str:
    """Return the fingerprint of a changed model description; its file's name does not count."""
    content = deepcopy(dict(description))
    change(content, changes)
    content.pop("yaml_file", None)
    return digest(content)


def measured(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that decide what a run measures, with the defaults of those that a table may fix."""
    fixed = {key: OPTISAR_DEFAULTS[key] for table in TABLES.values() for key in table.forced}
    return fixed | {k: v for k, v in settings.items() if k not in NEUTRAL}


def unfit(table: Table, names: list[str] | tuple[str, ...]) -> str:
    """Return why a table is not about a data set with these categories; empty where it may be."""
    if table.about == "dior":
        if {n.lower() for n in names} != {n.lower() for n in dataset_names(table.data)}:
            return f"{table.name} is about DIOR-RSVG, whose 20 categories are those of {table.data}"
    elif {modality_of(n) for n in names} - {None} != set(MODALITIES):
        return f"{table.name} is about images of both modalities; it needs optical and SAR categories"
    return ""


def devices(settings: Mapping[str, Any]) -> list[int]:
    """Return the numbers of the GPUs that a training names; none for the processor or the default device."""
    text = str(settings.get("device") or "").lower().replace("cuda:", "").strip("[]() ")
    return [int(d) for d in text.split(",") if d.strip().isdigit()]


UNITS = {"pictures": "images", "expressions": "expressions"}
"""Keys of counts in the record, and what they count."""


def unlike_paper(counts: Mapping[str, Mapping[str, int]], about: Mapping[str, Any]) -> str:
    """Return how the size of a data set differs from the paper's; empty where it is the same.

    Args:
        counts: "pictures" and "expressions" of train, val and test.
        about: The paper's data set, as in ``published.yaml``.
    """
    for unit in UNITS:
        if unit in about and [counts[split][unit] for split in SPLITS] not in about[unit]:
            paper = " / ".join(map(str, about[unit][0]))
            return f"not the paper's {about['name']}, which has {paper} {UNITS[unit]}"
    return ""

"""A table as Markdown: measured figures beside those of the paper; cells that were not run have no figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ultralytics.utils import DEFAULT_CFG_DICT

from optisar_yolo.data import SPLITS
from optisar_yolo.engine import TRAIN_DEFAULTS
from optisar_yolo.paper.networks import paper_parameters
from optisar_yolo.paper.plan import digest, measured, network_of, read_recipe, unfit, unlike_paper
from optisar_yolo.paper.tables import Cell, ReproduceError, Table, published
from optisar_yolo.plugin import OPTISAR_DEFAULTS

NOT_RUN = "not run"
UNSAID = "-"
"""Shown where a run or the paper has no such figure."""

PARAMS = "Params (M)"
COSTS = ("training images", "training expressions", "replaced", "Params (M), as run", "GFLOPs, as run", "training")
SETTINGS = ("epochs", "imgsz", "batch", "text_model")
"""Settings that a section's heading names."""

Entry = Mapping[str, Any]


def table_text(table: Table, entries: Sequence[Entry]) -> str:
    """Write a table.

    Args:
        table: The table.
        entries: The record.

    Returns:
        Markdown: a section per budget, then the paper's figures of other methods, and notes.
    """
    paper = published()[table.name]
    lines = [
        f"# {paper['source']}: {table.title}",
        "",
        "Percent, on the test split: one expression, one box. In brackets what the paper prints for OptiSAR-Net++",
        f"(scale m, 300 epochs, batch 64, 640 px, {published()['data'][table.about]['name']}).",
        f'"{NOT_RUN}": there is no such run in the record.',
        "More than one seed: mean ± half of the range.",
    ]
    sections = budgets(table, entries)
    for section in sections:
        lines += ["", *heading(table, section), "", *body(table, section)]
    if not sections:
        lines += ["", "## Nothing was run yet", "", *body(table, [])]
    if "others" in paper:
        lines += ["", f"## Other methods, as published in the paper's {paper['source']}", ""]
        lines += _grid(["method", *paper["others"]["columns"]], paper["others"]["rows"])
    lines += ["", "## Notes", "", *(f"- {note}" for note in [*paper.get("notes", []), published()["parameters"]])]
    return "\n".join(lines) + "\n"


def heading(table: Table, section: Sequence[Entry]) -> list[str]:
    """Return the heading of a section: model, settings, data, and where they differ from the paper's."""
    first = section[0]
    settings, data = first["settings"], first["data"]
    about = published()["data"][table.about]
    words = [f"{first['model']['name']}", f"scale {first['model']['description']['scale']}"]
    words += [f"{key} {settings[key]}" for key in SETTINGS if key in settings]
    sizes = [" / ".join(str(data["counts"][s][unit]) for s in SPLITS) for unit in ("pictures", "expressions")]
    other = unlike_paper(data["counts"], about) or f"the size of {about['name']}"
    lines = [f"## {', '.join(words)}, on {data['name']}", ""]
    lines += [f"- Data: {data['name']}, {sizes[0]} images, {sizes[1]} expressions (train / val / test); {other}."]
    lines += [
        "- Unlike the paper's recipe (paper.yaml): " + ("; ".join(unlike_recipe(table, settings)) or "nothing") + "."
    ]
    seeds, devices = (sorted({str(e[key]) for e in section}) for key in ("seed", "device"))
    return lines + [f"- Seeds: {', '.join(seeds)}. Trained on: {'; '.join(devices)}."]


def unlike_recipe(table: Table, settings: Mapping[str, Any]) -> list[str]:
    """Return where settings differ from the paper's recipe; a setting that neither gives has the same default."""
    _, exact = read_recipe("paper.yaml")
    defaults = DEFAULT_CFG_DICT | OPTISAR_DEFAULTS | TRAIN_DEFAULTS
    keys = (settings.keys() | measured(exact).keys()) - table.forced - {"seed", "model", "data"}
    pairs = [(key, settings.get(key, defaults.get(key)), exact.get(key, defaults.get(key))) for key in sorted(keys)]
    return [f"{key} {here} (not {there})" for key, here, there in pairs if here != there]


def body(table: Table, section: Sequence[Entry]) -> list[str]:
    """Return the rows of a section: every cell, run or not."""
    paper = published()[table.name]["cells"]
    titles = [f"{group} {figure}" for group, figure in table.columns]
    costs = [c for c in COSTS if c != "replaced" or table.name == "table3"]
    rows = {}
    for cell in table.cells:
        own = [e for e in section if belongs(e, cell)]
        printed = paper[cell.name]
        pairs = zip(table.columns, titles, strict=True)
        values = [_beside(_figure(own, *column), printed.get(title)) for column, title in pairs]
        values += [_beside(_params(own, cell), printed.get(PARAMS), 1)]
        rows[cell.title] = [*values, *(_cost(own, c) for c in costs), str(len(own)) if own else NOT_RUN]
    return _grid(["", *titles, "Params (M), m with text encoder", *costs, "runs"], rows)


def budgets(table: Table, entries: Sequence[Entry]) -> list[list[Entry]]:
    """Group the runs that a table may show: within a group only the cells' own settings and the seed differ."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        if unfit(table, entry["data"]["names"]) or not any(belongs(entry, cell) for cell in table.cells):
            continue
        free = table.forced | {"seed"}
        budget = {k: v for k, v in entry["settings"].items() if k not in free}
        key = digest([entry["model"], budget, entry["data"]["fingerprint"]])
        groups.setdefault(key, []).append(entry)
    return list(groups.values())


def belongs(entry: Entry, cell: Cell) -> bool:
    """Tell whether a run is one of a cell's."""
    if (entry["share"], entry["bare"]) != (cell.share, cell.bare):
        return False
    if any(entry["settings"].get(key) != value for key, value in cell.settings.items()):
        return False
    try:
        return bool(entry["network"] == network_of(entry["model"]["description"], cell.network))
    except ReproduceError:  # a model that has no such part
        return False


def _figure(own: Sequence[Entry], group: str, figure: str) -> str:
    """Return a measured figure in percent, over the runs of a cell."""
    if not own:
        return NOT_RUN
    values = [e["figures"].get(f"modality/{group}", {}).get(figure) for e in own]
    known = [100 * v for v in values if v is not None]
    if len(known) < len(values):
        return UNSAID
    mean = sum(known) / len(known)
    return f"{mean:.2f}" if len(known) == 1 else f"{mean:.2f} ± {(max(known) - min(known)) / 2:.2f}"


def _params(own: Sequence[Entry], cell: Cell) -> str:
    """Count a run cell's network as the paper counts its own: scale m, with the frozen text encoder."""
    if not own:
        return NOT_RUN
    trained = paper_parameters(own[0]["model"]["description"], cell.network, bool(own[0]["settings"]["region"]))
    return f"{trained / 1e6:.1f}"


def _cost(own: Sequence[Entry], column: str) -> str:
    """Return what a cell cost."""
    if not own:
        return NOT_RUN
    train, cost = own[0]["data"]["train"], own[0]["cost"]
    seconds = sum(e["training_seconds"] for e in own) / len(own)
    return {
        "training images": str(train["pictures"]),
        "training expressions": str(train["expressions"]),
        "replaced": str(train["replaced"]),
        "Params (M), as run": f"{cost['parameters'] / 1e6:.2f}",
        "GFLOPs, as run": f"{cost['gflops']:.1f}",
        "training": f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s",
    }[column]


def _beside(value: str, printed: float | None, digits: int = 2) -> str:
    """Put the paper's figure in brackets beside a measured one."""
    return value if printed is None else f"{value} ({printed:.{digits}f})"


def _grid(head: Sequence[str], rows: Mapping[str, Sequence[Any]]) -> list[str]:
    """Return a Markdown grid."""
    wide = len(head)
    for name, cells in rows.items():
        if len(cells) != wide - 1:
            raise ReproduceError(f"row '{name}' has {len(cells)} cells for {wide - 1} columns")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * wide]
    return lines + [
        f"| {name} | " + " | ".join(UNSAID if c is None else str(c) for c in row) + " |" for name, row in rows.items()
    ]

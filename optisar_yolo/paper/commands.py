"""The ``optisar reproduce`` command: runs the cells of one of the paper's tables, and writes it beside the paper's."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import torch
from ultralytics.utils import LOGGER

from optisar_yolo.data import DataError, dataset_names
from optisar_yolo.paper import networks, runs, subsets
from optisar_yolo.paper.markdown import table_text
from optisar_yolo.paper.plan import Plan, Run, devices, plan, runs as runs_of, unlike_paper
from optisar_yolo.paper.record import Record, locked, unfit
from optisar_yolo.paper.subsets import DataSet
from optisar_yolo.paper.tables import TABLES, ReproduceError, Table, find, published
from optisar_yolo.text import load_text_encoder
from optisar_yolo.utils import HELP_WORDS, UsageError, nearest, parse, write_atomic

SHOW = "show"


def main(words: list[str]) -> int:
    """Run ``optisar reproduce`` followed by these words.

    Returns:
        Exit status: 0 all cells that were asked for are measured, 1 some failed.

    Raises:
        UsageError: Words that mean nothing.
        ReproduceError: A table that cannot be run as asked.
    """
    if not words or words[0] in HELP_WORDS:
        print(help_page())
        return 0
    table = find(words[0])
    if table is None:
        raise UsageError(f"unknown table '{words[0]}'{nearest(words[0], TABLES)}")
    shown = [w for w in words[1:] if w == SHOW]
    what = plan(table, parse([w for w in words[1:] if w != SHOW]))
    if shown or what.table_only:
        print(write_table(table, what.project))
        return 0
    if what.dry_run:
        print(dry_run(what))
        return 0
    return run_all(what)


def help_page() -> str:
    """Return the text of ``optisar reproduce``."""
    lines = [
        f"  {t.name:<8}{published()[t.name]['source']:<10}{len(t.cells)} run(s)  {t.title}" for t in TABLES.values()
    ]
    return (
        "The paper's tables, run again: each cell is a training of its own, measured on the test split.\n\n"
        + "\n".join(lines)
        + "\n\n  optisar reproduce table2 data=optsar.yaml scale=n epochs=8 imgsz=320 batch=16 device=cpu\n"
        "  optisar reproduce table2 cfg=paper.yaml dry_run=True        what would run, without training\n"
        "  optisar reproduce table2 show                               the table, from the record\n\n"
        "cfg= is a recipe: quick.yaml by default, paper.yaml is the paper's. model=, data=, cells=30,60, project=,\n"
        "threads= and all settings of 'optisar train' change it. Measured cells are skipped, broken ones go on."
    )


def write_table(table: Table, project: Path) -> str:
    """Write a table beside the record, and return it."""
    text = table_text(table, Record(project).entries())
    path = write_atomic(project / f"{table.name}.md", text)
    return f"{text}\n({path})"


def run_all(what: Plan) -> int:
    """Run the cells that are not measured yet, and write the table.

    Returns:
        Exit status: 0, or 1 where a cell failed or is being run by another process.
    """
    data = _ready(what)
    wanted, record, missed = runs_of(what, data.fingerprint), Record(what.project), 0
    for number, run in enumerate(wanted, 1):
        name = f"{what.table.name} {number}/{len(wanted)} {run.cell.title}, seed {run.seed}"
        try:
            told = _run(run, data, record, what.threads, name)
        except ReproduceError as error:  # the other cells may still succeed
            LOGGER.error(f"{name}: {error}")
            missed += 1
            continue
        LOGGER.info(f"{name}: {told}")
    print(write_table(what.table, what.project))
    return 1 if missed else 0


def _run(run: Run, data: DataSet, record: Record, threads: int, name: str) -> str:
    """Train, measure and record a cell, as far as this is not done, and say how it went.

    Raises:
        ReproduceError: The training failed, or another process is at it.
    """
    if run.key in record.keys():
        return "measured already"
    with locked(run.folder / "lock", wait=False) as lock:
        if lock is None:
            raise ReproduceError(f"another process is at it ({run.folder})")
        if run.key in record.keys():
            return "measured just now by another process"
        files, counts = runs.prepare(run, data)
        state = runs.state(run)
        if state != "trained":
            word = "training goes on" if state == "broken" else "training"
            LOGGER.info(f"{name}: {word}, see {run.folder / 'train.log'}")
            runs.train(run, files, threads, lock)
        LOGGER.info(f"{name}: measuring")
        entry = runs.entry_of(run, data, counts, runs.measure(run, files, threads), threads)
        record.add(entry)
    found = {g: entry["figures"].get(f"modality/{g}", {}).get("meanIoU") for g in ("all", "optical", "SAR")}
    told = ", ".join(f"{group} {100 * value:.2f}" for group, value in found.items() if value is not None)
    return f"meanIoU {told}, trained in {entry['training_seconds']} s"


def _ready(what: Plan) -> DataSet:
    """Read the data set and look for what a training needs, before anything is trained.

    Raises:
        DataError: The data set is not there or cannot be used.
        ReproduceError: It is not what the table is about, or a GPU is missing.
        TextError: The text encoder cannot be loaded.
    """
    data = subsets.read(what.data)
    if problem := unfit(what.table, data.config.names):
        raise ReproduceError(f"data={what.data}: {problem}")
    if problem := _lacking(what):
        raise ReproduceError(problem)
    # before hours are spent: a TextError says where the weights belong
    load_text_encoder(str(what.settings.get("text_model", "pocket")), what.settings.get("text_weights"))
    return data


def _lacking(what: Plan) -> str:
    """Say which GPUs this machine lacks for a training; empty if none."""
    gpus, here = devices(what.settings), torch.cuda.device_count()
    if not gpus or max(gpus) < here:
        return ""
    return f"device={what.settings['device']}: needs {len(gpus)} GPU(s), this machine has {here}; give device=cpu"


def dry_run(what: Plan) -> str:
    """Build all that a command would train, and say what it would do."""
    data, problem, names = _data_of(what)
    wanted = runs_of(what, "" if data is None else data.fingerprint)
    done = Record(what.project).keys()
    settings = ", ".join(f"{k}={v}" for k, v in sorted(what.settings.items()))
    lines = [
        f"{what.table.name}: {what.table.title} ({published()[what.table.name]['source']})",
        f"recipe    {what.recipe}: {settings}",
        f"model     {what.model}",
        f"data      {what.data}: " + (problem or _sizes(data)),
    ]
    if data is not None and (other := unlike_paper(data.counts, published()["data"][what.table.about])):
        lines += [f"          {other}"]
    lines += [f"lacking   {problem}" for problem in (unfit(what.table, names), _lacking(what)) if problem]
    lines += [f"project   {what.project}"]
    states = ["measured" if run.key in done else runs.state(run) for run in wanted]
    tally = ", ".join(f"{states.count(s)} {s}" for s in ("measured", "trained", "broken", "new") if s in states)
    lines += ["", f"{len(wanted)} cell(s): {tally}"]
    for run, state in zip(wanted, states, strict=True):
        lines += _cell_lines(what, run, state, data)
    return "\n".join([*lines, "", "Nothing was trained or written."])


def _data_of(what: Plan) -> tuple[DataSet | None, str, tuple[str, ...]]:
    """Return the data set where it is there, else why not, and its category names."""
    try:
        data = subsets.read(what.data)
    except DataError as error:
        return None, " ".join(str(error).split()), dataset_names(what.data)
    return data, "", data.config.names


def _sizes(data: DataSet | None) -> str:
    """Say how large a data set is."""
    if data is None:
        return ""
    return ", ".join(f"{s} {n['pictures']} images / {n['expressions']} expressions" for s, n in data.counts.items())


def _cell_lines(what: Plan, run: Run, state: str, data: DataSet | None) -> list[str]:
    """Describe a run: its network as it is built, the paper's count beside it, and its data."""
    content = deepcopy(dict(run.model["description"]))
    networks.change(content, run.cell.network)
    width = networks.TEXT_WIDTH if run.settings.get("text_model") == "mobileclip2:b" else content["text_dim"]
    cost = networks.cost(content, int(run.settings.get("imgsz", 640)), width)
    like = networks.paper_parameters(run.model["description"], run.cell.network, bool(run.settings.get("region", 1.0)))
    printed = published()[what.table.name]["cells"][run.cell.name]["Params (M)"]
    lines = [
        f"  {run.cell.name:<11}{run.cell.title}: {state}",
        f"             {cost['parameters'] / 1e6:.2f} M parameters, {cost['gflops']:.1f} GFLOPs at {cost['imgsz']} px; "
        f"at scale m with the paper's text encoder {like / 1e6:.1f} M (paper: {printed} M)",
    ]
    if fixed := ", ".join(f"{k}={v}" for k, v in run.cell.settings.items()):
        lines += [f"             fixed by the table: {fixed}"]
    if data is not None:
        train = subsets.count([data.train[i] for i in subsets.chosen(data.train, run.cell.share, run.seed)])
        batches = -(-train["pictures"] // int(run.settings.get("batch", 16)))
        lines += [
            f"             {train['pictures']} images, {train['expressions']} expressions, "
            f"{run.settings.get('epochs')} epochs of {batches} batches"
        ]
    return [*lines, f"             {run.folder}"]

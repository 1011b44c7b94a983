"""Runs of cells: training in a process of its own, measuring on the test split, recording, and the dry run.

A run that is in the record is skipped, one that was broken off is resumed, and one that another process holds the lock
of is left alone.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import subprocess
import sys
from copy import deepcopy
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

import torch
import ultralytics
import yaml
from ultralytics.utils import LOGGER

from optisar_yolo.api import OptiSAR
from optisar_yolo.data import DataError, dataset_names
from optisar_yolo.paper import networks, subsets
from optisar_yolo.paper.markdown import table_text
from optisar_yolo.paper.plan import Plan, Run, devices, measured, runs_of, unfit, unlike_paper
from optisar_yolo.paper.subsets import DataSet
from optisar_yolo.paper.tables import ReproduceError, Table, published
from optisar_yolo.text import load_text_encoder
from optisar_yolo.utils import locked, read_json_file, write_atomic
from optisar_yolo.version import __version__

RECORD = "record.json"
LAST_LINES = 5
"""Of a training's log, in the message that it failed."""


class Record:
    """A record file.

    Args:
        project: Its folder.
    """

    def __init__(self, project: Path) -> None:
        self.path = project / RECORD

    def entries(self) -> list[dict[str, Any]]:
        """Read the entries, oldest first.

        Raises:
            ReproduceError: The file is damaged.
        """
        if not self.path.exists():
            return []
        try:
            runs = read_json_file(self.path)["runs"]
            if not all(isinstance(run, dict) and "key" in run for run in runs):
                raise TypeError("entries without a key")
        except (ValueError, KeyError, TypeError) as error:
            raise ReproduceError(f"{self.path}: not a record of runs ({error}); move it away, or mend it") from error
        return list(runs)

    def keys(self) -> set[str]:
        """Return the keys of all runs."""
        return {entry["key"] for entry in self.entries()}

    def add(self, entry: dict[str, Any]) -> None:
        """Append an entry, in place of an earlier one with its key; other processes may be adding theirs."""
        with locked(self.path.with_suffix(".lock")):
            runs = [run for run in self.entries() if run["key"] != entry["key"]] + [entry]
            write_atomic(self.path, json.dumps({"runs": runs}, indent=1, allow_nan=False) + "\n")


def last_weights(run: Run) -> Path:
    """Where the training leaves the weights that are measured: those of its last epoch."""
    return run.folder / "train" / "weights" / "last.pt"


def state_of(run: Run) -> str:
    """Return how far a run is: "new", "broken" (an epoch or more is saved) or "trained"."""
    last = last_weights(run)
    if not last.exists():
        return "new"
    # a finished checkpoint is stripped of its optimiser, one of a broken run is not
    return "trained" if torch.load(last, map_location="cpu", weights_only=False)["optimizer"] is None else "broken"


def prepare(run: Run, data: DataSet) -> tuple[dict[str, str], dict[str, int]]:
    """Write a run's model and dataset config.

    Returns:
        Both as arguments of the training, and what it trains on (see ``subsets.write``).
    """
    content = deepcopy(dict(run.model["description"]))
    networks.change(content, run.cell.network)
    model = write_atomic(run.folder / run.model["name"], yaml.safe_dump(content, sort_keys=False))
    config, counts = subsets.write(data, run.folder, run.cell.share, run.cell.bare, run.seed)
    return {"model": str(model), "data": str(config)}, counts


def train(run: Run, files: dict[str, str], threads: int, lock: IO[bytes] | None = None) -> None:
    """Train, or go on where a broken run stopped.

    Args:
        run: The run.
        files: Model and dataset config.
        threads: Of the processor, 0 for the library's choice.
        lock: The run's lock, which the training holds too: it may outlive this process.

    Raises:
        ReproduceError: The training failed; the message holds the end of its log.
    """
    settings: dict[str, Any] = {"plots": False, **run.settings, **files, "val": False}
    settings |= {"project": str(run.folder), "name": "train", "exist_ok": True}
    if state_of(run) == "broken":
        settings = {"resume": True, "model": str(last_weights(run))}
    words = [f"{key}={value}" for key, value in settings.items() if value is not None]
    environment = dict(os.environ)
    if threads:
        environment |= {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    with (run.folder / "train.log").open("a", encoding="utf-8") as log:
        done = subprocess.run(
            [sys.executable, "-m", "optisar_yolo", "train", *words],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=() if lock is None or os.name == "nt" else (lock.fileno(),),
        )
    if done.returncode or state_of(run) != "trained":
        end = [" ".join(line.split()) for line in Path(log.name).read_text(encoding="utf-8").splitlines()]
        ending = "\n  ".join([line for line in end if line][-LAST_LINES:])
        raise ReproduceError(
            f"{log.name}: the training ended with status {done.returncode}; its last lines:\n  {ending}\n"
            "Correct the cause and give the command again: it goes on from the last whole epoch"
        )


def measure(run: Run, files: dict[str, str], threads: int) -> dict[str, Any]:
    """Validate on the test split; return the figures by section and group, such as "modality/optical"."""
    if threads:
        torch.set_num_threads(threads)
    gpus = devices(run.settings)
    metrics = OptiSAR(str(last_weights(run))).val(
        data=files["data"],
        split="test",
        imgsz=run.settings.get("imgsz", 640),
        device=gpus[0] if gpus else run.settings.get("device"),
        text_weights=run.settings.get("text_weights"),
        project=str(run.folder),
        name="test",
        exist_ok=True,
        plots=False,
        reason=False,  # the paper's tables are of networks
    )
    return {f"{row['section']}/{row['group']}": row for row in json.loads(metrics.to_json())["rows"]}


def training_seconds(run: Run) -> int:
    """Return the time of a training, over all its parts where it was broken."""
    total = before = 0.0
    with (run.folder / "train" / "results.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            now = float({k.strip(): v for k, v in row.items()}["time"])
            total += before if now < before else 0.0  # the clock of a resumed run starts at 0
            before = now
    return round(total + before)


def entry_of(run: Run, data: DataSet, counts: dict[str, int], figures: dict[str, Any], threads: int) -> dict[str, Any]:
    """Return what the record keeps of a finished run."""
    config = data.config
    net = OptiSAR(str(last_weights(run))).model
    changed = deepcopy(dict(run.model["description"]))
    networks.change(changed, run.cell.network)
    gpus = [torch.cuda.get_device_name(i) for i in devices(run.settings)]
    return {
        "key": run.key,
        "folder": run.folder.name,
        "share": run.cell.share,
        "bare": run.cell.bare,
        "network": run.network,
        "model": run.model,
        "seed": run.seed,
        "settings": measured(run.settings),
        "data": {
            "name": config.root.name,
            "names": list(config.names),
            "counts": data.counts,
            "train": counts,
            "fingerprint": data.fingerprint,
        },
        "cost": networks.cost(changed, int(run.settings.get("imgsz", 640)), net.text_dim),
        "training_seconds": training_seconds(run),
        "device": ", ".join(gpus) or f"{platform.machine()}, {threads or torch.get_num_threads()} thread(s)",
        "versions": {
            "optisar-yolo": __version__,
            "ultralytics": ultralytics.__version__,
            "torch": torch.__version__,
        },
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "figures": figures,
    }


def write_table(table: Table, project: Path) -> str:
    """Write a table beside the record, and return it."""
    text = table_text(table, Record(project).entries())
    path = write_atomic(project / f"{table.name}.md", text)
    return f"{text}\n({path})"


def reproduce(plan: Plan) -> int:
    """Run the cells that are not measured yet, and write the table.

    Returns:
        Exit status: 0, or 1 where a cell failed or another process runs it.
    """
    data = _ready(plan)
    wanted, record, missed = runs_of(plan, data.fingerprint), Record(plan.project), 0
    for number, run in enumerate(wanted, 1):
        name = f"{plan.table.name} {number}/{len(wanted)} {run.cell.title}, seed {run.seed}"
        try:
            outcome = _run(run, data, record, plan.threads, name)
        except ReproduceError as error:  # the other cells may still succeed
            LOGGER.error(f"{name}: {error}")
            missed += 1
            continue
        LOGGER.info(f"{name}: {outcome}")
    print(write_table(plan.table, plan.project))
    return 1 if missed else 0


def _run(run: Run, data: DataSet, record: Record, threads: int, name: str) -> str:
    """Train, measure and record a cell, as far as this is not done, and return how it went.

    Raises:
        ReproduceError: The training failed, or another process runs it.
    """
    if run.key in record.keys():
        return "measured already"
    with locked(run.folder / "lock", wait=False) as lock:
        if lock is None:
            raise ReproduceError(f"another process runs it ({run.folder})")
        if run.key in record.keys():
            return "measured just now by another process"
        files, counts = prepare(run, data)
        state = state_of(run)
        if state != "trained":
            word = "training goes on" if state == "broken" else "training"
            LOGGER.info(f"{name}: {word}, see {run.folder / 'train.log'}")
            train(run, files, threads, lock)
        LOGGER.info(f"{name}: measuring")
        entry = entry_of(run, data, counts, measure(run, files, threads), threads)
        record.add(entry)
    figures = {g: entry["figures"].get(f"modality/{g}", {}).get("meanIoU") for g in ("all", "optical", "SAR")}
    listed = ", ".join(f"{group} {100 * value:.2f}" for group, value in figures.items() if value is not None)
    return f"meanIoU {listed}, trained in {entry['training_seconds']} s"


def _ready(plan: Plan) -> DataSet:
    """Read the data set and check what a training needs, before anything is trained.

    Raises:
        DataError: The data set is not there or cannot be used.
        ReproduceError: It is not what the table is about, or a GPU is missing.
        TextError: The text encoder cannot be loaded.
    """
    data = subsets.read(plan.data)
    if problem := unfit(plan.table, data.config.names):
        raise ReproduceError(f"data={plan.data}: {problem}")
    if problem := _lacking(plan):
        raise ReproduceError(problem)
    # before hours are spent on training: a TextError says where the weights belong
    load_text_encoder(str(plan.settings.get("text_model", "pocket")), plan.settings.get("text_weights"))
    return data


def _lacking(plan: Plan) -> str:
    """Return which GPUs this machine lacks for a training; empty if none."""
    gpus, here = devices(plan.settings), torch.cuda.device_count()
    if not gpus or max(gpus) < here:
        return ""
    return f"device={plan.settings['device']}: needs {len(gpus)} GPU(s), this machine has {here}; give device=cpu"


def dry_run(plan: Plan) -> str:
    """Build the networks and data of a plan, and describe its runs; nothing is trained or written."""
    data, about, names = _data_of(plan)
    wanted = runs_of(plan, "" if data is None else data.fingerprint)
    done = Record(plan.project).keys()
    settings = ", ".join(f"{k}={v}" for k, v in sorted(plan.settings.items()))
    lines = [
        f"{plan.table.name}: {plan.table.title} ({published()[plan.table.name]['source']})",
        f"recipe    {plan.recipe}: {settings}",
        f"model     {plan.model}",
        f"data      {plan.data}: {about}",
    ]
    if data is not None and (other := unlike_paper(data.counts, published()["data"][plan.table.about])):
        lines += [f"          {other}"]
    lines += [f"lacking   {problem}" for problem in (unfit(plan.table, names), _lacking(plan)) if problem]
    lines += [f"project   {plan.project}"]
    states = ["measured" if run.key in done else state_of(run) for run in wanted]
    tally = ", ".join(f"{states.count(s)} {s}" for s in ("measured", "trained", "broken", "new") if s in states)
    lines += ["", f"{len(wanted)} cell(s): {tally}"]
    for run, state in zip(wanted, states, strict=True):
        lines += _cell_lines(plan, run, state, data)
    return "\n".join([*lines, "", "Nothing was trained or written."])


def _data_of(plan: Plan) -> tuple[DataSet | None, str, tuple[str, ...]]:
    """Return the data set (None if it cannot be read), its sizes or why it cannot be read, and its category names."""
    try:
        data = subsets.read(plan.data)
    except DataError as error:
        return None, " ".join(str(error).split()), dataset_names(plan.data)
    sizes = (f"{s} {n['pictures']} images / {n['expressions']} expressions" for s, n in data.counts.items())
    return data, ", ".join(sizes), data.config.names


def _cell_lines(plan: Plan, run: Run, state: str, data: DataSet | None) -> list[str]:
    """Describe a run: its network as it is built, the paper's count beside it, and its data."""
    content = deepcopy(dict(run.model["description"]))
    networks.change(content, run.cell.network)
    width = networks.TEXT_WIDTH if run.settings.get("text_model") == "mobileclip2:b" else content["text_dim"]
    cost = networks.cost(content, int(run.settings.get("imgsz", 640)), width)
    counted = networks.paper_parameters(
        run.model["description"], run.cell.network, bool(run.settings.get("region", 1.0))
    )
    printed = published()[plan.table.name]["cells"][run.cell.name]["Params (M)"]
    lines = [
        f"  {run.cell.name:<11}{run.cell.title}: {state}",
        f"             {cost['parameters'] / 1e6:.2f} M parameters, {cost['gflops']:.1f} GFLOPs at {cost['imgsz']} px; "
        f"at scale m with the paper's text encoder {counted / 1e6:.1f} M (paper: {printed} M)",
    ]
    if fixed := ", ".join(f"{k}={v}" for k, v in run.cell.settings.items()):
        lines += [f"             fixed by the table: {fixed}"]
    if data is not None:
        counts = subsets.count([data.train[i] for i in subsets.chosen(data.train, run.cell.share, run.seed)])
        batches = -(-counts["pictures"] // int(run.settings.get("batch", 16)))
        lines += [
            f"             {counts['pictures']} images, {counts['expressions']} expressions, "
            f"{run.settings.get('epochs')} epochs of {batches} batches"
        ]
    return [*lines, f"             {run.folder}"]

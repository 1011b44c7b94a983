"""One run: its files, its training in a process of its own, its figures on the test split."""

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

from optisar_yolo.api import OptiSAR
from optisar_yolo.paper import networks, record, subsets
from optisar_yolo.paper.plan import Run, devices
from optisar_yolo.paper.subsets import DataSet
from optisar_yolo.paper.tables import ReproduceError
from optisar_yolo.utils import write_atomic
from optisar_yolo.version import __version__

LAST_LINES = 5
"""Of a training's log, in the message that it failed."""


def last_weights(run: Run) -> Path:
    """Where the training leaves the weights that are measured: those of its last epoch."""
    return run.folder / "train" / "weights" / "last.pt"


def state(run: Run) -> str:
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
    if state(run) == "broken":
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
    if done.returncode or state(run) != "trained":
        end = [" ".join(line.split()) for line in Path(log.name).read_text(encoding="utf-8").splitlines()]
        said = "\n  ".join([line for line in end if line][-LAST_LINES:])
        raise ReproduceError(
            f"{log.name}: the training ended with status {done.returncode}; its last lines:\n  {said}\n"
            "Correct the cause and give the command again: it goes on from the last whole epoch"
        )


def measure(run: Run, files: dict[str, str], threads: int) -> dict[str, Any]:
    """Ask the test split; the figures by section and group, such as "modality/optical"."""
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
        "settings": record.measured(run.settings),
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

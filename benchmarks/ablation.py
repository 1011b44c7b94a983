"""What each part is worth: named variants trained under one budget and several seeds, measured on the test split.

    python benchmarks/ablation.py ours released baseline --seeds 0 1 [--epochs 8] [--runs runs/ablation] [--threads 2]
    python benchmarks/ablation.py --list
    python benchmarks/ablation.py --table

Every run is a process of its own under ``--runs``; runs that are done are skipped and broken ones go on where they
stopped. Results are added to benchmarks/results/ablation.json, from which ablation.md is written. Two calls can share
a machine (``taskset``): on two cores, two runs of one thread each finish sooner than one after the other.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import ultralytics
import yaml

from optisar_yolo import OptiSAR, __version__
from optisar_yolo.data.config import load_dataset_config
from optisar_yolo.nn.yaml import load_model_yaml

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from ablation_table import write_table  # noqa: E402
from variants import VARIANTS, Variant  # noqa: E402

CARD = HERE / "optsar-real.yaml"
RECORD = HERE / "results" / "ablation.json"


def prepare(folder: Path, variant: Variant, scale: str) -> dict[str, str]:
    """Write the variant's model and a dataset config of the real images alone; return their paths as arguments."""
    folder.mkdir(parents=True, exist_ok=True)
    model = load_model_yaml(variant.model.replace("++", f"++{scale}"))
    for edit in variant.edits:
        edit(model)
    name = model.pop("yaml_file")
    (folder / name).write_text(yaml.safe_dump(model, sort_keys=False), encoding="utf-8")
    dataset_config = yaml.safe_load(CARD.read_text(encoding="utf-8"))
    dataset_config.pop("include")
    dataset_config["path"] = str(load_dataset_config(CARD).root)
    (folder / "data.yaml").write_text(yaml.safe_dump(dataset_config, sort_keys=False), encoding="utf-8")
    return {"model": str(folder / name), "data": str(folder / "data.yaml")}


def train(folder: Path, name: str, variant: Variant, seed: int, budget: dict[str, Any], threads: int) -> None:
    """Train a variant, or finish a broken run."""
    files = prepare(folder, variant, budget["scale"])
    last = folder / "train" / "weights" / "last.pt"
    # a finished checkpoint is stripped of its optimiser, one of a broken run is not
    if last.exists() and torch.load(last, map_location="cpu", weights_only=False)["optimizer"] is None:
        return
    fixed = {k: budget[k] for k in ("epochs", "imgsz", "batch")}
    settings: dict[str, Any] = files | fixed | {"warmup_epochs": 1, "amp": "bf16", "device": "cpu"} | variant.settings
    settings |= {"seed": seed, "val": False, "plots": False, "project": str(folder), "name": "train", "exist_ok": True}
    if last.exists():
        settings = {"resume": True, "model": str(last)}
    else:
        git = subprocess.run(["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
        (folder / "commit").write_text(git.stdout.strip(), encoding="utf-8")
    words = [sys.executable, "-m", "optisar_yolo", "train", *(f"{k}={v}" for k, v in settings.items())]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    with (folder / "train.log").open("a", encoding="utf-8") as log:
        print(f"{name}: training, see {log.name}", flush=True)
        subprocess.run(words, check=True, stdout=log, stderr=subprocess.STDOUT, env=environment)


def evaluate(folder: Path, imgsz: int) -> dict[str, Any]:
    """Figures of the finished run on the test split, as written and in other words."""
    model = OptiSAR(str(folder / "train" / "weights" / "last.pt"))
    root = load_dataset_config(folder / "data.yaml").root
    words = [sys.executable, str(HERE / "reworded.py"), str(root), "--split", "test", "--show", "0"]
    subprocess.run([*words, "--out", str(folder)], check=True, stdout=subprocess.DEVNULL)
    options = {"split": "test", "imgsz": imgsz, "project": str(folder), "plots": False, "reason": False}
    metrics = model.val(data=str(folder / "data.yaml"), sensitivity=True, **options)
    record: dict[str, Any] = {f"{r['section']}/{r['group']}": r for r in metrics.rows()}
    record["sensitivity"] = {k.removeprefix("metrics/"): v for k, v in metrics.extra.items()}
    other = model.val(data=str(folder / "reworded.yaml"), **options)
    record["reworded"] = other.figures()
    return record


def add(entry: dict[str, Any]) -> None:
    """Put a run into the record in place of an earlier one of the same name, seed and budget."""
    record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {"runs": []}
    key = [entry[k] for k in ("variant", "seed", "budget")]
    record["runs"] = [r for r in record["runs"] if [r[k] for k in ("variant", "seed", "budget")] != key] + [entry]
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Train what is missing, measure, record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("variants", nargs="*", help="names of variants (see --list)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--scale", default="n", choices=list("nsmlx"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--list", action="store_true", help="show the variants")
    parser.add_argument("--table", action="store_true", help="write the table from the record and stop")
    args = parser.parse_args()
    if args.list:
        for name, variant in VARIANTS.items():
            print(f"{name:<16}{variant.note}")
        return
    for name in args.variants:
        if name not in VARIANTS:
            parser.error(f"no variant '{name}'; there are {', '.join(VARIANTS)}")
    torch.set_num_threads(args.threads)
    budget = {k: getattr(args, k) for k in ("epochs", "imgsz", "batch", "scale")}
    versions = {"optisar-yolo": __version__, "ultralytics": ultralytics.__version__, "torch": torch.__version__}
    for seed in () if args.table else args.seeds:
        for name in args.variants:
            folder = (args.runs / f"{name}-s{seed}-e{args.epochs}-{args.imgsz}-{args.scale}").resolve()
            train(folder, name, VARIANTS[name], seed, budget, args.threads)
            figures = evaluate(folder, args.imgsz)
            with (folder / "train" / "results.csv").open(encoding="utf-8") as file:
                seconds = float([row["time"] for row in csv.DictReader(file)][-1])
            settings = {k: str(v) for k, v in VARIANTS[name].settings.items()}
            head = {"variant": name, "seed": seed, "budget": budget, "note": VARIANTS[name].note, "settings": settings}
            head["commit"] = (folder / "commit").read_text(encoding="utf-8")  # of the code that trained it
            add(head | {"training_seconds": round(seconds), "versions": versions, "figures": figures})
    print(write_table(RECORD, list(VARIANTS)))


if __name__ == "__main__":
    main()

"""Fine-tuning from the bundled weights on three small sets as users have them, beside old defaults and from nothing.

    python benchmarks/finetuning.py [--sets airplanes wordings newkinds] [--ways new old nothing] [--threads 1]
    python benchmarks/finetuning.py --table

The sets are made by finetuning_sets.py. For each set and way: meanIoU on the set's val split before the training and
after each of 8 epochs. Of the new defaults also what is forgotten: meanIoU on a share of optsar-real's val split before
and after, and of means with the starting weights (``average=``). Trials that the record has are skipped; the record is
written after each: benchmarks/results/finetuning.json.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from ultralytics.utils import LOGGER

from optisar_yolo import OptiSAR, __version__
from optisar_yolo.engine.start import FINE_TUNING, START, keep_start, mean_with_start

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from finetuning_sets import SHARED, make_sets  # noqa: E402

RECORD = HERE / "results" / "finetuning.json"
BUNDLED, NOTHING = "optisar++n-pocket.safetensors", "optisar++n-late.yaml"
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "new": (BUNDLED, {}),
    # the defaults of a training from nothing
    "old": (BUNDLED, {"lr0": 2e-3, "warmup_epochs": 3.0, "ema": 0.0, "freeze_norms": False}),
    "nothing": (NOTHING, {}),
}
BUDGET = {"epochs": 8, "batch": 8, "amp": "bf16", "device": "cpu", "plots": False, "verbose": False}
MEANIOU = "metrics/meanIoU(all)"
SHARES = (0.3, 0.5)  # of the starting weights
OLD_SHARE = 0.2  # of optsar-real's val split


def measured(model: str | Path, out: Path, **settings: Any) -> float:
    """Return the meanIoU of weights on a val split, in points."""
    run = {"project": str(out), "name": "val", "exist_ok": True, "plots": False, "verbose": False, "device": "cpu"}
    return round(100 * float(OptiSAR(model).val(**settings, **run).results_dict["fitness"]), 1)


def trial(data: dict[str, Any], way: str, out: Path) -> dict[str, Any]:
    """Train one way on one set, and return the curve."""
    weights, settings = WAYS[way]
    model = OptiSAR(weights)
    curve: list[float] = []

    def after_epoch(trainer: Any) -> None:
        if trainer.epoch == len(curve):
            curve.append(round(100 * trainer.metrics[MEANIOU], 1))

    def before(trainer: Any) -> None:
        keep_start(trainer)
        shutil.copy(trainer.wdir / START, out / START)  # the trainer removes its own at the end

    model.add_callback("on_pretrain_routine_end", before)
    model.add_callback("on_fit_epoch_end", after_epoch)
    began = time.perf_counter()
    model.train(**data, **BUDGET, **settings, project=str(out), name="train", exist_ok=True)
    return {"curve": curve, "seconds": round(time.perf_counter() - began)}


def forgotten(data: dict[str, Any], out: Path) -> dict[str, Any]:
    """Measure trained weights, and their means with the start, on the new and on the old images."""
    old = {"data": str(HERE / "optsar-real.yaml"), "imgsz": 320, "fraction": OLD_SHARE}
    best = out / "train" / "weights" / "best.pt"
    found: dict[str, Any] = {"old images, start": measured(BUNDLED, out, **old)}
    for share in (0.0, *SHARES):
        mixed = out / f"mean-{share}.pt"
        shutil.copy(best, mixed)
        if share:  # the start lies beside it
            mean_with_start(mixed, share)
        found[f"average={share:g}"] = {"set": measured(mixed, out, **data), "old images": measured(mixed, out, **old)}
    return found


def table(record: dict[str, Any]) -> str:
    """Return the record as a Markdown table."""
    lines = [
        "| set | way | start | after epochs 1 … 8 | lowest - start | end - start |",
        "|---|---|---:|---|---:|---:|",
    ]
    for name, ways in record["trials"].items():
        for way, found in ways.items():
            curve = found["curve"]
            base = 0.0 if way == "nothing" else record["start"][name]
            said = " ".join(f"{v:.1f}" for v in curve)
            lines.append(
                f"| {name} | {way} | {base:.1f} | {said} | {min(curve) - base:+.1f} | {curve[-1] - base:+.1f} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Run the trials that are missing."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--sets", nargs="*", default=["airplanes", "wordings", "newkinds"])
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--runs", type=Path, default=Path("runs/finetuning"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--record", type=Path, default=RECORD)
    parser.add_argument("--table", action="store_true", help="print the record's table and stop")
    args = parser.parse_args()
    record = json.loads(args.record.read_text(encoding="utf-8")) if args.record.exists() else {}
    if args.table:
        print(table(record))
        return
    torch.set_num_threads(args.threads)
    LOGGER.setLevel(logging.WARNING)
    git = subprocess.run(["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    record |= {
        "command": "python benchmarks/finetuning.py",
        "version": __version__,
        "commit": git.stdout.strip(),
        "new": FINE_TUNING,
        "old": WAYS["old"][1],
        "budget": {k: v for k, v in BUDGET.items() if k in ("epochs", "batch", "amp")},
        "images": {"train": 40, "val": 36},
    }
    sets = make_sets((args.runs / "sets").resolve())
    for name in args.sets:
        if name not in sets:
            continue
        data = sets[name]
        if name not in record.setdefault("start", {}):
            record["start"][name] = measured(BUNDLED, args.runs.resolve() / name, **data)
        for way in args.ways:
            done = record.setdefault("trials", {}).setdefault(name, {})
            out = (args.runs / name / way).resolve()
            if way not in done:
                out.mkdir(parents=True, exist_ok=True)
                done[way] = trial(data, way, out)
                print(name, way, record["start"][name], done[way], flush=True)
            if way == "new" and SHARED.is_dir() and "forgotten" not in done[way]:
                done[way]["forgotten"] = forgotten(data, out)
                print(name, done[way]["forgotten"], flush=True)
            args.record.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

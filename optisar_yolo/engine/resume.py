"""Resuming a training: the state in full precision in a checkpoint, and what is left when a training is done.

A checkpoint of a running training holds its state in full precision, so that a resumed run equals an unbroken one
(:func:`add_exact_state`, :func:`restore_exact_state`). :func:`strip_checkpoint` drops it after the training.
Ultralytics writes an epoch's row of results.csv before its checkpoint: :func:`keep_rows` drops rows that come again.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ultralytics.utils import LOGGER, RANK, colorstr
from ultralytics.utils.torch_utils import unwrap_model

from optisar_yolo.engine.checkpoint import CheckpointError, read_checkpoint
from optisar_yolo.utils import appearing, write_atomic

EXACT = "exact"  # key of a checkpoint's state in full precision


def add_exact_state(trainer: Any, source: Path, target: Path) -> None:
    """Add the weights in full precision, averages, optimiser and random generators to a checkpoint.

    Args:
        trainer: The trainer.
        source: The checkpoint that Ultralytics has written.
        target: File to write, replaced in one step.
    """
    checkpoint = torch.load(source, map_location="cpu", weights_only=False)
    model = unwrap_model(trainer.model)
    checkpoint[EXACT] = {
        "model": model.state_dict(),
        "ema": trainer.ema.ema.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "bf16": model.bf16,
        "rng": {"torch": torch.get_rng_state(), "numpy": np.random.get_state(), "python": random.getstate()},
    }
    with appearing(target, binary=True) as file:
        torch.save(checkpoint, file)


def restore_exact_state(trainer: Any, checkpoint: dict[str, Any]) -> None:
    """Restore the state of :func:`add_exact_state`; a checkpoint without it gives a warning."""
    if RANK in {-1, 0}:
        keep_rows(Path(trainer.csv), int(checkpoint["epoch"]) + 1)
    exact = checkpoint.get(EXACT)
    if exact is None:
        LOGGER.warning(
            f"{trainer.args.model}: without full-precision state; the resumed run will differ from an unbroken one"
        )
        return
    model = unwrap_model(trainer.model)
    model.load_state_dict(exact["model"])
    model.bf16 = exact["bf16"]
    trainer.ema.ema.load_state_dict(exact["ema"])
    trainer.optimizer.load_state_dict(exact["optimizer"])
    torch.set_rng_state(exact["rng"]["torch"])
    np.random.set_state(exact["rng"]["numpy"])
    random.setstate(exact["rng"]["python"])


def keep_rows(path: Path, epochs: int) -> None:
    """Drop the rows of a run's table that a resumed run will write again, and a row that was cut off.

    Args:
        path: The table; need not exist.
        epochs: Epochs that are done.
    """
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = lines[:1] + [line for line in lines[1:] if _epoch_of(line) <= epochs]
    if kept != lines:
        write_atomic(path, "".join(kept))


def _epoch_of(line: str) -> float:
    """Return the epoch of a row; infinity where its number is damaged."""
    try:
        return float(line.split(",", 1)[0])
    except ValueError:
        return math.inf


def check_resumable(checkpoint: Mapping[str, Any] | None, path: str | Path | None) -> None:
    """Check that a training can be resumed from the checkpoint that is open.

    Raises:
        CheckpointError: Its training is finished, or it is none of a training.
    """
    if checkpoint and checkpoint.get("epoch", -1) >= 0 and checkpoint.get("optimizer") is not None:
        return
    finished = bool(checkpoint) and "train_args" in (checkpoint or {})
    reason = "its training is finished" if finished else "it holds no state of a training"
    raise CheckpointError(
        f"{path or 'the model'}: nothing to resume, {reason}. Resume with model=…/weights/last.pt of a run that was "
        "interrupted; to train these weights further, leave resume out and give data= and epochs="
    )


def all_epochs_done(checkpoint: Mapping[str, Any] | Path, args: Any) -> bool:
    """Tell whether the last epoch of a run is saved, so that only its final validation is missing.

    Args:
        checkpoint: Content of last.pt, or its path.
        args: The run's settings: ``epochs`` and ``patience``.
    """
    if isinstance(checkpoint, Path):
        content: Mapping[str, Any] = read_checkpoint(checkpoint)
    else:
        content = checkpoint
    done = int(content.get("epoch", -1)) + 1
    best = (content.get("stopper") or {}).get("best_epoch")
    waited = args.patience and best is not None and done - best >= args.patience  # stopped early
    return done > 0 and bool(done >= args.epochs or waited)


def strip_checkpoint(path: Path) -> None:
    """Reduce a final checkpoint to the averaged weights in half precision, without optimiser and resume state."""
    checkpoint = torch.load(path, map_location="cpu", weights_only=False)
    if checkpoint.get("ema") is not None:
        checkpoint["model"] = checkpoint["ema"]
    for key in ("optimizer", "ema", "updates", "scaler", EXACT, "best_fitness"):
        checkpoint[key] = None
    checkpoint["epoch"] = -1
    checkpoint["model"].args = dict(checkpoint["train_args"])
    for p in checkpoint["model"].half().parameters():
        p.requires_grad = False
    with appearing(path, binary=True) as file:
        torch.save(checkpoint, file)
    LOGGER.info(f"{colorstr('bold', path)}: {path.stat().st_size / 1e6:.1f} MB")

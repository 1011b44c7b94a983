"""What a checkpoint holds beyond ultralytics' own: all that an exact resume needs, dropped when the run has ended."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ultralytics.utils import LOGGER, colorstr
from ultralytics.utils.torch_utils import unwrap_model

EXACT = "exact"  # key of the state in full precision


def add_exact_state(trainer: Any, path: Path) -> None:
    """Add weights, averages, optimiser and random generators to a checkpoint that ultralytics has written in half.

    Args:
        trainer: The trainer.
        path: The checkpoint, written anew.
    """
    checkpoint = torch.load(path, map_location="cpu", weights_only=False)
    model = unwrap_model(trainer.model)
    checkpoint[EXACT] = {
        "model": model.state_dict(),
        "ema": trainer.ema.ema.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "bf16": model.bf16,
        "rng": {"torch": torch.get_rng_state(), "numpy": np.random.get_state(), "python": random.getstate()},
    }
    torch.save(checkpoint, path)


def restore_exact_state(trainer: Any, checkpoint: dict[str, Any]) -> None:
    """Take up a run in full precision; a checkpoint without such a state gives a warning."""
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


def strip(path: Path) -> None:
    """Make a finished checkpoint small: averaged weights in half precision, without optimiser and resume state."""
    checkpoint = torch.load(path, map_location="cpu", weights_only=False)
    if checkpoint.get("ema") is not None:
        checkpoint["model"] = checkpoint["ema"]
    for key in ("optimizer", "ema", "updates", "scaler", EXACT, "best_fitness"):
        checkpoint[key] = None
    checkpoint["epoch"] = -1
    checkpoint["model"].args = dict(checkpoint["train_args"])
    for p in checkpoint["model"].half().parameters():
        p.requires_grad = False
    partial = path.with_name(path.name + ".partial")
    torch.save(checkpoint, partial)
    os.replace(partial, path)
    LOGGER.info(f"{colorstr('bold', path)}: {path.stat().st_size / 1e6:.1f} MB")

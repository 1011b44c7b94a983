"""Weights files: checkpoints (``.pt``), which Ultralytics writes, and shared weights (``.safetensors``).

1. A checkpoint of a running training also holds its state in full precision, so that a resumed run equals an unbroken
   one (:func:`add_exact_state`, :func:`restore_exact_state`). :func:`strip_checkpoint` drops it after the training.
2. A shared file holds tensors and a description of the network. Reading it executes none of its content.
3. :func:`store_calibration` writes either kind anew with a calibration.
"""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from ultralytics.nn.tasks import load_checkpoint
from ultralytics.utils import LOGGER, colorstr
from ultralytics.utils.torch_utils import unwrap_model

from optisar_yolo.engine.calibrate import (
    ATTRIBUTE,
    MATCH_ATTRIBUTE,
    Calibration,
    CalibrationError,
    attach,
    attach_all,
    calibrations,
)
from optisar_yolo.hub import fetch_weights, is_hub_name
from optisar_yolo.language import BUILT_IN, Vocabulary
from optisar_yolo.nn import GroundingModel
from optisar_yolo.plugin import MARK
from optisar_yolo.utils import appearing, write_atomic
from optisar_yolo.version import __version__

FORMAT = 2  # of shared files; raised when earlier versions cannot read them. 2: new names of the reranker's layers
EXACT = "exact"  # key of a checkpoint's state in full precision
UNTRAINED = "object"  # the one category of a network that was not trained
BUNDLED = Path(__file__).resolve().parents[1] / "weights"


class CheckpointError(ValueError):
    """A weights file that cannot be used; the message names it and the remedy."""


def find_weights(name: str | Path) -> Path:
    """Resolve a weights file: a path, the bare name of one that travels with the package, or ``hf://user/name``.

    Raises:
        FileNotFoundError: None of them exists; the message lists the packaged ones.
        HubError: The Hugging Face Hub has no such weights, or cannot be reached.
    """
    if is_hub_name(name):
        return fetch_weights(str(name))
    path = Path(name)
    if path.is_file():
        return path
    if len(path.parts) == 1 and (BUNDLED / path.name).is_file():
        return BUNDLED / path.name
    known = ", ".join(sorted(p.name for p in BUNDLED.glob("*.safetensors"))) or "none"
    raise FileNotFoundError(f"weights '{name}' not found, neither as a file nor among the packaged ones ({known})")


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn the various errors of a broken ``.pt`` file into one that names the file.

    Raises:
        CheckpointError: The file cannot be unpacked.
    """
    try:
        yield
    except (OSError, EOFError, RuntimeError, TypeError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: damaged or incomplete ({reason}); copy or download it again") from error


def load_model(weights: str | Path) -> GroundingModel:
    """Load a grounding model from ``.pt`` or ``.safetensors``.

    Raises:
        FileNotFoundError: No such file.
        CheckpointError: The file is damaged, of another version or of another kind of model.
    """
    path = find_weights(weights)
    if path.suffix == ".safetensors":
        return load_shared(path)
    with readable(path):
        model, _ = load_checkpoint(path)
    if not isinstance(model, GroundingModel):
        raise CheckpointError(
            f"{path}: a checkpoint of {type(model).__name__}, not of an OptiSAR model; use yolo for it"
        )
    return model


def model_vocabulary(model: Any) -> Vocabulary:
    """Return the nouns that a model was trained with: its categories with the synonyms and parents of its data set.

    Args:
        model: A network or an export. Older weights hold category names alone, older exports nothing.
    """
    stored = getattr(model, "nouns", None)
    if isinstance(stored, Mapping):
        return Vocabulary.from_dict(stored)
    names = getattr(model, "names", {}) if isinstance(model, GroundingModel) else {}
    return BUILT_IN.including(name for name in names.values() if name != UNTRAINED)


def save_shared(model: GroundingModel, path: str | Path, info: dict[str, Any] | None = None) -> Path:
    """Write weights for sharing: half precision tensors, and the network description in the file's metadata.

    Args:
        model: A trained model.
        path: File to write, ending in ``.safetensors``.
        info: More metadata, such as data and figures.

    Returns:
        The path.

    Raises:
        CheckpointError: The model was fused: its tensors are no longer those of its description.
    """
    path = Path(path)
    if model.is_fused():
        raise CheckpointError(f"{path}: not written, as the model is fused for inference; save one that is not")
    tensors = {
        k: v.half().contiguous() if v.is_floating_point() else v.contiguous() for k, v in model.state_dict().items()
    }
    args = model.args if isinstance(model.args, dict) else vars(model.args)
    wordings = getattr(model, "wordings", None)  # older checkpoints have none
    meta = {
        "format": FORMAT,
        "version": __version__,
        "yaml": model.yaml,
        "names": {str(k): v for k, v in model.names.items()},
        "text_model": model.text_model,
        "text_fingerprint": model.text_fingerprint,
        "imgsz": args.get("imgsz", 640),
        **calibrations(model),
        **({} if wordings is None else {"wordings": list(wordings)}),
        "nouns": model_vocabulary(model).to_dict(),
        **(info or {}),
    }
    return write_atomic(path, save(tensors, metadata={MARK: json.dumps(meta)}))


def load_shared(path: str | Path) -> GroundingModel:
    """Read a file of :func:`save_shared`.

    Raises:
        CheckpointError: Damaged, not ours, or of a later format.
    """
    meta, tensors = _read_shared(path)
    if meta.get("format") not in (1, FORMAT):
        raise CheckpointError(
            f"{path}: written in format {meta.get('format')} by version {meta.get('version')}, this is version "
            f"{__version__} with format {FORMAT}; update optisar-yolo"
        )
    missing = [k for k in ("yaml", "names", "text_model", "text_fingerprint", "imgsz") if k not in meta]
    if missing:
        raise CheckpointError(f"{path}: metadata without {', '.join(missing)}; copy or download it again")
    model = GroundingModel(meta["yaml"], verbose=False)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: tensors do not fit the network described in the file ({error})") from error
    model.names = {int(k): v for k, v in meta["names"].items()}
    model.text_model, model.text_fingerprint = meta["text_model"], meta["text_fingerprint"]
    model.args = {"imgsz": meta["imgsz"], "task": "detect", "model": str(Path(path).name)}
    model.wordings = tuple(meta["wordings"]) if "wordings" in meta else None
    model.nouns = meta["nouns"] if isinstance(meta.get("nouns"), dict) else None
    model.task = "detect"
    model.pt_path = str(path)
    try:
        attach_all(model, meta, path)
    except CalibrationError as error:
        raise CheckpointError(str(error)) from error
    return model.float().eval()


def _read_shared(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return our metadata and the tensors of a shared file.

    Raises:
        CheckpointError: Damaged, or not ours.
    """
    try:
        with safe_open(path, framework="pt") as f:
            meta = json.loads((f.metadata() or {}).get(MARK, "null"))
            tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: damaged or incomplete ({error}); copy or download it again") from error
    if not isinstance(meta, dict):
        raise CheckpointError(
            f"{path}: a safetensors file without OptiSAR metadata; give weights written by optisar-yolo"
        )
    return meta, tensors


def store_calibration(
    source: str | Path, target: str | Path, calibration: Calibration, matches: Calibration | None = None
) -> Path:
    """Write a weights file anew with a calibration; its other content stays the same.

    Args:
        source: ``.pt`` or ``.safetensors``.
        target: File to write, of the same kind or ``.safetensors``. It may be the source itself.
        calibration: The calibration of best boxes.
        matches: The calibration of all boxes of an expression; None leaves what the source has.

    Returns:
        The target.

    Raises:
        FileNotFoundError: No such source.
        ValueError: The target has another ending.
        CheckpointError: A source that cannot be used.
    """
    source, target = find_weights(source), Path(target)
    stored = {ATTRIBUTE: calibration} | ({} if matches is None else {MATCH_ATTRIBUTE: matches})
    if target.suffix == ".safetensors" == source.suffix:
        meta, tensors = _read_shared(source)
        meta |= {name: value.to_dict() for name, value in stored.items()}
        return write_atomic(target, save(tensors, metadata={MARK: json.dumps(meta)}))
    if target.suffix == ".safetensors":
        model = load_model(source)
        for name, value in stored.items():
            attach(model, value, name)
        return save_shared(model, target)
    if (source.suffix, target.suffix) != (".pt", ".pt"):
        raise ValueError(f"cannot write {source.name} as {target.name}: give a file that ends in {source.suffix}")
    with readable(source):
        checkpoint = torch.load(source, map_location="cpu", weights_only=False)
    for key in ("model", "ema"):
        if isinstance(checkpoint.get(key), GroundingModel):
            for name, value in stored.items():
                attach(checkpoint[key], value, name)
    with appearing(target, binary=True) as file:
        torch.save(checkpoint, file)
    return target


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
        with readable(checkpoint):
            content: Mapping[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=False)
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

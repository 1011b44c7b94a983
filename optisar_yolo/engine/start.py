"""What a training starts from: weights files of any form, settings that suit them, and a mean with the start.

1. :func:`open_start` opens what is given as ``pretrained=``, ``model=`` or to ``load``: a checkpoint of Ultralytics or
   of ours, or shared weights. :mod:`optisar_yolo.nn.transfer` decides what of it is taken.
2. A network that goes on from trained weights of ours gets :data:`FINE_TUNING` in the place of the defaults for a
   training from nothing (:func:`suit`). What a user sets stays.
3. ``ema=1`` averages the weights over an epoch, from the first step on (:func:`span_average`): the average begins at
   the start, and a restless step moves it little.
4. ``average=0.3`` ends with 0.7 of the trained and 0.3 of the starting weights (WiSE-FT, Wortsman et al., CVPR 2022),
   so that old words are not forgotten (:func:`keep_start`, :func:`mean_with_start`).
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import nn
from ultralytics.nn.tasks import load_checkpoint
from ultralytics.utils import LOGGER, ONLINE, SETTINGS
from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES
from ultralytics.utils.torch_utils import unwrap_model

from optisar_yolo.engine.checkpoint import CheckpointError, find_weights, load_shared, readable
from optisar_yolo.nn import GroundingModel
from optisar_yolo.utils import appearing

# Chosen on three small sets of users (benchmarks/results/finetuning.json).
FINE_TUNING: dict[str, Any] = {
    "lr0": 5e-4,
    "warmup_epochs": 0.5,
    "ema": 1.0,
    "freeze_norms": True,
}
# Ranges of `tune`, key to lowest and highest value: of settings that mean something here and contain our defaults.
TUNE_SPACE: dict[str, tuple[float, float]] = {
    "lr0": (1e-5, 1e-2),
    "lrf": (0.01, 1.0),
    "momentum": (0.7, 0.98),
    "weight_decay": (0.0, 0.1),
    "warmup_epochs": (0.0, 5.0),
    "box": (1.0, 20.0),
    "cls": (0.1, 4.0),
    "dfl": (0.4, 12.0),
    "hsv_h": (0.0, 0.1),
    "hsv_s": (0.0, 0.9),
    "hsv_v": (0.0, 0.9),
    "scale": (0.0, 0.95),
    "fliplr": (0.0, 1.0),
    "flipud": (0.0, 1.0),
    "mosaic": (0.0, 1.0),
    "crop": (0.0, 1.0),
    "rot90": (0.0, 1.0),
    "describe": (0.0, 1.0),
    "reword": (0.0, 1.0),
    "neg_ratio": (0.0, 3.0),
}
START = "start.pt"  # beside last.pt while a training with average= runs


def open_start(weights: str | Path) -> nn.Module:
    """Open weights that a network is to start from.

    Args:
        weights: ``.pt`` of Ultralytics or of ours, ``.safetensors`` of ours; the bare name of packaged weights, or of
            weights that Ultralytics downloads.

    Returns:
        The network in the file, in single precision.

    Raises:
        FileNotFoundError: No such file.
        CheckpointError: A file of another kind, or one that cannot be read.
    """
    path = Path(weights).expanduser()
    if path.suffix not in (".pt", ".safetensors"):
        hint = "an export holds no weights to train" if path.suffix or path.is_dir() else "not a weights file"
        raise CheckpointError(f"{weights}: {hint}; give a .pt or .safetensors")
    known = path.suffix == ".pt" and len(path.parts) == 1 and path.name in GITHUB_ASSETS_NAMES
    if not (known and not path.is_file() and (ONLINE or (Path(SETTINGS["weights_dir"]) / path.name).is_file())):
        path = find_weights(path)
    if path.suffix == ".safetensors":
        return load_shared(path)
    try:
        with readable(path):
            model, _ = load_checkpoint(path)
    except (CheckpointError, AttributeError, ImportError, AssertionError) as error:
        raise CheckpointError(
            f"{error if isinstance(error, CheckpointError) else f'{path}: cannot be opened ({error})'}; the checkpoint "
            "of the authors' release becomes weights of ours by 'optisar import-weights', tensors without a model do "
            "not say what they belong to"
        ) from error
    assert isinstance(model, nn.Module)
    return model


def is_trained(model: Any) -> bool:
    """Tell whether a network has learned words: an untrained one names no text encoder."""
    return isinstance(model, GroundingModel) and bool(model.text_fingerprint)


def suit(args: Any, given: Collection[str]) -> str:
    """Put the settings of :data:`FINE_TUNING` into a configuration, except those that were given.

    Args:
        args: The configuration, changed in place.
        given: Keys that the user set.

    Returns:
        A line that says what was set; empty where the user had set all.
    """
    chosen = {key: value for key, value in FINE_TUNING.items() if key not in given}
    for key, value in chosen.items():
        setattr(args, key, value)
    said = " ".join(f"{key}={value if isinstance(value, bool) else f'{value:g}'}" for key, value in chosen.items())
    return f"starting from weights: {said}; set them to overrule" if said else ""


def span_average(trainer: Any) -> None:
    """Let the averaged weights span ``ema`` epochs; with 0 they follow Ultralytics' schedule."""
    steps = float(trainer.args.ema) * len(trainer.train_loader) / max(trainer.accumulate, 1)
    if steps and trainer.ema:
        decay = min(1 - 1 / max(steps, 1), 0.9999)  # 0.9999 is Ultralytics' longest
        trainer.ema.decay = lambda _: decay


def keep_start(trainer: Any) -> None:
    """Save the weights at the start of a training, for :func:`mean_with_start`."""
    with appearing(trainer.wdir / START, binary=True) as file:
        torch.save({k: v.half() if v.is_floating_point() else v for k, v in _state(trainer.model).items()}, file)


def _state(model: nn.Module) -> dict[str, torch.Tensor]:
    return dict(unwrap_model(model).state_dict())


def mean_with_start(path: Path, share: float) -> None:
    """Replace the weights of a final checkpoint by their mean with those of the start.

    Args:
        path: The checkpoint; ``start.pt`` lies beside it. One that is a mean already is left alone.
        share: Share of the starting weights.
    """
    checkpoint = torch.load(path, map_location="cpu", weights_only=False)
    if checkpoint.get("average"):
        return
    start = torch.load(path.with_name(START), map_location="cpu", weights_only=True)
    model = checkpoint["model"].float()
    state = model.state_dict()
    model.load_state_dict(
        {k: torch.lerp(v, start[k].float(), share) if v.is_floating_point() else v for k, v in state.items()}
    )
    model.half()
    checkpoint["average"] = share
    with appearing(path, binary=True) as file:
        torch.save(checkpoint, file)
    LOGGER.info(f"{path}: {1 - share:g} of the trained and {share:g} of the starting weights (average={share:g})")

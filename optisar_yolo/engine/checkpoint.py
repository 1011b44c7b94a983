"""Weights files: checkpoints (``.pt``), which Ultralytics writes, and shared weights (``.safetensors``).

1. A checkpoint is opened without executing more than its classes (:func:`read_checkpoint`).
2. A shared file holds tensors and a description of the network. Reading it executes none of its content.
3. :func:`store_calibration` writes either kind anew with a calibration, :func:`store_facts` with what it knows.
"""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from ultralytics import utils
from ultralytics.nn.tasks import load_checkpoint

from optisar_yolo.engine.calibrate import (
    ATTRIBUTE,
    MATCH_ATTRIBUTE,
    Calibration,
    CalibrationError,
    attach,
    attach_all,
    calibrations,
)
from optisar_yolo.engine.facts import FACTS, facts_of
from optisar_yolo.hub import fetch_weights, is_hub_name
from optisar_yolo.language import BUILT_IN, Vocabulary
from optisar_yolo.nn import GroundingModel, check_description
from optisar_yolo.plugin import MARK
from optisar_yolo.utils import appearing, short, write_atomic
from optisar_yolo.version import __version__

FORMAT = 2  # of shared files; raised when earlier versions cannot read them. 2: new names of the reranker's layers
UNTRAINED = "object"  # the one category of a network that was not trained
BUNDLED = Path(__file__).resolve().parents[1] / "weights"


class CheckpointError(ValueError):
    """A weights file that cannot be used; the message names it and the remedy."""


def find_weights(name: str | Path) -> Path:
    """Resolve a weights file: a path, the bare name of one that travels with the package, or ``hf://user/name``.

    Raises:
        FileNotFoundError: None of them exists; the message lists the packaged ones.
        CheckpointError: A folder.
        HubError: The Hugging Face Hub has no such weights, or cannot be reached.
    """
    if is_hub_name(name):
        return fetch_weights(str(name))
    path = Path(name)
    if path.is_file():
        return path
    if len(path.parts) == 1 and (BUNDLED / path.name).is_file():
        return BUNDLED / path.name
    if path.is_dir():
        raise CheckpointError(f"{path}: a folder, not a weights file; of a run give its weights/best.pt")
    known = ", ".join(sorted(p.name for p in BUNDLED.glob("*.safetensors"))) or "none"
    hint = "" if path.suffix else "; a network from scratch is optisar++n.yaml (the scales are n, s, m, l and x)"
    raise FileNotFoundError(
        f"weights '{name}' not found, neither as a file nor among the packaged ones ({known}){hint}"
    )


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn the various errors of a broken ``.pt`` file into one that names the file.

    Raises:
        CheckpointError: The file cannot be unpacked.
    """
    _allow_our_classes(path)
    try:
        yield
    except Exception as error:  # bytes at random are instructions to unpickle: OverflowError, struct.error, and others
        if isinstance(error, CheckpointError):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if _restricted() and "outside the supported" in reason:
            raise CheckpointError(
                f"{path}: it names classes that ULTRALYTICS_SAFE_LOAD does not allow; ask for it as .safetensors, or "
                "unset that variable where you trust who made the file"
            ) from error
        raise CheckpointError(f"{path}: damaged or incomplete ({reason[:300]}); copy or download it again") from error


def _restricted() -> bool:
    """Tell whether ``ULTRALYTICS_SAFE_LOAD`` is set: ``.pt`` files may then name known classes alone."""
    return bool(getattr(utils, "SAFE_LOAD", False))


def _allow_our_classes(path: Path) -> None:
    """Let PyTorch's restricted loading make the layers of ours that a checkpoint names, where it is switched on."""
    scan = getattr(torch.serialization, "get_unsafe_globals_in_checkpoint", None)
    if not _restricted() or scan is None:
        return
    try:
        named = scan(path)
    except Exception:
        return  # damaged: the load itself says so
    allowed: list[Any] = []
    for name in named:
        module, _, attribute = name.rpartition(".")
        if module.partition(".")[0] == __name__.partition(".")[0]:
            with suppress(ImportError):
                found = getattr(importlib.import_module(module), attribute, None)
                if isinstance(found, type) and issubclass(found, nn.Module):
                    allowed.append((found, name))
        elif name in ("numpy.ndarray", "numpy.dtype"):  # the state of NumPy's random generator, to resume with
            allowed += [(getattr(np, attribute), name), *{type(np.dtype(t)) for t in ("u4", "f8", "i8")}]
        elif name.endswith("multiarray._reconstruct") and module.startswith("numpy."):
            allowed.append((np.zeros(0).__reduce__()[0], name))
    torch.serialization.add_safe_globals(allowed)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a ``.pt`` file as a dictionary.

    Raises:
        CheckpointError: It cannot be unpacked, or holds something else.
    """
    with readable(path):
        content = torch.load(path, map_location="cpu", weights_only=_restricted())
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path}: a file of {type(content).__name__}, not a checkpoint; give weights of a training"
        )
    return content


def check_finite(model: nn.Module, path: str | Path) -> None:
    """Check that the weights of a model are numbers.

    Raises:
        CheckpointError: NaN or infinity; the message names the first of them.
    """
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise CheckpointError(
                f"{path}: the weights in {name} are not finite numbers, as after a training that diverged; take an "
                "earlier checkpoint, or train again with a lower lr0"
            )


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
    check_finite(model, path)
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
    check_finite(model, path)
    tensors = {
        k: v.half().contiguous() if v.is_floating_point() else v.contiguous() for k, v in model.state_dict().items()
    }
    if wide := [k for k, v in tensors.items() if v.is_floating_point() and not torch.isfinite(v).all()]:
        raise CheckpointError(f"{path}: not written, as weights in {wide[0]} are beyond half precision (65504)")
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
        **({FACTS: facts} if (facts := facts_of(model)) else {}),
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
    _check_metadata(meta, path)
    model = _built(meta["yaml"], sum(v.numel() for v in tensors.values()), path)
    kinds = {k: v.is_floating_point() for k, v in model.state_dict().items()}
    if other := [k for k, v in tensors.items() if kinds.get(k, v.is_floating_point()) != v.is_floating_point()]:
        raise CheckpointError(f"{path}: the tensor {other[0]} is of type {tensors[other[0]].dtype}; download it again")
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{path}: tensors do not fit the network described in the file ({reason})") from error
    check_finite(model, path)
    model.names = {int(k): v for k, v in meta["names"].items()}
    model.text_model, model.text_fingerprint = meta["text_model"], meta["text_fingerprint"]
    model.args = {"imgsz": meta["imgsz"], "task": "detect", "model": str(Path(path).name)}
    model.wordings = tuple(meta["wordings"]) if "wordings" in meta else None
    for key in (FACTS, "nouns"):
        if not isinstance(meta.get(key), dict | None):
            raise CheckpointError(f"{path}: '{key}' is no mapping; the file is damaged: copy or download it again")
    model.facts = facts if isinstance(facts := meta.get(FACTS), dict) else None
    model.nouns = meta["nouns"] if isinstance(meta.get("nouns"), dict) else None
    model.task = "detect"
    model.pt_path = str(path)
    try:
        attach_all(model, meta, path)
    except CalibrationError as error:
        raise CheckpointError(str(error)) from error
    return model.float().eval()


_TEXT = ("a text", lambda v: isinstance(v, str) and len(v) < 10_000)
_METADATA: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "yaml": ("a model description", lambda v: isinstance(v, dict)),
    "names": (
        "names by number",
        lambda v: (
            isinstance(v, dict) and all(k.isdecimal() and len(k) < 9 and isinstance(n, str) for k, n in v.items())
        ),
    ),
    "text_model": _TEXT,
    "text_fingerprint": _TEXT,
    "imgsz": ("a number of pixels from 32 to 16384", lambda v: type(v) is int and 32 <= v <= 16384),
    "wordings": ("a list of texts", lambda v: isinstance(v, list) and all(isinstance(w, str) for w in v)),
}
"""What the metadata of a shared file hold, and a test of it; the last may be missing."""


def _check_metadata(meta: Mapping[str, Any], path: str | Path) -> None:
    """Check the metadata of a shared file.

    Raises:
        CheckpointError: A key is missing, or its value is of another type.
    """
    missing = [k for k in list(_METADATA)[:-1] if k not in meta]
    if missing:
        raise CheckpointError(f"{path}: metadata without {', '.join(missing)}; copy or download it again")
    for key, (wanted, holds) in _METADATA.items():
        if key in meta and not holds(meta[key]):
            raise CheckpointError(
                f"{path}: its metadata have {short(meta[key])} as '{key}', not {wanted}; copy or download it again"
            )


_SPARE = 1 << 24  # values that building a small network takes beside its tensors


class _MemoryBound(TorchDispatchMode):
    """Ends the building of a network that asks for more memory than its file holds, before it gets it.

    Args:
        values: Numbers that new tensors may hold together, and that the result of one operation may hold.
    """

    def __init__(self, values: int) -> None:
        super().__init__()
        self.values = self.left = values

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation of PyTorch."""
        size = args[0] if args and isinstance(args[0], (list, tuple)) else ()
        if size and all(isinstance(n, int) for n in size):  # empty, zeros, randn … of a size
            self.left -= math.prod(size)
        out = None if self.left < 0 else function(*args, **(kwargs or {}))
        if self.left < 0 or (isinstance(out, Tensor) and out.numel() > self.values):
            raise ValueError("it describes a network of far more values than it holds")
        return out


def _built(description: dict[str, Any], held: int, path: str | Path) -> GroundingModel:
    """Build the network that a shared file describes, where it is one of as many values as the file holds.

    Args:
        description: As of a model YAML.
        held: Values in the file's tensors.
        path: The file.

    Raises:
        CheckpointError: No description of a network, or of one that is not in the file.
    """
    try:
        check_description(description, "its network")
        with _MemoryBound(2 * held + _SPARE):
            return GroundingModel(description, verbose=False)
    except (ValueError, TypeError, KeyError, RuntimeError, MemoryError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{path}: damaged, or made to harm: {reason}; copy or download it again") from error


def _read_shared(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return our metadata and the tensors of a shared file.

    Raises:
        CheckpointError: Damaged, or not ours.
    """
    try:
        with safe_open(path, framework="pt") as f:
            meta = json.loads((f.metadata() or {}).get(MARK, "null"))
            tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, ValueError, RecursionError, OSError) as error:
        reason = str(error)[:300]
        raise CheckpointError(f"{path}: damaged or incomplete ({reason}); copy or download it again") from error
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
    stored = {ATTRIBUTE: calibration} | ({} if matches is None else {MATCH_ATTRIBUTE: matches})

    def put(model: GroundingModel) -> None:
        for name, value in stored.items():
            attach(model, value, name)

    return _written_anew(source, target, {name: value.to_dict() for name, value in stored.items()}, put)


def store_facts(source: str | Path, target: str | Path, facts: Mapping[str, Any]) -> Path:
    """Write a weights file anew with what it knows (:mod:`optisar_yolo.engine.facts`); the rest stays the same.

    Args:
        source: ``.pt`` or ``.safetensors``.
        target: File to write, of the same kind or ``.safetensors``. It may be the source itself.
        facts: The facts; those that the file has are replaced.

    Returns:
        The target.

    Raises:
        FileNotFoundError: No such source.
        ValueError: The target has another ending.
        CheckpointError: A source that cannot be used.
    """
    return _written_anew(source, target, {FACTS: dict(facts)}, lambda model: setattr(model, FACTS, dict(facts)))


def _written_anew(
    source: str | Path, target: str | Path, entries: dict[str, Any], put: Callable[[GroundingModel], None]
) -> Path:
    """Write a weights file anew with entries of its metadata, which `put` gives to a network."""
    source, target = find_weights(source), Path(target)
    if target.suffix == ".safetensors" == source.suffix:
        meta, tensors = _read_shared(source)
        return write_atomic(target, save(tensors, metadata={MARK: json.dumps(meta | entries)}))
    if target.suffix == ".safetensors":
        model = load_model(source)
        put(model)
        return save_shared(model, target)
    if (source.suffix, target.suffix) != (".pt", ".pt"):
        raise ValueError(f"cannot write {source.name} as {target.name}: give a file that ends in {source.suffix}")
    checkpoint = read_checkpoint(source)
    for key in ("model", "ema"):
        if isinstance(checkpoint.get(key), GroundingModel):
            put(checkpoint[key])
    with appearing(target, binary=True) as file:
        torch.save(checkpoint, file)
    return target

"""``optisar import-weights``: the weights that the authors published, as a network of ours with the same arithmetic."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from ultralytics.utils import LOGGER
from ultralytics.utils.ops import make_divisible

from optisar_yolo.engine import CheckpointError, save_shared
from optisar_yolo.nn import GroundingModel, load_model_yaml
from optisar_yolo.paper.equals import gates, with_fixed_patch, without_text
from optisar_yolo.paper.names import ours, reason, translate
from optisar_yolo.paper.unpickle import Inert, UnpickleError, part_of, read_checkpoint, tensors_of
from optisar_yolo.utils import UsageError, typed

DEFAULTS: dict[str, Any] = {"model": None, "save": None, "late": False, "fixed_patch": False}
TEXT_MODEL = "mobileclip2:b"  # the only text encoder of the release
UNKNOWN = "unknown: not part of this network"
EXPERTS = "model.8.m.0.moe"  # of the release; its attributes are the settings of the experts
PARTS = (
    (r"model\.[0-7]\.", "backbone, rows 0-7"),
    (r"model\.8\.", "PL-MoE, row 8"),
    (r"model\.(9|1[0-57-8]|20|21)\.", "SPPF, attention and neck"),
    (r"model\.(16|19|22)\.", "TGDF-SSA, rows 16, 19 and 22"),
    (r"model\.23\.(cv2|dfl)\.", "head: boxes"),
    (r"model\.23\.cv[34]\.", "head: scores"),
    (r"model\.23\.reprta\.", "head: text adapter"),
    (r"model\.23\.cv_region\.", "head: region branches (training only)"),
)


@dataclass(frozen=True)
class Imported:
    """What was imported.

    Attributes:
        model: The network, in single precision and evaluation mode.
        source: Which entry of the file the tensors are from: ``ema``, ``model``, or nothing for a file of tensors.
        tensors: All tensors of that entry, by the release's names.
        unused: Why a tensor was not used, by name.
        imgsz: Image side of the training.
    """

    model: GroundingModel
    source: str
    tensors: dict[str, Tensor]
    unused: dict[str, str]
    imgsz: int

    def table(self) -> str:
        """Return which parts of the file were used, with tensors and numbers in them, and which were not and why."""
        rows: dict[tuple[str, str], list[int]] = {}
        for name, value in self.tensors.items():
            part = next((p for pattern, p in PARTS if re.match(pattern, name)), "other")
            key = ("unused", self.unused[name]) if name in self.unused else ("used", part)
            entry = rows.setdefault(key, [0, 0])
            entry[0] += 1
            entry[1] += value.numel()
        lines = [f"{'':<8}{'tensors':>8}{'numbers':>13}  part"]
        for (use, part), (count, numbers) in sorted(rows.items(), key=lambda r: r[0][0] == "unused"):
            lines.append(f"{use:<8}{count:>8}{numbers:>13,}  {part}")
        return "\n".join(lines)


def import_release(path: str | Path) -> Imported:
    """Read a checkpoint of the authors' release; nothing in it is executed.

    Args:
        path: Their ``.pt`` file: a pickled model, averaged (``ema``) or not, or a dictionary of tensors.

    Returns:
        The network and what it was made of.

    Raises:
        FileNotFoundError: No such file.
        CheckpointError: The file is damaged, holds another network, or lacks parts of this one.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"weights '{path}' not found")
    try:
        content = read_checkpoint(path)
        source, root, tensors = _chosen(content)
    except UnpickleError as error:
        raise CheckpointError(f"{path}: {error}") from error
    unused = {name: reason(name) for name in tensors if reason(name)}
    if not tensors:
        raise CheckpointError(f"{path}: no tensors under 'ema' or 'model'; give a checkpoint of the release")
    if len(unused) == len(tensors):
        raise CheckpointError(
            f"{path}: only parts that have no place here, {len(unused)} tensors ({next(iter(unused.values()))}); give "
            "the whole checkpoint of the release"
        )
    theirs = translate(tensors)
    model = GroundingModel(_description(path, root, tensors), verbose=False)
    _load(path, model, theirs)
    own = model.state_dict().keys()
    unused |= {k: UNKNOWN for k in tensors if k not in unused and ours(k) not in own}
    model.text_model = TEXT_MODEL
    imgsz = _number(_mapping(_mapping(content).get("train_args")).get("imgsz"), 32, 4096, 640)
    model.args = {"imgsz": imgsz, "task": "detect"}
    return Imported(model.eval(), source, tensors, unused, imgsz)


def _chosen(content: Any) -> tuple[str, Any, dict[str, Tensor]]:
    """Find the model in a file: its entry, the object, its tensors. Averaged weights are what the release evaluates."""
    for key in ("ema", "model"):
        root = _mapping(content).get(key)
        tensors = tensors_of(root)
        if tensors:
            return key, root, tensors
    return "", content, tensors_of(content)


def _description(path: Path, root: Any, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Describe the network that tensors of these shapes belong to.

    Raises:
        CheckpointError: They belong to no scale of the release.
    """
    telling = ("model.0.conv.weight", f"{EXPERTS}.experts.lora1_A", "model.23.reprta.m.w3.weight")
    missing = [name for name in telling if name not in tensors]
    if missing:
        kind = root.origin.rpartition(".")[2] if isinstance(root, Inert) else "tensors without a model"
        raise CheckpointError(f"{path}: no weights of OptiSAR-Net++ ({kind}): {', '.join(missing)} missing")
    width, experts, adapter = (tuple(tensors[name].shape) for name in telling)
    layers = len({k for k in tensors if re.fullmatch(r"model\.16\.m\.\d+\.cv1\.conv\.weight", k)})
    base = load_model_yaml("optisar++m-official.yaml")
    repeats = base["head"][5][1]
    scales = [
        scale
        for scale, (depth, factor, most) in base["scales"].items()
        if width and width[0] == make_divisible(min(64, most) * factor, 8) and layers == max(round(repeats * depth), 1)
    ]
    if not scales or len(experts) != 3 or not adapter:
        raise CheckpointError(
            f"{path}: {width[0] if width else 0} channels in the first layer, {layers} layers in row 16 and experts of "
            f"shape {experts}: no scale of the release"
        )
    description = load_model_yaml(f"optisar++{scales[0]}-official.yaml")
    known = part_of(root, EXPERTS)
    arguments = description["backbone"][8][3]
    arguments[1], arguments[3] = experts[0], experts[2]
    arguments[2] = _number(known.get("top_k"), 1, experts[0], min(arguments[2], experts[0]))
    arguments[4] = _number(known.get("min_patch"), 1, 32, arguments[4])
    arguments[6] = _number(known.get("target_patches"), 1, 1024, arguments[6])
    description["text_dim"] = adapter[0]
    return description


def _load(path: Path, model: GroundingModel, theirs: Mapping[str, Tensor]) -> None:
    """Load tensors that have our names already.

    Raises:
        CheckpointError: Some are missing, of a wrong shape, or no numbers.
    """
    own = model.state_dict()
    missing = [k for k in own if k not in theirs]
    if missing:
        raise CheckpointError(
            f"{path}: {len(missing)} of {len(own)} tensors missing (here named {_some(missing)}); the file is "
            "incomplete or of another version of the release"
        )
    wrong = [
        f"{k} {tuple(theirs[k].shape)} instead of {tuple(v.shape)}"
        for k, v in own.items()
        if theirs[k].shape != v.shape
    ]
    if wrong:
        raise CheckpointError(
            f"{path}: {len(wrong)} of {len(own)} tensors have another shape (here named {_some(wrong)})"
        )
    tensors = {k: theirs[k].to(v.dtype) for k, v in own.items()}
    # shared files are in half precision, as are those of the release
    broken = [k for k, v in tensors.items() if v.is_floating_point() and not v.half().isfinite().all()]
    if broken:
        raise CheckpointError(f"{path}: {len(broken)} tensors with values that are no finite numbers ({_some(broken)})")
    model.load_state_dict(tensors)


def _some(names: list[str]) -> str:
    """List the first names."""
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _mapping(value: Any) -> dict[Any, Any]:
    """Return a dictionary; an empty one where there is something else."""
    return value if isinstance(value, dict) else {}


def _number(value: Any, low: int, high: int, otherwise: int) -> int:
    """Return a whole number of a file if it lies in the range."""
    return value if type(value) is int and low <= value <= high else otherwise


def main(options: dict[str, str]) -> None:
    """Run ``optisar import-weights FILE``.

    Args:
        options: ``model``, ``save``, ``late`` (without the text branches of the pyramid) and ``fixed_patch`` (patches
            that do not follow the image's size).

    Raises:
        UsageError: No file, or a target that is no ``.safetensors``.
        CheckpointError: A file that cannot be used.
        ValueError: ``late`` of a network whose text reaches the pyramid.
    """
    values = typed(options, DEFAULTS)
    if values["model"] is None:
        raise UsageError("give the authors' checkpoint: optisar import-weights official.pt")
    if values["save"] is not None and Path(values["save"]).suffix != ".safetensors":
        raise UsageError(f"save={values['save']}: expected a name that ends in .safetensors")
    source = Path(values["model"])
    found = import_release(source)
    model = found.model
    scale = model.yaml["scale"]
    LOGGER.info(f"{source}: OptiSAR-Net++ of scale {scale}, entry '{found.source or 'tensors'}'\n{found.table()}")
    unknown = [k for k, why in found.unused.items() if why == UNKNOWN]
    if unknown:
        LOGGER.warning(
            f"{len(unknown)} tensors are not known here ({_some(unknown)}): answers may differ from the release's"
        )
    closed = not any(gates(model).values())
    if values["late"]:
        model = without_text(model)
    if values["fixed_patch"]:
        model = with_fixed_patch(model)
    info = {"imported_from": source.name, "imported_sha256": hashlib.sha256(source.read_bytes()).hexdigest()}
    target = Path(values["save"] or f"optisar++{scale}{'-late' if values['late'] else ''}.safetensors")
    save_shared(model, target, info)
    LOGGER.info(
        f"Written to {target}; its text encoder is {TEXT_MODEL}, whose weights come from Apple (text_weights=…)"
    )
    if closed and not values["late"]:
        LOGGER.info(
            "Both fusion gates are zero in every row: no text reaches the pyramid of this network. With late=True it "
            "is written without its text branches: the same answers, and one look at an image serves all its "
            "sentences."
        )

"""Imports the weights that the authors published as a network of ours with the same arithmetic.

1. :mod:`optisar_yolo.paper.unpickle` reads the checkpoint without executing anything in it.
2. :data:`RULES` translate the names of its tensors to ours, and :func:`arranged` their shapes.
3. The shapes tell the scale; the network is built by ``optisar++<scale>-official.yaml`` and every tensor is checked.
4. :func:`without_text` and :func:`with_fixed_patch` build networks with the same outputs that can do more: encode an
   image once for all expressions, and be exported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from ultralytics.utils import LOGGER
from ultralytics.utils.ops import make_divisible

from optisar_yolo.engine import CheckpointError, save_shared
from optisar_yolo.nn import TGDFSSA, GroundingModel, PLMoE, load_model_yaml
from optisar_yolo.paper.blocks import ClosedTGDFSSA, FittedPLMoE
from optisar_yolo.paper.unpickle import Inert, UnpickleError, part_of, read_checkpoint, tensors_of
from optisar_yolo.utils import file_sha256

TEXT_MODEL = "mobileclip2:b"  # the only text encoder of the release
UNKNOWN = "unknown: not part of this network"
EXPERTS = "model.8.m.0.moe"  # of the release; its attributes are the settings of the experts
GROUPS = 32  # of the shuffle attention where a row of the model YAML does not say
KEPT = ("names", "text_model", "text_fingerprint", "args")  # attributes of a network that a rebuilt one takes over
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
RULES: tuple[tuple[str, str], ...] = (
    # PL-MoE, row 8: plain sequences there are named layers here
    (r"(model\.8\.cv[12])\.0\.", r"\1.conv."),
    (r"(model\.8\.cv[12])\.1\.", r"\1.bn."),
    (r"(model\.8\.m\.\d+)\.layer_scale_daa", r"\1.scale1"),
    (r"(model\.8\.m\.\d+)\.layer_scale_moe", r"\1.scale2"),
    (r"(model\.8\.m\.\d+\.daa)\.channel_attn\.2\.", r"\1.channel.1."),
    (r"(model\.8\.m\.\d+\.daa)\.channel_attn\.4\.", r"\1.channel.3."),
    (r"(model\.8\.m\.\d+\.daa)\.spatial_attn\.", r"\1.spatial."),
    (r"(model\.8\.m\.\d+)\.moe\.w_noise", r"\1.gate.noise"),
    (r"(model\.8\.m\.\d+)\.moe\.gate\.sim_matrix", r"\1.gate.experts"),
    (r"(model\.8\.m\.\d+)\.moe\.gate\.cosine_projector\.", r"\1.gate.project."),
    (r"(model\.8\.m\.\d+)\.moe\.gate\.temperature", r"\1.gate.temperature"),
    (r"(model\.8\.m\.\d+)\.moe\.experts\.shared_conv([12])\.0\.", r"\1.experts.conv\2."),
    (r"(model\.8\.m\.\d+)\.moe\.experts\.shared_conv([12])\.1\.", r"\1.experts.norm\2."),
    (r"(model\.8\.m\.\d+)\.moe\.experts\.lora([12])_A", r"\1.experts.up\2.weight"),
    (r"(model\.8\.m\.\d+)\.moe\.experts\.lora([12])_B", r"\1.experts.down\2.weight"),
    (r"(model\.8\.m\.\d+)\.moe\.experts\.lora_scale", r"\1.experts.gamma"),
    # TGDF-SSA, rows 16, 19 and 22
    (r"(model\.(?:16|19|22)\.attn)\.weight_gate", r"\1.attention_gate"),
    (r"(model\.(?:16|19|22)\.attn)\.ec\.", r"\1.embed."),
    (r"(model\.(?:16|19|22)\.attn)\.proj_conv\.", r"\1.value."),
    (r"(model\.(?:16|19|22)\.attn)\.gl\.proj\.([01])\.", r"\1.guide.\2."),
    (r"(model\.(?:16|19|22)\.attn)\.gl\.proj\.4\.", r"\1.guide.3."),  # its dropout (3) is left out here
    (r"(model\.(?:16|19|22)\.attn)\.gl\.proj\.5\.", r"\1.guide.4."),
    # head, row 23: the last layer of a class branch is the linear embedding of the contrastive head
    (r"(model\.23)\.cv3\.(\d)\.2\.", r"\1.cv4.\2.embed."),
    (r"(model\.23)\.reprta\.m\.", r"\1.adapter.m."),
    (r"(model\.23)\.cv_region\.(\d)\.grid_head\.", r"\1.regions.\2."),
)
"""Beginning of a name there, as a pattern, and what replaces it; the first rule that fits applies."""

UNUSED: tuple[tuple[str, str], ...] = (
    (r"model\.23\.savpe\.", "visual prompts: carried by the release, used by none of its commands"),
    (r"(?:clip_model|text_model)\.", "a cached text encoder: comes from text_model here"),
)
"""Parts of a release that have no place here, and why."""


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
    unused = {name: why_unused(name) for name in tensors if why_unused(name)}
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
    unused |= {k: UNKNOWN for k in tensors if k not in unused and our_name(k) not in own}
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


def import_weights(
    source: str | Path, save: str | Path | None = None, late: bool = False, fixed_patch: bool = False
) -> Path:
    """Import a checkpoint of the authors' release and write it as ``.safetensors``.

    Args:
        source: Their ``.pt`` file.
        save: Target; by default ``optisar++<scale>.safetensors`` or ``optisar++<scale>-late.safetensors`` here.
        late: Write the network without the text branches of its pyramid (see :func:`without_text`).
        fixed_patch: Write it with patches that do not follow the image's size (see :func:`with_fixed_patch`).

    Returns:
        The target.

    Raises:
        FileNotFoundError: No such file.
        CheckpointError: A file that cannot be used.
        ValueError: `late` for a network whose text reaches the pyramid.
    """
    source = Path(source)
    imported = import_release(source)
    model = imported.model
    scale = model.yaml["scale"]
    entry = imported.source or "tensors"
    LOGGER.info(f"{source}: OptiSAR-Net++ of scale {scale}, entry '{entry}'\n{imported.table()}")
    unknown = [k for k, why in imported.unused.items() if why == UNKNOWN]
    if unknown:
        LOGGER.warning(
            f"{len(unknown)} tensors are not known here ({_some(unknown)}): outputs may differ from the release's"
        )
    closed = not any(gates(model).values())
    if late:
        model = without_text(model)
    if fixed_patch:
        model = with_fixed_patch(model)
    target = Path(save or f"optisar++{scale}{'-late' if late else ''}.safetensors")
    save_shared(model, target, {"imported_from": source.name, "imported_sha256": file_sha256(source)})
    LOGGER.info(
        f"Written to {target}; its text encoder is {TEXT_MODEL}, whose weights come from Apple (text_weights=…)"
    )
    if closed and not late:
        LOGGER.info(
            "Both fusion gates are zero in every row: no text reaches the pyramid of this network. With late=True it "
            "is written without its text branches: it gives the same boxes and encodes an image once for all "
            "expressions."
        )
    return target


def our_name(name: str) -> str:
    """Return our name of a tensor of the release; a name that no rule fits stays as it is."""
    for pattern, new in RULES:
        if re.match(pattern, name):
            return re.sub(pattern, new, name, count=1)
    return name


def arranged(name: str, value: Tensor) -> Tensor:
    """Return a tensor of the release in the shape of ours of this (our) name: linear layers there are 1x1 here."""
    if re.search(r"\.daa\.channel\.\d\.weight$", name) and value.ndim == 2:
        return value[..., None, None]
    if re.search(r"\.experts\.up\d\.weight$", name) and value.ndim == 3:  # [E, c, r], all experts side by side here
        return value.permute(1, 0, 2).flatten(1)[..., None, None]
    if re.search(r"\.experts\.down\d\.weight$", name) and value.ndim == 3:  # [E, r, c]
        return value.flatten(0, 1)[..., None, None]
    return value


def translate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a release under our names and in our shapes, without those in :data:`UNUSED`."""
    return {our_name(k): arranged(our_name(k), v) for k, v in tensors.items() if not why_unused(k)}


def why_unused(name: str) -> str:
    """Return why a tensor of the release has no place here; empty where it is not known to have none."""
    return next((why for pattern, why in UNUSED if re.match(pattern, name)), "")


def gates(model: GroundingModel) -> dict[int, float]:
    """Return the largest product of the two gates (Eq. 7) of each text-guided row; 0: no text gets through."""
    found: dict[int, float] = {}
    for i in model.guided:
        row = model.model[i]
        assert isinstance(row, TGDFSSA)
        found[i] = float((row.attn.feature_gate * row.attn.attention_gate).detach().abs().max())
    return found


def without_text(model: GroundingModel) -> GroundingModel:
    """Build the network without the text branches of its pyramid, with the same tensors.

    Args:
        model: A network all of whose fusion gates are closed.

    Returns:
        A network that gives the same boxes, and encodes an image once for all its expressions.

    Raises:
        ValueError: A gate is open, so that there is no such network.
    """
    still_open = {row: size for row, size in gates(model).items() if size}
    if still_open:
        listed = ", ".join(f"row {row}: {size:.2g}" for row, size in still_open.items())
        raise ValueError(f"the text reaches the pyramid of this network ({listed}): without it, boxes would change")
    description = deepcopy(model.yaml)
    for row in description["head"]:
        if row[2] == TGDFSSA.__name__:
            c2, *rest = row[3]
            row[2:] = [ClosedTGDFSSA.__name__, [c2, rest[2] if len(rest) > 2 else GROUPS]]
    description.pop("raw_guide", None)
    return _rebuilt(model, description, "late")


def with_fixed_patch(model: GroundingModel) -> GroundingModel:
    """Build the network with patches of the smallest side that the release aims at, whatever the map's size.

    Args:
        model: A network whose patches follow the map's size.

    Returns:
        A network that can be exported. At 2, as released, it gives the same boxes on canvases whose sides are
        multiples of 64 pixels, below 1920.
    """
    description = deepcopy(model.yaml)
    for row in description["backbone"]:
        if row[2] == FittedPLMoE.__name__:
            row[2:] = [PLMoE.__name__, row[3][:6]]
    return _rebuilt(model, description, "fixed")


def _rebuilt(model: GroundingModel, description: dict[str, Any], kind: str) -> GroundingModel:
    """Build a network by another description with the tensors of the first."""
    name = Path(description.get("yaml_file", "optisar++.yaml"))
    description["yaml_file"] = f"{name.stem}-{kind}{name.suffix}"
    new = GroundingModel(description, verbose=False)
    tensors = model.state_dict()
    names = {k: k if k in tensors else k.replace(".value.", ".attn.value.") for k in new.state_dict()}
    new.load_state_dict({k: tensors[theirs] for k, theirs in names.items()})
    for attribute in KEPT:
        if hasattr(model, attribute):
            setattr(new, attribute, deepcopy(getattr(model, attribute)))
    return new.eval()


def _some(names: list[str]) -> str:
    """List the first names."""
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _mapping(value: Any) -> dict[Any, Any]:
    """Return a dictionary; an empty one where there is something else."""
    return value if isinstance(value, dict) else {}


def _number(value: Any, low: int, high: int, otherwise: int) -> int:
    """Return a whole number of a file if it lies in the range."""
    return value if type(value) is int and low <= value <= high else otherwise

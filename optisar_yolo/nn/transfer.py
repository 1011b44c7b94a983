"""Takes over the weights of another network, layer by layer, where they mean the same.

A tensor of the same name and shape may mean something else: YOLO26's SPPF has the shapes of YOLO11's, but no activation
and a shortcut; a mask head's ``cv4`` has nothing to do with ours. Therefore:

1. Rows are compared by their place: number and sources as in the model YAML, which all networks built like YOLO11
   share (stem, stages, SPPF, attention, neck, head).
2. Two layers *compute the same* if their kinds, activations and settings (stride, padding, pooling, shortcuts) agree.
   A row is taken where all of its layers do. :data:`PARTS` lists the parts of rows that play the same role in two kinds
   of blocks: the first and last convolution of a split block (C3k2, PL-MoE), the box and class branches of a head.
3. Of what computes the same, a layer is taken if all of its tensors have our shapes: a normalisation without its
   convolution means nothing. Nothing is taken that follows a layer of its branch that is not.
4. Layers that read text features are taken from networks of ours with the same text encoder.

Networks of another scale, networks fused for inference and networks of which nothing fits are an error
(:class:`TransferError`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.nn.modules.conv import Conv


class TransferError(ValueError):
    """Weights that cannot be taken over; the message says why and what to give instead."""


NEARLY_ALL = 0.9
"""Share of the parameters from which on a network counts as one that goes on from the other's training. Networks of one
kind share all; with another reranker or text encoder 0.9 and less is left."""

SPLIT = ("C2f", "C3k2", "PLMoE", "FittedPLMoE")
"""Blocks that split a map in two, send one half through inner blocks and join all: their ends play the same role."""

HEAD = "GroundingDetect"
PARTS: dict[str, dict[str, str]] = {
    "split": {"cv1": "cv1", "cv2": "cv2"},
    "head": {"cv2": "cv2", "cv3": "cv3", "dfl": "dfl"},
}
"""Children that play the same role in blocks of two kinds: ours to theirs."""

TEXT = ("cv4", "adapter", "regions", "reranker", "guide")
"""Children that read text features, or are trained by what does: of our head, and of a text-guided row."""

HEAD_PARTS = {
    "cv2": "boxes",
    "cv3": "class branches",
    "cv4": "scores",
    "dfl": "box distances",
    "adapter": "text adapter",
    "regions": "regions",
    "reranker": "reranker",
}

# What tells layers of one kind apart, beside the shapes of their tensors.
_SETTINGS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Conv2d: ("kernel_size", "stride", "padding", "dilation", "padding_mode"),
    nn.modules.batchnorm._BatchNorm: ("eps",),
    nn.Linear: (),
    nn.LayerNorm: ("eps",),
    nn.MaxPool2d: ("kernel_size", "stride", "padding"),
    nn.Upsample: ("scale_factor", "mode"),
}
_PLAIN = (bool, int, float, str)
# Counts that follow from shapes, bookkeeping, and what a pickle of an earlier version may hold or lack.
_IGNORED = {"training", "inplace", "c", "i", "f", "np", "type", "candidates"}
# Settings that older pickles lack, with what they did.
_BEFORE: dict[str, Any] = {"n": 3, "add": False}


@dataclass(frozen=True)
class Transfer:
    """What of a network can be taken from another.

    Attributes:
        taken: Tensor of the other network, by our name.
        left: Reason why tensors are not taken, by our name.
        parameters: Numbers in our trainable tensors: taken and all.
        tensors: Number of all our tensors.
        head: Number of our last row.
    """

    taken: Mapping[str, Tensor]
    left: Mapping[str, str]
    parameters: tuple[int, int]
    tensors: int
    head: int

    @property
    def share(self) -> float:
        """Share of our parameters that is taken, 0..1."""
        return self.parameters[0] / max(self.parameters[1], 1)

    @property
    def goes_on(self) -> bool:
        """Whether our network goes on from the other's training: nearly all, its first layer and what scores texts."""
        scored = ("model.0.", *(f"model.{self.head}.{part}." for part in ("cv3", "cv4", "adapter")))
        return self.share >= NEARLY_ALL and not any(k.startswith(scored) for k in self.left)

    def line(self) -> str:
        """Return what was taken and what was not, in one line."""
        said = f"transferred {len(self.taken)} of {self.tensors} tensors, {100 * self.share:.0f} % of the parameters"
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.left.items():
            places = by_reason.setdefault(reason, [])
            if (place := _place(name, self.head)) not in places:
                places.append(place)
        missing = "; ".join(f"{', '.join(places)} ({reason})" for reason, places in by_reason.items())
        return f"{said}; not taken: {missing}" if missing else said


def match_weights(own: Any, other: nn.Module, origin: str = "") -> Transfer:
    """Find what a network can take from another.

    Args:
        own: A :class:`~optisar_yolo.nn.GroundingModel`.
        other: The network to take from, of ours or of Ultralytics.
        origin: Its file, for messages.

    Raises:
        TransferError: It is fused, of another scale, or nothing of it fits.
    """
    origin = origin or str(getattr(other, "pt_path", "") or "the weights")
    rows: Any = getattr(other, "model", None)
    if not isinstance(rows, nn.Sequential):
        raise TransferError(f"{origin}: {type(other).__name__} is no network of rows like YOLO11's; nothing of it fits")
    if any(isinstance(m, Conv) and not hasattr(m, "bn") for m in rows.modules()):
        raise TransferError(
            f"{origin}: fused for inference, its normalisations are gone; give the weights as training wrote them"
        )
    _check_scale(own, other, origin)
    walk = _Walk(_other_encoder(own, other))
    first = next((m for m in rows[0].modules() if isinstance(m, nn.Conv2d)), None) if len(rows) else None
    other_bands = first is not None and first.in_channels != own.channels
    for i, row in enumerate(own.model):
        name = f"model.{i}"
        if i == 0 and other_bands and first is not None:
            walk.leave(row, name, f"images of {first.in_channels} bands there, of {own.channels} here")
        elif i >= len(rows):
            walk.leave(row, name, f"the network has {len(rows)} rows")
        elif row.f != rows[i].f and row is not own.head:
            walk.leave(row, name, "another place in the network")
        else:
            walk.row(row, rows[i], name)
    state = own.state_dict()
    sizes = {k: p.numel() for k, p in own.named_parameters() if ".dfl." not in k}
    found = Transfer(
        walk.taken,
        walk.left,
        (sum(n for k, n in sizes.items() if k in walk.taken), sum(sizes.values())),
        len(state),
        len(own.model) - 1,
    )
    broken = [k for k, v in found.taken.items() if v.is_floating_point() and not v.isfinite().all()]
    if broken:
        raise TransferError(f"{origin}: {len(broken)} tensors with values that are no finite numbers ({broken[0]}, …)")
    if not other_bands and not any(k.startswith("model.0.") for k in found.taken):
        kind = type(other).__name__
        raise TransferError(
            f"{origin}: its first layer does not fit ({next(iter(found.left.values()), 'other names')}); give weights "
            f"of a YOLO11, YOLOE-11, YOLO26 or OptiSAR-Net++ network, not of this {kind}"
        )
    return found


def transfer(own: Any, other: nn.Module, origin: str = "") -> Transfer:
    """Copy what :func:`match_weights` finds into a network, and return it.

    Raises:
        TransferError: As in :func:`match_weights`.
    """
    found = match_weights(own, other, origin)
    state = own.state_dict()
    with torch.no_grad():
        for name, value in found.taken.items():
            state[name].copy_(value)
    return found


class _Walk:
    """Walks through two networks side by side and sorts our tensors into taken and left."""

    def __init__(self, encoder: str) -> None:
        self.encoder = encoder  # why layers that read text are not taken, empty where they are
        self.taken: dict[str, Tensor] = {}
        self.left: dict[str, str] = {}

    def row(self, own: nn.Module, other: nn.Module, name: str) -> None:
        """Take a row, or the parts of it that play the same role."""
        kinds = _kind(own), _kind(other)
        if kinds[0] == HEAD and kinds[1] != HEAD:
            self.parts(own, other, name, PARTS["head"], "nothing like it there")
        elif difference := _difference(own, other):
            if kinds[0] in SPLIT and kinds[1] in SPLIT:
                why = f"inner blocks: {kinds[1]} there" if kinds[0] != kinds[1] else "other inner blocks there"
                self.parts(own, other, name, PARTS["split"], why)
            else:
                self.leave(own, name, difference)
        else:
            self.layer(own, other, name)

    def parts(self, own: nn.Module, other: nn.Module, name: str, parts: dict[str, str], reason: str) -> None:
        """Take some children, each as a whole or not at all where it computes something else."""
        for child, part in own.named_children():
            there = getattr(other, parts.get(child, ""), None)
            if not isinstance(there, nn.Module):
                self.leave(part, f"{name}.{child}", reason)
            else:
                self.pair(part, there, f"{name}.{child}")
        for key, _ in _own_tensors(own):
            self.left[f"{name}.{key}"] = reason

    def pair(self, own: nn.Module, other: nn.Module, name: str) -> None:
        """Take the layers of a branch as far as they compute the same; the other's may go on."""
        if isinstance(own, nn.ModuleList | nn.Sequential) and type(own) is type(other):
            self.children(own, other, name)
        elif difference := _difference(own, other):
            self.leave(own, name, difference)
        else:
            self.layer(own, other, name)

    def children(self, own: nn.Module, other: nn.Module, name: str) -> None:
        """Take the members of two lists or sequences; in a sequence nothing after one that is left."""
        theirs = dict(other.named_children())
        stop = ""
        for key, part in own.named_children():
            before = len(self.left)
            if stop or key not in theirs:
                self.leave(part, f"{name}.{key}", stop or "nothing like it there")
            else:
                self.pair(part, theirs[key], f"{name}.{key}")
            if isinstance(own, nn.Sequential) and len(self.left) > before and not stop:
                stop = next(reversed(self.left.values()))

    def layer(self, own: nn.Module, other: nn.Module, name: str) -> None:
        """Take layers that compute the same, where all of their tensors fit."""
        if self.encoder and name.rpartition(".")[2] in TEXT:
            self.leave(own, name, self.encoder)
            return
        if isinstance(own, nn.Sequential):
            self.children(own, other, name)
            return
        reads_text = bool(self.encoder) and any(key in TEXT for key, _ in own.named_children())
        if reads_text or (not isinstance(own, Conv) and not dict(_own_tensors(own))):
            self.left |= {f"{name}.{key}": self.encoder for key, _ in _own_tensors(own)}  # gates of what the text says
            theirs = dict(other.named_children())
            for key, part in own.named_children():
                if key in theirs:
                    self.layer(part, theirs[key], f"{name}.{key}")
                else:
                    self.leave(part, f"{name}.{key}", "nothing like it there")
            return
        mine, there = (dict(m.state_dict()) for m in (own, other))
        if set(mine) <= set(there) and all(v.shape == there[k].shape for k, v in mine.items()):
            self.taken |= {f"{name}.{k}": there[k] for k in mine}
        else:
            self.leave(own, name, "other sizes")

    def leave(self, own: nn.Module, name: str, reason: str) -> None:
        """Leave all tensors of a layer."""
        self.left |= {f"{name}.{k}": reason for k in own.state_dict()}


def _own_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors that belong to a module itself."""
    yield from module.named_parameters(recurse=False)
    yield from module.named_buffers(recurse=False)


def _kind(module: nn.Module) -> str:
    """Return the kind of a layer, by which alone layers are told apart where their parts agree."""
    name = type(module).__name__
    return {"LinearSPPF": "SPPF", "DWConv": "Conv"}.get(name, name)


def _difference(own: nn.Module, other: nn.Module) -> str:
    """Say what two layers compute differently, beside the sizes of their tensors; empty where they do the same."""
    if _kind(own) != _kind(other):
        return f"{_kind(other)} there, {_kind(own)} here"
    is_head = _kind(own) == HEAD  # its settings follow from its sizes, and it may lack the reranker
    for name in () if is_head else _names(own, other):
        here, there = (getattr(m, name, _BEFORE.get(name)) for m in (own, other))
        if None not in (here, there) and here != there:
            return f"{_kind(own)} with {name}={there} there, {name}={here} here"
    mine, theirs = dict(own.named_children()), dict(other.named_children())
    if mine.keys() != theirs.keys() and not is_head and not isinstance(own, nn.ModuleList):
        return f"{_kind(own)} of other parts there"
    return next((d for k in mine.keys() & theirs.keys() if (d := _difference(mine[k], theirs[k]))), "")


def _names(own: nn.Module, other: nn.Module) -> list[str]:
    """Return the names of the settings by which two layers of a kind are told apart."""
    for kind, names in _SETTINGS.items():
        if isinstance(own, kind):
            return list(names)
    return sorted({k for m in (own, other) for k, v in vars(m).items() if _is_setting(k, v)})


def _is_setting(name: str, value: Any) -> bool:
    """Tell whether an attribute says what a block does."""
    return isinstance(value, _PLAIN) and name not in _IGNORED and not name.startswith("_")


def _check_scale(own: Any, other: Any, origin: str) -> None:
    """Check that two networks have one scale.

    Raises:
        TransferError: They have not.
    """
    here, there = (str((getattr(m, "yaml", None) or {}).get("scale") or "") for m in (own, other))
    if here == there or not here or not there:
        return
    name = str(own.yaml.get("yaml_file") or "the model")
    fitting = name.replace(f"++{here}", f"++{there}") if f"++{here}" in name else f"optisar++{there}.yaml"
    raise TransferError(
        f"{origin}: of scale {there}, while {name} is of scale {here}: their layers have other sizes. Give weights of "
        f"scale {here}, or model={fitting}"
    )


def _other_encoder(own: Any, other: Any) -> str:
    """Say that two networks read different text encoders; empty where they read the same, or ours none yet."""
    here, there = (str(getattr(m, "text_model", "") or "") for m in (own, other))
    widths = getattr(own, "text_dim", 0), getattr(other, "text_dim", 0)
    if here and there and here != there:
        return f"text encoder {there} there, {here} here"
    return (
        f"text features of {widths[1]} numbers there, {widths[0]} here"
        if 0 not in widths and len({*widths}) > 1
        else ""
    )


def _place(name: str, head: int) -> str:
    """Return the part of the network that a tensor belongs to, in words."""
    _, row, part, *_ = name.split(".")
    return f"head: {HEAD_PARTS.get(part, part)}" if int(row) == head else f"row {row}"

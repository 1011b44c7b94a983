"""Writes checkpoints in the form in which the authors publish theirs: models of classes that are not installed."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from tiny_net import shake
from torch import Tensor, nn

from optisar_yolo.nn.model import GroundingModel
from optisar_yolo.nn.yaml import load_model_yaml

WIDTH = 32  # of the text features
# the release's names, written down apart from the rules that the importer goes by
EXPERTS = {
    "scale1": "layer_scale_daa", "scale2": "layer_scale_moe", "daa.channel.1": "daa.channel_attn.2",
    "daa.channel.3": "daa.channel_attn.4", "daa.spatial": "daa.spatial_attn", "gate.noise": "moe.w_noise",
    "gate.experts": "moe.gate.sim_matrix", "gate.project": "moe.gate.cosine_projector",
    "gate.temperature": "moe.gate.temperature", "experts.conv1": "moe.experts.shared_conv1.0",
    "experts.norm1": "moe.experts.shared_conv1.1", "experts.conv2": "moe.experts.shared_conv2.0",
    "experts.norm2": "moe.experts.shared_conv2.1", "experts.gamma": "moe.experts.lora_scale",
    "experts.up1.weight": "moe.experts.lora1_A", "experts.down1.weight": "moe.experts.lora1_B",
    "experts.up2.weight": "moe.experts.lora2_A", "experts.down2.weight": "moe.experts.lora2_B",
    "norm1": "norm1", "norm2": "norm2",
}  # fmt: skip
FUSION = {
    "attention_gate": "weight_gate", "feature_gate": "feature_gate", "bias": "bias", "temperature": "temperature",
    "embed": "ec", "value": "proj_conv", "guide.0": "gl.proj.0", "guide.1": "gl.proj.1", "guide.3": "gl.proj.4",
    "guide.4": "gl.proj.5",
}  # fmt: skip
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def network(gate: float = 0.0, seed: int = 0, experts: int = 8, rank: int = 256) -> GroundingModel:
    """Build a network of the release at scale n with random weights of half precision, and this attention gate."""
    torch.manual_seed(seed)
    description = load_model_yaml("optisar++n-official.yaml")
    description["backbone"][8][3][1:4:2] = [experts, rank]
    model = GroundingModel(description, verbose=False, text_dim=WIDTH)
    shake(model)
    with torch.no_grad():
        for i in model.guided:
            model.model[i].attn.attention_gate.fill_(gate)
        for value in model.state_dict().values():
            value.copy_(value.half())
    return model.eval()


def released(model: GroundingModel) -> dict[str, Tensor]:
    """Tensors of a network under the release's names, with a part for visual prompts, in half precision."""
    experts = model.yaml["backbone"][8][3][1]
    out: dict[str, Tensor] = {
        "model.23.savpe.cv1.0.0.conv.weight": torch.rand(4, 4, 3, 3),
        "model.23.savpe.cv3.bias": torch.rand(4),
    }
    for name, value in model.state_dict().items():
        row = name.split(".")[1]
        if row == "8":
            name, value = _of_experts(name, value, experts)
        elif row in ("16", "19", "22") and ".attn." in name:
            name = _renamed(name, f"model.{row}.attn.", FUSION)
        elif row == "23":
            name = re.sub(r"cv4\.(\d)\.embed\.", r"cv3.\1.2.", name).replace("23.adapter.", "23.reprta.")
            name = re.sub(r"regions\.(\d)\.", r"cv_region.\1.grid_head.", name)
        out[name] = value.half() if value.is_floating_point() else value
    return out


def _of_experts(name: str, value: Tensor, experts: int) -> tuple[str, Tensor]:
    """Name and arrangement of a tensor of PL-MoE."""
    name = re.sub(r"(model\.8\.cv[12])\.conv", r"\1.0", name)
    name = re.sub(r"(model\.8\.cv[12])\.bn", r"\1.1", name)
    if ".m.0." not in name:
        return name, value
    if ".daa.channel." in name:
        value = value.squeeze(-1).squeeze(-1)
    if "experts.up" in name:  # [c, E * r, 1, 1] to [E, c, r]
        value = value[..., 0, 0].view(len(value), experts, -1).permute(1, 0, 2)
    if "experts.down" in name:  # [E * r, c, 1, 1] to [E, r, c]
        value = value[..., 0, 0].view(experts, -1, value.shape[1])
    return _renamed(name, "model.8.m.0.", EXPERTS), value


def _renamed(name: str, prefix: str, table: dict[str, str]) -> str:
    """Replace the beginning after the prefix."""
    rest = name.removeprefix(prefix)
    mine = max((k for k in table if rest == k or rest.startswith(k + ".")), key=len)
    return prefix + table[mine] + rest.removeprefix(mine)


@contextmanager
def foreign_classes() -> Iterator[Any]:
    """Give a function that makes module classes of the release's framework; afterwards nothing can import them."""
    package = "ultralytics.nn.modules.moe_new_patch"  # a module that stock ultralytics does not have
    module = ModuleType(package)
    sys.modules[package] = module

    def make(name: str) -> type[nn.Module]:
        if not hasattr(module, name):
            setattr(module, name, type(name, (nn.Module,), {"__module__": package}))
        return getattr(module, name)

    try:
        yield make
    finally:
        del sys.modules[package]


def tree(tensors: dict[str, Tensor], make: Any, **settings: Any) -> nn.Module:
    """Build nested modules of foreign classes from tensors by name; settings go to the mixture of experts."""
    root = make("OptiSARNetPlusPlusModel")()
    for name, value in tensors.items():
        *path, leaf = name.split(".")
        part = root
        for step in path:
            if step not in part._modules:
                part.add_module(step, make(f"Part{'Moe' if step == 'moe' else ''}")())
            part = part._modules[step]
        if leaf in BUFFERS:
            part.register_buffer(leaf, value)
        else:
            part.register_parameter(leaf, nn.Parameter(value, requires_grad=False))
    root.register_buffer("scratch", torch.zeros(3), persistent=False)
    for part in root.modules():
        if type(part).__name__ == "PartMoe":
            part.__dict__.update({"top_k": 2, "target_patches": 20, "min_patch": 2} | settings)
    return root


def write(path: Path, model: GroundingModel, old: GroundingModel | None = None, **settings: Any) -> Path:
    """Write a checkpoint as a training leaves it: averaged weights under ``ema``, an older model, an optimiser."""
    extra = settings.pop("extra", {})
    with foreign_classes() as make:
        content = {
            "epoch": 7,
            "model": None if old is None else tree(released(old), make),
            "ema": tree(released(model), make, **settings),
            "optimizer": {"state": {0: {"exp_avg": torch.rand(5)}}, "param_groups": [{"lr": 0.1}]},
            "train_args": {"imgsz": 512, "data": Path("/somewhere/else.yaml")},
            "date": "2026-01-01",
        }
        torch.save(content | extra, path)
    return path

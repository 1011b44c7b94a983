"""From the tensor names of the authors' release to ours: a table of rules."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

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

_COMPILED = tuple((re.compile(pattern), new) for pattern, new in RULES)


def ours(name: str) -> str:
    """Return our name of a tensor of the release; names that no rule knows are the same."""
    for pattern, new in _COMPILED:
        if pattern.match(name):
            return pattern.sub(new, name, count=1)
    return name


def arranged(name: str, value: Tensor) -> Tensor:
    """Arrange a tensor of the release as ours of this (our) name is: shapes differ where linear layers are 1x1 here."""
    if re.search(r"\.daa\.channel\.\d\.weight$", name) and value.ndim == 2:
        return value[..., None, None]
    if re.search(r"\.experts\.up\d\.weight$", name) and value.ndim == 3:  # [E, c, r], all experts side by side here
        return value.permute(1, 0, 2).flatten(1)[..., None, None]
    if re.search(r"\.experts\.down\d\.weight$", name) and value.ndim == 3:  # [E, r, c]
        return value.flatten(0, 1)[..., None, None]
    return value


def translate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the tensors of a release our names and arrangement; those listed in :data:`UNUSED` are left out."""
    kept = {k: v for k, v in tensors.items() if not reason(k)}
    return {ours(k): arranged(ours(k), v) for k, v in kept.items()}


def reason(name: str) -> str:
    """Say why a tensor of the release has no place here; empty if it is not known to have none."""
    return next((why for pattern, why in UNUSED if re.match(pattern, name)), "")

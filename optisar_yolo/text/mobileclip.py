"""Text tower of MobileCLIP2-B, the text encoder of the paper, as open_clip builds it.

The image tower is not built. The weights are Apple's and for research only (terms of 2025), so they are not bundled.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from optisar_yolo.text.encoder import TextEncoder, TextError, fingerprint, offline_switch

MOBILECLIP_FILES = ("mobileclip2_b.pt", "open_clip_model.safetensors")


class MobileClipEncoder(TextEncoder):
    """Text tower of MobileCLIP2-B (Faghri et al. 2025) as open_clip builds it; 63,428,096 parameters.

    The tower is causal: tokens before the end mark do not depend on what follows it, so cropping the padding of the 77
    columns is exact. The PyPI package ``mobileclip`` is an empty shell, hence open_clip.

    Args:
        weights: Weights file, or a folder with one of `MOBILECLIP_FILES`. By default the place that OPTISAR_WEIGHTS
            names, then the model hub, unless YOLO_OFFLINE or HF_HUB_OFFLINE is set. "random" gives random weights, for
            tests only.

    Raises:
        TextError: There are no weights, or they do not fit.
    """

    def __init__(self, weights: str | Path | None = None) -> None:
        import open_clip
        from open_clip.model import _build_text_tower

        config = open_clip.get_model_config("MobileCLIP2-B")
        if config is None:
            raise TextError("this open_clip knows no MobileCLIP2-B; install open_clip_torch>=3.0")
        self.net: Any = _build_text_tower(config["embed_dim"], config["text_cfg"]).eval().requires_grad_(False)
        if weights != "random":
            file = find_mobileclip(weights)
            try:
                state = open_clip.factory.load_state_dict(str(file), weights_only=True)
                self.net.load_state_dict(text_state(state))
            except Exception as e:  # torch, pickle, zip and safetensors each raise their own kinds for a damaged file
                raise TextError(
                    f"{file}: not readable as MobileCLIP2-B weights ({e}); fetch mobileclip2_b.pt again"
                ) from e
        self.mask: Tensor = self.net.attn_mask  # [77, 77]
        self.tokenizer: Any = open_clip.get_tokenizer("MobileCLIP2-B")
        self.name = "mobileclip2:b"
        self.width, self.max_tokens = int(config["embed_dim"]), int(self.tokenizer.context_length)
        vocabulary = json.dumps(sorted(self.tokenizer.encoder.items())).encode()
        self.fingerprint = fingerprint((b"mobileclip2:b", vocabulary), self.net.state_dict())

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        t = self.tokenizer
        return [[t.sot_token_id, *t.encode(text), t.eot_token_id] for text in texts]

    def _forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        length = ids.shape[1]
        # the tower adds the mask as it is, so it must fit the cropped texts
        self.net.attn_mask = self.mask[:length, :length].to(ids.device)
        return self.net(ids)


def text_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the text tower in a MobileCLIP2 checkpoint.

    Args:
        state: Checkpoint with open_clip's names (``text.…``) or Apple's (``text_encoder.…``).

    Returns:
        The weights by open_clip's names without the prefix.

    Raises:
        KeyError: The checkpoint has no text tower.
    """
    names = (
        ("transformer.", "transformer.resblocks."),
        ("projection_layer", "text_projection"),
        ("embedding_layer", "token_embedding"),
        ("final_layer_norm", "ln_final"),
        ("pre_norm_mha.0", "ln_1"),
        ("pre_norm_mha.1", "attn"),
        ("pre_norm_ffn.0", "ln_2"),
        ("pre_norm_ffn.1", "mlp.c_fc"),
        ("pre_norm_ffn.4", "mlp.c_proj"),
        ("qkv_proj.weight", "in_proj_weight"),
        ("qkv_proj.bias", "in_proj_bias"),
        ("positional_embedding.pos_embed.pos_embed", "positional_embedding"),
    )
    out = {k.removeprefix("text."): v for k, v in state.items() if k.startswith("text.")}
    for key, value in state.items():
        if key.startswith("text_encoder."):
            key = key.removeprefix("text_encoder.")
            for old, new in names:
                key = key.replace(old, new)
            out[key] = value.squeeze() if key == "positional_embedding" else value
    if not out:
        raise KeyError("no 'text.' or 'text_encoder.' weights in it")
    return out


def find_mobileclip(weights: str | Path | None) -> Path:
    """Return the file with the MobileCLIP2-B weights.

    Args:
        weights: File or folder; None: the environment variable OPTISAR_WEIGHTS, then the hub.

    Raises:
        TextError: There is none; the message says where to put the file and which terms it has.
    """
    tried = []
    for what, place in (("text_weights", weights), ("OPTISAR_WEIGHTS", os.environ.get("OPTISAR_WEIGHTS"))):
        if not place:
            continue
        path = Path(place).expanduser()
        files = [path / f for f in MOBILECLIP_FILES] if path.is_dir() else [path]
        for file in files:
            if file.is_file():
                return file
        tried.append(f"{what}={place}")
        if what == "text_weights":
            break  # no fallback for a place that the user named
    why = f"not found at {', '.join(tried)}" if tried else "not given"
    if not weights:
        switch = offline_switch()
        if not switch:
            import open_clip

            try:
                return Path(open_clip.download_pretrained(open_clip.get_pretrained_cfg("MobileCLIP2-B", "dfndr2b")))
            except (OSError, ValueError, RuntimeError) as e:  # the hub's errors derive from these
                why += f", and the hub could not be reached ({type(e).__name__})"
        else:
            why += f", and {switch} forbids the hub"
    raise TextError(
        f"MobileCLIP2-B weights {why}. Put mobileclip2_b.pt (huggingface.co/apple/MobileCLIP2-B) in a folder and set "
        "OPTISAR_WEIGHTS to it, or give text_weights=FILE. Apple's weights are for research only (terms "
        "of 2025). The PyPI package 'mobileclip' is an empty shell: the model comes through open_clip. "
        "text_model=pocket needs no weights."
    )

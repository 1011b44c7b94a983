"""Text encoders by name.

The paper (OptiSAR-Net++, Sect. III-C) uses the text tower of MobileCLIP2-B. Here it is one of three choices:

* ``pocket``: small, comes with the package (:mod:`optisar_yolo.text.pocket`);
* ``mobileclip2:b``: the paper's, needs Apple's weights (:mod:`optisar_yolo.text.mobileclip`);
* ``sbert:<name or folder>``: any sentence-transformers model.

Encoders are frozen: an expression is encoded once and its vector cached (:mod:`optisar_yolo.text.cache`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from optisar_yolo.text.encoder import TextEncoder, TextError, fingerprint, offline_switch
from optisar_yolo.text.mobileclip import MobileClipEncoder
from optisar_yolo.text.pocket import PocketEncoder


class SbertEncoder(TextEncoder):
    """Any sentence-transformers model.

    Args:
        source: Name on the hub, or a folder.
        weights: Folder in the place of `source`.

    Raises:
        TextError: sentence-transformers is not installed, or the model cannot be loaded.
    """

    def __init__(self, source: str, weights: str | Path | None = None) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as e:
            raise TextError("text_model=sbert:… needs sentence-transformers: pip install 'optisar-yolo[sbert]'") from e
        where = str(weights or source)
        try:
            model = SentenceTransformer(where, device="cpu", local_files_only=bool(offline_switch()))
        except (OSError, ValueError, KeyError) as e:
            raise TextError(
                f"sbert:{where}: cannot be loaded ({e}); give a sentence-transformers name or folder"
            ) from e
        self.net: Any = model.eval().requires_grad_(False)
        self.tokenizer: Any = self.net.tokenizer
        self.name = f"sbert:{source}"
        self.width = int(F.normalize(self.net.encode(["ship"], convert_to_tensor=True), dim=-1).shape[1])
        self.max_tokens = int(self.net.max_seq_length or 512)
        modules = "".join(repr(m) for m in self.net)  # pooling and normalisation are layers of their own
        vocabulary = json.dumps(sorted(self.tokenizer.get_vocab().items())).encode()
        self.fingerprint = fingerprint((b"sbert", modules.encode(), vocabulary), self.net.state_dict())

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = self.tokenizer(texts, truncation=False, padding=False, verbose=False)["input_ids"]
        return ids

    def _forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        pad = self.tokenizer.pad_token_id or 0
        tokens = torch.where(mask.bool(), ids, torch.full_like(ids, pad))
        out: Tensor = self.net({"input_ids": tokens, "attention_mask": mask})["sentence_embedding"]
        return out


def load_text_encoder(name: str = "pocket", weights: str | Path | None = None) -> TextEncoder:
    """Load a text encoder.

    Args:
        name: ``pocket``, ``mobileclip2:b`` or ``sbert:<name or folder>``.
        weights: File or folder with weights, in the place of the bundled or usual ones.

    Raises:
        TextError: Unknown name, or the encoder cannot be loaded.
    """
    if name == "pocket":
        return PocketEncoder(weights)
    if name == "mobileclip2:b":
        return MobileClipEncoder(weights)
    kind, _, source = name.partition(":")
    if kind == "sbert" and (source or weights):
        return SbertEncoder(source or str(weights), weights)
    raise TextError(f"text_model={name!r} is not known; choose pocket, mobileclip2:b or sbert:<name or folder>")

"""Text encoders behind one small interface, chosen by name.

The paper (OptiSAR-Net++, text branch) uses MobileCLIP2-B; here it is one of three choices. `pocket` travels with the
package, `mobileclip2:b` needs Apple's weights, `sbert:<name or folder>` takes any sentence-transformers model.
Encoders are
frozen: their vectors are computed once per expression and cached (`optisar_yolo.text.cache`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from optisar_yolo.text.encoder import TextEncoder, TextError, check_texts, fingerprint, offline_switch
from optisar_yolo.text.mobileclip import MobileClipEncoder, find_mobileclip
from optisar_yolo.text.pocket import BUNDLED, TOKENIZER_FILE, WEIGHTS_FILE, PocketNet, load_pocket

__all__ = [
    "PocketEncoder",
    "MobileClipEncoder",
    "SbertEncoder",
    "TextEncoder",
    "TextError",
    "check_texts",
    "find_mobileclip",
    "load_text_encoder",
]


class PocketEncoder(TextEncoder):
    """The bundled encoder, see `optisar_yolo.text.pocket`."""

    net: PocketNet

    def __init__(self, folder: str | Path | None = None) -> None:
        """Load a pocket encoder.

        Args:
            folder: folder with `pocket.safetensors` and `tokenizer.json`, or the weights file in it; the bundled one
                if None.

        Raises:
            TextError: a file is missing or damaged.
        """
        from tokenizers import Tokenizer

        where = Path(folder) if folder else BUNDLED
        weights = where if where.suffix == ".safetensors" else where / WEIGHTS_FILE
        tokens = weights.parent / TOKENIZER_FILE
        for file in (weights, tokens):
            if not file.is_file():
                remedy = (
                    "give the folder that `optisar distill` wrote"
                    if folder
                    else "the package is incomplete: install it again"
                )
                raise TextError(f"{file}: missing file of the pocket text encoder; {remedy}")
        try:
            self.net = load_pocket(weights)
        except (ValueError, RuntimeError) as e:
            raise TextError(str(e)) from e
        self.tokenizer = Tokenizer.from_file(str(tokens))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.name, self.width, self.max_tokens = "pocket", self.net.config.out, self.net.config.max_tokens
        self.fingerprint = fingerprint((b"pocket", weights.read_bytes(), tokens.read_bytes()))

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        return [e.ids for e in self.tokenizer.encode_batch(texts)]

    def _forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.net(ids)


class SbertEncoder(TextEncoder):
    """Any sentence-transformers model."""

    def __init__(self, source: str, weights: str | Path | None = None) -> None:
        """Load a model.

        Args:
            source: name on the hub, or a folder.
            weights: folder to take instead of `source`.

        Raises:
            TextError: sentence-transformers is not installed, or the model cannot be loaded.
        """
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as e:
            raise TextError("text_model=sbert:… needs sentence-transformers: pip install 'optisar-yolo[sbert]'") from e
        where = str(weights or source)
        try:
            self.net: Any = (
                SentenceTransformer(where, device="cpu", local_files_only=bool(offline_switch()))
                .eval()
                .requires_grad_(False)
            )
        except (OSError, ValueError, KeyError) as e:
            raise TextError(
                f"sbert:{where}: cannot be loaded ({e}); give a sentence-transformers name or folder"
            ) from e
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
    """Get a text encoder.

    Args:
        name: `pocket`, `mobileclip2:b` or `sbert:<name or folder>`.
        weights: file or folder with weights, where the bundled or usual ones are not wanted.

    Returns:
        The encoder.

    Raises:
        TextError: unknown name, or the encoder cannot be loaded.
    """
    if name == "pocket":
        return PocketEncoder(weights)
    if name == "mobileclip2:b":
        return MobileClipEncoder(weights)
    kind, _, source = name.partition(":")
    if kind == "sbert" and (source or weights):
        return SbertEncoder(source or str(weights), weights)
    raise TextError(f"text_model={name!r} is not known; choose pocket, mobileclip2:b or sbert:<name or folder>")

"""What every text encoder is: a list of expressions in, unit vectors out, whatever the expressions' neighbours are."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from ultralytics.utils import LOGGER

PREPROCESSING = "2"
"""Part of every fingerprint: raise it when expressions are cleaned or tokenised otherwise, so that old caches rest."""
BATCH = 128
_warned: set[str] = set()


class TextError(ValueError):
    """An expression that cannot be encoded, or an encoder that cannot be had; the message names it and the remedy."""


def check_texts(texts: Sequence[str]) -> list[str]:
    """Look through expressions before they are encoded.

    Args:
        texts: expressions, at least one.

    Returns:
        The expressions with outer blanks removed and inner blanks made single.

    Raises:
        TextError: the list is a lone string, empty, or a record in it is no string or blank; the message gives its
            place.
    """
    if isinstance(texts, str):
        raise TextError(f"a list of sentences is wanted, not the lone sentence {texts!r}; put it in a list")
    out = []
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise TextError(f"text {i} is {text!r} of type {type(text).__name__}; a sentence (str) is wanted")
        words = text.split()
        if not words:
            raise TextError(f"text {i} is {'blank' if text else 'empty'}; say what to look for")
        out.append(" ".join(words))
    if not out:
        raise TextError("no texts given; say what to look for")
    return out


class TextEncoder(ABC):
    """A frozen sentence encoder, on the CPU until it is moved.

    Attributes:
        name: what `load_text_encoder` was asked for.
        width: length D of a vector.
        fingerprint: hex digest of weights, tokenizer and preprocessing; two encoders that differ in any of them
            differ here.
        max_tokens: longest token sequence, start and end marks included; the rest of an expression is cut off.
        net: the network.
        device: where it is.
    """

    name: str
    width: int
    fingerprint: str
    max_tokens: int
    net: nn.Module
    device = torch.device("cpu")

    def to(self, device: torch.device) -> TextEncoder:
        """Move the network: a training rewords expressions all the time, which a GPU encodes far faster."""
        self.net.to(device)
        self.device = device
        return self

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """Encode expressions; a vector does not depend on the other expressions.

        Expressions too long are cut, with one warning per process and encoder.

        Args:
            texts: N expressions, N >= 1.

        Returns:
            float32 [N, D] on the CPU, each row of length 1.

        Raises:
            TextError: see `check_texts`.
        """
        tokens = self._tokens(check_texts(texts))
        long = [i for i, t in enumerate(tokens) if len(t) > self.max_tokens]
        if long and self.name not in _warned:
            _warned.add(self.name)
            LOGGER.warning(
                f"{self.name}: {len(long)} text(s) are longer than {self.max_tokens} tokens and are cut, "
                f"the first being {texts[long[0]][:60]!r}…; said once"
            )
        tokens = [
            t if len(t) <= self.max_tokens else [*t[: self.max_tokens - 1], t[-1]] for t in tokens
        ]  # keep the end mark
        order = sorted(
            range(len(tokens)), key=lambda i: len(tokens[i])
        )  # like lengths together: hardly any padding to compute
        rows = []
        for start in range(0, len(order), BATCH):
            part = [tokens[i] for i in order[start : start + BATCH]]
            ids = torch.zeros(len(part), len(part[-1]), dtype=torch.long)
            mask = torch.zeros_like(ids)
            for row, keep, t in zip(ids, mask, part, strict=True):
                row[: len(t)] = torch.tensor(t)
                keep[: len(t)] = 1
            with torch.autocast(self.device.type, enabled=False):  # whatever the precision of a training around it
                vectors = self._forward(ids.to(self.device), mask.to(self.device))
            rows.append(F.normalize(vectors.float(), dim=-1).cpu())
        return torch.cat(rows)[torch.argsort(torch.tensor(order))]

    @abstractmethod
    def _tokens(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text with start and end marks, not cut."""

    @abstractmethod
    def _forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Vectors [B, D] of zero-padded ids [B, T]; mask [B, T] is 1 where a token is real."""


def fingerprint(parts: Iterable[bytes], state: Mapping[str, Tensor] | None = None) -> str:
    """Digest of everything that decides an encoder's vectors.

    Args:
        parts: bytes such as tokenizer files and settings.
        state: weights.

    Returns:
        64 hex digits.
    """
    digest = hashlib.sha256(PREPROCESSING.encode())
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    for key, value in sorted((state or {}).items()):
        digest.update(f"{key}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def offline_switch() -> str | None:
    """The environment variable that forbids downloads, if one does.

    Returns:
        `YOLO_OFFLINE` or `HF_HUB_OFFLINE`, or None where downloads are free.
    """
    for key in ("YOLO_OFFLINE", "HF_HUB_OFFLINE"):
        if os.environ.get(key, "").lower() in ("1", "true", "yes", "on"):
            return key
    return None

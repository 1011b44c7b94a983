"""The interface of text encoders: expressions in, unit vectors out, independent of the other expressions.

The encoders themselves are listed in :mod:`optisar_yolo.text.encoders`.
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from ultralytics.utils import LOGGER

from optisar_yolo.utils import TRUE_WORDS

PREPROCESSING = "2"
"""Part of every fingerprint. Raise it when expressions are cleaned or tokenised otherwise: caches then start anew."""
BATCH = 8
"""Texts that are encoded together, always as many: a lone one is repeated."""
_warned: set[str] = set()


class TextError(ValueError):
    """An expression that cannot be encoded, or an encoder that cannot be loaded; the message says what to do."""


def check_texts(texts: Sequence[str]) -> list[str]:
    """Check expressions and normalise their white space.

    Args:
        texts: At least one expression.

    Returns:
        The expressions without outer blanks and with single inner ones.

    Raises:
        TextError: The list is a lone string or empty, or an item is blank or no string; the message gives its index.
    """
    if isinstance(texts, str):
        raise TextError(f"expected a list of expressions, got the string {texts!r}; put it in a list")
    out = []
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise TextError(f"text {i} is {text!r} of type {type(text).__name__}; an expression must be a string")
        words = text.split()
        if not words:
            raise TextError(f"text {i} is {'blank' if text else 'empty'}; say what to look for")
        out.append(" ".join(words))
    if not out:
        raise TextError("no texts given; say what to look for")
    return out


class TextEncoder(ABC):
    """A frozen text encoder, on the CPU until it is moved.

    Attributes:
        name: The name that :func:`~optisar_yolo.text.encoders.load_text_encoder` takes.
        width: Length D of a vector.
        fingerprint: Hex digest of weights, tokenizer and preprocessing: it differs if any of them does.
        max_tokens: Longest token sequence, start and end marks included; the rest of an expression is cut off.
        net: The network.
        device: Where the network is.
    """

    name: str
    width: int
    fingerprint: str
    max_tokens: int
    net: nn.Module
    device = torch.device("cpu")

    def to(self, device: torch.device) -> TextEncoder:
        """Move the network: training encodes reworded expressions all the time, which a GPU does far faster."""
        self.net.to(device)
        self.device = device
        return self

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """Encode expressions; a vector does not depend on the other expressions.

        Expressions that are too long are cut, with one warning per process and encoder.

        Args:
            texts: N >= 1 expressions.

        Returns:
            float32 [N, D] on the CPU, each row of length 1.

        Raises:
            TextError: See :func:`check_texts`.
        """
        tokens = self._tokens(check_texts(texts))
        long = [i for i, t in enumerate(tokens) if len(t) > self.max_tokens]
        if long and self.name not in _warned:
            _warned.add(self.name)
            LOGGER.warning(
                f"{self.name}: {len(long)} text(s) are longer than {self.max_tokens} tokens and are cut, "
                f"the first being {texts[long[0]][:60]!r}…; said once"
            )
        for i in long:
            tokens[i] = [*tokens[i][: self.max_tokens - 1], tokens[i][-1]]  # keep the end mark
        # The last bits of a matrix product depend on its shape. Here it is [BATCH, tokens of the text], whatever the
        # other texts are: a cache that was filled with others must not give a training other weights.
        out: list[Tensor] = [torch.empty(0)] * len(tokens)
        for length in sorted({len(t) for t in tokens}):
            alike = [i for i, t in enumerate(tokens) if len(t) == length]
            for start in range(0, len(alike), BATCH):
                part = alike[start : start + BATCH]
                ids = torch.tensor([tokens[i] for i in part + part[:1] * (BATCH - len(part))])
                with torch.autocast(self.device.type, enabled=False):  # whatever the precision of a training around it
                    vectors = self._forward(ids.to(self.device), torch.ones_like(ids).to(self.device))
                vectors = F.normalize(vectors.float(), dim=-1).cpu()
                for i, vector in zip(part, vectors, strict=False):
                    out[i] = vector
        return torch.stack(out)

    @abstractmethod
    def _tokens(self, texts: list[str]) -> list[list[int]]:
        """Return the token ids of each text with start and end marks, not cut."""

    @abstractmethod
    def _forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Map zero-padded ids [B, T] to vectors [B, D]; mask [B, T] is 1 where a token is real."""


def fingerprint(parts: Iterable[bytes], state: Mapping[str, Tensor] | None = None) -> str:
    """Return a digest (64 hex digits) of everything that decides an encoder's vectors.

    Args:
        parts: Bytes such as tokenizer files and settings.
        state: Weights.
    """
    digest = hashlib.sha256(PREPROCESSING.encode())
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    for key, value in sorted((state or {}).items()):
        digest.update(f"{key}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def offline_switch() -> str | None:
    """Return the environment variable that forbids downloads, ``YOLO_OFFLINE`` or ``HF_HUB_OFFLINE``, if one does."""
    for key in ("YOLO_OFFLINE", "HF_HUB_OFFLINE"):
        if TRUE_WORDS.get(os.environ.get(key, "").lower()):
            return key
    return None

"""The pocket text encoder: small enough to travel in the wheel, aware of word order.

Not part of the OptiSAR-Net++ paper, which takes MobileCLIP2-B as its text encoder. The pocket encoder is this
project's own student of a sentence-transformers teacher (see `optisar_yolo.text.distillation`): the teacher's whole
WordPiece vocabulary in a factorised table (after ALBERT, Lan et al. 2020), a few pre-norm transformer layers, and two
poolings (mean and learned attention).

Keeping the whole vocabulary is what lets it read words that no training expression held.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

WEIGHTS_FILE = "pocket.safetensors"
TOKENIZER_FILE = "tokenizer.json"
BUNDLED = Path(__file__).resolve().parent.parent / "weights" / "pocket"


@dataclass(frozen=True)
class PocketConfig:
    """Shape of a pocket encoder.

    Attributes:
        vocab: rows of the token table.
        rank: width of the factorised token table.
        dim: width of the transformer.
        layers: number of transformer layers.
        heads: attention heads per layer.
        hidden: width of the feed-forward part.
        out: width of the sentence vector.
        max_tokens: longest token sequence, start and end marks included.
        pad: id of the padding token.
    """

    vocab: int = 30522
    rank: int = 112
    dim: int = 256
    layers: int = 3
    heads: int = 4
    hidden: int = 768
    out: int = 384
    max_tokens: int = 64
    pad: int = 0


class PocketLayer(nn.Module):
    """One pre-norm transformer layer over masked tokens."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        """Build a layer.

        Args:
            dim: token width.
            heads: attention heads; must divide `dim`.
            hidden: width of the feed-forward part.
        """
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Mix tokens.

        Args:
            x: tokens [B, T, C].
            mask: bool [B, 1, 1, T], True where a token is real.

        Returns:
            Tokens [B, T, C].
        """
        b, t, c = x.shape
        q, k, v = (
            self.qkv(self.norm1(x)).view(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        )  # [B, H, T, c]
        # Written out: on a CPU the fused attention is several times slower backwards at lengths like these.
        score = (
            (q @ k.transpose(-2, -1) / math.sqrt(c // self.heads)).float().masked_fill(~mask, -math.inf)
        )  # [B, H, T, T]
        y = score.softmax(-1).to(v.dtype) @ v  # [B, H, T, c]
        x = x + self.proj(y.transpose(1, 2).reshape(b, t, c))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class PocketNet(nn.Module):
    """Token ids to a unit sentence vector."""

    def __init__(self, config: PocketConfig | None = None) -> None:
        """Build the network with fresh weights.

        Args:
            config: the shape; the bundled one if None.
        """
        super().__init__()
        self.config = c = config or PocketConfig()
        self.table = nn.Embedding(c.vocab, c.rank)
        self.widen = nn.Linear(c.rank, c.dim)
        self.positions = nn.Parameter(0.3 * sinusoids(c.max_tokens, c.dim))  # [T, C]
        self.layers = nn.ModuleList(PocketLayer(c.dim, c.heads, c.hidden) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.dim)
        self.look = nn.Linear(c.dim, 1)
        self.head = nn.Linear(2 * c.dim, c.out)
        self.noise = 0.0  # relative noise on the token table in training; makes near words alike
        for layer in self.layers:  # layers start as the identity, so training starts from the plain bag of words
            assert isinstance(layer, PocketLayer)
            nn.init.normal_(layer.proj.weight, std=0.002)
            nn.init.normal_(layer.fc2.weight, std=0.002)

    def pool(self, ids: Tensor) -> Tensor:
        """Token ids to pooled features, before the last linear map.

        Args:
            ids: int64 [B, T], padded with `config.pad`.

        Returns:
            Features [B, 2C]: mean over the tokens beside the attention-weighted mean.
        """
        real = ids != self.config.pad  # [B, T]
        x = self.table(ids)  # [B, T, rank]
        if self.training and self.noise:
            x = x + self.noise * torch.randn_like(x)
        x = self.widen(x) + self.positions[: ids.shape[1]]  # [B, T, C]
        mask = real[:, None, None, :]
        for layer in self.layers:
            x = layer(x, mask)
        x = self.norm(x)
        weight = self.look(x).squeeze(-1).float().masked_fill(~real, -math.inf).softmax(-1)  # [B, T]
        mean = real.float() / real.sum(-1, keepdim=True)  # [B, T]
        return torch.stack((mean, weight), 1).to(x.dtype).bmm(x).flatten(1)  # [B, 2, T] x [B, T, C] -> [B, 2C]

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids to unit sentence vectors.

        Args:
            ids: int64 [B, T] with T <= `config.max_tokens`, padded with `config.pad`.

        Returns:
            float32 [B, out], each row of length 1.
        """
        return F.normalize(self.head(self.pool(ids)).float(), dim=-1)


def sinusoids(count: int, dim: int) -> Tensor:
    """Sine and cosine position codes (Vaswani et al. 2017, section 3.5).

    Args:
        count: number of positions.
        dim: even width.

    Returns:
        float32 [count, dim].
    """
    rate = torch.exp(torch.arange(0, dim, 2) * (-math.log(10000.0) / dim))
    angle = torch.arange(count)[:, None] * rate
    return torch.stack((angle.sin(), angle.cos()), -1).flatten(1)


def save_pocket(net: PocketNet, path: Path) -> None:
    """Write the weights as half-precision safetensors with the shape in the header.

    The file is written beside its final place and moved there, so that a broken run leaves no half file.

    Args:
        net: the network.
        path: the file to write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().to("cpu", torch.float16).contiguous() for k, v in net.state_dict().items()}
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        # Through bytes: safetensors' own writer makes files that only their owner may read.
        part.write_bytes(save(state, {"config": json.dumps(asdict(net.config)), "format": "optisar-pocket-1"}))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def load_pocket(path: Path) -> PocketNet:
    """Read weights written by `save_pocket`.

    Args:
        path: the safetensors file.

    Returns:
        The network in float32, in evaluation mode, without gradients.

    Raises:
        ValueError: the file is no pocket file or is damaged; the message names it.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            meta = file.metadata() or {}
            if meta.get("format") != "optisar-pocket-1":
                raise ValueError(f"{path}: not a pocket text encoder (no 'optisar-pocket-1' mark in its header)")
            state = {k: file.get_tensor(k).float() for k in file.keys()}  # noqa: SIM118  (safe_open is no mapping)
    except SafetensorError as e:
        raise ValueError(
            f"{path}: damaged pocket weights ({e}); install the package again or copy the file anew"
        ) from e
    net = PocketNet(PocketConfig(**json.loads(meta["config"])))
    net.load_state_dict(state)
    return net.eval().requires_grad_(False)

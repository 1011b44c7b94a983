"""The pocket text encoder: small enough for the wheel, and sensitive to word order.

Not part of the OptiSAR-Net++ paper, which uses MobileCLIP2-B. It is distilled from a sentence-transformers teacher (see
:mod:`optisar_yolo.text.distillation`). T token ids become one vector:

1. The teacher's whole WordPiece vocabulary in a factorised table (after ALBERT, Lan et al. 2020), [T, rank] to [T, C],
   plus position codes. With the whole vocabulary the encoder knows words that no training expression has.
2. Pre-norm transformer layers, [T, C].
3. Mean pooling and attention pooling, [2C], then a linear layer and unit length, [D].
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from optisar_yolo.text.encoder import TextEncoder, TextError, fingerprint
from optisar_yolo.utils import write_atomic

WEIGHTS_FILE = "pocket.safetensors"
TOKENIZER_FILE = "tokenizer.json"
FORMAT = "optisar-pocket-1"
BUNDLED = Path(__file__).resolve().parent.parent / "weights" / "pocket"


@dataclass(frozen=True)
class PocketConfig:
    """Shape of a pocket encoder.

    Attributes:
        vocab: Rows of the token table.
        rank: Width of the factorised token table.
        dim: Width of the transformer.
        layers: Number of transformer layers.
        heads: Attention heads per layer.
        hidden: Width of the feed-forward part.
        out: Width of the text vector.
        max_tokens: Longest token sequence, start and end marks included.
        pad: Id of the padding token.
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
    """A pre-norm transformer layer over masked tokens.

    Args:
        dim: Token width.
        heads: Attention heads; must divide `dim`.
        hidden: Width of the feed-forward part.
    """

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map tokens [B, T, C] to tokens [B, T, C]; mask is bool [B, 1, 1, T], True where a token is real."""
        b, t, c = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # [B, H, T, c]
        # Written out: on a CPU the fused attention's backward pass is several times slower at lengths like these.
        score = (q @ k.transpose(-2, -1) / math.sqrt(c // self.heads)).float()  # [B, H, T, T]
        score = score.masked_fill(~mask, -math.inf)
        y = score.softmax(-1).to(v.dtype) @ v  # [B, H, T, c]
        x = x + self.proj(y.transpose(1, 2).reshape(b, t, c))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class PocketNet(nn.Module):
    """Token ids to a unit vector.

    Args:
        config: The shape; that of the bundled weights by default.
    """

    def __init__(self, config: PocketConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or PocketConfig()
        self.table = nn.Embedding(c.vocab, c.rank)
        self.widen = nn.Linear(c.rank, c.dim)
        self.positions = nn.Parameter(0.3 * sinusoids(c.max_tokens, c.dim))  # [T, C]
        self.layers = nn.ModuleList(PocketLayer(c.dim, c.heads, c.hidden) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.dim)
        self.look = nn.Linear(c.dim, 1)  # logits of the attention pooling
        self.head = nn.Linear(2 * c.dim, c.out)
        self.noise = 0.0  # relative noise on the token vectors in training, so that near words become alike
        for layer in self.layers:  # layers start near the identity, so that training starts from a bag of words
            assert isinstance(layer, PocketLayer)
            nn.init.normal_(layer.proj.weight, std=0.002)
            nn.init.normal_(layer.fc2.weight, std=0.002)

    def pool(self, ids: Tensor) -> Tensor:
        """Map ids [B, T], padded with `config.pad`, to features [B, 2C]: mean and attention-weighted mean of tokens."""
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
        """Map ids [B, T], T <= `config.max_tokens`, padded with `config.pad`, to unit vectors float32 [B, out]."""
        return F.normalize(self.head(self.pool(ids)).float(), dim=-1)


def sinusoids(count: int, dim: int) -> Tensor:
    """Return sine and cosine position codes, float32 [count, dim] with dim even (Vaswani et al. 2017, Sect. 3.5)."""
    rate = torch.exp(torch.arange(0, dim, 2) * (-math.log(10000.0) / dim))
    angle = torch.arange(count)[:, None] * rate
    return torch.stack((angle.sin(), angle.cos()), -1).flatten(1)


def save_pocket(net: PocketNet, path: Path) -> None:
    """Write the weights as half-precision safetensors with the shape in the header, atomically."""
    state = {k: v.detach().to("cpu", torch.float16).contiguous() for k, v in net.state_dict().items()}
    write_atomic(path, save(state, {"config": json.dumps(asdict(net.config)), "format": FORMAT}))


def load_pocket(path: Path) -> PocketNet:
    """Read weights that :func:`save_pocket` wrote: float32, in evaluation mode, without gradients.

    Raises:
        ValueError: The file is no pocket file or is damaged; the message names it.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            meta = file.metadata() or {}
            if meta.get("format") != FORMAT:
                raise ValueError(f"{path}: not a pocket text encoder (no '{FORMAT}' mark in its header)")
            state = {k: file.get_tensor(k).float() for k in file.keys()}  # noqa: SIM118  (safe_open is no mapping)
    except SafetensorError as e:
        raise ValueError(
            f"{path}: damaged pocket weights ({e}); install the package again or copy the file anew"
        ) from e
    net = PocketNet(PocketConfig(**json.loads(meta["config"])))
    net.load_state_dict(state)
    return net.eval().requires_grad_(False)


class PocketEncoder(TextEncoder):
    """The bundled encoder, or one that ``optisar distill`` wrote.

    Args:
        folder: Folder with ``pocket.safetensors`` and ``tokenizer.json``, or the weights file in it; the bundled one by
            default.

    Raises:
        TextError: A file is missing or damaged.
    """

    net: PocketNet

    def __init__(self, folder: str | Path | None = None) -> None:
        from tokenizers import Tokenizer

        where = Path(folder) if folder else BUNDLED
        weights = where if where.suffix == ".safetensors" else where / WEIGHTS_FILE
        tokens = weights.parent / TOKENIZER_FILE
        for file in (weights, tokens):
            if not file.is_file():
                remedy = "give the folder that `optisar distill` wrote" if folder else "install the package again"
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

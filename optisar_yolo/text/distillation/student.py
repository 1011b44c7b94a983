"""The student of a distillation: its loss and its training loop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm  # type: ignore[import-untyped]

from optisar_yolo.text.distillation.config import DistillConfig
from optisar_yolo.text.pocket import PocketNet, save_pocket


def tokenise(tokenizer: object, texts: Sequence[str], limit: int) -> Tensor:
    """Return zero-padded token ids, int64 [N, limit].

    Args:
        tokenizer: A `tokenizers.Tokenizer` set to truncate at `limit` and not to pad.
        texts: N texts.
        limit: Width of the result.
    """
    out = np.zeros((len(texts), limit), np.int32)
    for row, e in zip(out, tokenizer.encode_batch(list(texts)), strict=True):  # type: ignore[attr-defined]
        row[: len(e.ids)] = e.ids
    return torch.from_numpy(out).long()


def crop(ids: Tensor) -> Tensor:
    """Cut the columns of ids [N, T] that hold padding only."""
    return ids[:, : int((ids != 0).sum(1).max())]


def forward(net: PocketNet, ids: Tensor, batch: int) -> Tensor:
    """Return the vectors float32 [N, D] of padded ids [N, T], in batches of like lengths, which need little padding."""
    order = torch.argsort((ids != 0).sum(1), stable=True)
    rows = torch.cat([net(crop(ids[part])) for part in order.split(batch)])
    return rows[torch.argsort(order)]


@torch.inference_mode()
def embed(net: PocketNet, ids: Tensor) -> Tensor:
    """Return :func:`forward` without gradients."""
    return forward(net, ids, 256)


def ranking_loss(vectors: Tensor, margin: float, temperature: float) -> Tensor:
    """Return the ranking loss: each expression must be nearer to its other wording than to any other meaning.

    It is the mean over expressions of T·log(1 + Σ exp((negative − positive + margin) / T)), a soft maximum of the
    violations.

    Args:
        vectors: Unit vectors [pairs, 2, 2, D]: axis 1 is (meaning, variant), axis 2 two wordings.
        margin: Cosine by which it must be nearer.
        temperature: Softness T, in cosine.
    """
    n = vectors.shape[0] * 2
    flat = vectors.flatten(0, 2)  # [4 pairs, D]; rows 2k and 2k+1 have the same meaning
    cosine = flat @ flat.T
    owner = torch.arange(n).repeat_interleave(2)
    positive = cosine.gather(1, (torch.arange(2 * n) ^ 1)[:, None])
    gap = (cosine - positive + margin) / temperature
    gap = gap.masked_fill(owner[:, None] == owner[None], -math.inf)
    return temperature * F.softplus(gap.logsumexp(1)).mean()


def draw(count: int, size: int, rng: torch.Generator) -> Tensor:
    """Draw indices below count: int64 [size], distinct where `size` <= `count`."""
    if size > count:
        return torch.randint(count, (size,), generator=rng)
    return torch.randperm(count, generator=rng)[:size]


def train(
    net: PocketNet, data: dict[str, tuple[Tensor, Tensor]], index: Tensor, config: DistillConfig, keep_at: Path
) -> None:
    """Train the network in place.

    Args:
        net: The student.
        data: Token ids [N, T] and teacher vectors [N, D] of the ``said`` (generated), ``real`` and ``generic`` texts.
        index: Rows of ``said`` [meanings, 2, wordings + 1].
        config: The settings.
        keep_at: Weights file, written every 200 steps, so that an early stop leaves a usable encoder.
    """
    rng = torch.Generator().manual_seed(config.seed)
    slow = [net.table.weight]
    rest = [p for p in net.parameters() if p is not net.table.weight]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": 0.01, "lr": config.lr},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0, "lr": config.lr},
        {"params": slow, "weight_decay": 0.0, "lr": config.lr / 4},
    ]
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98))
    warm = min(50, config.steps // 10 + 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda s: min((s + 1) / warm, 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, s / config.steps)))),
    )
    net.train()
    net.noise = config.noise
    bar = tqdm(range(config.steps), desc="distill", unit="step", mininterval=5)
    mean = dict.fromkeys(("said", "real", "generic", "rank"), 0.0)
    for step in bar:
        pick = draw(len(index), config.pairs, rng)
        ways = torch.randperm(index.shape[2], generator=rng)[:2]
        rows = index[pick][:, :, ways].flatten()  # [pairs * 4]
        real = draw(len(data["real"][0]), config.real, rng)
        loose = draw(len(data["generic"][0]), config.generic, rng)
        with torch.autocast("cpu", torch.bfloat16):
            ids = torch.cat((data["said"][0][rows], data["real"][0][real], data["generic"][0][loose]))
            made, front, back = forward(net, ids, 128).split((len(rows), len(real), len(loose)))
        terms = {
            "said": 1 - (made * data["said"][1][rows].float()).sum(-1).mean(),
            "real": 1 - (front * data["real"][1][real].float()).sum(-1).mean(),
            "generic": 1 - (back * data["generic"][1][loose].float()).sum(-1).mean(),
            "rank": ranking_loss(made.view(config.pairs, 2, 2, -1), config.margin, config.temperature),
        }
        loss = terms["said"] + terms["real"] + terms["generic"] + config.rank * terms["rank"]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        keep = min(0.98, step / (step + 1))
        mean = {k: keep * mean[k] + (1 - keep) * v.item() for k, v in terms.items()}
        if step % 200 == 199:
            save_pocket(net, keep_at)
        if step % 20 == 0:
            bar.set_postfix({k: f"{v:.3f}" for k, v in mean.items()})
    net.noise = 0.0
    net.eval()

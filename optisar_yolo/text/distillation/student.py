"""The student's side of distillation: its loss and its training loop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm  # type: ignore[import-untyped]

from optisar_yolo.text.pocket import PocketNet, save_pocket


@dataclass(frozen=True)
class DistillConfig:
    """How the student is taught.

    Attributes:
        steps: optimiser steps.
        lr: peak learning rate of the layers; the token table moves at a quarter of it, so that words which no
            expression holds keep their place among the ones that do.
        meanings: generated pairs (meaning, its one-slot swap).
        wordings: ways in which each pair is said.
        pairs: pairs in a step.
        real: real expressions in a step.
        generic: generic texts in a step.
        rank: weight of the ranking term.
        margin: cosine by which a paraphrase shall beat every other meaning.
        temperature: softness of the ranking term, in cosine.
        noise: standard deviation of the noise on the token table in training, relative to the table's own; it makes
            near words alike.
        seed: source of every draw.
    """

    steps: int = 600
    lr: float = 1e-3
    meanings: int = 7000
    wordings: int = 4
    pairs: int = 48
    real: int = 96
    generic: int = 128
    rank: float = 4.0
    margin: float = 0.15
    temperature: float = 0.05
    noise: float = 0.1
    seed: int = 0


def tokenise(tokenizer: object, texts: Sequence[str], limit: int) -> Tensor:
    """Padded token ids.

    Args:
        tokenizer: a `tokenizers.Tokenizer` set to truncate at `limit` and not to pad.
        texts: expressions.
        limit: width of the result.

    Returns:
        int64 [N, limit], 0 where padded.
    """
    out = np.zeros((len(texts), limit), np.int32)
    for row, e in zip(out, tokenizer.encode_batch(list(texts)), strict=True):  # type: ignore[attr-defined]
        row[: len(e.ids)] = e.ids
    return torch.from_numpy(out).long()


def crop(ids: Tensor) -> Tensor:
    """Cut columns that hold padding only.

    Args:
        ids: [N, T].

    Returns:
        [N, t].
    """
    return ids[:, : int((ids != 0).sum(1).max())]


def forward(net: PocketNet, ids: Tensor, batch: int) -> Tensor:
    """Sentence vectors of padded ids, shortest first: most of a mixed batch would be padding otherwise.

    Args:
        net: the network.
        ids: int64 [N, T].
        batch: expressions at once.

    Returns:
        float32 [N, D].
    """
    order = torch.argsort((ids != 0).sum(1), stable=True)
    rows = torch.cat([net(crop(ids[part])) for part in order.split(batch)])
    return rows[torch.argsort(order)]


@torch.inference_mode()
def embed(net: PocketNet, ids: Tensor) -> Tensor:
    """`forward` for measuring.

    Args:
        net: the network.
        ids: int64 [N, T].

    Returns:
        float32 [N, D].
    """
    return forward(net, ids, 256)


def ranking_loss(vectors: Tensor, margin: float, temperature: float) -> Tensor:
    """Each expression nearer to its other wording than to any other meaning.

    Args:
        vectors: unit vectors [pairs, 2, 2, D]: axis 1 is (meaning, swap), axis 2 two wordings.
        margin: by how much, in cosine.
        temperature: softness, in cosine.

    Returns:
        Mean over expressions of T·log(1 + Σ exp((negative − positive + margin) / T)), a soft maximum of the violations.
    """
    n = vectors.shape[0] * 2
    flat = vectors.flatten(0, 2)  # [4 pairs, D]; rows 2k and 2k+1 say the same
    cosine = flat @ flat.T
    owner = torch.arange(n).repeat_interleave(2)
    positive = cosine.gather(1, (torch.arange(2 * n) ^ 1)[:, None])
    gap = (cosine - positive + margin) / temperature
    gap = gap.masked_fill(owner[:, None] == owner[None], -math.inf)
    return temperature * F.softplus(gap.logsumexp(1)).mean()


def batches(count: int, size: int, rng: torch.Generator) -> Tensor:
    """Endless-looking draws without repeats inside an epoch.

    Args:
        count: how many things there are.
        size: how many to draw.
        rng: source of chance.

    Returns:
        int64 [size], distinct where `size` <= `count`.
    """
    return (
        torch.randperm(count, generator=rng)[:size] if size <= count else torch.randint(count, (size,), generator=rng)
    )


def train(
    net: PocketNet, data: dict[str, tuple[Tensor, Tensor]], index: Tensor, config: DistillConfig, keep_at: Path
) -> None:
    """Teach the network in place.

    Args:
        net: the student.
        data: `said`, `real` and `generic`: token ids [N, T] beside teacher vectors [N, D].
        index: rows of `said` [meanings, 2, wordings + 1].
        config: how.
        keep_at: weights file, written every 200 steps too, so that an early stop leaves a usable encoder.
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
        pick = batches(len(index), config.pairs, rng)
        ways = torch.randperm(index.shape[2], generator=rng)[:2]
        rows = index[pick][:, :, ways].flatten()  # [pairs * 4]
        real = batches(len(data["real"][0]), config.real, rng)
        loose = batches(len(data["generic"][0]), config.generic, rng)
        with torch.autocast("cpu", torch.bfloat16):
            ids = torch.cat((data["said"][0][rows], data["real"][0][real], data["generic"][0][loose]))
            said, front, back = forward(net, ids, 128).split((len(rows), len(real), len(loose)))
        terms = {
            "said": 1 - (said * data["said"][1][rows].float()).sum(-1).mean(),
            "real": 1 - (front * data["real"][1][real].float()).sum(-1).mean(),
            "generic": 1 - (back * data["generic"][1][loose].float()).sum(-1).mean(),
            "rank": ranking_loss(said.view(config.pairs, 2, 2, -1), config.margin, config.temperature),
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

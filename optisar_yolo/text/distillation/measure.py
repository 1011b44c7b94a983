"""How good a text encoder is: agreement with another one, and paraphrases told from swaps."""

from __future__ import annotations

from torch import Tensor


def ranking(triples: Tensor) -> dict[str, float]:
    """Share of questions answered rightly.

    Args:
        triples: unit vectors [N, 3, D]: expression, its paraphrase, its one-slot swap.

    Returns:
        `strict`: the expression is nearer to its paraphrase than to its swap. `choice`: the paraphrase is nearer to the
        expression than to the swap (what a grounding model has to get right when a user words things in another way).
    """
    a, p, s = triples.float().unbind(1)
    ap, as_, ps = (a * p).sum(-1), (a * s).sum(-1), (p * s).sum(-1)
    return {"strict": (ap > as_).float().mean().item(), "choice": (ap > ps).float().mean().item()}


def agreement(student: Tensor, teacher: Tensor) -> dict[str, float]:
    """Cosine between student and teacher.

    Args:
        student: unit vectors [N, D].
        teacher: unit vectors [N, D].

    Returns:
        Mean and 5th percentile.
    """
    cosine = (student.float() * teacher.float()).sum(-1)
    return {"mean": cosine.mean().item(), "p05": cosine.quantile(0.05).item()}

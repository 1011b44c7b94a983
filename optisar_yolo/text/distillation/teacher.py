"""The teacher of a distillation: its vectors, its tokenizer, and the initial token table of the student."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm  # type: ignore[import-untyped]


class Teacher:
    """A sentence-transformers model with its tokenizer and token table.

    Args:
        name: Model name or folder.

    Raises:
        ValueError: The model has no fast tokenizer.
    """

    def __init__(self, name: str) -> None:
        from sentence_transformers import SentenceTransformer

        self.model = SentenceTransformer(name, device="cpu").eval()
        tokenizer = getattr(self.model.tokenizer, "backend_tokenizer", None)
        if tokenizer is None:
            raise ValueError(f"{name}: the teacher has no fast tokenizer, which the student uses; choose another one")
        self.tokenizer = tokenizer
        self.table: Tensor = self.model[0].auto_model.get_input_embeddings().weight.detach().float()  # [V, C]

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], what: str) -> Tensor:
        """Return unit vectors of N texts, float16 [N, D]; `what` is the title of the progress bar."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        parts = []
        for i in tqdm(range(0, len(order), 64), desc=f"teacher: {what}", unit="batch", mininterval=2):
            with torch.autocast("cpu", torch.bfloat16):  # cosine to float32 stays above 0.9999
                part = [texts[j] for j in order[i : i + 64]]
                out = self.model.encode(part, batch_size=64, convert_to_tensor=True, show_progress_bar=False)
            parts.append(F.normalize(out.float(), dim=-1).half())
        features = torch.cat(parts)
        return features[torch.argsort(torch.tensor(order))]

    @torch.inference_mode()
    def words(self) -> Tensor:
        """Return the unit vectors of every token alone, float32 [V, D]."""
        start, end = (self.tokenizer.token_to_id(t) for t in ("[CLS]", "[SEP]"))
        parts = []
        batches = torch.arange(len(self.table)).split(512)
        for ids in tqdm(batches, desc="teacher: vocabulary", unit="batch", mininterval=2):
            tokens = torch.stack((torch.full_like(ids, start), ids, torch.full_like(ids, end)), 1)
            with torch.autocast("cpu", torch.bfloat16):
                out = self.model({"input_ids": tokens, "attention_mask": torch.ones_like(tokens)})["sentence_embedding"]
            parts.append(F.normalize(out.float(), dim=-1))
        return torch.cat(parts)


def factorised(table: Tensor, meaning: Tensor, blind: Tensor, rank: int) -> Tensor:
    """Return the initial token table of the student.

    It holds the principal components of the teacher's token table and of the teacher's vectors of single tokens, side
    by side. For reserved words the vectors are predicted from the table by ridge regression, so that they stay unseen.

    Args:
        table: Teacher's token table [V, C].
        meaning: Teacher's vectors of single tokens [V, D].
        blind: bool [V], True for tokens of reserved words.
        rank: Width of the student's table.

    Returns:
        float32 [V, rank], unit mean square.
    """
    x = (table - table.mean(0)) / table.std()
    y = (meaning - meaning.mean(0)) / meaning.std()
    seen = x[~blind]
    ridge = torch.linalg.solve(seen.T @ seen + 1e-2 * len(seen) * torch.eye(x.shape[1]), seen.T @ y[~blind])
    y = torch.where(blind[:, None], x @ ridge, y)
    both = torch.cat((x, y), 1)
    both = both - both.mean(0)
    _, vectors = torch.linalg.eigh(both.T @ both)  # ascending, so the last are the largest
    low = both @ vectors[:, -rank:]
    return low / low.square().mean().sqrt()

"""The teacher's side of distillation: its sentence vectors, its tokenizer, and a start value for the small table."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm  # type: ignore[import-untyped]


class Teacher:
    """A sentence-transformers model with its token table laid open."""

    def __init__(self, name: str) -> None:
        """Load a teacher.

        Args:
            name: model name or folder.

        Raises:
            ValueError: the model keeps no WordPiece table or no fast tokenizer.
        """
        from sentence_transformers import SentenceTransformer

        self.model = SentenceTransformer(name, device="cpu").eval()
        tokenizer = getattr(self.model.tokenizer, "backend_tokenizer", None)
        if tokenizer is None:
            raise ValueError(
                f"{name}: the teacher has no fast tokenizer, which the student takes over; choose another teacher"
            )
        self.tokenizer = tokenizer
        self.table: Tensor = self.model[0].auto_model.get_input_embeddings().weight.detach().float()  # [V, C]

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], what: str) -> Tensor:
        """Unit sentence vectors.

        Args:
            texts: expressions.
            what: name on the progress bar.

        Returns:
            float16 [N, D].
        """
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        parts = []
        for i in tqdm(range(0, len(order), 64), desc=f"teacher: {what}", unit="batch", mininterval=2):
            with torch.autocast("cpu", torch.bfloat16):  # cosine to float32 stays above 0.9999
                out = self.model.encode(
                    [texts[j] for j in order[i : i + 64]],
                    batch_size=64,
                    convert_to_tensor=True,
                    show_progress_bar=False,
                )
            parts.append(F.normalize(out.float(), dim=-1).half())
        features = torch.cat(parts)
        return features[torch.argsort(torch.tensor(order))]

    @torch.inference_mode()
    def words(self) -> Tensor:
        """What the teacher makes of every vocabulary entry alone.

        Returns:
            float32 [V, D], unit rows.
        """
        start, end = (self.tokenizer.token_to_id(t) for t in ("[CLS]", "[SEP]"))
        parts = []
        for ids in tqdm(
            torch.arange(len(self.table)).split(512), desc="teacher: vocabulary", unit="batch", mininterval=2
        ):
            tokens = torch.stack((torch.full_like(ids, start), ids, torch.full_like(ids, end)), 1)
            with torch.autocast("cpu", torch.bfloat16):
                out = self.model({"input_ids": tokens, "attention_mask": torch.ones_like(tokens)})["sentence_embedding"]
            parts.append(F.normalize(out.float(), dim=-1))
        return torch.cat(parts)


def factorised(table: Tensor, meaning: Tensor, blind: Tensor, rank: int) -> Tensor:
    """Start value of the student's token table.

    Principal components of each token's row in the teacher's table beside what the teacher makes of that token alone.
    For reserved words the second part is not read but predicted from the first, so that they stay unseen.

    Args:
        table: teacher's token table [V, C].
        meaning: teacher's sentence vector of every token alone [V, D].
        blind: bool [V], True for tokens of reserved words.
        rank: width wanted.

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

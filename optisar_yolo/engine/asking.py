"""Asking encoded pictures many sentences, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from optisar_yolo.engine.exported import ExportedModel, Pictures
from optisar_yolo.nn.model import Encoded, GroundingModel

QUERY_BATCH = 16  # sentences that run through the text-guided rows at once: bounds memory, not the answer
TEXT_BATCH = 256  # sentences that are scored at once on a pyramid without text


def ask(
    model: GroundingModel | ExportedModel, scene: Encoded | Pictures, rows: Tensor, texts: Tensor, k: int = 1
) -> tuple[Tensor, Tensor]:
    """Ask sentences of encoded pictures.

    Args:
        model: The network.
        scene: Encoded pictures.
        rows: [N] picture of each sentence.
        texts: [N, D] features of the sentences.
        k: Anchors per sentence.

    Returns:
        Boxes [N, k, 4] xyxy on the canvas and raw confidences [N, k].
    """
    if isinstance(model, ExportedModel):
        assert isinstance(scene, Pictures)
        return model.ask(scene, rows, texts, k)
    assert isinstance(scene, Encoded)
    boxes, confs = [], []
    for _, preds in outputs(model, scene, rows, texts):
        b, c = model.head.decode(preds, k)
        boxes.append(b[:, 0])
        confs.append(c[:, 0])
    return torch.cat(boxes), torch.cat(confs)


def outputs(
    model: GroundingModel, scene: Encoded, rows: Tensor, texts: Tensor
) -> Iterator[tuple[slice, dict[str, Any]]]:
    """Yield the head's outputs on parts of the sentences (one row each, T = 1), with the part as a slice of [0, N).

    Args:
        model: The network.
        scene: Encoded pictures.
        rows: [N] picture of each sentence.
        texts: [N, D] features of the sentences.
    """
    if model.guided:
        for i in range(0, len(rows), QUERY_BATCH):
            part = slice(i, min(i + QUERY_BATCH, len(rows)))
            yield part, model.query(scene.rows(rows[part]), texts[part])
        return
    start = 0
    for row, count in zip(*(x.tolist() for x in torch.unique_consecutive(rows, return_counts=True)), strict=True):
        for i in range(start, start + count, TEXT_BATCH):
            part = slice(i, min(i + TEXT_BATCH, start + count))
            yield part, as_rows(model.query_all(scene.rows(slice(row, row + 1)), texts[None, part]))
        start += count


def as_rows(preds: dict[str, Any]) -> dict[str, Any]:
    """Turn the head's output on one picture and N sentences into N rows of one sentence; nothing is copied."""
    scores = preds["scores"][0][:, None]  # [N, 1, A]
    n = len(scores)
    feats = [f.expand(n, -1, -1, -1) for f in preds["feats"]]
    boxes = None if preds["boxes"] is None else preds["boxes"].expand(n, -1, -1)
    return preds | {"scores": scores, "boxes": boxes, "feats": feats}

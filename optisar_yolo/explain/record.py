"""Explanations as files: images to look at, arrays (.npz) and a JSON record for figures of one's own."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from optisar_yolo.explain.explanation import Explanation
from optisar_yolo.explain.maps import activation_figure, routing_figure, score_figure
from optisar_yolo.utils import write_atomic
from optisar_yolo.visualize import save

PER_FIGURE = 5  # expressions


def write_explanation(seen: Explanation, folder: Path, stem: str) -> list[Path]:
    """Write an image's figures, arrays and record.

    Args:
        seen: The explanation.
        folder: Where to; made if missing.
        stem: Beginning of the files' names.

    Returns:
        The files: ``<stem>_scores.png``, ``<stem>_activations.png`` (more, numbered, where there are many expressions),
        ``<stem>_experts.png`` where there are experts, ``<stem>.npz`` and ``<stem>.json``.

    Raises:
        OSError: The folder cannot be written, or the disk is full.
    """
    files = []
    for name, draw, count in (
        ("scores", score_figure, len(seen.texts)),
        ("activations", activation_figure, len(seen.activations[0])),
    ):
        for page, start in enumerate(range(0, count, PER_FIGURE)):
            number = f"-{page + 1}" if page else ""
            figure = draw(seen, slice(start, start + PER_FIGURE))
            files.append(save(figure, folder / f"{stem}_{name}{number}.png"))
    if seen.routing:
        files.append(save(routing_figure(seen), folder / f"{stem}_experts.png"))
    out = io.BytesIO()
    np.savez_compressed(out, **arrays(seen))
    files.append(write_atomic(folder / f"{stem}.npz", out.getvalue()))
    text = json.dumps(record(seen), indent=1, ensure_ascii=False)
    return [*files, write_atomic(folder / f"{stem}.json", text + "\n")]


def arrays(seen: Explanation) -> dict[str, Any]:
    """Return all maps by name.

    ``score_maps`` [T, H, W], 0..1 over the image alone at the finest stride. Over the canvas, in which the image
    lies at ``extent`` [4] (shares: left, top, right, bottom): ``logits_P3`` [T, h, w] and so on, ``activation_P3``
    [T or 1, h, w] and so on, ``fusion16`` [T, heads, h, w] and so on. ``gates_moe8`` [E, rows, columns] with
    ``patch_moe8`` [2], a patch's height and width in canvas pixels; ``canvas`` [2], its height and width;
    ``boxes`` [T, 4] in pixels of the image; ``candidates`` [T, K, 5] with scores; ``texts`` [T].
    """
    found: dict[str, Any] = {"score_maps": seen.score_maps}
    for level, logits, strength in zip(seen.levels, seen.logits, seen.activations, strict=True):
        found |= {f"logits_{level}": logits, f"activation_{level}": strength}
    found |= seen.fusions
    for block, routing in seen.routing.items():
        found |= {f"gates_{block}": routing.gates, f"patch_{block}": np.array(routing.cell)}
    return found | {
        "extent": seen.frame.extent,
        "canvas": np.array(seen.frame.canvas),
        "boxes": np.stack([answer.box for answer in seen.answers]),
        "candidates": seen.candidates,
        "texts": np.array(seen.texts),
    }


def record(seen: Explanation) -> dict[str, Any]:
    """Return what can be said in numbers: answers and where they come from, and the experts' shares."""
    return {
        "picture": seen.path,
        "width": seen.frame.size[0],
        "height": seen.frame.size[1],
        "sentences": [
            {
                "text": text,
                "box": [round(float(v), 2) for v in answer.box],
                "conf": round(answer.conf, 5),
                "score": round(answer.score, 5),
                "found": answer.found,
                "level": seen.levels[answer.level],
                "row": answer.cell[0],
                "column": answer.cell[1],
            }
            for text, answer in zip(seen.texts, seen.answers, strict=True)
        ],
        "experts": {
            block: {k: [round(float(v), 5) for v in values] for k, values in r.shares(seen.frame)._asdict().items()}
            for block, r in seen.routing.items()
        },
        "notes": seen.notes,
    }

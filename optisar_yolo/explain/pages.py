"""Explanations as files: figures, arrays (.npz), a JSON record, and a page (index.html) that shows the figures."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from optisar_yolo.explain.explainer import NO_EXPERTS, Explainer, Explanation, read_source
from optisar_yolo.explain.maps import activation_figure, routing_figure, routing_sheets, score_figure
from optisar_yolo.utils import write_atomic
from optisar_yolo.visualize import Section, save_figure, write_index

PER_FIGURE = 5  # expressions
FIGURES = {
    "scores": "Where each expression scores",
    "activations": "How strong the features are, and how the text weighs them where it reaches the pyramid",
    "experts": "Experts of the patches",
}
SPLIT_FIGURES = {
    "right": "right boxes, by confidence",
    "failures": "wrong boxes, by confidence",
    "expert_use": "use of the experts by modality and category, with the number of images or objects",
}


def explain_images(explainer: Explainer, source: Any, texts: list[str], folder: Path) -> Path:
    """Explain the images of a source as files, and return the page that shows the figures.

    Args:
        explainer: Explains the images.
        source: File, folder, pattern or list of images.
        texts: Expressions.
        folder: Where the files go.
    """
    sections: list[Section] = []
    stems: set[str] = set()
    for image, name in read_source(source, explainer.net.channels):
        explanation = explainer(image, texts, name)
        stem = unused(Path(name).stem or "picture", stems)
        files = write_explanation(explanation, folder, stem)
        # the name of a figure is <stem>_<kind>.png or <stem>_<kind>-<number>.png
        shown = [(f, FIGURES[f.stem[len(stem) + 1 :].split("-")[0]]) for f in files if f.suffix == ".png"]
        sections.append(Section(Path(name).name, " ".join(explanation.notes), _table(explanation), shown))
    return write_index(folder, "Explained images", sections)


def explain_split(model: Any, explainer: Explainer, settings: dict[str, Any], n: int, folder: Path) -> Path:
    """Validate a split with all plots, draw routing maps, and return the page that shows them.

    Args:
        model: An open :class:`~optisar_yolo.api.OptiSAR`.
        explainer: Of that model; draws the routing maps.
        settings: Of ``val``: ``data``, ``split`` and what else was given.
        n: Images of each modality in the routing maps.
        folder: Where the files go.
    """
    metrics = model.val(**settings, plots=True, project=str(folder.parent), name=folder.name, exist_ok=True)
    maps = routing_sheets(explainer, settings["data"], settings["split"], n, folder)
    shown = [(path, text) for name, text in SPLIT_FIGURES.items() if (path := folder / f"{name}.png").is_file()]
    shown += [(path, "expert of the largest weight in each patch") for path in maps]
    section = Section("Predictions and experts", "" if maps else NO_EXPERTS, metrics.table(), shown)
    return write_index(folder, f"{settings['data']}, {settings['split']}", [section])


def write_explanation(explanation: Explanation, folder: Path, stem: str) -> list[Path]:
    """Write the figures, arrays and record of an image.

    Args:
        explanation: The explanation.
        folder: Where the files go; made if missing.
        stem: Beginning of the files' names.

    Returns:
        The files: ``<stem>_scores.png``, ``<stem>_activations.png`` (more, numbered, for many expressions),
        ``<stem>_experts.png`` where there are experts, ``<stem>.npz`` and ``<stem>.json``.

    Raises:
        OSError: The folder cannot be written, or the disk is full.
    """
    files = []
    for name, draw, count in (
        ("scores", score_figure, len(explanation.texts)),
        ("activations", activation_figure, len(explanation.activations[0])),
    ):
        for page, start in enumerate(range(0, count, PER_FIGURE)):
            number = f"-{page + 1}" if page else ""
            figure = draw(explanation, slice(start, start + PER_FIGURE))
            files.append(save_figure(figure, folder / f"{stem}_{name}{number}.png"))
    if explanation.routing:
        files.append(save_figure(routing_figure(explanation), folder / f"{stem}_experts.png"))
    out = io.BytesIO()
    np.savez_compressed(out, **arrays(explanation))
    files.append(write_atomic(folder / f"{stem}.npz", out.getvalue()))
    text = json.dumps(record(explanation), indent=1, ensure_ascii=False)
    return [*files, write_atomic(folder / f"{stem}.json", text + "\n")]


def arrays(explanation: Explanation) -> dict[str, Any]:
    """Return all maps by name.

    ``score_maps`` [T, H, W] cover the image without padding at the finest stride. The other maps cover the canvas, in
    which the image lies at ``extent`` [4] (left, top, right, bottom as shares): ``logits_P3`` [T, h, w] and so on,
    ``activation_P3`` [T or 1, h, w] and so on, ``fusion16`` [T, heads, h, w] and so on, ``gates_moe8``
    [E, rows, columns] with ``patch_moe8`` [2], height and width of a patch in canvas pixels. Besides: ``canvas`` [2],
    its height and width; ``boxes`` [T, 4] in pixels of the image; ``candidates`` [T, K, 5] with scores; ``texts`` [T].
    """
    maps: dict[str, Any] = {"score_maps": explanation.score_maps}
    for level, logits, strength in zip(explanation.levels, explanation.logits, explanation.activations, strict=True):
        maps |= {f"logits_{level}": logits, f"activation_{level}": strength}
    maps |= explanation.fusions
    for block, routing in explanation.routing.items():
        maps |= {f"gates_{block}": routing.gates, f"patch_{block}": np.array(routing.cell)}
    return maps | {
        "extent": explanation.frame.extent,
        "canvas": np.array(explanation.frame.canvas),
        "boxes": np.stack([best.box for best in explanation.boxes]),
        "candidates": explanation.candidates,
        "texts": np.array(explanation.texts),
    }


def record(explanation: Explanation) -> dict[str, Any]:
    """Return the numbers of an explanation: best boxes, their anchors, and the experts' shares."""
    return {
        "picture": explanation.path,
        "width": explanation.frame.size[0],
        "height": explanation.frame.size[1],
        "sentences": [
            {
                "text": text,
                "box": [round(float(v), 2) for v in best.box],
                "conf": round(best.conf, 5),
                "score": round(best.score, 5),
                "found": best.found,
                "level": explanation.levels[best.level],
                "row": best.cell[0],
                "column": best.cell[1],
            }
            for text, best in zip(explanation.texts, explanation.boxes, strict=True)
        ],
        "experts": {
            block: {
                k: [round(float(v), 5) for v in values]
                for k, values in routing.shares(explanation.frame)._asdict().items()
            }
            for block, routing in explanation.routing.items()
        },
        "notes": explanation.notes,
    }


def unused(stem: str, used: set[str]) -> str:
    """Return a beginning for the names of an image's files that no other image of the run has, and note it as used."""
    name, number = stem, 1
    while name in used:
        number += 1
        name = f"{stem}-{number}"
    used.add(name)
    return name


def _table(explanation: Explanation) -> str:
    """Return a line for each expression: confidence, level, box, text."""
    lines = []
    for text, best in zip(explanation.texts, explanation.boxes, strict=True):
        box = ", ".join(f"{v:.0f}" for v in best.box)
        below = "" if best.found else " (below conf)"
        lines.append(f"{best.conf:.3f}  {explanation.levels[best.level]}  [{box}]{below}  {text}")
    return "\n".join(lines)

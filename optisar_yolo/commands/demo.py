"""`optisar demo`: see it work on rendered scenes, without data or network: validate, ask, train a little, look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ultralytics.utils import LOGGER

from optisar_yolo.api import OptiSAR
from optisar_yolo.data import ImageRecord, load_dataset_config, load_split, read_image
from optisar_yolo.language import swap
from optisar_yolo.utils import BUNDLED_MODEL
from optisar_yolo.visualize import Section, draw_answers, write_index

DEFAULTS: dict[str, Any] = {"out": "demo", "data": "demo.yaml", "model": BUNDLED_MODEL, "pictures": 6}
TRAIN = {"imgsz": 192, "epochs": 1, "fraction": 0.5, "batch": 8, "warmup_epochs": 0, "plots": True, "verbose": False}


def main(options: dict[str, str]) -> None:
    """Run the demo.

    Args:
        options: ``out`` (folder), ``data`` (dataset config), ``model`` (weights) and ``images`` (how many are asked).
    """
    settings = DEFAULTS | options
    out = Path(settings["out"]).resolve()
    out.mkdir(parents=True, exist_ok=True)
    config = load_dataset_config(settings["data"])
    model = OptiSAR(settings["model"])

    LOGGER.info(f"1/3 validating {settings['model']} on {config.root}")
    metrics = model.val(data=settings["data"], split="test", project=str(out), name="val", exist_ok=True, plots=True)
    LOGGER.info("2/3 asking")
    asked = _ask(model, load_split(config, "test"), out, int(settings["pictures"]))
    LOGGER.info("3/3 training a new model for one short epoch")
    fresh = OptiSAR("optisar++n.yaml")
    fresh.train(data=settings["data"], project=str(out), name="train", exist_ok=True, **TRAIN)

    sections = [
        Section(
            "Expressions and answers",
            "Bundled weights; each expression is asked on its own, one best box each.",
            "",
            asked,
        ),
        Section(
            "Validation on rendered scenes",
            "Every expression of the procedural test split. Figures on rendered scenes say little about real images.",
            metrics.table(),
            [(out / "val" / n, c) for n, c in (("best.png", "Best cases"), ("worst.png", "Worst cases"))],
        ),
        Section(
            "One short epoch of training",
            "What the trainer feeds a new network: augmented images with the expressions rewritten to stay true.",
            "",
            [(p, p.name) for p in sorted((out / "train").glob("train_batch*.jpg"))[:1]],
        ),
    ]
    page = write_index(out, "OptiSAR-Net++ demo", sections)
    LOGGER.info(f"Open {page}")


def _ask(model: OptiSAR, images: list[ImageRecord], out: Path, count: int) -> list[tuple[Path, str]]:
    """Ask true expressions, and one that is changed by a word, of images of both modalities in turn."""
    both = [[p for p in images if p.modality == m and any(p.captions)] for m in ("optical", "sar")]
    chosen = [p for pair in zip(*both, strict=False) for p in pair][:count]
    drawn = []
    for image in chosen:
        texts = [c for own in image.captions for c in own][:3]
        texts += [v.text for v in swap(texts[0]) if v.text not in texts][:1]
        scene = model.encode(image.path)
        boxes = scene.ground(texts).boxes.data.cpu().numpy()
        path = out / f"ask_{image.path.stem}.png"
        draw_answers(read_image(image.path), np.asarray(boxes), dict(enumerate(texts))).save(path)
        drawn.append((path, image.path.name))
    return drawn

"""``optisar demo``: validate, ground and train on rendered images, without data or network, and write a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from optisar_yolo.utils import BUNDLED_MODEL, Command, Option

if TYPE_CHECKING:
    from optisar_yolo.api import OptiSAR
    from optisar_yolo.data import ImageRecord

COMMAND = Command(
    "demo",
    "validate, ground and train on rendered images, without data or network",
    options=(
        Option("out", "file", "demo", "folder to write"),
        Option("data", "file", "demo.yaml", "dataset config"),
        Option("model", "file", BUNDLED_MODEL, "weights"),
        Option("images", "int", 6, "number of images on which expressions are grounded", low=0, old=("pictures",)),
    ),
    example="out=demo",
)
TRAIN = {"imgsz": 192, "epochs": 1, "fraction": 0.5, "batch": 8, "warmup_epochs": 0, "plots": True, "verbose": False}


def main(values: dict[str, Any]) -> None:
    """Run the demo, and write its page.

    Args:
        values: See :data:`COMMAND`.

    Raises:
        DataError: Data that cannot be used.
        FileNotFoundError: No such weights.
    """
    from ultralytics.utils import LOGGER

    from optisar_yolo.api import OptiSAR
    from optisar_yolo.data import load_dataset_config, load_split
    from optisar_yolo.visualize import Section, write_index

    out = Path(values["out"]).resolve()
    out.mkdir(parents=True, exist_ok=True)
    config = load_dataset_config(values["data"])
    model = OptiSAR(values["model"])

    LOGGER.info(f"1/3 validating {values['model']} on {config.root}")
    metrics = model.val(data=values["data"], split="test", project=str(out), name="val", exist_ok=True, plots=True)
    LOGGER.info("2/3 grounding expressions")
    drawings = _ground(model, load_split(config, "test"), out, values["images"])
    LOGGER.info("3/3 training a new model for one short epoch")
    fresh = OptiSAR("optisar++n.yaml")
    fresh.train(data=values["data"], project=str(out), name="train", exist_ok=True, **TRAIN)

    sections = [
        Section("Expressions and boxes", "Bundled weights; one best box for each expression.", images=drawings),
        Section(
            "Validation on rendered images",
            "Every expression of the procedural test split. Figures on rendered images say little about real ones.",
            metrics.table(),
            [(out / "val" / n, c) for n, c in (("best.png", "Best cases"), ("worst.png", "Worst cases"))],
        ),
        Section(
            "One short epoch of training",
            "A training batch: augmented images, with expressions that are rewritten to stay true.",
            images=[(p, p.name) for p in sorted((out / "train").glob("train_batch*.jpg"))[:1]],
        ),
    ]
    page = write_index(out, "OptiSAR-Net++ demo", sections)
    LOGGER.info(f"Open {page}")


def _ground(model: OptiSAR, images: list[ImageRecord], out: Path, count: int) -> list[tuple[Path, str]]:
    """Ground true expressions, and one with a changed word, on images of both modalities in turn."""
    from optisar_yolo.data import read_image
    from optisar_yolo.language import swap
    from optisar_yolo.visualize import draw_predictions

    both = [[p for p in images if p.modality == m and any(p.captions)] for m in ("optical", "sar")]
    chosen = [p for pair in zip(*both, strict=False) for p in pair][:count]
    drawings = []
    for image in chosen:
        texts = [c for captions in image.captions for c in captions][:3]
        texts += [v.text for v in swap(texts[0]) if v.text not in texts][:1]
        boxes = model.encode(image.path).ground(texts).boxes.data.cpu().numpy()
        path = out / f"ask_{image.path.stem}.png"
        draw_predictions(read_image(image.path), boxes, dict(enumerate(texts))).save(path)
        drawings.append((path, image.path.name))
    return drawings

"""``optisar demo``: teach the bundled weights a kind of object that they have never seen, and show before and after.

1. A few images of radio telescopes are rendered, with expressions: no data set of this project has any.
2. The weights ground the expressions of the test images, and the boxes are compared with the true ones.
3. They are fine-tuned on the training images, for a minute at most on two cores.
4. They ground the same expressions again. A page shows both, side by side.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optisar_yolo.utils import BUNDLED_MODEL, Command, Option

if TYPE_CHECKING:
    from optisar_yolo.api import OptiSAR
    from optisar_yolo.data import ImageRecord
    from optisar_yolo.engine import GroundingMetrics

COMMAND = Command(
    "demo",
    "fine-tune the bundled weights on a new kind of object, and show what they find before and after",
    options=(
        Option("out", "file", "demo", "folder to write"),
        Option("data", "file", None, "dataset config; by default radio telescopes, rendered on first use"),
        Option("model", "file", BUNDLED_MODEL, "weights to start from"),
        Option("epochs", "int", 8, "passes over the training images", low=1),
        Option("images", "int", 6, "number of test images on the page", low=0, old=("pictures",)),
    ),
    example="out=demo",
)
COUNTS = {"train": 32, "val": 8, "test": 16}
SIZE = (224, 320)  # pixels of the longer side
TRAIN: dict[str, Any] = {"imgsz": 256, "batch": 8, "lr0": 1e-3, "warmup_epochs": 0.5, "workers": 0, "plots": False}


def main(values: dict[str, Any]) -> None:
    """Run the demo, and write its page.

    Args:
        values: See :data:`COMMAND`.

    Raises:
        DataError: Data that cannot be used.
        FileNotFoundError: No such weights.
    """
    from optisar_yolo.api import OptiSAR
    from optisar_yolo.data import load_dataset_config, load_split
    from optisar_yolo.visualize import Section, write_index

    started = time.perf_counter()
    out = Path(values["out"]).resolve()
    out.mkdir(parents=True, exist_ok=True)
    with _quiet():
        model = OptiSAR(values["model"])
        data = values["data"] or _radio_telescopes(out / "radio-telescopes")
        config = load_dataset_config(data)
        images = load_split(config, "test")
        noun = "radio telescopes" if values["data"] is None else f"the objects of {config.path.name}"
        train = len(load_split(config, "train"))
        _say(f"1/4 {train} images of {noun} to train on, {len(images)} to test on")
        before = _validate(model, data, out / "before")
        shown = [p for p in images if any(p.captions)][: values["images"]]
        drawn = _draw(model, shown, out, "before")
        _say(f"2/4 before: {_right(before)} of {len(before)} expressions get the right box")

        def epoch_done(trainer: Any) -> None:
            _say(f"    epoch {trainer.epoch + 1} of {values['epochs']}")

        _say("3/4 fine-tuning")
        model.add_callback("on_train_epoch_end", epoch_done)
        model.train(
            data=str(data),
            epochs=values["epochs"],
            project=str(out),
            name="train",
            exist_ok=True,
            verbose=False,
            **TRAIN,
        )
        tuned = OptiSAR(str(out / "train" / "weights" / "best.pt"))
        after = _validate(tuned, data, out / "after")
        pairs = [pair for both in zip(drawn, _draw(tuned, shown, out, "after"), strict=True) for pair in both]
    _say(f"4/4 after: {_right(after)} of {len(after)} expressions get the right box")

    table = _table(before, after)
    sections = [
        Section(
            f"Before and after {values['epochs']} epochs on {train} images",
            f"Right boxes (IoU of at least 0.5) for the {len(after)} expressions of the test images. Figures on "
            "rendered images say little about real ones.",
            table,
        ),
        Section(
            "The same expressions, before and after",
            "A box has the number of its expression. Before, most expressions get no box: the weights do not know the "
            "object.",
            images=pairs,
        ),
    ]
    page = write_index(out, "OptiSAR-Net++ demo: a new kind of object", sections)
    _say(f"\n{table}\n\n{time.perf_counter() - started:.0f} s. The tuned weights are {out / 'train/weights/best.pt'}")
    _say(f"Open {page}")


def _say(text: str) -> None:
    print(text, flush=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Let only errors of the libraries through: the demo says itself what happens."""
    from ultralytics.utils import LOGGER

    level = LOGGER.level
    LOGGER.setLevel(logging.ERROR)  # also ends Ultralytics' progress bars
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        LOGGER.setLevel(level)


def _radio_telescopes(folder: Path) -> Path:
    """Render the data set, where it is not there yet, and return its dataset config."""
    import yaml

    from optisar_yolo.synthetic import RADIO_TELESCOPE, render_dataset
    from optisar_yolo.utils import write_atomic

    if not (folder / "test.json").is_file():
        render_dataset(folder, counts=COUNTS, size=SIZE, kinds="new")
    content = {"path": ".", **{split: f"{split}.json" for split in COUNTS}, "names": [RADIO_TELESCOPE]}
    return write_atomic(folder / "radio-telescopes.yaml", yaml.safe_dump(content, sort_keys=False))


def _validate(model: OptiSAR, data: str | Path, folder: Path) -> GroundingMetrics:
    """Ground every expression of the test split."""
    return model.val(
        data=str(data), split="test", imgsz=TRAIN["imgsz"], project=str(folder.parent), name=folder.name, exist_ok=True,
        plots=False, verbose=False, workers=0,
    )  # fmt: skip


def _right(metrics: GroundingMetrics) -> int:
    """Return how many boxes are right."""
    return int((metrics.column("iou") >= 0.5).sum())


def _table(before: GroundingMetrics, after: GroundingMetrics) -> str:
    """Return the figures before and after as a table of text."""
    rows = [f"{'':<8}{'right boxes':>16}{'mean IoU':>10}"]
    for name, metrics in (("before", before), ("after", after)):
        right = f"{_right(metrics)} of {len(metrics)}"
        rows.append(f"{name:<8}{right:>16}{float(metrics.column('iou').mean()):>10.2f}")
    return "\n".join(rows)


def _draw(model: OptiSAR, images: list[ImageRecord], out: Path, when: str) -> list[tuple[Path, str]]:
    """Draw what the model finds for the expressions of images."""
    from optisar_yolo.data import read_image
    from optisar_yolo.visualize import draw_predictions

    drawings = []
    for image in images:
        texts = [c for captions in image.captions for c in captions][:4]
        boxes = model.encode(image.path, imgsz=TRAIN["imgsz"]).ground(texts).boxes.data.cpu().numpy()
        path = out / f"{image.path.stem}-{when}.png"
        draw_predictions(read_image(image.path), boxes, dict(enumerate(texts))).save(path)
        drawings.append((path, f"{image.path.name}, {when}"))
    return drawings

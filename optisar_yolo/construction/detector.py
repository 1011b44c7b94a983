"""Trains a stock detector on all folds but one, and predicts the objects of that one."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from ultralytics import YOLO
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import LOGGER
from ultralytics.utils.torch_utils import strip_optimizer

CONFIDENCE = 0.05  # threshold of the detections that are compared with the annotations
MOST = 1000  # detections of an image; harbours and car parks hold more than the usual 300


class FoldTrainer(DetectionTrainer):
    """Stock training that downloads no fonts and does not use the held-out part."""

    def get_dataset(self) -> dict[str, Any]:
        """Read the dataset config; the stock method would download a font for plots."""
        config = yaml.safe_load(Path(self.args.data).read_text(encoding="utf-8"))
        return config | {"path": Path(self.args.data).parent, "nc": len(config["names"]), "channels": 3}

    def validate(self) -> tuple[dict[str, float], float]:
        """Measure nothing, so that no epoch is chosen by its results on the held-out part."""
        return {}, 0.0

    def final_eval(self) -> None:
        """Take the optimizer's state out of the weights; the last ones are the result."""
        strip_optimizer(self.last)


def train_fold(config: Path, model: str, jobs: int, **settings: Any) -> Path:
    """Train a detector, or go on with a training that was interrupted, and return the weights after the last epoch.

    Args:
        config: Dataset config of the fold; the training's folder is created beside it.
        model: Architecture ("yolo11n.yaml") or weights.
        jobs: Worker processes that load images.
        **settings: Of Ultralytics' training: epochs, imgsz, batch, device, seed.
    """
    folder = config.parent / "train"
    last = folder / "weights" / "last.pt"
    started, finished = _state(last)
    if finished:
        return last
    if started:
        LOGGER.info(f"screen: going on with {last}")
        YOLO(last).train(trainer=FoldTrainer, resume=True, workers=jobs, device=settings.get("device") or None)
        return last
    YOLO(model).train(
        trainer=FoldTrainer,
        data=str(config),
        project=str(folder.parent),
        name=folder.name,
        exist_ok=True,
        workers=jobs,
        val=False,
        plots=False,
        amp=False,  # its check would download a model
        **settings,
    )
    return last


def detect(weights: Path, folder: Path, **settings: Any) -> Iterator[dict[str, Any]]:
    """Predict the objects in the images of a folder, whose names are numbers.

    Yields:
        Per image, in the order of the numbers, {"index": number, "detections": [[category, confidence, x1, y1, x2,
        y2], ...]}, boxes in pixels. Images that cannot be read are left out.
    """
    results = YOLO(weights).predict(
        source=str(folder), stream=True, conf=CONFIDENCE, max_det=MOST, save=False, verbose=False, **settings
    )
    for result in results:
        found = result.boxes.data.tolist()  # rows x1, y1, x2, y2, confidence, category
        detections = [[int(c), round(p, 3), *(round(v, 1) for v in box)] for *box, p, c in found]
        yield {"index": int(Path(result.path).stem), "detections": detections}


def _state(weights: Path) -> tuple[bool, bool]:
    """Tell whether a training has begun, and whether it has ended."""
    if not weights.is_file():
        return False, False
    try:
        checkpoint = torch.load(weights, map_location="cpu", weights_only=False)  # our own file
        epoch, epochs = checkpoint["epoch"], checkpoint["train_args"]["epochs"]
    except (OSError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        LOGGER.warning(f"{weights}: torn, the training begins anew ({error})")
        return False, False
    return True, epoch < 0 or epoch + 1 >= epochs

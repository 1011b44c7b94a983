"""``optisar dataset screen``: flag annotations that a detector, trained on the other images, does not find.

The images are cut into k folds. A stock detector is trained on all but one and looks for the objects of that one, so
no image is judged by a model that saw it. An annotation is flagged where no detection of its category overlaps it
enough. Training is the slow part: every fold's detections are kept (``screen/predictions-<fold>.jsonl``), and a killed
run goes on with the fold, and within it with the epoch, where it stopped. Another ``iou`` flags anew without training.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ultralytics.utils import LOGGER, TQDM

from optisar_yolo.construction import steps
from optisar_yolo.construction.review.journal import is_box
from optisar_yolo.construction.review.queue import kind_of
from optisar_yolo.construction.samples import Instance, Sample, SampleFile, write_lines
from optisar_yolo.construction.screening import data as screen_data
from optisar_yolo.construction.screening.folds import folds_of
from optisar_yolo.construction.steps import Report
from optisar_yolo.data import DataError, iou
from optisar_yolo.plugin import is_ours
from optisar_yolo.utils import write_atomic

DEFAULTS: dict[str, Any] = {
    "model": "yolo11n.yaml",
    "folds": 5,
    "epochs": 30,
    "imgsz": 640,
    "batch": 16,
    "device": "",
    "iou": 0.3,
}
TRAINED_BY = ("model", "folds", "epochs", "imgsz", "batch", "seed")
"""Options that the detections depend on."""


def main(options: dict[str, Any]) -> None:
    """Train, detect and flag; what an earlier run has done with the same options and samples is used.

    Args:
        options: ``model``: architecture or weights of a stock detector; ``folds``; ``epochs``, ``imgsz``, ``batch`` and
            ``device`` of the trainings; ``iou``: annotations whose best detection overlaps less are flagged. A dry run
            only says how the images are cut. See `commands.COMMON` for the others.

    Raises:
        DataError: Input or options that cannot be used.
    """
    work = Path(options["work"])
    source = steps.input_of(work, "screen", options["from"] or None)
    if not 0 < options["iou"] <= 1:
        raise DataError(f"iou={options['iou']}: expected a number above 0 and at most 1")
    if options["epochs"] < 1 or options["imgsz"] < 32 or options["batch"] < 1:
        raise DataError("epochs and batch must be at least 1, imgsz at least 32")
    if is_ours(options["model"]):
        raise DataError(f"model={options['model']}: a detector of Ultralytics is needed, such as yolo11n.yaml")
    folds = folds_of(source, options["folds"], options["seed"])
    categories = sorted({i.category for sample in source for i in sample.instances})
    if not categories:
        raise DataError(f"{source.path}: no objects to learn from")
    if options["dry_run"]:
        sizes = [sum(fold == k for fold in folds.values()) for k in range(options["folds"])]
        LOGGER.info(f"screen (dry run): folds of {', '.join(map(str, sizes))} images, {len(categories)} categories")
        return
    try:
        files = predict(work / "screen", source, folds, categories, options)
    except OSError as error:
        raise DataError(f"{error.filename or work}: screen cannot go on ({error.strerror or error})") from error
    steps.run(
        work,
        "screen",
        lambda samples, report: screen(samples, report, files, folds, categories, options["iou"]),
        source,
        {key: options[key] for key in (*TRAINED_BY, "iou")},
        inputs=files,
    )


def predict(
    root: Path, source: SampleFile, folds: Mapping[str, int], categories: Sequence[str], options: Mapping[str, Any]
) -> list[Path]:
    """Train on the folds and write the detections of each; those that are there are kept.

    Args:
        root: Folder of the step.
        source: The samples.
        folds: Fold of every origin.
        categories: Category names by class.
        options: As of `main`.

    Returns:
        File of detections by fold.

    Raises:
        OSError: The folder cannot be written or the disk is full.
    """
    root = root.resolve()  # Ultralytics puts relative folders under its own
    count = options["folds"]
    files = [root / f"predictions-{k}.jsonl" for k in range(count)]
    plan = {k: options[k] for k in TRAINED_BY} | {"input": steps.sha256(source.path), "categories": list(categories)}
    text = json.dumps(plan, indent=1, ensure_ascii=False) + "\n"
    note = root / "plan.json"
    if not note.is_file() or note.read_text(encoding="utf-8") != text:
        screen_data.clear(root)
        for old in root.glob("predictions-*.jsonl"):
            old.unlink()
        write_atomic(note, text)
    missing = [k for k in range(count) if not files[k].is_file()]
    if not missing:
        return files
    report = Report()
    images = TQDM(source, desc="screen: images", total=len(source))
    screen_data.write_parts(root, images, folds, categories, report, options["jobs"])
    for line in report.problems.lines():
        LOGGER.warning(f"screen: {line}")
    from optisar_yolo.construction.screening import training as screen_train  # PyTorch, for nothing where all is done

    settings = {k: options[k] for k in ("imgsz", "batch")} | {"device": options["device"] or None}
    for k in missing:
        LOGGER.info(f"screen: fold {k + 1} of {count}")
        config = screen_data.write_dataset_config(root, k, count, categories)
        weights = screen_train.train_fold(
            config, options["model"], options["jobs"], epochs=options["epochs"], seed=options["seed"], **settings
        )
        write_lines(files[k], screen_train.detect(weights, screen_data.part_of(root, k) / "images", **settings))
    return files


def screen(
    samples: Iterable[Sample],
    report: Report,
    predictions: Sequence[Path],
    folds: Mapping[str, int],
    categories: Sequence[str],
    least: float,
) -> Iterator[Sample]:
    """Flag annotations that no detection of their category overlaps enough.

    Args:
        samples: The images, in the order in which their detections are numbered.
        report: Counts the flags and, in ten bins, the best overlaps.
        predictions: File of detections by fold.
        folds: Fold of every origin.
        categories: Category names by class.
        least: IoU from which on an annotation is left alone.

    Yields:
        The samples, with flags ("screen: best IoU 0.12") in place of those of an earlier screening.
    """
    readers = [_Detections(path) for path in predictions]
    for tenth in range(10):
        report.count(_bin(tenth / 10), 0)  # in their order
    for number, sample in enumerate(samples):
        found = readers[folds[sample.origin]].of(number)
        if found is None:
            report.problems.add("image without detections, not screened", sample.name)
            yield sample
            continue
        instances = []
        for item in sample.instances:
            flags = [f for f in item.flags if kind_of(f) != "screen"]
            best = best_overlap(item, found, categories)
            report.count(_bin(best))
            if best < least:
                report.count("flagged")
                flags.append(f"screen: best IoU {best:.2f}")
            instances.append(replace(item, flags=flags))
        yield replace(sample, instances=instances)


def best_overlap(item: Instance, detections: Sequence[Sequence[float]], categories: Sequence[str]) -> float:
    """Return the largest IoU of an annotation with a detection of its category, 0 where there is none.

    Args:
        item: The annotation.
        detections: [class, confidence, x1, y1, x2, y2] each.
        categories: Category names by class.
    """
    if not is_box(item.box):
        return 0.0
    return max(
        (iou(item.box, d[2:]) for d in detections if categories[int(d[0])] == item.category and is_box(d[2:])),
        default=0.0,
    )


def _bin(value: float) -> str:
    low = min(int(value * 10 + 1e-9), 9)
    return f"best IoU {low / 10:.1f}-{(low + 1) / 10:.1f}"


class _Detections:
    """Reads a fold's detections beside the samples; both are in the order of the samples' numbers."""

    def __init__(self, path: Path) -> None:
        self._lines = self._read(path)
        self._next = next(self._lines)

    @staticmethod
    def _read(path: Path) -> Iterator[tuple[int, list[list[float]]]]:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    content = json.loads(line)
                    yield content["index"], content["detections"]
                except (ValueError, TypeError, KeyError) as error:
                    raise DataError(f"{path} line {number}: no detections ({error!r}); delete the file") from error
        yield -1, []

    def of(self, number: int) -> list[list[float]] | None:
        """Return the detections of an image, None where it has no line."""
        index, found = self._next
        if index != number:
            return None
        self._next = next(self._lines)
        return found

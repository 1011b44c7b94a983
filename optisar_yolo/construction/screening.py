"""The step ``screen``: flags annotations that a detector, trained on the other images, does not find.

1. The images are divided into k folds (:func:`folds_of`).
2. A stock detector is trained on all folds but one and predicts the objects of that one, so that no image is judged by
   a model that was trained on it (:func:`predict`).
3. An annotation is flagged where no detection of its category overlaps it enough (:func:`screen`).

Training is the slow part. Every fold's detections are kept (``screen/predictions-<fold>.jsonl``), and a run that was
killed goes on with the fold, and within it with the epoch, where it stopped. Another ``iou`` needs no new training.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import yaml
from ultralytics.utils import LOGGER, TQDM

from optisar_yolo.construction import steps
from optisar_yolo.construction.image_files import FLIP, link_or_copy
from optisar_yolo.construction.review.decisions import is_box, kind_of
from optisar_yolo.construction.samples import Instance, Sample, SampleFile, write_lines
from optisar_yolo.construction.steps import Report, WorkFolder
from optisar_yolo.construction.written_files import yolo_line
from optisar_yolo.data import DataError, Skips, clip, read_image
from optisar_yolo.plugin import is_ours
from optisar_yolo.utils import Journal, fingerprint, iou, ordered_map, write_atomic

PNG, JPEG, JPEG_END = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\xff\xd9"  # first bytes, last bytes
BIT_DEPTH = 24  # offset of the bit depth in a PNG


def folds_of(samples: Iterable[Sample], folds: int, seed: int) -> dict[str, int]:
    """Assign images to folds of the same size, every source and rare category spread over all of them.

    Returns:
        Name of the origin to its fold, from 0; an image and its transformed copies are in one fold.

    Raises:
        DataError: Fewer than two folds, or fewer images than folds.
    """
    if folds < 2:
        raise DataError(f"folds={folds}: at least 2 are needed, so that no image is judged by a model trained on it")
    counts = Counter(i.category for sample in samples for i in sample.instances)
    # In this order, images of one source with the same rarest category go to all folds in turn.
    groups: dict[str, tuple[str, str]] = {}
    for sample in samples:
        rarest = min((i.category for i in sample.instances), key=lambda c: (counts[c], c), default="")
        groups.setdefault(sample.origin, (rarest, sample.source))
    if len(groups) < folds:
        raise DataError(f"folds={folds}, but there are only {len(groups)} images; use fewer folds")

    def key(name: str) -> tuple[str, str, bytes]:
        return (*groups[name], hashlib.sha256(f"{seed}/{name}".encode(errors="surrogatepass")).digest())

    return {name: number % folds for number, name in enumerate(sorted(groups, key=key))}


def part_of(root: Path, fold: int) -> Path:
    """Return the folder of a fold's images and labels."""
    return root / f"part-{fold}"


def write_parts(
    root: Path,
    samples: Iterable[Sample],
    folds: Mapping[str, int],
    categories: Sequence[str],
    report: Report,
    jobs: int = 1,
) -> None:
    """Write ``part-<fold>/images`` and ``part-<fold>/labels``; a file's name is the sample's number in the input.

    Images that exist are kept, so a run that was killed goes on. Images that cannot be read are left out and counted.

    Raises:
        OSError: The folder cannot be written or the disk is full.
    """
    names = tuple(categories)
    for fold in set(folds.values()):
        for kind in ("images", "labels"):
            (part_of(root, fold) / kind).mkdir(parents=True, exist_ok=True)

    def write(numbered: tuple[int, Sample]) -> str:
        number, sample = numbered
        part = part_of(root, folds[sample.origin])
        try:
            _write_image(sample, part / "images", f"{number:07d}")
        except DataError as error:
            return f"{sample.name}: {error}"
        boxes = [(i.category, clip(i.box, (sample.width, sample.height), i.id, Skips())) for i in sample.instances]
        lines = [yolo_line(names.index(c), box, (sample.width, sample.height)) for c, box in boxes if box is not None]
        write_atomic(part / "labels" / f"{number:07d}.txt", "".join(lines), sync=False)
        return ""

    for problem in ordered_map(write, enumerate(samples), jobs):
        if problem:
            report.problems.add("image that cannot be read, not screened", problem)


def write_dataset_config(root: Path, fold: int, folds: int, categories: Sequence[str]) -> Path:
    """Write the dataset config of the training that leaves one fold out, and return its path."""
    others = [str(part_of(root, k) / "images") for k in range(folds) if k != fold]
    held_out = str(part_of(root, fold) / "images")
    content = {"train": others, "val": held_out, "names": dict(enumerate(categories))}
    config = root / f"fold-{fold}" / "data.yaml"
    write_atomic(config, yaml.safe_dump(content, allow_unicode=True, sort_keys=False), sync=False)
    return config


def clear(root: Path) -> None:
    """Delete the parts, folds and detections of an earlier run, and nothing else."""
    for folder in (*root.glob("part-*"), *root.glob("fold-*")):
        shutil.rmtree(folder, ignore_errors=True)
    for file in root.glob("predictions-*.jsonl"):
        file.unlink()


def _write_image(sample: Sample, folder: Path, stem: str) -> None:
    """Link an image, or write it as PNG where a trainer would not read it as `read_image` does."""
    source = Path(sample.path)
    suffix = "" if sample.transform else _suffix(source)
    target = folder / f"{stem}{suffix or '.png'}"
    if target.exists():
        return
    if suffix:
        link_or_copy(source, target, link=True)
        return
    image = read_image(source)
    if sample.transform:
        image = cv2.flip(image, FLIP[sample.transform])
    write_atomic(target, cv2.imencode(".png", image)[1].tobytes(), sync=False)


def _suffix(image: Path) -> str:
    """Return the suffix under which a file can be linked: that of a whole JPEG or a PNG of at most 8 bits, else "".

    A JPEG without its end is not linked: Ultralytics writes it anew, and through a link that could be the source.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        with open(image, "rb") as file:
            start = file.read(25)
            file.seek(-min(2, file.seek(0, os.SEEK_END)), os.SEEK_END)
            end = file.read()
    except OSError as error:
        raise DataError(f"{image}: cannot be read ({error.strerror or error})") from error
    if start.startswith(PNG) and len(start) == 25 and start[BIT_DEPTH] <= 8:
        return ".png"
    return ".jpg" if start.startswith(JPEG) and end == JPEG_END else ""


@dataclass(frozen=True)
class ScreenTraining:
    """Settings that the detections depend on; see the options of ``optisar dataset screen``."""

    model: str
    folds: int
    epochs: int
    imgsz: int
    batch: int
    seed: int


def screen_step(
    work: WorkFolder,
    model: str,
    folds: int,
    epochs: int,
    imgsz: int,
    batch: int,
    device: str | None,
    iou: float,
) -> None:
    """Run the step; the arguments are its command's options. A dry run only prints the sizes of the folds.

    Raises:
        DataError: Input that cannot be used.
    """
    source = steps.input_of(work.path, "screen", work.source)
    if is_ours(model):
        raise DataError(f"model={model}: a detector of Ultralytics is needed, such as yolo11n.yaml")
    training = ScreenTraining(model, folds, epochs, imgsz, batch, work.seed)
    fold_of = folds_of(source, folds, work.seed)
    categories = sorted({i.category for sample in source for i in sample.instances})
    if not categories:
        raise DataError(f"{source.path}: no objects to learn from")
    if work.dry_run:
        sizes = [sum(fold == k for fold in fold_of.values()) for k in range(folds)]
        LOGGER.info(f"screen (dry run): folds of {', '.join(map(str, sizes))} images, {len(categories)} categories")
        return
    with steps.unwritable("screen cannot go on", work.path):
        files = predict(work.path / "screen", source, fold_of, categories, training, device, work.jobs)
    steps.run(
        work.path,
        "screen",
        lambda samples, report: screen(samples, report, files, fold_of, categories, iou),
        source,
        asdict(training) | {"iou": iou},
        inputs=files,
    )


def predict(
    root: Path,
    source: SampleFile,
    folds: Mapping[str, int],
    categories: Sequence[str],
    training: ScreenTraining,
    device: str | None = None,
    jobs: int = 1,
) -> list[Path]:
    """Train on the folds and write the detections of each, except those of an earlier run of the same plan.

    Returns:
        File of detections by fold.

    Raises:
        OSError: The folder cannot be written or the disk is full.
    """
    root = root.resolve()  # Ultralytics puts relative folders under its own
    files = [root / f"predictions-{k}.jsonl" for k in range(training.folds)]
    key = fingerprint(asdict(training), steps.sha256(source.path), list(categories))
    if not Journal.belongs(root / "journal.jsonl", key):
        clear(root)
    with Journal(root / "journal.jsonl", key) as journal:  # one entry for each fold whose detections are written
        done = {entry["fold"] for entry in journal}
        missing = [k for k, file in enumerate(files) if k not in done or not file.is_file()]
        if missing:
            report = Report()
            images = TQDM(source, desc="screen: images", total=len(source))
            write_parts(root, images, folds, categories, report, jobs)
            for line in report.problems.lines():
                LOGGER.warning(f"screen: {line}")
        for k in missing:
            from optisar_yolo.construction import detector  # imports PyTorch, which is not needed where all is done

            LOGGER.info(f"screen: fold {k + 1} of {training.folds}")
            settings = {"imgsz": training.imgsz, "batch": training.batch, "device": device}
            config = write_dataset_config(root, k, training.folds, categories)
            weights = detector.train_fold(
                config, training.model, jobs, epochs=training.epochs, seed=training.seed, **settings
            )
            write_lines(files[k], detector.detect(weights, part_of(root, k) / "images", **settings))
            journal.add({"fold": k})
    return files


def screen(
    samples: Iterable[Sample],
    report: Report,
    predictions: Sequence[Path],
    folds: Mapping[str, int],
    categories: Sequence[str],
    threshold: float,
) -> Iterator[Sample]:
    """Flag annotations that no detection of their category overlaps enough.

    Args:
        samples: The images, in the order of the indices of their detections.
        report: Counts the flags and, in ten bins, the best overlaps.
        predictions: File of detections by fold.
        folds: Fold of every origin.
        categories: Category names by class.
        threshold: IoU below which an annotation is flagged.

    Yields:
        The samples; flags of an earlier screening ("screen: best IoU 0.12") are replaced.
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
            if best < threshold:
                report.count("flagged")
                flags.append(f"screen: best IoU {best:.2f}")
            instances.append(replace(item, flags=flags))
        yield replace(sample, instances=instances)


def best_overlap(item: Instance, detections: Sequence[Sequence[float]], categories: Sequence[str]) -> float:
    """Return the largest IoU of an annotation with a detection of its category, 0 where there is none.

    Detections are [class, confidence, x1, y1, x2, y2] each, in pixels.
    """
    boxes = [d[2:] for d in detections if categories[int(d[0])] == item.category and is_box(d[2:])]
    return float(iou(item.box, boxes).max()) if boxes and is_box(item.box) else 0.0


def _bin(value: float) -> str:
    low = min(int(value * 10 + 1e-9), 9)
    return f"best IoU {low / 10:.1f}-{(low + 1) / 10:.1f}"


class _Detections:
    """Reads a fold's detections in parallel with the samples; both are in the order of the samples' numbers."""

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

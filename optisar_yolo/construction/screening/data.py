"""Writes samples as a YOLO data set in parts, one per fold; images are linked where a trainer can read them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import cv2
import yaml

from optisar_yolo.construction.samples import Sample
from optisar_yolo.construction.steps import Report, ordered_map
from optisar_yolo.construction.writing.files import FLIP
from optisar_yolo.construction.writing.placing import link_or_copy, place
from optisar_yolo.data import DataError, Skips, clip, read_image

PNG, JPEG, JPEG_END = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\xff\xd9"  # first bytes, last bytes
BIT_DEPTH = 24  # where a PNG says it


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

    Images that are there already are left, so a killed run goes on. Images that cannot be read are left out.

    Args:
        root: Folder of the parts.
        samples: The images, with boxes in pixels.
        folds: Fold of every origin.
        categories: Category names; a label's class is the place here.
        report: Counts images that are left out.
        jobs: Threads.

    Raises:
        OSError: The folder cannot be written or the disk is full.
    """
    ids = {name: i for i, name in enumerate(categories)}
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
        place(part / "labels" / f"{number:07d}.txt", _labels(sample, ids).encode())
        return ""

    for problem in ordered_map(write, enumerate(samples), jobs):
        if problem:
            report.problems.add("image that cannot be read, not screened", problem)


def write_dataset_config(root: Path, fold: int, folds: int, categories: Sequence[str]) -> Path:
    """Write the dataset config of the training that leaves one fold out.

    Returns:
        The YAML file.
    """
    others = [str(part_of(root, k) / "images") for k in range(folds) if k != fold]
    held_out = str(part_of(root, fold) / "images")
    content = {"train": others, "val": held_out, "names": dict(enumerate(categories))}
    config = root / f"fold-{fold}" / "data.yaml"
    config.parent.mkdir(parents=True, exist_ok=True)
    place(config, yaml.safe_dump(content, allow_unicode=True, sort_keys=False).encode())
    return config


def clear(root: Path) -> None:
    """Delete the parts and folds of an earlier run, and nothing else."""
    for folder in (*root.glob("part-*"), *root.glob("fold-*")):
        shutil.rmtree(folder, ignore_errors=True)


def _write_image(sample: Sample, folder: Path, stem: str) -> None:
    """Link an image, or write it as PNG where a trainer would not read it as `read_image` does.

    Raises:
        DataError: The image cannot be read.
        OSError: The folder cannot be written.
    """
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
    place(target, cv2.imencode(".png", image)[1].tobytes())


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


def _labels(sample: Sample, ids: Mapping[str, int]) -> str:
    """Return a YOLO label file's content."""
    w, h = sample.width, sample.height
    lines = []
    for item in sample.instances:
        if (box := clip(item.box, (w, h), item.id, Skips())) is not None:
            x1, y1, x2, y2 = box
            shares = ((x1 + x2) / 2 / w, (y1 + y2) / 2 / h, (x2 - x1) / w, (y2 - y1) / h)
            lines.append(" ".join([str(ids[item.category]), *(f"{v:.6f}" for v in shares)]))
    return "\n".join(lines) + "\n" if lines else ""

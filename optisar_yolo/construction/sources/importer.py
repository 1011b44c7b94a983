"""The step `import` (``optisar dataset import``): reads the sources of a recipe as their authors publish them."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from optisar_yolo.construction import steps
from optisar_yolo.construction.recipe import Recipe, Source, load_recipe
from optisar_yolo.construction.samples import Instance, Sample
from optisar_yolo.construction.sources.coco import read_coco
from optisar_yolo.construction.sources.images import SUFFIXES, find_image, image_size
from optisar_yolo.construction.sources.lists import read_list
from optisar_yolo.construction.sources.records import BoxReader, RawImage
from optisar_yolo.construction.sources.voc import annotation_files, read_voc
from optisar_yolo.construction.sources.yolo import read_yolo
from optisar_yolo.construction.steps import Report
from optisar_yolo.data import SPLITS, DataError, Skips
from optisar_yolo.plugin import packaged_names
from optisar_yolo.utils import UsageError

DEFAULTS: dict[str, Any] = {"recipe": "", "root": "."}
READERS: dict[str, Callable[[Source, Path, Skips], Iterator[RawImage]]] = {
    "voc": read_voc,
    "list": read_list,
    "coco": read_coco,
    "yolo": read_yolo,
}
_SUFFIX = {"voc": ".xml", "yolo": ".txt"}
"""Formats of one annotation file per image."""
_TALLIED = ("pictures", "objects", *SPLITS)
_EARLY = 500
"""After how many boxes their form is judged for the first time: a wrong recipe should not cost a whole run."""


def main(options: dict[str, Any]) -> None:
    """Import the sources of a recipe into a work folder.

    Args:
        options: ``recipe`` (file or packaged name), ``root`` (the folder that holds the sources), ``work``, ``jobs``,
            ``dry_run``.

    Raises:
        UsageError: No recipe.
        DataError: A recipe or source that cannot be used.
    """
    if not options["recipe"]:
        known = [Path(n).name for n in packaged_names("datasets") if n.startswith("recipes/")]
        raise UsageError(f"recipe=… is missing: a YAML file, or one of {', '.join(known)}")
    recipe, root = load_recipe(options["recipe"]), Path(options["root"]).expanduser().resolve()
    # all that is missing is said before the first source is read
    inputs = [file for source in recipe.sources for file in _check_present(source, root)]
    steps.run(
        Path(options["work"]),
        "import",
        lambda given, report: import_sources(given, root, report, options["jobs"]),
        recipe,
        {
            "recipe": recipe.as_dict(),
            "root": str(root),
            "contents": {source.name: fingerprint(source, root) for source in recipe.sources},
        },
        inputs,
        options["dry_run"],
    )


def import_sources(recipe: Recipe, root: Path, report: Report, jobs: int = 1) -> Iterator[Sample]:
    """Yield the images of all sources, in the recipe's order."""
    for source in recipe.sources:
        yield from read_source(source, root, report, jobs)


def read_source(source: Source, root: Path, report: Report, jobs: int = 1) -> Iterator[Sample]:
    """Yield the images of one source, sorted by name, with boxes as they are: `clean` judges them.

    Args:
        source: What the recipe says of it.
        root: The folder that its `path` starts from.
        report: Counts what was read and what cannot be used.
        jobs: Threads that look for images and read their headers.

    Raises:
        DataError: The source is not there, gives nothing, its boxes are of another form than declared, or it does not
            hold what the recipe expects.
    """
    _check_present(source, root)
    folder, boxes, seen = root / source.path, BoxReader(source), set[str]()
    tally: Counter[str] = Counter()
    raw = READERS[source.format](source, folder, report.problems)
    for found in steps.ordered_map(partial(_look_up, source, folder), raw, jobs):
        record = f"{found.raw.record}: {found.raw.name[:100]}"
        tally["objects"] += len(found.raw.objects)
        tally.update(o.split for o in found.raw.objects if o.split)
        if found.problem:
            report.problems.add(found.problem, record)
            continue
        if found.name in seen:
            report.problems.add("image that was annotated before, dropped", record)
            continue
        seen.add(found.name)
        sample = _sample(source, found, boxes, report.problems)
        if sample.instances:
            tally["pictures"] += 1
            yield sample
        else:
            report.problems.add("image without objects, dropped", record)
        if _EARLY <= boxes.total < _EARLY + len(sample.instances):
            boxes.check()
    boxes.check()
    for key in _TALLIED:
        if tally[key]:
            report.count(f"{key} objects of {source.name}" if key in SPLITS else f"{key} of {source.name}", tally[key])
    _check_counts(source, tally, report.problems)


@dataclass
class _Found:
    """An image that was looked up: its name in the source, path and size, or why it cannot be used."""

    raw: RawImage
    name: str = ""
    path: Path = Path()
    size: tuple[int, int] = (0, 0)
    problem: str = ""


def _look_up(source: Source, folder: Path, raw: RawImage) -> _Found:
    if (place := find_image(folder, source.images, raw.name)) is None:
        return _Found(raw, problem="image missing, dropped")
    try:
        return _Found(raw, *place, size=raw.size or image_size(place[1]))
    except DataError:
        return _Found(raw, problem="image whose size cannot be read, dropped")


def _sample(source: Source, found: _Found, boxes: BoxReader, problems: Skips) -> Sample:
    name = f"{source.name}/{found.name}"
    sample = Sample(name, str(found.path), source.name, source.modality, *found.size)
    for number, raw in enumerate(found.raw.objects):
        if raw.box is None:
            problems.add("box that is not four numbers, dropped", f"{found.raw.record} object {number}")
            continue
        box = boxes.read(raw.box, found.size)
        sample.instances.append(Instance(f"{name}#{number}", box, raw.category, raw.captions, raw.split))
    return sample


def _check_counts(source: Source, tally: Counter[str], problems: Skips) -> None:
    reasons = "; ".join(problems.lines()) or "none"
    if not tally["pictures"]:
        raise DataError(f"source {source.name}: no image with objects was found. Problems: {reasons}")
    for key, number in source.expect.items():
        if tally[key] != number:
            what = key if key in ("pictures", "objects") else f"objects of split {key}"
            raise DataError(
                f"source {source.name}: found {tally[key]} {what}, but the recipe expects {number}; the copy is "
                f"incomplete or another edition (then change 'expect' in the recipe). Problems: {reasons}"
            )


def _check_present(source: Source, root: Path) -> list[Path]:
    """Return the annotation files that a source names one by one.

    Raises:
        DataError: One of them or the source's folder is missing.
    """
    folder = root / source.path
    if not folder.is_dir():
        raise DataError(
            f"{folder}: source {source.name} is not there; root=… names the folder that holds {source.path}"
        )
    files = [file for _, file in source.annotation_files(folder) + source.index_files(folder)]
    for file in files:
        if not file.is_file():
            raise DataError(f"{file}: missing; correct 'files' or 'index' of source {source.name} in the recipe")
    return files


def fingerprint(source: Source, root: Path) -> str:
    """Return a hash that changes when `read_source` may give something else.

    It covers the content of XML and label files: they are small, and a time stamp changes with every copy. Of images
    it covers names and sizes only: there can be a terabyte of them. Files that the recipe names are hashed by
    `steps.run`.
    """
    digest, folder = hashlib.sha256(), root / source.path
    if suffix := _SUFFIX.get(source.format):
        for file in annotation_files(folder / source.annotations, suffix):
            try:
                content = steps.sha256(file)
            except DataError:  # `read_source` counts it
                content = "unreadable"
            digest.update(f"{file.relative_to(folder).as_posix()}\0{content}\n".encode(errors="replace"))
    for base in source.images:
        for place, folders, names in os.walk(folder / base):
            folders.sort()
            for name in sorted(n for n in names if n.lower().endswith(SUFFIXES)):
                path = os.path.join(place, name)
                size = os.stat(path).st_size if os.path.isfile(path) else -1  # a link to nowhere
                digest.update(f"{os.path.relpath(path, folder)}\0{size}\n".encode(errors="replace"))
    return digest.hexdigest()

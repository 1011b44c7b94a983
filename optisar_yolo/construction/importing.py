"""The step ``import``: reads the sources of a recipe as their authors publish them.

1. A reader of `formats` yields a source's images and objects (:data:`READERS`).
2. The image's file is looked up, and its size read from the header (:func:`read_source`).
3. Boxes become xyxy in pixels; a source whose boxes have another form than its recipe declares is refused
   (:class:`BoxReader`), and so is one whose counts differ from the recipe's `expect`.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from optisar_yolo.construction import steps
from optisar_yolo.construction.formats import RawImage, annotation_files, read_coco, read_list, read_voc, read_yolo
from optisar_yolo.construction.image_files import SUFFIXES, find_image, guess_image, image_size
from optisar_yolo.construction.recipe import Source, load_recipe
from optisar_yolo.construction.samples import Instance, Sample
from optisar_yolo.construction.steps import Report, WorkFolder
from optisar_yolo.data import SPLITS, Box, DataError, Skips
from optisar_yolo.utils import ordered_map

FORMS = {"voc": "xyxy", "list": "xyxy", "coco": "xywh", "yolo": "shares"}
"""How each format usually writes a box; "shares" is YOLO's centre, width and height as shares of the image."""
FEW = 4
"""With fewer boxes than this, a source is not suspected of having been read in the wrong form."""


class BoxReader:
    """Turns a source's boxes into xyxy in pixels, and detects boxes of another form than the recipe declares.

    Args:
        source: The source.
    """

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self.form = source.boxes or FORMS[source.format]
        self.other = {"xyxy": "xywh", "xywh": "xyxy"}.get(self.form)
        self.total = self.outside = self.mistaken = self.shares = 0

    def read(self, box: Box, size: tuple[int, int], form: str = "") -> Box:
        """Return a box as xyxy in pixels.

        Args:
            box: The box.
            size: Width and height of its image in pixels.
            form: Its form where it is not that of the source; such a box says nothing about the source's form.
        """
        if form:
            return to_xyxy(box, form, size)
        self.total += 1
        self.shares += self.form != "shares" and max(map(abs, box)) <= 1
        read = to_xyxy(box, self.form, size)
        if not _fits(read, size):
            self.outside += 1
            self.mistaken += self.other is not None and _fits(to_xyxy(box, self.other, size), size)
        return read

    def check(self) -> None:
        """Judge the boxes read so far.

        Raises:
            DataError: More than half of them cannot be of the declared form; the message says what to change.
        """
        if self.total < FEW:
            return
        start = f"source {self.name}: %s of {self.total} boxes"
        if 2 * self.mistaken > self.total:
            raise DataError(
                f"{start % self.mistaken} leave their images or have no area when read as {self.form}, and fit as "
                f"{self.other}; set 'boxes: {self.other}' for this source in the recipe"
            )
        if 2 * self.shares > self.total:
            raise DataError(f"{start % self.shares} have no value above 1: shares of the image; give pixels")
        if 2 * self.outside > self.total:
            other = f" and as {self.other}" if self.other else ""
            raise DataError(
                f"{start % self.outside} leave their images or have no area, read as {self.form}{other}: they belong "
                "to images of another size, or are written in another form"
            )


def to_xyxy(box: Box, form: str, size: tuple[int, int]) -> Box:
    """Turn a box of the form "xyxy", "xywh" or "shares" into xyxy in pixels."""
    a, b, c, d = box
    if form == "xyxy":
        return box
    if form == "xywh":
        return a, b, a + c, b + d
    width, height = size
    return (a - c / 2) * width, (b - d / 2) * height, (a + c / 2) * width, (b + d / 2) * height


def _fits(box: Box, size: tuple[int, int]) -> bool:
    """Tell whether a box has an area and lies in the image, give or take a pixel; NaN does not."""
    return -1 <= box[0] < box[2] <= size[0] + 1 and -1 <= box[1] < box[3] <= size[1] + 1


READERS: dict[str, Callable[[Source, Path, Skips], Iterator[RawImage]]] = {
    "voc": read_voc,
    "list": read_list,
    "coco": read_coco,
    "yolo": read_yolo,
}
_SUFFIX = {"voc": ".xml", "yolo": ".txt"}
"""Formats of one annotation file per image."""
_TALLIED = ("images", "objects", *SPLITS)
_EARLY = 500
"""Number of boxes after which their form is checked for the first time, so that a wrong recipe fails early."""


def import_step(work: WorkFolder, recipe: str, root: str) -> None:
    """Import the sources of a recipe into a work folder; the arguments are the command's options.

    Raises:
        DataError: A recipe or source that cannot be used.
    """
    loaded, folder = load_recipe(recipe), Path(root).expanduser().resolve()
    # everything that is missing is named before the first source is read
    inputs = [file for source in loaded.sources for file in _check_present(source, folder)]

    def step(_: object, report: Report) -> Iterator[Sample]:
        for source in loaded.sources:
            yield from read_source(source, folder, report, work.jobs)

    options = {
        "recipe": loaded.as_dict(),
        "root": str(folder),
        "contents": {source.name: fingerprint(source, folder) for source in loaded.sources},
    }
    steps.run(work.path, "import", step, None, options, inputs, work.dry_run)


def read_source(source: Source, root: Path, report: Report, jobs: int = 1) -> Iterator[Sample]:
    """Yield the images of one source, sorted by name. Boxes are not checked; the step `clean` does that.

    Args:
        source: The source.
        root: The folder that its `path` starts from.
        report: Counts what was read and what cannot be used.
        jobs: Threads that look for images and read their headers.

    Raises:
        DataError: The source is missing or empty, its boxes have another form than declared, or its counts differ from
            those that the recipe expects.
    """
    _check_present(source, root)
    folder, boxes, seen = root / source.path, BoxReader(source), dict[str, _Found]()
    tally: Counter[str] = Counter()
    raw = READERS[source.format](source, folder, report.problems)
    for found in ordered_map(partial(_look_up, source, folder), raw, jobs):
        record = f"{found.raw.record}: {found.raw.name[:100]}"
        tally["objects"] += len(found.raw.objects)
        tally.update(o.split for o in found.raw.objects if o.split)
        if found.problem:
            report.problems.add(found.problem, record)
            continue
        if found.name in seen:
            if (found.guess or seen[found.name].guess) and found.raw.name != seen[found.name].raw.name:
                raise DataError(
                    f"{record}: this image and {seen[found.name].raw.name[:100]} would both be {found.path}; correct "
                    "the file names in the annotations, or give the images in their folders"
                )
            report.problems.add("image that was annotated before, dropped", record)
            continue
        seen[found.name] = found
        if found.guess:
            report.problems.add(found.guess, f"{record} is {found.name}")
        sample = _sample(source, found, boxes, report.problems)
        if sample.instances:
            tally["images"] += 1
            yield sample
        else:
            report.problems.add("image without objects, dropped", record)
        if _EARLY <= boxes.total < _EARLY + len(sample.instances):
            boxes.check()
    boxes.check()
    for key in _TALLIED:
        if tally[key]:
            word = "pictures" if key == "images" else f"{key} objects" if key in SPLITS else key
            report.count(f"{word} of {source.name}", tally[key])
    _check_counts(source, tally, report.problems)


@dataclass
class _Found:
    """An image that was looked up: name in the source, path and size in pixels, or why it cannot be used.

    `guess` says how the file was found where the annotation names another.
    """

    raw: RawImage
    name: str = ""
    path: Path = Path()
    size: tuple[int, int] = (0, 0)
    problem: str = ""
    guess: str = ""


def _look_up(source: Source, folder: Path, raw: RawImage) -> _Found:
    guess = ""
    if (place := find_image(folder, source.images, raw.name)) is None:
        if raw.own_name and (place := find_image(folder, source.images, raw.own_name)) is not None:
            guess = "file name in the annotation that is not there, the annotation file's own name taken"
        else:
            splits = sorted({o.split for o in raw.objects if o.split})
            place = guess_image(folder, source.images, raw.name, splits)
            guess = "image named with folders or a prefix, found without them"
    if place is None:
        return _Found(raw, problem="image missing, dropped")
    try:
        return _Found(raw, *place, size=raw.size or image_size(place[1]), guess=guess)
    except DataError:
        return _Found(raw, problem="image whose size cannot be read, dropped")


def _sample(source: Source, found: _Found, boxes: BoxReader, problems: Skips) -> Sample:
    name = f"{source.name}/{found.name}"
    sample = Sample(name, str(found.path), source.name, source.modality, *found.size)
    sample.unlisted += found.raw.unlisted
    for number, raw in enumerate(found.raw.objects):
        if raw.box is None:
            problems.add("box that is not four numbers, dropped", f"{found.raw.record} object {number}")
            sample.unlisted.append(raw.category)
            continue
        box = boxes.read(raw.box, found.size, raw.form)
        sample.instances.append(Instance(f"{name}#{number}", box, raw.category, raw.captions, raw.split))
    return sample


def _check_counts(source: Source, tally: Counter[str], problems: Skips) -> None:
    reasons = "; ".join(problems.lines()) or "none"
    if not tally["images"]:
        raise DataError(f"source {source.name}: no image with objects was found. Problems: {reasons}")
    for key, number in source.expect.items():
        if tally[key] != number:
            what = key if key in ("images", "objects") else f"objects of split {key}"
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

"""Writes one image of a data set with its labels and its XML."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import cv2

from optisar_yolo.construction.recipe import Recipe
from optisar_yolo.construction.samples import Instance, Sample
from optisar_yolo.construction.sources.images import image_size
from optisar_yolo.construction.steps import Report
from optisar_yolo.construction.writing.placing import link_or_copy, place
from optisar_yolo.construction.writing.voc import to_xml
from optisar_yolo.data import DataError, clip, from_xywh, read_image
from optisar_yolo.language import clean

FORMATS = {"jpg": [cv2.IMWRITE_JPEG_QUALITY, 95], "png": []}
KEPT = {".jpg": ".jpg", ".jpeg": ".jpg", ".png": ".png"}  # files that are never encoded anew, and their new suffix
BYTES_PER_PIXEL = {"jpg": 0.6, "png": 2.0}  # usual for aerial images of this quality, to say how much room is needed
SIDE_FILES = 3 * 4096  # a block each for labels and XML, and the share of the JSON file
WRONG_SIZE = "image of another size than its annotations say"
FLIP = {"hflip": 1, "vflip": 0, "rot180": -1}  # as cv2.flip has them


@dataclass
class WriteJob:
    """An image that is to be written.

    Attributes:
        sample: The image.
        stem: Its new name without suffix.
        splits: Where it belongs; one, but for sources whose splits are of objects.
    """

    sample: Sample
    stem: str
    splits: list[str]

    def objects(self, split: str) -> list[Instance]:
        """Return the objects that a split's annotations name; the label file has all of the image."""
        return [i for i in self.sample.instances if self.sample.split or i.split == split]


@dataclass(frozen=True)
class Target:
    """Where and how a data set is written.

    Attributes:
        root: Its folder.
        names: Category names in their order.
        link: Link unchanged files instead of copying them.
        format: "jpg" or "png", for the others.
    """

    root: Path
    names: tuple[str, ...]
    link: bool = True
    format: str = "jpg"

    def kept(self, sample: Sample) -> bool:
        """Tell whether an image's file is taken as it is."""
        return not sample.transform and Path(sample.path).suffix.lower() in KEPT

    def file_name(self, job: WriteJob) -> str:
        """Return an image's new name with its suffix."""
        kept = self.kept(job.sample)
        return job.stem + (KEPT[Path(job.sample.path).suffix.lower()] if kept else f".{self.format}")

    def image(self, job: WriteJob, split: str) -> Path:
        """Return an image's new file."""
        return self.root / "images" / split / self.file_name(job)

    def present(self, job: WriteJob, split: str) -> bool:
        """Tell whether an earlier run has written the image; one of another size than its source is written again."""
        size = size_of(self.image(job, split))
        return size > 0 and (not self.kept(job.sample) or size == size_of(Path(job.sample.path)))

    def missing(self, job: WriteJob, split: str) -> int:
        """Return about how many bytes an image and its annotations need on the disk: none if an earlier run did it."""
        sample = job.sample
        if self.present(job, split):
            return 0
        if not self.kept(sample):
            return int(sample.width * sample.height * BYTES_PER_PIXEL[self.format]) + SIDE_FILES
        linked = self.link and self._same_disk(Path(sample.path))
        return SIDE_FILES + (0 if linked else max(size_of(Path(sample.path)), 0))

    def _same_disk(self, source: Path) -> bool:
        """Tell whether a file lies on the disk that the folder is on, or will be made on."""
        folder = next((p for p in (self.root, *self.root.parents) if p.is_dir()), Path.cwd())
        try:
            return source.stat().st_dev == folder.stat().st_dev
        except OSError:
            return False


def size_of(file: Path) -> int:
    """Return a file's size in bytes, -1 where there is none."""
    try:
        return os.stat(file).st_size
    except (OSError, ValueError):
        return -1


def usable(instance: Instance, size: tuple[int, int], recipe: Recipe, report: Report) -> bool:
    """Tell whether an object can be written; mend what can be mended.

    Args:
        instance: The object; its box is clipped to the image, its captions are cleaned of invisible characters.
        size: (width, height) of the image in pixels.
        recipe: Has the categories.
        report: Counts what is left out.
    """
    if instance.category not in recipe.names:
        report.problems.add("object of unknown category, left out (run 'optisar dataset clean')", instance.id)
        return False
    try:
        x, y, right, bottom = (float(v) for v in instance.box)
    except (TypeError, ValueError):
        x = y = right = bottom = math.nan
    box = clip(from_xywh([x, y, right - x, bottom - y]), size, instance.id, report.problems)
    if box is None:
        return False
    instance.box = box
    said = []
    for caption in instance.captions:
        try:
            said.append(clean(caption))
        except ValueError:
            report.problems.add("empty caption, left out", instance.id)
    instance.captions = said
    return True


def write_image(job: WriteJob, target: Target) -> tuple[WriteJob, str]:
    """Write an image into its splits, with labels and XML; files that are there already stay.

    Args:
        job: The image.
        target: Where and how.

    Returns:
        The job, and why the image cannot be used, or "".

    Raises:
        OSError: The folder cannot be written or the disk is full.
    """
    sample = job.sample
    content: bytes | None = None
    for split in job.splits:
        file = target.image(job, split)
        if not target.present(job, split):
            if content is None:
                content, problem = _content(sample, target)
                if problem:
                    return job, problem
            file.parent.mkdir(parents=True, exist_ok=True)
            if content:
                place(file, content)
            else:
                file.unlink(missing_ok=True)  # of another size than its source: not what belongs here
                link_or_copy(Path(sample.path), file, target.link)
        _side_file(target.root / "labels" / split / f"{job.stem}.txt", labels(sample, target.names))
        size = (sample.width, sample.height)
        xml = to_xml(target.file_name(job), sample.source, size, job.objects(split))
        _side_file(target.root / "annotations" / split / f"{job.stem}.xml", xml)
    return job, ""


def _content(sample: Sample, target: Target) -> tuple[bytes, str]:
    """Return what is to be written for an image, empty where its file is taken as it is; and why it cannot be used."""
    size = (sample.width, sample.height)
    try:
        if target.kept(sample):
            return b"", "" if image_size(Path(sample.path)) == size else WRONG_SIZE
        image = read_image(sample.path)
        if image.shape[1::-1] != size:
            return b"", WRONG_SIZE
        if sample.transform:
            image = cv2.flip(image, FLIP[sample.transform])
        return cv2.imencode(f".{target.format}", image, FORMATS[target.format])[1].tobytes(), ""
    except (DataError, cv2.error):  # cv2.error: larger than the format allows
        return b"", "image that cannot be read or encoded"


def labels(sample: Sample, names: tuple[str, ...]) -> bytes:
    """Return an image's YOLO labels: one line for every object, described or not, in shares of the image."""
    lines = []
    for item in sample.instances:
        x1, y1, x2, y2 = item.box
        centre = ((x1 + x2) / 2 / sample.width, (y1 + y2) / 2 / sample.height)
        size = ((x2 - x1) / sample.width, (y2 - y1) / sample.height)
        lines.append(f"{names.index(item.category)} " + " ".join(f"{v:.6f}" for v in (*centre, *size)) + "\n")
    return "".join(dict.fromkeys(lines)).encode()  # a source may list an object once per expression


def _side_file(path: Path, content: bytes) -> None:
    """Write an image's labels or XML unless an earlier run did."""
    if size_of(path) < 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        place(path, content)

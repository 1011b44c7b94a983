"""The files of a written data set: images, COCO JSON in the layout of the released OptSAR-RSVG, VOC XML, YOLO labels.

VOC XML has one object per expression, as DIOR-RSVG and OPT-RSVG publish it.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import cv2

from optisar_yolo.construction.formats import parse_xml
from optisar_yolo.construction.image_files import FLIP, image_size, link_or_copy
from optisar_yolo.construction.recipe import Recipe
from optisar_yolo.construction.samples import Instance, Sample
from optisar_yolo.construction.steps import Report
from optisar_yolo.data import Box, DataError, clip, from_xywh, read_image
from optisar_yolo.language import clean
from optisar_yolo.utils import PART, appearing, write_atomic

DECIMALS = 4  # of a pixel: 117.23, not 117.22999999999999


class CocoFile:
    """A COCO JSON file that is written image by image, so that memory does not grow; see :func:`coco_file`."""

    def __init__(self, images: IO[str], annotations: IO[str], names: Sequence[str]) -> None:
        self.images = self.annotations = 0
        self._ids = {name: i for i, name in enumerate(names)}
        self._image_file, self._annotation_file = images, annotations

    def add(
        self, file_name: str, width: int, height: int, objects: Sequence[Instance], unlisted: Sequence[str] = ()
    ) -> None:
        """Add an image and one annotation per expression; an object without any is one annotation without caption.

        Args:
            file_name: The image's file.
            width: In pixels.
            height: In pixels.
            objects: Its objects.
            unlisted: Categories of objects that it shows and that were dropped.
        """
        image: dict[str, Any] = {"id": self.images, "file_name": file_name, "width": width, "height": height}
        if unlisted:
            image["unlisted"] = list(unlisted)
        self._image_file.write((",\n" if self.images else "") + _json(image))
        for item in objects:
            x1, y1, x2, y2 = item.box
            note: dict[str, Any] = {
                "image_id": self.images,
                "category_id": self._ids[item.category],
                "category_name": item.category,
                "bbox": [round(v, DECIMALS) for v in (x1, y1, x2 - x1, y2 - y1)],
                "area": round((x2 - x1) * (y2 - y1), DECIMALS),
                "iscrowd": 0,
            }
            for caption in [{"caption": c} for c in item.captions] or [{}]:
                record = {"id": self.annotations} | note | caption
                self._annotation_file.write((",\n" if self.annotations else "") + _json(record))
                self.annotations += 1
        self.images += 1


@contextmanager
def coco_file(path: Path, names: Sequence[str]) -> Iterator[CocoFile]:
    """Open a COCO JSON file that appears when the block ends without an error, if it has images.

    Args:
        path: The JSON file. Until then its annotations are in a hidden file beside it.
        names: Category names by id.
    """
    part = path.with_name(f".{path.name}.annotations{PART}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with appearing(path) as whole, open(part, "w+", encoding="utf-8") as annotations:
            whole.write('{"images":[\n')
            file = CocoFile(whole, annotations, names)
            yield file
            whole.write('\n],"annotations":[\n')
            annotations.seek(0)
            shutil.copyfileobj(annotations, whole, 1 << 20)
            categories = [{"id": i, "name": name} for i, name in enumerate(names)]
            whole.write(f'\n],"categories":{_json(categories)}}}\n')
    finally:
        part.unlink(missing_ok=True)
    if not file.images:
        path.unlink()


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


Entry = tuple[str, Box, str]
"""Name, box (xyxy in pixels) and description ("" where there is none) of one object of an XML file."""


def to_xml(file_name: str, source: str, size: tuple[int, int], objects: Sequence[Instance]) -> bytes:
    """Return an image's XML: one object per expression, and one without description where there is none."""
    root = ET.Element("annotation")
    ET.SubElement(root, "filename").text = file_name
    ET.SubElement(ET.SubElement(root, "source"), "database").text = source
    sizes = ET.SubElement(root, "size")
    for tag, value in zip(("width", "height", "depth"), (*size, 3), strict=True):
        ET.SubElement(sizes, tag).text = str(value)
    ET.SubElement(root, "segmented").text = "0"
    for item in objects:
        for caption in item.captions or [""]:
            element = ET.SubElement(root, "object")
            ET.SubElement(element, "name").text = item.category
            for tag, text in (("pose", "Unspecified"), ("truncated", "0"), ("difficult", "0")):
                ET.SubElement(element, tag).text = text
            corners = ET.SubElement(element, "bndbox")
            for tag, side in zip(("xmin", "ymin", "xmax", "ymax"), item.box, strict=True):
                ET.SubElement(corners, tag).text = str(round(side, DECIMALS))
            if caption:
                ET.SubElement(element, "description").text = caption
    ET.indent(root)
    return ET.tostring(root, encoding="utf-8", xml_declaration=True)


def read_xml(file: Path) -> tuple[tuple[int, int], list[Entry]]:
    """Read a file that `to_xml` wrote.

    Returns:
        (width, height) in pixels, and the objects.

    Raises:
        ValueError: Not such a file.
    """
    root = parse_xml(file)
    size = (int(root.findtext("size/width", "")), int(root.findtext("size/height", "")))
    return size, [_entry(e) for e in root.iter("object")]


def _entry(element: ET.Element) -> Entry:
    x1, y1, x2, y2 = (float(element.findtext(f"bndbox/{tag}", "")) for tag in ("xmin", "ymin", "xmax", "ymax"))
    return element.findtext("name", ""), (x1, y1, x2, y2), element.findtext("description", "")


FORMATS = {"jpg": [cv2.IMWRITE_JPEG_QUALITY, 95], "png": []}
KEPT = {".jpg": ".jpg", ".jpeg": ".jpg", ".png": ".png"}  # files that are never encoded anew, and their new suffix
BYTES_PER_PIXEL = {"jpg": 0.6, "png": 2.0}  # usual for aerial images of this quality, to estimate the room needed
SIDE_FILES = 3 * 4096  # bytes: a block each for labels and XML, and the share of the JSON file
WRONG_SIZE = "image of another size than its annotations say"


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
    """Tell whether an object can be written, after clipping its box to the image and cleaning its captions.

    Args:
        instance: The object; it is changed in place.
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
    captions = []
    for caption in instance.captions:
        try:
            captions.append(clean(caption))
        except ValueError:
            report.problems.add("empty caption, left out", instance.id)
    instance.captions = captions
    return True


def write_image(job: WriteJob, target: Target) -> tuple[WriteJob, str]:
    """Write an image into its splits, with labels and XML; files that exist are kept.

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
            if content:
                write_atomic(file, content, sync=False)
            else:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.unlink(missing_ok=True)  # of another size than its source
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


def labels(sample: Sample, names: tuple[str, ...]) -> str:
    """Return an image's YOLO labels: one line for every object, also for those without an expression."""
    size = (sample.width, sample.height)
    lines = (yolo_line(names.index(i.category), i.box, size) for i in sample.instances)
    return "".join(dict.fromkeys(lines))  # a source may list an object once per expression


def yolo_line(category: int, box: Box, size: tuple[int, int]) -> str:
    """Return a line of a YOLO label file: class, centre x, centre y, width, height, as shares of the image.

    Args:
        category: Number of the class.
        box: xyxy in pixels.
        size: Width and height of the image in pixels.
    """
    (x1, y1, x2, y2), (width, height) = box, size
    shares = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
    return f"{category} " + " ".join(f"{v:.6f}" for v in shares) + "\n"


def _side_file(path: Path, content: str | bytes) -> None:
    """Write an image's labels or XML unless an earlier run did."""
    if size_of(path) < 0:
        write_atomic(path, content, sync=False)

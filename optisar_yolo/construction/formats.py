"""Reads the annotation formats of sources: VOC XML with descriptions, lists, COCO JSON and YOLO labels.

Each reader yields :class:`RawImage`: images and objects as the files have them. What a source's box means and where its
images lie is decided by `importing`.

VOC sources such as DIOR-RSVG and OPT-RSVG publish their splits as files of running numbers, counted over all objects of
all XML files. The numbers depend on the order of the files, so the files are sorted by name; a loader that walks the
folder in the order of the disk assigns other objects to the splits on every disk.
"""

from __future__ import annotations

import re
import reprlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

from optisar_yolo.construction.image_files import find_image, in_split
from optisar_yolo.construction.outlines import as_number, polygon_box, rotated_box, segmentation_box
from optisar_yolo.construction.pickled import read_pickle
from optisar_yolo.construction.recipe import Source
from optisar_yolo.data import (
    SPLITS,
    Box,
    DataError,
    Skips,
    is_id,
    is_number,
    outer_box,
    read_json,
    read_label_line,
    read_text,
    same_ids,
)

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_KEYS = (("image", "file_name"), ("bbox_xyxy", "bbox", "box"), ("phrase", "caption"), ("category",))
"""Keys of a list's records: image, box, expression, category."""
_DOTA = re.compile(r"((?:-?\d+(?:\.\d+)?\s+){8})([^\W\d][\w -]*?)(?:\s+[0-2])?")
_DOTA_HEAD = ("imagesource:", "gsd:", "acquisition dates:")


@dataclass
class RawObject:
    """One object.

    Attributes:
        box: Its box in the form of its source; None where it is not four numbers.
        category: The source's word.
        captions: Its expressions.
        split: The split that the source assigns, or "".
        form: The form of this box where it is not that of the source: "xyxy" for the outer box of an outline.
    """

    box: Box | None
    category: str
    captions: list[str]
    split: str = ""
    form: str = ""

    def __post_init__(self) -> None:
        """Make the texts such that UTF-8 can write them."""
        self.category, self.captions = writable(self.category), [writable(c) for c in self.captions]


@dataclass
class RawImage:
    """One image.

    Attributes:
        name: Its file, as the annotation names it.
        record: How messages name the annotation.
        objects: Its objects, also those that cannot be used: their places in this list are part of their ids.
        size: Width and height in pixels; None where the annotation has none.
        unlisted: Words of objects that the image shows and that are not in `objects`, such as crowds; "" where the word
            is not known either.
        own_name: Another name of its file, that of the annotation file, for a `name` that is an old one.
    """

    name: str
    record: str
    objects: list[RawObject] = field(default_factory=list)
    size: tuple[int, int] | None = None
    unlisted: list[str] = field(default_factory=list)
    own_name: str = ""

    def __post_init__(self) -> None:
        """Make the texts such that UTF-8 can write them."""
        self.name, self.record = writable(self.name), writable(self.record)


def four_numbers(values: object) -> Box | None:
    """Return four numbers as floats, NaN and infinities included, or None for anything else."""
    if not isinstance(values, list | tuple) or len(values) != 4:
        return None
    if any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
        return None
    try:
        return float(values[0]), float(values[1]), float(values[2]), float(values[3])
    except OverflowError:  # a whole number of hundreds of digits
        return None


def texts(value: object, record: str, problems: Skips) -> list[str]:
    """Return the expressions in a field that holds one, a list of them, or nothing; counts what is no text."""
    found = value if isinstance(value, list) else [] if value is None else [value]
    for text in found:
        if not isinstance(text, str):
            problems.add("caption that is no text, dropped", f"{record}: {reprlib.repr(text)}")
    return [text.strip() for text in found if isinstance(text, str) and text.strip()]


def writable(text: str) -> str:
    """Return a text with "?" for what UTF-8 cannot write: halves of surrogate pairs, which JSON can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


class _Builder(ElementTree.TreeBuilder):
    """Builds the tree of a document without a DOCTYPE: entities declared in one can fill the memory."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it declares a DOCTYPE, which annotations do not need")


def annotation_files(folder: Path, suffix: str) -> list[Path]:
    """List a source's annotation files, sorted by name; those of one name in several folders by folder.

    Raises:
        DataError: The folder is missing or holds none.
    """
    files = sorted(folder.rglob(f"*{suffix}"), key=lambda file: (file.name, file.as_posix()))
    if not files:
        raise DataError(f"{folder}: no {suffix} files there; correct 'annotations' in the recipe")
    return files


def split_of(file: Path) -> str:
    """Return the split that an annotation file's folder names, or ""."""
    return file.parent.name if file.parent.name in SPLITS else ""


def read_voc(source: Source, folder: Path, problems: Skips) -> Iterator[RawImage]:
    """Yield the images of a VOC source; its `index` gives the splits where there is one.

    Raises:
        DataError: An index does not fit the objects, or a file that an index counts through is broken.
    """
    files = annotation_files(folder / source.annotations, ".xml")
    splits = _read_index(source, folder)
    number = first = _first_number(splits, files)
    for file in files:
        record = f"{source.name}: {file.name}"
        try:
            root = parse_xml(file)
        except ValueError as error:
            if splits:  # how many objects it holds is not known, and all numbers after it would be wrong
                raise DataError(
                    f"{file}: {error}; the index counts its objects, so that it cannot be left out: copy it again"
                ) from error
            problems.add("annotation file that cannot be read, dropped", f"{record}: {error}")
            continue
        if root.tag != "annotation" or (root.find("object") is None and root.find(".//object") is not None):
            inside = sorted({child.tag for child in root})[:6]
            problems.add(
                "XML that is no Pascal VOC (an <annotation> with <object> in it), dropped",
                f"{record}: <{root.tag[:40]}> with {', '.join(f'<{tag[:40]}>' for tag in inside) or 'nothing in it'}",
            )
            continue
        own = in_split(folder, source.images, file.stem, split_of(file))
        image = RawImage(_image_name(root, file, source, folder), record, size=_voc_size(root), own_name=own)
        for element in root.findall("object"):
            split = splits.get(number, "") if splits else split_of(file)
            image.objects.append(_voc_object(element, split, record, problems))
            number += 1
        yield image
    if splits and max(splits) >= number:
        raise DataError(
            f"{folder}: the index goes up to object {max(splits)}, but the annotation files hold {number - first} "
            f"objects, numbered {first} to {number - 1}; one of the two is incomplete"
        )


def parse_xml(file: Path) -> ElementTree.Element:
    """Parse an XML file without following entities.

    Raises:
        ValueError: It cannot be read, is no XML, or declares a DOCTYPE.
    """
    try:
        return ElementTree.parse(file, ElementTree.XMLParser(target=_Builder())).getroot()
    except (ElementTree.ParseError, OSError, LookupError) as error:  # an unknown encoding is a LookupError
        raise ValueError(str(error)) from error


def _voc_object(element: ElementTree.Element, split: str, record: str, problems: Skips) -> RawObject:
    captions = ["".join(d.itertext()).strip() for d in element.findall("description")]
    found = RawObject(
        _voc_box(element.find("bndbox")),
        (element.findtext("name") or "").strip(),
        [c for c in captions if c],
        split,
    )
    if found.box is None:
        rotated = element.find("robndbox")
        if (outer := rotated_box(rotated)) is not None:
            problems.add("rotated box, read as its outer box", record)
        elif (outer := polygon_box(element)) is not None:
            problems.add("polygon, read as its outer box", record)
        elif rotated is not None:
            problems.add("rotated box that is incomplete, or whose angle is not in radians", record)
        found.box, found.form = outer, "xyxy" if outer is not None else ""
    return found


def _voc_box(element: ElementTree.Element | None) -> Box | None:
    if element is None:
        return None
    try:
        return four_numbers([float(element.findtext(corner) or "") for corner in _CORNERS])
    except ValueError:
        return None


def _voc_size(root: ElementTree.Element) -> tuple[int, int] | None:
    """Return the image's size; some files hold none, or zeros."""
    try:
        width, height = (int(float(root.findtext(f"size/{side}") or "")) for side in ("width", "height"))
    except (ValueError, OverflowError):
        return None
    return (width, height) if width > 0 and height > 0 else None


def _image_name(root: ElementTree.Element, file: Path, source: Source, folder: Path) -> str:
    """Return the image's name: its <filename> without folders, or that of the XML file where it has none."""
    name = PurePosixPath((root.findtext("filename") or "").strip().replace("\\", "/")).name
    return in_split(folder, source.images, name or file.stem, split_of(file))


def _read_index(source: Source, folder: Path) -> dict[int, str]:
    """Return each indexed object number's split."""
    splits: dict[int, str] = {}
    for split, file in source.index_files(folder):
        for place, line in enumerate(read_text(file).splitlines(), 1):
            if not line.strip():
                continue
            try:
                number = int(line)
            except ValueError as error:
                raise DataError(f"{file} line {place}: '{line[:40]}' is no object number") from error
            if number < 0:
                raise DataError(f"{file} line {place}: object numbers are not negative")
            if splits.setdefault(number, split) != split:
                raise DataError(f"{file} line {place}: object {number} is in {splits[number]} as well")
    return splits


def _first_number(splits: dict[int, str], files: list[Path]) -> int:
    """Return the number of the first object: 0 as published, or 1 where the last number can only mean that."""
    if not splits or 0 in splits:
        return 0
    total = 0
    for file in files:
        try:
            total += len(parse_xml(file).findall("object"))
        except ValueError:
            return 0  # `read_voc` meets the same file, and says so
    return 1 if max(splits) == total else 0


def read_list(source: Source, folder: Path, problems: Skips) -> Iterator[RawImage]:
    """Yield the images of a list source, sorted by name.

    A file is .json, or .pth and other pickles, and held in memory whole. A record is a tuple or list (image, box,
    expression) with the category as a fourth where there is one, or a dictionary with "image", "bbox" or "bbox_xyxy",
    "phrase" and "category". The records of an image may stand anywhere, also in several splits.

    Raises:
        DataError: A file that is no list.
    """
    images: dict[str, RawImage] = {}
    for split, file in source.annotation_files(folder):
        content = read_json(file) if file.suffix.lower() == ".json" else read_pickle(file)
        if not isinstance(content, list | tuple):
            raise DataError(f"{file}: expected a list of (image, box, expression), found {type(content).__name__}")
        for number, record in enumerate(content):
            place = f"{source.name}: {file.name}[{number}]"
            name, box, phrase, category = _list_fields(record)
            if not isinstance(name, str) or not name:
                problems.add("record that is no (image, box, expression), dropped", f"{place}: {reprlib.repr(record)}")
                continue
            name = in_split(folder, source.images, name, split)
            found = RawObject(
                four_numbers(box), category if isinstance(category, str) else "", texts(phrase, place, problems), split
            )
            images.setdefault(name, RawImage(name, place)).objects.append(found)
    for name in sorted(images):
        yield images[name]


def _list_fields(record: object) -> tuple[object, ...]:
    """Return image, box, expression and category of a record; all None for what is no record."""
    if isinstance(record, Mapping):
        return tuple(next((record[k] for k in keys if k in record), None) for keys in _KEYS)
    if isinstance(record, list | tuple) and len(record) in (3, 4):
        return (*record, None)[:4]
    return None, None, None, None


def read_coco(source: Source, folder: Path, problems: Skips) -> Iterator[RawImage]:
    """Yield the images of a COCO source, sorted by name. An image that several files list is one.

    An annotation's expressions are its "caption", a text or a list of texts; its category is that of its "category_id",
    or its "category_name" where the file has no categories. A file is held in memory whole.

    Raises:
        DataError: A file that is no COCO JSON, or an id that stands for two images.
    """
    images: dict[str, RawImage] = {}
    for split, file in source.annotation_files(folder):
        content = read_json(file)
        if not isinstance(content, dict) or not all(
            isinstance(content.get(k), list) for k in ("images", "annotations")
        ):
            raise DataError(f"{file}: expected COCO JSON, an object with the lists 'images' and 'annotations'")
        where = f"{source.name}: {file.name}"
        if same_ids(content):
            problems.add('file with ids such as 1.0 or "1", read as whole numbers', where)
        objects, crowds = _coco_objects(content, split, where, problems)
        names: dict[Any, str] = {}
        for number, entry in enumerate(content["images"]):
            if not isinstance(entry, dict) or not is_id(entry.get("id")) or not isinstance(entry.get("file_name"), str):
                problems.add("image record without id and file_name, dropped", f"{where} images[{number}]")
                continue
            name = in_split(folder, source.images, entry["file_name"], split)
            if names.setdefault(entry["id"], name) != name:
                raise DataError(f"{file}: image id {entry['id']} stands for both {names[entry['id']]} and {name}")
            image = images.setdefault(name, RawImage(name, f"{where} {name}", size=_coco_size(entry)))
            image.objects += objects.pop(entry["id"], [])
            image.unlisted += crowds.pop(entry["id"], [])
        for image_id, orphans in objects.items():
            for _ in orphans:
                problems.add("annotation of an image that is not listed, dropped", f"{where} image {image_id!r}")
    for name in sorted(images):
        yield images[name]


def category_names(content: Mapping[str, Any]) -> dict[Any, str]:
    """Return id to name of the usable categories of COCO JSON."""
    listed = content.get("categories")
    return {
        c["id"]: c["name"]
        for c in (listed if isinstance(listed, list) else ())
        if isinstance(c, dict) and is_id(c.get("id")) and isinstance(c.get("name"), str)
    }


def _coco_objects(
    content: dict[str, Any], split: str, where: str, problems: Skips
) -> tuple[dict[Any, list[RawObject]], dict[Any, list[str]]]:
    """Return the objects, and the words of crowds, by the id of their image."""
    words = category_names(content)
    objects: dict[Any, list[RawObject]] = defaultdict(list)
    crowds: dict[Any, list[str]] = defaultdict(list)
    notes = [note for note in content["annotations"] if isinstance(note, dict)]
    # CVAT marks every mask so, as a word for "in run lengths": then it says nothing of crowds.
    masks = bool(notes) and all(_is_crowd(n) and n.get("segmentation") for n in notes)
    for number, record in enumerate(content["annotations"]):
        place = f"{where} annotations[{number}]"
        if not isinstance(record, dict) or not is_id(record.get("image_id")):
            problems.add("annotation without image_id, dropped", place)
            continue
        category = record.get("category_id")
        word = words.get(category) if is_id(category) else None
        word = word or record.get("category_name")
        word = word if isinstance(word, str) else ""
        if _is_crowd(record) and not masks:
            problems.add("box around a crowd, dropped", place)
            crowds[record["image_id"]].append(word)
            continue
        if masks:
            problems.add("mask with iscrowd 1, as all of its file have, read as one object", place)
        captions = texts(record.get("caption"), place, problems)
        found = RawObject(four_numbers(record.get("bbox")), word, captions, split)
        if found.box is None or found.box[2:] == (0, 0):
            _mend(found, record, place, problems)
        objects[record["image_id"]].append(found)
    return objects, crowds


def _is_crowd(record: Mapping[str, Any]) -> bool:
    """Tell whether an annotation is a box around a crowd; some tools write the number as text."""
    return record.get("iscrowd") in (1, "1")


def _mend(found: RawObject, record: Mapping[str, Any], place: str, problems: Skips) -> None:
    """Give an object without a usable bbox one: from its segmentation, or from a bbox in another form."""
    bbox, segmentation = record.get("bbox"), record.get("segmentation")
    if (outer := segmentation_box(segmentation)) is not None:
        problems.add("segmentation without a bbox, read as its outer box", place)
        found.box, found.form = outer, "xyxy"
    elif isinstance(segmentation, dict):
        problems.add("compressed mask without a bbox (export polygons, or with bbox)", place)
    elif isinstance(bbox, list) and len(bbox) == 4 and all(isinstance(v, str) for v in bbox):
        if (box := four_numbers([as_number(v) for v in bbox])) is not None:
            problems.add("bbox of numbers that are written as text, read as numbers", place)
            found.box = box
    elif isinstance(bbox, list) and len(bbox) == 8 and (outer := segmentation_box(bbox)) is not None:
        problems.add("bbox of four corners, read as its outer box", place)
        found.box, found.form = outer, "xyxy"
    elif isinstance(bbox, list) and len(bbox) == 5:
        problems.add("rotated bbox (five numbers), whose angle has no agreed unit; export polygons", place)


def _coco_size(image: dict[str, Any]) -> tuple[int, int] | None:
    width, height = image.get("width"), image.get("height")
    return (int(width), int(height)) if is_number(width) and is_number(height) and min(width, height) >= 1 else None


def read_yolo(source: Source, folder: Path, problems: Skips) -> Iterator[RawImage]:
    """Yield the images of a YOLO source; its `names` are the words of its class numbers.

    Lines of outlines and of DOTA are read as their outer boxes.

    Raises:
        DataError: No label files, or no names.
    """
    if not source.names:
        raise DataError(f"source {source.name}: a YOLO source needs 'names', the words of its classes in their order")
    for file in annotation_files(folder / source.annotations, ".txt"):
        split, record = split_of(file), f"{source.name}: {file.name}"
        try:
            lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        except OSError as error:
            problems.add("label file that cannot be read, dropped", f"{record}: {error.strerror}")
            continue
        image = RawImage(in_split(folder, source.images, file.stem, split), record)
        if file.name == "classes.txt" and find_image(folder, source.images, image.name) is None:
            continue  # the names of the classes, which labelImg and Label Studio put beside the labels
        for number, line in enumerate(lines, 1):
            if line.strip() and not line.lower().startswith(_DOTA_HEAD):
                found = _yolo_object(line, source, split, f"{record} line {number}", problems)
                if isinstance(found, str):
                    image.unlisted.append(found)
                else:
                    image.objects.append(found)
        yield image


def _yolo_object(line: str, source: Source, split: str, record: str, problems: Skips) -> RawObject | str:
    """Read one line of YOLO's or of DOTA's; of one that cannot be used, return the word of its class or ""."""
    if (outline := _DOTA.fullmatch(line.strip())) is not None:
        problems.add("line of DOTA (eight numbers in pixels, a word), read as its outer box", record)
        return RawObject(outer_box([float(v) for v in outline[1].split()]), outline[2], [], split, form="xyxy")
    read = read_label_line(line)
    if read is None:
        problems.add("label line that is not five numbers, dropped", record)
        return _class_of(line.split()[0], source)
    if not 0 <= read.number < len(source.names) or not read.number.is_integer():
        problems.add("label line of unknown class, dropped", f"{record}, {read.number:g}")
        return ""
    if read.made_of:
        problems.add(read.made_of, record)
    return RawObject(four_numbers(read.box), source.names[int(read.number)], [], split)


def _class_of(word: str, source: Source) -> str:
    """Return the name of a class number as written, or ""."""
    return source.names[int(word)] if word.isdecimal() and int(word) < len(source.names) else ""

"""Reads a folder of VOC XML files whose objects carry descriptions, as DIOR-RSVG and OPT-RSVG publish them.

Their splits are files of running numbers, counted over all objects of all XML files. The order of the files is what
gives the numbers their meaning, so the files are sorted by name: loaders that walk the folder as the disk has it
assign other objects to the splits on every disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from optisar_yolo.construction.recipe import Source
from optisar_yolo.construction.sources.images import in_split
from optisar_yolo.construction.sources.records import RawImage, RawObject, four_numbers
from optisar_yolo.data import SPLITS, Box, DataError, Skips, read_text

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


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
    """Yield the images of a VOC source.

    Args:
        source: The source; its `index` gives the splits where there is one.
        folder: Its folder.
        problems: Counts files and objects that cannot be used.

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
        image = RawImage(_image_name(root, file, source, folder), record, size=_size(root))
        for element in root.findall("object"):
            split = splits.get(number, "") if splits else split_of(file)
            image.objects.append(_object(element, split))
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


def _object(element: ElementTree.Element, split: str) -> RawObject:
    captions = ["".join(d.itertext()).strip() for d in element.findall("description")]
    word = (element.findtext("name") or "").strip()
    return RawObject(_box(element.find("bndbox")), word, [c for c in captions if c], split)


def _box(element: ElementTree.Element | None) -> Box | None:
    if element is None:
        return None
    try:
        return four_numbers([float(element.findtext(corner) or "") for corner in _CORNERS])
    except ValueError:
        return None


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    """Return the image's size; some files hold none, or zeros."""
    try:
        width, height = (int(float(root.findtext(f"size/{side}") or "")) for side in ("width", "height"))
    except (ValueError, OverflowError):
        return None
    return (width, height) if width > 0 and height > 0 else None


def _image_name(root: ElementTree.Element, file: Path, source: Source, folder: Path) -> str:
    """Return the image's name: as the file says, without folders, or the file's own where it does not say."""
    said = PurePosixPath((root.findtext("filename") or "").strip().replace("\\", "/")).name
    return in_split(folder, source.images, said or file.stem, split_of(file))


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

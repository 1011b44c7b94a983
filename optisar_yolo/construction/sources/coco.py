"""Reads COCO JSON, with a caption at each annotation or without. A file is held in memory whole."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optisar_yolo.construction.recipe import Source
from optisar_yolo.construction.sources.images import in_split
from optisar_yolo.construction.sources.records import RawImage, RawObject, four_numbers, texts
from optisar_yolo.data import DataError, Skips, is_id, is_number, read_json


def read_coco(source: Source, folder: Path, problems: Skips) -> Iterator[RawImage]:
    """Yield the images of a COCO source, sorted by name; an image that several files list is one.

    Args:
        source: The source. An annotation's expressions are its "caption", a text or a list of texts; its category is
            that of its "category_id", or its "category_name" where the file has no categories.
        folder: Its folder.
        problems: Counts records that cannot be used.

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
        objects = _objects(content, split, where, problems)
        names: dict[Any, str] = {}
        for number, entry in enumerate(content["images"]):
            if not isinstance(entry, dict) or not is_id(entry.get("id")) or not isinstance(entry.get("file_name"), str):
                problems.add("image record without id and file_name, dropped", f"{where} images[{number}]")
                continue
            name = in_split(folder, source.images, entry["file_name"], split)
            if names.setdefault(entry["id"], name) != name:
                raise DataError(f"{file}: image id {entry['id']} stands for both {names[entry['id']]} and {name}")
            image = images.setdefault(name, RawImage(name, f"{where} {name}", size=_size(entry)))
            image.objects += objects.pop(entry["id"], [])
        for image_id, orphans in objects.items():
            for _ in orphans:
                problems.add("annotation of an image that is not listed, dropped", f"{where} image {image_id!r}")
    for name in sorted(images):
        yield images[name]


def _objects(content: dict[str, Any], split: str, where: str, problems: Skips) -> dict[Any, list[RawObject]]:
    """Group the annotations by the id of their image."""
    categories = content.get("categories")
    words = {
        c["id"]: c["name"]
        for c in (categories if isinstance(categories, list) else ())
        if isinstance(c, dict) and is_id(c.get("id")) and isinstance(c.get("name"), str)
    }
    objects: dict[Any, list[RawObject]] = defaultdict(list)
    for number, record in enumerate(content["annotations"]):
        place = f"{where} annotations[{number}]"
        if not isinstance(record, dict) or not is_id(record.get("image_id")):
            problems.add("annotation without image_id, dropped", place)
        elif record.get("iscrowd") == 1:
            problems.add("box around a crowd, dropped", place)
        else:
            category = record.get("category_id")
            word = words.get(category) if is_id(category) else None
            word = word or record.get("category_name")
            captions = texts(record.get("caption"), place, problems)
            box = four_numbers(record.get("bbox"))
            objects[record["image_id"]].append(RawObject(box, word if isinstance(word, str) else "", captions, split))
    return objects


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    width, height = image.get("width"), image.get("height")
    return (int(width), int(height)) if is_number(width) and is_number(height) and min(width, height) >= 1 else None

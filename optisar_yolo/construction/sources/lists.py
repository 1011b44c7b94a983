"""Reads lists of (image, box, expression): JSON, or a pickle as `torch.save` and `pickle.dump` write it.

A list has one record per expression, and the records of an image may stand anywhere, also in several splits. They are
brought together by image, so that a list is held in memory whole.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from optisar_yolo.construction.recipe import Source
from optisar_yolo.construction.sources.images import in_split
from optisar_yolo.construction.sources.pickled import read_pickle
from optisar_yolo.construction.sources.records import RawImage, RawObject, four_numbers, texts
from optisar_yolo.data import DataError, Skips, read_json

_KEYS = (("image", "file_name"), ("bbox_xyxy", "bbox", "box"), ("phrase", "caption"), ("category",))


def read_list(source: Source, folder: Path, problems: Skips) -> Iterator[RawImage]:
    """Yield the images of a list source, sorted by name.

    Args:
        source: The source; its `files` are .json, or .pth and other pickles. A record is a tuple or list (image, box,
            expression) with the category as a fourth where there is one, or a dictionary with "image", "bbox" or
            "bbox_xyxy", "phrase" and "category".
        folder: Its folder.
        problems: Counts records that cannot be used.

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
            name, box, phrase, category = _fields(record)
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


def _fields(record: object) -> tuple[object, ...]:
    """Return image, box, expression and category of a record; all None for what is no record."""
    if isinstance(record, Mapping):
        return tuple(next((record[k] for k in keys if k in record), None) for keys in _KEYS)
    if isinstance(record, list | tuple) and len(record) in (3, 4):
        return (*record, None)[:4]
    return None, None, None, None

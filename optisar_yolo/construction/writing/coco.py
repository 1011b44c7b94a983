"""COCO JSON as data sets are written in: the layout of the released OptSAR-RSVG."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from optisar_yolo.construction.samples import Instance
from optisar_yolo.utils import PART, appearing

DECIMALS = 4  # of a pixel: 117.23, not 117.22999999999999


class CocoFile:
    """A COCO JSON file that is written image by image, so that memory does not grow; use it in a ``with``.

    The file appears when the block ends without an error; until then its two lists grow in hidden files beside it.

    Args:
        path: The JSON file.
        names: Category names by id.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self.path = path
        self.images = 0
        self.annotations = 0
        self._categories = [{"id": i, "name": name} for i, name in enumerate(names)]
        self._ids = {name: i for i, name in enumerate(names)}
        self._parts = [path.with_name(f".{path.name}.{part}{PART}") for part in ("images", "annotations")]
        self._files: list[TextIO] = []

    def __enter__(self) -> CocoFile:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._files = [open(part, "w", encoding="utf-8") for part in self._parts]
        return self

    def add(self, file_name: str, width: int, height: int, objects: Sequence[Instance]) -> None:
        """Add an image and one annotation per expression; an object without any is one annotation without caption."""
        image = {"id": self.images, "file_name": file_name, "width": width, "height": height}
        self._put(0, self.images, image)
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
            for said in [{"caption": c} for c in item.captions] or [{}]:
                self._put(1, self.annotations, {"id": self.annotations} | note | said)
                self.annotations += 1
        self.images += 1

    def _put(self, part: int, number: int, record: dict[str, Any]) -> None:
        self._files[part].write((",\n" if number else "") + _json(record))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for file in self._files:
                with suppress(*((OSError,) if kind else ())):  # the first error counts
                    file.close()
            if kind is None and self.images:
                with appearing(self.path) as whole:
                    for key, part in zip(("images", "annotations"), self._parts, strict=True):
                        whole.write(f'{"{" if key == "images" else ","}"{key}":[\n')
                        with open(part, encoding="utf-8") as file:
                            shutil.copyfileobj(file, whole, 1 << 20)
                        whole.write("\n]")
                    whole.write(f',"categories":{_json(self._categories)}}}\n')
        finally:
            for part in self._parts:
                part.unlink(missing_ok=True)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

"""Files of an annotation run: the images found, the work so far, and what is written at the end."""

from __future__ import annotations

import glob
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
import yaml
from PIL import Image

from optisar_yolo.annotate.choose import Annotation
from optisar_yolo.construction import SUFFIXES
from optisar_yolo.data import MODALITIES, DataError, modality_of, read_image
from optisar_yolo.utils import appearing, write_atomic
from optisar_yolo.visualize import draw_answers

TILE, COLUMNS = 480, 3  # pixels of an image in the preview, images beside each other


def find_images(source: str | Path | Sequence[str | Path]) -> tuple[Path, list[Path]]:
    """Find the images of a source.

    Args:
        source: A folder (with those below it), a file, a pattern such as ``harbours/*.png``, or a list of files.

    Returns:
        The folder that file names in annotations start from, and the images, sorted by name.

    Raises:
        DataError: Nothing there, or no image.
    """
    if not isinstance(source, (str, Path)):
        files = [Path(s).absolute() for s in source]
        if not files:
            raise DataError("source is an empty list; give at least one image")
        root = Path(os.path.commonpath([f.parent for f in files]))
        return root, sorted(set(files))
    folder = Path(source).expanduser().absolute()
    if folder.is_dir():
        found = sorted(f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file())
        if not found:
            raise DataError(f"{folder}: no image in this folder or below it; known are {', '.join(SUFFIXES)}")
        return folder, found
    if folder.is_file():
        return folder.parent, [folder]
    matched = glob.glob(str(folder), recursive=True)
    if not (named := [Path(f) for f in matched if f.lower().endswith(SUFFIXES)]):
        raise DataError(f"source={source}: no such folder or image")
    return find_images(named)


@dataclass
class Done:
    """One image that was looked at: its objects, or why it could not be used.

    Attributes:
        file: Name, relative to the source's folder.
        width: In pixels; 0 where the image could not be read.
        height: Likewise.
        objects: What was found.
        dropped: Number of captions and boxes dropped, by reason.
        problem: Why it was skipped; empty for an image that was annotated.
    """

    file: str
    width: int = 0
    height: int = 0
    objects: list[Annotation] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    problem: str = ""

    @classmethod
    def read(cls, line: str) -> Done:
        """Read what `json` gave; ValueError, TypeError or KeyError for anything else."""
        content = json.loads(line)
        objects = [Annotation(tuple(o[0]), *o[1:]) for o in content.pop("objects")]
        return cls(objects=objects, **content)

    def json(self) -> str:
        """Return one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)


class Progress:
    """The work so far, one line per image, so that a run that was killed can go on.

    Args:
        path: The file. Its first line says with what settings it was begun.
        settings: Those of this run.
        resume: Take over what the file holds; otherwise begin anew.

    Raises:
        ValueError: The file was begun with other settings.
    """

    def __init__(self, path: Path, settings: dict[str, Any], resume: bool) -> None:
        self.done: dict[str, Done] = {}
        self.path = path
        head = json.dumps(settings, sort_keys=True, ensure_ascii=False)
        if resume and path.is_file():
            self._take_over(path, head)
        path.parent.mkdir(parents=True, exist_ok=True)
        with appearing(path) as file:  # without the half line of a kill
            file.writelines(line + "\n" for line in (head, *(d.json() for d in self.done.values())))
        self._file: IO[str] = open(path, "a", encoding="utf-8")

    def _take_over(self, path: Path, head: str) -> None:
        first, *lines = path.read_text(encoding="utf-8").split("\n")
        if first and first != head:
            raise ValueError(
                f"{path}: begun with other settings, weights or captions; run with the same, or without resume=True"
            )
        for line in lines:
            try:
                image = Done.read(line)
            except (ValueError, TypeError, KeyError, AttributeError):
                continue  # the line that was being written
            self.done[image.file] = image

    def add(self, image: Done) -> None:
        """Add an image."""
        self.done[image.file] = image
        self._file.write(image.json() + "\n")
        self._file.flush()

    def close(self, finished: bool) -> None:
        """Close the file; of a run that has finished it is no longer needed."""
        self._file.close()
        if finished:
            self.path.unlink(missing_ok=True)


def coco(images: Iterable[Done], info: dict[str, Any]) -> dict[str, Any]:
    """Return annotated images as COCO JSON with ``caption`` and ``score``; ids count from 1.

    Args:
        images: The images; those that were skipped are left out.
        info: How they were annotated.
    """
    usable = [p for p in images if not p.problem]
    names = sorted({o.category for p in usable for o in p.objects})
    numbers = {name: i for i, name in enumerate(names, 1)}
    entries: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    for i, image in enumerate(usable, 1):
        entries.append({"id": i, "file_name": image.file, "width": image.width, "height": image.height})
        for o in image.objects:
            x1, y1, x2, y2 = o.box
            notes.append(
                {
                    "id": len(notes) + 1,
                    "image_id": i,
                    "category_id": numbers[o.category],
                    "category_name": o.category,
                    "bbox": [round(v, 2) for v in (x1, y1, x2 - x1, y2 - y1)],
                    "area": round((x2 - x1) * (y2 - y1), 2),
                    "iscrowd": 0,
                    "caption": o.caption,
                    "score": round(o.score, 4),
                }
            )
    categories = [{"id": i, "name": name} for name, i in numbers.items()]
    return {"info": info, "images": entries, "annotations": notes, "categories": categories}


def write_dataset_config(path: Path, root: Path, annotations: Path, names: Sequence[str]) -> Path | None:
    """Write a dataset config, so that the result can be viewed and trained on; None where a category has no modality."""
    if not names or any(modality_of(name) not in MODALITIES for name in names):
        return None
    content = {"path": str(root), "train": str(annotations.absolute()), "images": ".", "names": list(names)}
    return write_atomic(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def summary(images: Sequence[Done]) -> dict[str, Any]:
    """Count images, boxes, captions and what was dropped."""
    dropped: Counter[str] = Counter()
    for image in images:
        dropped.update(image.dropped)
    found = [o for p in images for o in p.objects]
    return {
        "pictures": len(images),
        "skipped": {p.file: p.problem for p in images if p.problem},
        "images with boxes": sum(bool(p.objects) for p in images),
        "boxes": len(found),
        "categories": dict(Counter(o.category for o in found).most_common()),
        "different captions": len({o.caption for o in found}),
        "dropped": dict(dropped.most_common()),
    }


def write_preview(path: Path, root: Path, images: Sequence[Done], count: int) -> Path | None:
    """Write a sheet of annotated images with their boxes and captions, evenly chosen; None where there is none."""
    usable = [p for p in images if p.objects]
    chosen = [usable[i] for i in np.unique(np.linspace(0, len(usable) - 1, min(count, len(usable))).astype(int))]
    tiles = []
    for image in chosen:
        try:
            pixels = read_image(root / image.file)
        except DataError:  # gone since
            continue
        boxes = np.array([[*o.box, o.score, j] for j, o in enumerate(image.objects)])
        pixels, boxes = _tile(pixels, boxes)
        tiles.append(draw_answers(pixels, boxes, {j: o.caption for j, o in enumerate(image.objects)}))
    if not tiles:
        return None
    columns = [tiles[i::COLUMNS] for i in range(min(COLUMNS, len(tiles)))]
    sheet = Image.new(
        "RGB", (TILE * len(columns), max(sum(t.height for t in column) for column in columns)), (255, 255, 255)
    )
    for i, column in enumerate(columns):
        top = 0
        for tile in column:
            sheet.paste(tile, (i * TILE, top))
            top += tile.height
    with appearing(path, binary=True) as file:
        sheet.save(file, "JPEG" if path.suffix.lower() in (".jpg", ".jpeg") else "PNG")
    return path


def _tile(image: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bring an image to the sheet's width, and its boxes [n, 6] with it."""
    scale = TILE / image.shape[1]
    size = (TILE, max(round(image.shape[0] * scale), 1))
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    boxes[:, :4] *= scale
    return resized, boxes

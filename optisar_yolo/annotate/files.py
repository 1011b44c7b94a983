"""Files of an annotation run: the images of a source, COCO JSON, the dataset config, counts and the preview."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from PIL import Image

from optisar_yolo.annotate.choose import Annotation
from optisar_yolo.data import MODALITIES, SUFFIXES, DataError, images_in, modality_of, read_image
from optisar_yolo.utils import appearing, write_atomic
from optisar_yolo.visualize import draw_predictions

TILE, COLUMNS = 480, 3  # of the preview: width of an image in pixels, images per row


def find_images(source: str | Path | Sequence[str | Path]) -> tuple[Path, list[Path]]:
    """Find the images of a source.

    Args:
        source: A folder (with those below it), a file, a pattern such as ``harbours/*.png``, or a list of files.

    Returns:
        The folder that file names in annotations are relative to, and the images, sorted by name.

    Raises:
        DataError: No such file or folder, or no image in it.
    """
    if not isinstance(source, (str, Path)):
        files = [Path(s).absolute() for s in source]
        if not files:
            raise DataError("source is an empty list; give at least one image")
        root = Path(os.path.commonpath([f.parent for f in files]))
        return root, sorted(set(files))
    folder = Path(source).expanduser().absolute()
    if folder.is_dir():
        found = images_in(folder)
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
class AnnotatedFile:
    """The annotations of one image, or why it could not be used.

    Attributes:
        file: Name, relative to the source's folder.
        width: In pixels; 0 where the image could not be read.
        height: Likewise.
        objects: The annotations.
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
    def from_entry(cls, entry: dict[str, Any]) -> AnnotatedFile:
        """Read an entry of the journal."""
        objects = [Annotation(tuple(box), *rest) for box, *rest in entry["objects"]]
        return cls(**{**entry, "objects": objects})


def coco(images: Iterable[AnnotatedFile], info: dict[str, Any]) -> dict[str, Any]:
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
    """Write a dataset config for viewing and training; None where a category has no modality."""
    if not names or any(modality_of(name) not in MODALITIES for name in names):
        return None
    content = {"path": str(root), "train": str(annotations.absolute()), "images": ".", "names": list(names)}
    return write_atomic(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def counts_of(images: Sequence[AnnotatedFile]) -> dict[str, Any]:
    """Count images, boxes, captions and what was dropped."""
    dropped: Counter[str] = Counter()
    for image in images:
        dropped.update(image.dropped)
    found = [o for p in images for o in p.objects]
    return {
        "pictures": len(images),
        "skipped": {p.file: p.problem for p in images if p.problem},
        "pictures with boxes": sum(bool(p.objects) for p in images),
        "boxes": len(found),
        "categories": dict(Counter(o.category for o in found).most_common()),
        "different captions": len({o.caption for o in found}),
        "dropped": dict(dropped.most_common()),
    }


def write_preview(path: Path, root: Path, images: Sequence[AnnotatedFile], count: int) -> Path | None:
    """Write a JPEG sheet of evenly chosen images with their boxes and captions; None where no image has any."""
    usable = [p for p in images if p.objects]
    chosen = [usable[i] for i in np.unique(np.linspace(0, len(usable) - 1, min(count, len(usable))).astype(int))]
    tiles = []
    for image in chosen:
        try:
            pixels = read_image(root / image.file)
        except DataError:  # removed since
            continue
        scale = TILE / pixels.shape[1]
        height = max(round(pixels.shape[0] * scale), 1)
        interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        boxes = np.array([[*(v * scale for v in o.box), o.score, j] for j, o in enumerate(image.objects)])
        captions = {j: o.caption for j, o in enumerate(image.objects)}
        drawn = draw_predictions(cv2.resize(pixels, (TILE, height), interpolation=interpolation), boxes, captions)
        tiles.append(np.asarray(drawn.convert("RGB")))
    if not tiles:
        return None
    columns = [np.concatenate(tiles[i::COLUMNS]) for i in range(min(COLUMNS, len(tiles)))]
    tallest = max(map(len, columns))
    white = [np.pad(c, ((0, tallest - len(c)), (0, 0), (0, 0)), constant_values=255) for c in columns]
    with appearing(path, binary=True) as file:
        Image.fromarray(np.hstack(white)).save(file, "JPEG")
    return path

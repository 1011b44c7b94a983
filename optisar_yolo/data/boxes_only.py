"""Validation on labelled images without expressions: a folder of images, or the dataset config of a detector.

1. :func:`validation_config` takes what ``data=`` names. A dataset config with expressions is loaded as it is; in a
   folder, the one that lies there.
2. Otherwise the images of the split are listed, with the boxes of YOLO label files or of a COCO JSON, and the names of
   their classes.
3. Expressions are derived from the boxes, as ``optisar dataset build`` does: one for each object that a claim singles
   out, and those of several objects for the others.
4. They are kept, with a dataset config, in the folder of the user's settings. While images, labels and names stay as
   they are, they are used again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ultralytics.utils import LOGGER, TQDM, USER_CONFIG_DIR

from optisar_yolo.data.config import (
    SPLITS,
    DataError,
    DatasetConfig,
    checked_names,
    load_dataset_config,
    modality_of,
    root_of,
)
from optisar_yolo.data.images import read_image
from optisar_yolo.data.layouts import (
    annotation_file,
    beside_images,
    images_in,
    label_file,
    names_images,
    split_folder,
    splits_in,
)
from optisar_yolo.data.records import (
    Box,
    Skips,
    clip,
    from_xywh,
    is_id,
    label_boxes,
    modality_by_name,
    read_coco,
)
from optisar_yolo.data.stretch import is_grey
from optisar_yolo.language import LabelledObjects, describe, describe_sets, draw_by_kind
from optisar_yolo.utils import UnreadableFileError, file_identity, fingerprint, naming, read_yaml, write_atomic

FOLDER = "optisar-boxes"  # in Ultralytics' configuration folder of the user, beside the text features
VERSION = 1  # of what is derived from boxes; another one makes the expressions anew
CLASS_LISTS = ("classes.txt", "obj.names", "names.txt")
SEED = 0


@dataclass(frozen=True)
class _Boxes:
    """The labelled images of a split.

    Attributes:
        source: What ``data=`` named.
        base: The folder that holds all images.
        split: Name of the split.
        images: The image files.
        names: Names of the classes.
        annotations: COCO JSON with the boxes; None: YOLO label files hold them.
    """

    source: Path
    base: Path
    split: str
    images: list[Path] = field(default_factory=list)
    names: tuple[str, ...] = ()
    annotations: Path | None = None


def validation_config(data: str | Path | Mapping[str, Any] | DatasetConfig, split: str) -> DatasetConfig:
    """Return the dataset config of a validation.

    Args:
        data: What :func:`load_dataset_config` takes, a folder of labelled images, or the dataset config of a detector.
        split: The split to validate on.

    Raises:
        DataError: It is none of these, or boxes or names are missing; the message says what to add.
    """
    if not isinstance(data, str | Path):
        return load_dataset_config(data)
    path = Path(data).expanduser()
    if path.is_dir():
        return _of_folder(path.resolve(), split)
    found = _of_detector(path.resolve(), split) if path.is_file() else None
    return _described(found) if found is not None else load_dataset_config(data)


def _of_folder(folder: Path, split: str) -> DatasetConfig:
    """Return the dataset config in a folder, or make one of the folder's boxes."""
    named: tuple[str, ...] = ()
    for file in sorted((*folder.glob("*.yaml"), *folder.glob("*.yml"))):
        content = _content(file)
        if not any(key in content for key in SPLITS):
            continue
        if (found := _of_detector(file, split)) is not None:
            return _described(found)
        if split in content and not names_images(content[split], root_of(content, file)):
            LOGGER.info(f"{folder}: using its dataset config {file.name}")
            return load_dataset_config(file)
    for near in (folder, folder.parent):
        naming_files = [file for file in sorted(near.glob("*.y*ml")) if _content(file).get("names")]
        if not named and len(naming_files) == 1:  # several would be of several data sets
            named = checked_names(_content(naming_files[0])["names"], str(naming_files[0]))
    place = split_folder(folder, split)
    if place is None:
        raise DataError(
            f"{folder}: no images of the split '{split}'; there are folders of {', '.join(splits_in(folder))}: give "
            f"split={splits_in(folder)[0]}, or a dataset config"
        )
    listed = annotation_file(folder, split, place) or annotation_file(folder, "annotations", place)
    if listed is None and place == folder:
        listed = next((f for f in sorted(folder.glob("*.json")) if _is_coco(f)), None)
    if listed is not None:
        base = place if place.is_relative_to(folder) else folder
        return _of_coco(_Boxes(folder, base, split, annotations=listed), named)
    images = images_in(place)
    if not images:
        raise DataError(
            f"{folder}: a folder, not a dataset config, and it holds no images; give the YAML file that describes the "
            "data set, or a folder with images and labels"
        )
    if not any(label_file(image) for image in images):
        raise DataError(_no_boxes(folder, images))
    return _described(_Boxes(folder, folder, split, images, named or _class_list(folder, images)))


def _of_detector(file: Path, split: str) -> _Boxes | None:
    """Return the boxes of a split that a detector's dataset config names, or None for another file."""
    content = _content(file)
    given = content.get(split)
    if given is None or content.get("names") is None or not isinstance(content.get("path", ""), str):
        return None
    root = root_of(content, file)
    if not names_images(given, root):
        return None
    names = checked_names(content["names"], str(file))
    entries = [given] if isinstance(given, str) else list(given)
    folders = [(root / entry).resolve() for entry in entries]
    if len(folders) == 1 and (listed := annotation_file(root, split, folders[0])) is not None:
        if _has_captions(listed):
            return None  # `load_dataset_config` takes it
        return _Boxes(file, folders[0], split, names=names, annotations=listed)
    images = [image for place in folders for image in (images_in(place) if place.is_dir() else _listed_in(place, root))]
    if not images:
        raise DataError(f"{file}: '{split}: {given}' holds no images; correct it or 'path:'")
    return _Boxes(file, root, split, images, names)


def _of_coco(boxes: _Boxes, named: tuple[str, ...]) -> DatasetConfig:
    """Return the dataset config of a COCO JSON; with captions it is used as it is."""
    assert boxes.annotations is not None
    content = read_coco(boxes.annotations)
    listed = sorted(
        (c["id"], " ".join(c["name"].split()))
        for c in content.get("categories") or []
        if isinstance(c, dict) and isinstance(c.get("id"), int) and isinstance(c.get("name"), str)
    )
    names = named or tuple(dict.fromkeys(name for _, name in listed if name))
    if not names:
        raise DataError(f"{boxes.annotations}: no list 'categories' with the names of its categories; add one")
    if _has_captions(boxes.annotations):
        LOGGER.info(f"{boxes.source}: reading the expressions of {boxes.annotations}")
        settings = {"path": str(boxes.source), boxes.split: str(boxes.annotations), "images": str(boxes.base)}
        return load_dataset_config({**settings, "names": list(names)})
    return _described(_Boxes(boxes.source, boxes.base, boxes.split, names=names, annotations=boxes.annotations))


def _described(boxes: _Boxes) -> DatasetConfig:
    """Derive expressions from boxes, or find those of an earlier call, and return their dataset config."""
    labels = {image: label_file(image) for image in boxes.images}
    if boxes.annotations is None and not any(labels.values()):
        raise DataError(_no_boxes(boxes.source, boxes.images))
    files = [boxes.annotations] if boxes.annotations else [f for pair in labels.items() for f in pair if f]
    where = (str(boxes.source), str(boxes.base), boxes.split, boxes.names)
    key = fingerprint(VERSION, where, [file_identity(str(f)) for f in files], digits=16)
    folder = Path(USER_CONFIG_DIR) / FOLDER / key
    file = folder / f"{boxes.source.stem}.yaml"
    said = f"{boxes.source}: no expressions there; using those that were derived from its boxes before, in {folder}"
    if not file.is_file():
        said = _write(boxes, labels, folder, file)
    LOGGER.warning(said)
    return load_dataset_config(file)


def _no_boxes(source: Path, images: list[Path]) -> str:
    """Say that there are images without any box."""
    expected = beside_images(images[0].parent) / f"{images[0].stem}.txt"
    return (
        f"{source}: {len(images)} images and no boxes: no label file such as {expected} (a line 'class x y width "
        "height' for each object), and no COCO JSON; add the labels, or give a dataset config"
    )


def _write(boxes: _Boxes, labels: Mapping[Path, Path | None], folder: Path, file: Path) -> str:
    """Write annotations and dataset config, and return what was done in a line."""
    skips = Skips()
    found = _from_coco(boxes, skips) if boxes.annotations else _from_labels(boxes, labels, skips)
    records = TQDM(found, desc="expressions of boxes", total=len(boxes.images) or None, unit="image")
    images: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    looks: dict[str, int] = {}
    for number, (path, size, objects, unlisted) in enumerate(records):
        name = path.relative_to(boxes.base).as_posix() if path.is_relative_to(boxes.base) else str(path)
        entry = {"id": number, "file_name": name, "width": size[0], "height": size[1], "unlisted": unlisted}
        if modality_by_name(name) is None and not any(modality_of(boxes.names[c]) for _, c in objects):
            grey = is_grey(read_image(path).transpose(2, 0, 1))
            entry["modality"] = "sar" if grey else "optical"
            looks["grey" if grey else "coloured"] = looks.get("grey" if grey else "coloured", 0) + 1
        images.append(entry)
        texts = _expressions(objects, boxes.names, size, unlisted, f"{SEED}:{name}")
        for (box, category), own in zip(objects, texts, strict=True):
            x1, y1, x2, y2 = box
            record = {"image_id": number, "category_id": category, "bbox": [x1, y1, x2 - x1, y2 - y1]}
            notes += [{"id": len(notes) + i, **record, "caption": text} for i, text in enumerate(own)] or [
                {"id": len(notes), **record}
            ]
    written = len({(n["image_id"], n["caption"]) for n in notes if "caption" in n})
    problems = f" Left out: {'; '.join(skips.lines())}." if skips.lines() else ""
    if not written:
        raise DataError(
            f"{boxes.source}: no object of its {len(images)} images can be singled out by an expression; check the "
            f"labels and the names of the classes.{problems}"
        )
    content = {
        "images": images,
        "annotations": notes,
        "categories": [{"id": i, "name": name} for i, name in enumerate(boxes.names)],
    }
    settings = {
        "path": str(folder), boxes.split: f"{boxes.split}.json", "images": str(boxes.base), "names": list(boxes.names),
    }  # fmt: skip
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / f"{boxes.split}.json", json.dumps(content).encode())
        write_atomic(file, yaml.safe_dump(settings, allow_unicode=True, sort_keys=False).encode())
    # Of 437 real images of optsar-real drawn at random, all 143 optical ones are coloured and 287 of 294 SAR ones grey.
    taken = {"grey": "SAR", "coloured": "optical"}
    guessed = " and ".join(f"{n} {look} images are taken for {taken[look]}" for look, n in looks.items())
    hint = f" ({guessed}; begin file names with sar_ or opt_ to say it)" if guessed else ""
    return (
        f"{boxes.source}: no expressions there; {written} were derived from the boxes of its {len(images)} images, as "
        f"'optisar dataset build' does{hint}, and are kept in {folder}.{problems}"
    )


def _from_labels(
    boxes: _Boxes, labels: Mapping[Path, Path | None], skips: Skips
) -> Iterator[tuple[Path, tuple[int, int], list[tuple[Box, int]], list[str]]]:
    """Yield path, (width, height), boxes with their classes and names of objects without a box, for each image."""
    for image in boxes.images:
        size = _size(image, skips)
        if size is not None:
            label = labels[image]
            yield image, size, list(label_boxes(label, size, len(boxes.names), skips)) if label else [], []


def _from_coco(boxes: _Boxes, skips: Skips) -> Iterator[tuple[Path, tuple[int, int], list[tuple[Box, int]], list[str]]]:
    """Yield the same of a COCO JSON; crowds are objects without a box."""
    assert boxes.annotations is not None
    content = read_coco(boxes.annotations)
    index = {name: i for i, name in enumerate(boxes.names)}
    by_id = {
        c["id"]: " ".join(c["name"].split())
        for c in content.get("categories") or []
        if isinstance(c, dict) and is_id(c.get("id")) and isinstance(c.get("name"), str)
    }
    grouped: dict[Any, list[dict[str, Any]]] = {}
    for note in content["annotations"]:
        if isinstance(note, dict) and is_id(note.get("image_id")):
            grouped.setdefault(note["image_id"], []).append(note)
    for entry in content["images"]:
        if not isinstance(entry, dict) or not is_id(entry.get("id")) or not isinstance(entry.get("file_name"), str):
            skips.add("image record without id and file_name", str(entry)[:80])
            continue
        places = (boxes.base, boxes.base / "images", boxes.base.parent, boxes.annotations.parent)
        image = next((p / entry["file_name"] for p in places if (p / entry["file_name"]).is_file()), None)
        if image is None:
            skips.add("image file missing", entry["file_name"])
            continue
        size = _size(image, skips)
        if size is None:
            continue
        objects: list[tuple[Box, int]] = []
        unlisted: list[str] = []
        for note in grouped.get(entry["id"], []):
            label = f"annotation id {note.get('id')}"
            name = by_id.get(note.get("category_id"), "")
            if name not in index:
                skips.add("annotation of an unknown category", label)
                unlisted.append("")
            elif note.get("iscrowd") or (box := clip(from_xywh(note.get("bbox")), size, label, skips)) is None:
                unlisted.append(name)
            elif (box, index[name]) not in objects:  # an object may have a record for each of several captions
                objects.append((box, index[name]))
        yield image, size, objects, unlisted


def _expressions(
    objects: list[tuple[Box, int]], names: tuple[str, ...], size: tuple[int, int], unlisted: list[str], seed: str
) -> list[list[str]]:
    """Return the expressions of each object: its own, or those of a set that it belongs to."""
    labelled = LabelledObjects(
        np.array([box for box, _ in objects], float).reshape(-1, 4), [names[c] for _, c in objects], size,
        unlisted=unlisted,
    )  # fmt: skip
    rng = np.random.default_rng(int(fingerprint(seed, digits=15), 16))
    texts: list[list[str]] = [[] for _ in objects]
    taken: set[str] = set()
    for i, own in enumerate(texts):
        drawn = draw_by_kind(describe(labelled, i, rng, modality=0.0), 1, rng, labelled.vocabulary)
        own += [text for text in drawn if text.casefold() not in taken]
        taken |= {text.casefold() for text in own}
    left = {i for i, own in enumerate(texts) if not own}
    for text, members in describe_sets(labelled, rng, 0.0) if left else ():
        if left & set(members) and text.casefold() not in taken:
            taken.add(text.casefold())
            for i in members:
                texts[i].append(text)
            left -= set(members)
    return texts


def _size(image: Path, skips: Skips) -> tuple[int, int] | None:
    """Return width and height of an image, or None for a file that is none."""
    try:
        height, width = read_image(image).shape[:2]
    except DataError as error:
        skips.add("image that cannot be read", str(error))
        return None
    return width, height


def _class_list(folder: Path, images: list[Path]) -> tuple[str, ...]:
    """Read the names of the classes from a list of lines, as labelling tools write it.

    Raises:
        DataError: There is none.
    """
    labels = next((file.parent for image in images if (file := label_file(image)) is not None), folder)
    for place in dict.fromkeys((folder, labels, folder.parent, labels.parent, labels.parent.parent)):
        for name in CLASS_LISTS:
            if (place / name).is_file():
                lines = (place / name).read_text(encoding="utf-8-sig", errors="replace").splitlines()
                return checked_names([line.strip() for line in lines if line.strip()], str(place / name))
    raise DataError(
        f"{folder}: a folder, not a dataset config, and nothing there names the classes of its labels; write their "
        f"names, one a line, into {folder / CLASS_LISTS[0]}, such as 'ship' and 'airplane', or give a dataset config"
    )


def _listed_in(file: Path, root: Path) -> list[Path]:
    """Return the images that a text file lists, from the data set's folder or the file's own."""
    if not file.is_file():
        return []
    lines = [line.strip() for line in file.read_text(encoding="utf-8-sig", errors="replace").splitlines()]
    found = ((root / line, file.parent / line) for line in lines if line)
    return [next((p for p in pair if p.is_file()), pair[0]).resolve() for pair in found]


def _content(file: Path) -> dict[Any, Any]:
    """Return a YAML file's mapping; an empty one for anything else, which is reported where it is loaded."""
    if file.suffix.lower() not in (".yaml", ".yml"):
        return {}
    try:
        content = read_yaml(file)
    except UnreadableFileError:
        return {}
    return content if isinstance(content, dict) else {}


def _is_coco(file: Path) -> bool:
    try:
        return bool(read_coco(file))
    except DataError:
        return False


def _has_captions(file: Path) -> bool:
    return any(isinstance(n, dict) and isinstance(n.get("caption"), str) for n in read_coco(file)["annotations"])

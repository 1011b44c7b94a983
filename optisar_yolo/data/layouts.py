"""Where images, labels and annotations of a detection data set lie: the layouts of Ultralytics, Roboflow and COCO."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")
"""Endings of image files, in lower case."""


def images_in(folder: Path) -> list[Path]:
    """Return the image files of a folder and of those below it, sorted."""
    return sorted(f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file())


def names_images(given: Any, root: Path) -> bool:
    """Tell whether an entry of a dataset config names images, as a detector's does, and no annotation file.

    Args:
        given: What ``train``, ``val`` or ``test`` of the config says.
        root: The data set's folder.
    """
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        return False
    if any(name.lower().endswith(".json") for name in names):
        return False
    return not isinstance(given, str) or (root / given).is_dir() or given.lower().endswith(".txt")


def annotation_file(root: Path, split: str, folder: Path | None = None) -> Path | None:
    """Find the COCO JSON of a split, or return None.

    Args:
        root: The data set's folder.
        split: "train", "val" or "test".
        folder: The folder of its images, where it is known.
    """
    stems = dict.fromkeys((split, *((folder.name,) if folder else ())))
    places = [root / f"{kind}{stem}.json" for stem in stems for kind in ("", "annotations/", "annotations/instances_")]
    if folder is not None:
        places += [folder / "_annotations.coco.json", folder / "annotations.json", folder.with_suffix(".json")]
        places += [folder.parent / name for name in (f"{split}.json", "_annotations.coco.json", "annotations.json")]
    return next((file for file in places if file.is_file()), None)


def beside_images(folder: Path) -> Path:
    """Return the folder of label files that belongs to one of images, as Ultralytics finds it."""
    parts = list(folder.parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts)


def label_file(image: Path) -> Path | None:
    """Find the label file of an image: in the folder ``labels`` that belongs to its ``images``, or beside it."""
    folders = (beside_images(image.parent), image.parent.parent / "labels", image.parent / "labels", image.parent)
    files = (folder / f"{image.stem}.txt" for folder in folders)
    return next((file for file in files if file.is_file()), None)


def split_folder(folder: Path, split: str) -> Path | None:
    """Return the folder that holds the images of a split, or None where only other splits have folders.

    ``images/val``, ``val/images`` and ``val`` are looked for, then ``images`` and the folder itself, which hold one
    set of images.
    """
    for place in (folder / "images" / split, folder / split / "images", folder / split):
        if place.is_dir():
            return place
    if splits_in(folder):
        return None
    return folder / "images" if (folder / "images").is_dir() else folder


def splits_in(folder: Path, splits: Iterable[str] = ("train", "val", "test")) -> list[str]:
    """Return the splits that have a folder of images of their own."""
    return [s for s in splits if any((folder / place).is_dir() for place in (f"images/{s}", s))]

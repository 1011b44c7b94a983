"""Training data of the cells: nested shares of the images, and expressions replaced by their category's name.

A cell's data are an annotation file and a dataset config. Both refer to the images of the data set; none is copied.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from optisar_yolo.construction import Group, stratify
from optisar_yolo.data import (
    SPLITS,
    DataError,
    DatasetConfig,
    ImageRecord,
    category_phrase,
    load_dataset_config,
    load_split,
    modality_of,
)
from optisar_yolo.utils import write_atomic

STEPS = (30, 60, 100)
"""Shares in percent (Table II), each a part of the next."""


@dataclass(frozen=True)
class DataSet:
    """A data set that the tables train on.

    Attributes:
        config: Its dataset config.
        train: Its usable training images.
        counts: Of train, val and test: "pictures" (images) and "expressions".
        fingerprint: Of its categories and annotation files; records of runs hold it.
    """

    config: DatasetConfig
    train: list[ImageRecord]
    counts: dict[str, dict[str, int]]
    fingerprint: str


def read(data: str | Path) -> DataSet:
    """Read a data set with its three splits.

    Raises:
        DataError: It is not there, or lacks a split.
    """
    config = load_dataset_config(data)
    if lacking := [s for s in SPLITS if s not in config.splits]:
        raise DataError(f"{config.path}: no split '{lacking[0]}'; the tables need {', '.join(SPLITS)}")
    splits = {split: load_split(config, split) for split in SPLITS}
    digest = hashlib.sha256(json.dumps(config.names).encode())
    for split in SPLITS:
        digest.update(config.splits[split].read_bytes())
    return DataSet(config, splits["train"], {s: count(p) for s, p in splits.items()}, digest.hexdigest()[:12])


def count(images: Sequence[ImageRecord]) -> dict[str, int]:
    """Return the number of images ("pictures") and of their expressions."""
    return {"pictures": len(images), "expressions": sum(len(own) for p in images for own in p.captions)}


def chosen(images: Sequence[ImageRecord], share: int, seed: int) -> list[int]:
    """Choose a share of the images, alike in modalities and categories; smaller shares are parts of larger ones.

    The images are divided once, by iterative stratification, into the steps between the shares.

    Args:
        images: Training images.
        share: One of ``STEPS``.
        seed: Of the draw.

    Returns:
        Their indices, ascending.

    Raises:
        ValueError: Another share.
    """
    if share not in STEPS:
        raise ValueError(f"share {share}: choose from {', '.join(map(str, STEPS))} %")
    groups = [Group(1, Counter([p.modality, *(f"category {c}" for c in p.categories)])) for p in images]
    first, second, last = (step / 100 for step in STEPS)
    part = stratify(groups, (first, second - first, last - second), seed)
    return [i for i, p in enumerate(part) if p <= STEPS.index(share)]


def replaced(groups: Sequence[str], percent: int, seed: int) -> set[int]:
    """Choose expressions to be replaced, in each modality the same share; smaller shares are parts of larger ones.

    Args:
        groups: Modality of each expression.
        percent: Share in percent, rounded to whole expressions.
        seed: Of the draw.

    Returns:
        Their indices.
    """
    taken: set[int] = set()
    for group in sorted(set(groups)):
        members = np.flatnonzero([g == group for g in groups])
        order = np.random.default_rng([seed, len(members)]).permutation(members)
        taken.update(order[: round(percent * len(members) / 100)].tolist())
    return taken


def write(data: DataSet, folder: Path, share: int, bare: int, seed: int) -> tuple[Path, dict[str, int]]:
    """Write the dataset config of a cell's data, and its training annotations where they differ from the data set's.

    Args:
        data: The data set.
        folder: Where both files go.
        share: Percent of the training images.
        bare: Percent of the training expressions that are replaced.
        seed: Of both draws.

    Returns:
        The dataset config, and the counts of the training data: "pictures" (images), "expressions", "replaced".
    """
    config, counts = data.config, data.counts["train"] | {"replaced": 0}
    content: dict[str, Any] = {"path": str(config.root)} | {s: str(config.splits[s]) for s in SPLITS}
    content |= _folders(config)
    if share < 100 or bare:
        notes = json.loads(config.splits["train"].read_text(encoding="utf-8-sig"))
        if share < 100:
            kept = chosen(data.train, share, seed)
            notes = _kept(notes, config, [data.train[i] for i in kept])
            counts |= count([data.train[i] for i in kept])
        counts["replaced"] = _rename(notes, config, bare, seed)
        # the name that the data set's own file has: images may lie in a folder of that name
        file = folder / config.splits["train"].name
        write_atomic(file, json.dumps(notes, ensure_ascii=False))
        content["train"] = str(file)
    content["names"] = list(config.names)
    path = folder / "data.yaml"
    write_atomic(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    return path, counts


def _folders(config: DatasetConfig) -> dict[str, str]:
    """Return the folders of images and labels, as a dataset config names them."""
    return {
        key: str(folder.parent if folder.name in ("train", config.splits["train"].stem) else folder)
        for key, folder in (("images", config.images["train"]), ("labels", config.labels["train"]))
    }


def _kept(notes: dict[str, Any], config: DatasetConfig, images: Sequence[ImageRecord]) -> dict[str, Any]:
    """Return the annotations of some images alone."""
    wanted = {p.path for p in images}
    folder = config.images["train"]
    entries, ids = [], set()
    for entry in notes["images"]:
        name = entry.get("file_name") if isinstance(entry, dict) else None
        if isinstance(name, str) and {folder / name, folder.parent / name} & wanted:
            entries.append(entry)
            ids.add(entry.get("id"))
    own = [n for n in notes["annotations"] if isinstance(n, dict) and n.get("image_id") in ids]
    return notes | {"images": entries, "annotations": own}


def _rename(notes: dict[str, Any], config: DatasetConfig, percent: int, seed: int) -> int:
    """Replace a share of the expressions by the names of their categories, in place; return how many."""
    listed = [c for c in notes.get("categories") or [] if isinstance(c, dict)]
    by_id = {c.get("id"): c.get("name") for c in listed} or dict(enumerate(config.names))
    captioned: list[tuple[dict[str, Any], str]] = []
    for note in notes["annotations"]:
        caption = note.get("caption") if isinstance(note, dict) else None
        name = by_id.get(note.get("category_id"), note.get("category_name")) if isinstance(caption, str) else None
        if isinstance(caption, str) and caption.strip() and isinstance(name, str):
            captioned.append((note, " ".join(name.split())))
    taken = replaced([modality_of(name) or "" for _, name in captioned], percent, seed)
    for i in taken:
        note, name = captioned[i]
        note["caption"] = category_phrase(name)
        note.pop("kind", None)  # the kind of the expression that was replaced
    return len(taken)

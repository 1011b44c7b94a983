"""Training data of the cells: nested shares of the pictures, and sentences replaced by their category's name.

What is written are an annotation file and a card; both refer to the data set's own pictures, of which none is copied.
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
from optisar_yolo.data import SPLITS, Card, DataError, Picture, load_card, load_split, modality_of, written
from optisar_yolo.utils import write_atomic

STEPS = (30, 60, 100)
"""Shares in percent (Table II), each a part of the next."""

EXPRESSED = "expressions"


@dataclass(frozen=True)
class DataSet:
    """A data set that the tables train on.

    Attributes:
        card: Its card.
        train: Its usable training pictures.
        counts: Of train, val and test: "pictures" and "expressions".
        fingerprint: Of its categories and annotation files.
    """

    card: Card
    train: list[Picture]
    counts: dict[str, dict[str, int]]
    fingerprint: str


def read(data: str | Path) -> DataSet:
    """Read a data set with its three splits.

    Raises:
        DataError: It is not there, or lacks a split.
    """
    card = load_card(data)
    if lacking := [s for s in SPLITS if s not in card.splits]:
        raise DataError(f"{card.path}: no split '{lacking[0]}'; the tables need {', '.join(SPLITS)}")
    splits = {split: load_split(card, split) for split in SPLITS}
    digest = hashlib.sha256(json.dumps(card.names).encode())
    for split in SPLITS:
        digest.update(card.splits[split].read_bytes())
    return DataSet(card, splits["train"], {s: count(p) for s, p in splits.items()}, digest.hexdigest()[:12])


def count(pictures: Sequence[Picture]) -> dict[str, int]:
    """Return the number of pictures and of their expressions."""
    return {"pictures": len(pictures), EXPRESSED: sum(len(own) for p in pictures for own in p.captions)}


def chosen(pictures: Sequence[Picture], share: int, seed: int) -> list[int]:
    """Choose a share of the pictures, alike in modalities and categories; smaller shares are parts of larger ones.

    The pictures are divided once, by iterative stratification, into the steps between the shares.

    Args:
        pictures: Training pictures.
        share: One of ``STEPS``.
        seed: Of the draw.

    Returns:
        Their indices, ascending.

    Raises:
        ValueError: Another share.
    """
    if share not in STEPS:
        raise ValueError(f"share {share}: choose from {', '.join(map(str, STEPS))} %")
    groups = [Group(1, Counter([p.modality, *(f"category {c}" for c in p.categories)])) for p in pictures]
    first, second, last = (step / 100 for step in STEPS)
    part = stratify(groups, (first, second - first, last - second), seed)
    return [i for i, p in enumerate(part) if p <= STEPS.index(share)]


def replaced(groups: Sequence[str], percent: int, seed: int) -> set[int]:
    """Choose sentences to be replaced, in each modality the same share; smaller shares are parts of larger ones.

    Args:
        groups: Modality of each sentence.
        percent: Share in percent, rounded to whole sentences.
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
    """Write the card of a cell's data, and its training annotations where they differ from the data set's.

    Args:
        data: The data set.
        folder: Where both files go.
        share: Percent of the training pictures.
        bare: Percent of the training sentences that are replaced.
        seed: Of both draws.

    Returns:
        The card, and what it trains on: "pictures", "expressions", "replaced".
    """
    card, counts = data.card, data.counts["train"] | {"replaced": 0}
    content: dict[str, Any] = {"path": str(card.root)} | {s: str(card.splits[s]) for s in SPLITS}
    content |= _folders(card)
    if share < 100 or bare:
        notes = json.loads(card.splits["train"].read_text(encoding="utf-8-sig"))
        if share < 100:
            kept = chosen(data.train, share, seed)
            notes = _kept(notes, card, [data.train[i] for i in kept])
            counts |= count([data.train[i] for i in kept])
        counts["replaced"] = _rename(notes, card, bare, seed)
        # the name that the data set's own file has: pictures may lie in a folder of that name
        file = folder / card.splits["train"].name
        write_atomic(file, json.dumps(notes, ensure_ascii=False))
        content["train"] = str(file)
    content["names"] = list(card.names)
    path = folder / "data.yaml"
    write_atomic(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    return path, counts


def _folders(card: Card) -> dict[str, str]:
    """Folders of pictures and labels, as a card names them."""
    return {
        key: str(folder.parent if folder.name in ("train", card.splits["train"].stem) else folder)
        for key, folder in (("images", card.images["train"]), ("labels", card.labels["train"]))
    }


def _kept(notes: dict[str, Any], card: Card, pictures: Sequence[Picture]) -> dict[str, Any]:
    """Return the annotations of some pictures alone."""
    wanted = {p.path for p in pictures}
    folder = card.images["train"]
    images, ids = [], set()
    for entry in notes["images"]:
        name = entry.get("file_name") if isinstance(entry, dict) else None
        if isinstance(name, str) and {folder / name, folder.parent / name} & wanted:
            images.append(entry)
            ids.add(entry.get("id"))
    own = [n for n in notes["annotations"] if isinstance(n, dict) and n.get("image_id") in ids]
    return notes | {"images": images, "annotations": own}


def _rename(notes: dict[str, Any], card: Card, percent: int, seed: int) -> int:
    """Replace a share of the sentences by the names of their categories, in place; return how many."""
    listed = [c for c in notes.get("categories") or [] if isinstance(c, dict)]
    by_id = {c.get("id"): c.get("name") for c in listed} or dict(enumerate(card.names))
    said: list[tuple[dict[str, Any], str]] = []
    for note in notes["annotations"]:
        caption = note.get("caption") if isinstance(note, dict) else None
        name = by_id.get(note.get("category_id"), note.get("category_name")) if isinstance(caption, str) else None
        if isinstance(caption, str) and caption.strip() and isinstance(name, str):
            said.append((note, " ".join(name.split())))
    taken = replaced([modality_of(name) or "" for _, name in said], percent, seed)
    for i in taken:
        note, name = said[i]
        note["caption"] = written(name)
        note.pop("kind", None)  # what the sentence was about: it no longer is
    return len(taken)

"""Finds images that stand in more than one split: by name, by content, by the image that they were made from."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from optisar_yolo.construction.checking.findings import Findings
from optisar_yolo.construction.checking.inspecting import InspectedSplit, image_path
from optisar_yolo.construction.steps import ordered_map, sha256
from optisar_yolo.construction.writing.write import NOTE, SHARED, TABLE
from optisar_yolo.data import DatasetConfig

Place = tuple[str, str]
"""Split and file name of an image."""


def find_leaks(
    config: DatasetConfig, seen: Mapping[str, InspectedSplit], findings: Findings, content: bool = True, jobs: int = 1
) -> None:
    """Look for images that stand in several splits.

    A data set whose manifest says that its splits are of objects (as in DIOR-RSVG) has such images by its authors'
    will: they are then counted as notes. Everywhere else they are errors.

    Args:
        config: The dataset config.
        seen: What the checks of the single splits saw.
        findings: Gets what is found.
        content: Compare the bytes of files that are of equal size.
        jobs: Threads that read files.
    """
    found = findings.note if _meant(config.root) else findings.error
    for name, places in _shared({(s, name): name for s, part in seen.items() for name in part.sizes}):
        if len({seen[s].sizes[name] for s, _ in places}) == 1:
            found("image name in several splits", f"{name}: {_splits(places)}")
        else:  # splits that number their images from one
            findings.warning("name of different images in several splits", f"{name}: {_splits(places)}")
    for origin, places in _shared(_origins(config.root)):
        if len({name for _, name in places}) > 1:  # one name: reported above
            found("images of one origin in several splits", f"{origin}: {_splits(places)}")
    if content:
        _same_content(config, seen, findings, found is findings.note, jobs)


def _meant(root: Path) -> bool:
    try:
        note = json.loads((root / NOTE).read_text(encoding="utf-8"))
        return bool(note[SHARED])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _origins(root: Path) -> dict[Place, str]:
    """Return every image's origin as the table of names gives it; nothing where there is no such table."""
    try:
        with open(root / TABLE, encoding="utf-8", newline="") as file:
            return {(row["split"], row["file_name"]): row["origin"] for row in csv.DictReader(file)}
    except (OSError, KeyError, ValueError, csv.Error):
        return {}


def _shared(keys: Mapping[Place, str]) -> Iterator[tuple[str, list[Place]]]:
    """Yield the keys that stand in more than one split, with their places."""
    places: dict[str, list[Place]] = defaultdict(list)
    for place, key in keys.items():
        places[key].append(place)
    yield from ((key, group) for key, group in places.items() if len({split for split, _ in group}) > 1)


def _splits(places: list[Place]) -> str:
    return ", ".join(f"{split} {name}" for split, name in places)


def _same_content(
    config: DatasetConfig, seen: Mapping[str, InspectedSplit], findings: Findings, meant: bool, jobs: int
) -> None:
    """Compare the files that have another of their size."""
    sizes: dict[int, list[Place]] = defaultdict(list)
    for split, part in seen.items():
        for name, size in part.sizes.items():
            sizes[size].append((split, name))
    alike = [place for group in sizes.values() if len(group) > 1 for place in group]
    digests = ordered_map(lambda place: sha256(image_path(config, *place)), alike, jobs)
    groups: dict[str, list[Place]] = defaultdict(list)
    for place, digest in zip(alike, digests, strict=True):
        groups[digest].append(place)
    for places in groups.values():
        if len({name for _, name in places}) == 1:
            continue  # alone, or one name in several splits: reported by name
        if len({split for split, _ in places}) == 1:
            findings.warning("identical images in one split", _splits(places[:3]))
        elif meant:
            findings.note("identical images in several splits", _splits(places[:3]))
        else:
            findings.error("identical images in several splits", _splits(places[:3]))

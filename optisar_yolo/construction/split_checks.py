"""Checks one split of a written data set: records, images, boxes, labels, XML, expressions."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from optisar_yolo.construction.formats import category_names
from optisar_yolo.construction.image_files import image_size
from optisar_yolo.construction.written_files import read_xml
from optisar_yolo.data import (
    EXAMPLES,
    READ_AS,
    SAME_BOX,
    SAME_OBJECT,
    Box,
    DatasetConfig,
    Skips,
    find_file,
    from_xywh,
    is_id,
    is_number,
    label_boxes,
)
from optisar_yolo.language import BUILT_IN, LabelledObjects, Vocabulary, clean, parse
from optisar_yolo.utils import UnreadableFileError, iou, read_json_file

EDGE = 1.0  # pixels by which a box may leave its image: rounding
XML_EDGE = 1.01  # pixels by which XML and JSON may differ: many XML files are rounded
LONGEST = 300  # characters of a record that are kept
LEVELS = ("error", "warning", "note")


@dataclass
class Findings:
    """Counts what each check found, with the first few records named.

    Attributes:
        strict: Warnings count as errors.
        skips: Counts and examples by gravity.
    """

    strict: bool = False
    skips: dict[str, Skips] = field(default_factory=lambda: {level: Skips() for level in LEVELS})

    def error(self, check: str, record: str) -> None:
        """Count something that makes the data set unusable or a comparison on it wrong."""
        self.skips["error"].add(check, record[:LONGEST])

    def warning(self, check: str, record: str) -> None:
        """Count something that should be looked at."""
        self.skips["warning"].add(check, record[:LONGEST])

    def note(self, check: str, record: str) -> None:
        """Count something worth knowing."""
        self.skips["note"].add(check, record[:LONGEST])

    @property
    def failed(self) -> bool:
        """Whether there are errors, or, if strict, warnings."""
        return bool(self.skips["error"].counts or (self.strict and self.skips["warning"].counts))

    def rows(self) -> list[dict[str, Any]]:
        """Return one record per check that found something: level, check, count, examples."""
        return [
            {"level": level, "check": check, "count": count, "examples": skips.examples[check][:EXAMPLES]}
            for level, skips in self.skips.items()
            for check, count in skips.counts.items()
        ]

    def lines(self) -> list[str]:
        """Return the table that is printed."""
        return [
            f"{'ERROR' if self.strict and r['level'] == 'warning' else r['level'].upper():<8}{r['count']:>8}  "
            f"{r['check']}: {'; '.join(r['examples'])}{'; ...' if r['count'] > len(r['examples']) else ''}"
            for r in self.rows()
        ]


@dataclass
class ExpressionNote:
    """An annotation that can be used: its box in pixels (xyxy), its category's name, its caption or ""."""

    label: str
    box: Box
    category: str
    caption: str


def check_expressions(
    notes: Sequence[ExpressionNote],
    more: Sequence[tuple[Box, str]],
    size: tuple[float, float],
    findings: Findings,
    vocabulary: Vocabulary = BUILT_IN,
) -> tuple[int, int]:
    """Check the expressions of one image: false, repeated, or of several objects.

    Args:
        notes: Its annotations.
        more: Boxes (xyxy in pixels) and categories of its other objects, which have no expression.
        size: (width, height) of the image in pixels.
        findings: Collects the findings.
        vocabulary: The nouns of the data set.

    Returns:
        Number of expressions that the boxes can prove true or false, and of those that they prove false.
    """
    checked = contradicted = 0
    if not any(n.caption for n in notes):
        return checked, contradicted
    boxes = np.array([*(n.box for n in notes), *(b for b, _ in more)], dtype=np.float64).reshape(-1, 4)
    kinds = np.array([*(n.category for n in notes), *(c for _, c in more)])
    first = _first_of_each(boxes, kinds)
    kept = np.unique(first)
    place = {int(row): i for i, row in enumerate(kept)}
    objects = LabelledObjects(boxes[kept], kinds[kept].tolist(), size, vocabulary)
    owners: dict[str, list[int]] = defaultdict(list)  # caption to the rows of its objects
    for row, note in enumerate(notes):
        if not note.caption:
            continue
        owners[note.caption.casefold()].append(row)
        verdict = objects.truth(note.caption, place[int(first[row])])
        checked += verdict is not None
        if verdict is False:
            contradicted += 1
            findings.warning("expression that the boxes contradict", f"{note.label}: {note.caption}")
    for rows in owners.values():
        if len(rows) > 1:
            same = len({int(first[row]) for row in rows}) == 1
            if not same and parse(notes[rows[0]].caption, objects.vocabulary).number is not None:
                continue  # "the two ships" is said of two objects on purpose
            check = "repeated for the same object" if same else "said of several objects of an image"
            findings.warning(f"expression {check}", f"{notes[rows[0]].label}: {notes[rows[0]].caption}")
    return checked, contradicted


def _first_of_each(boxes: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Return for every box [N, 4] the row of the first box that is the same object; int [N]."""
    first = np.full(len(boxes), -1, dtype=np.int64)
    for row, box in enumerate(boxes):
        if first[row] < 0:
            alike = (iou(box, boxes) >= SAME_BOX) & (kinds == kinds[row]) & (first < 0)
            first[alike] = row
            first[row] = row
    return first


@dataclass
class InspectedSplit:
    """What the checks across splits need of one split; a few bytes per image.

    Attributes:
        sizes: File name to its number of bytes.
        images: Number of usable image records.
        expressions: Number of expressions.
        checked: Number of expressions that the boxes can prove true or false.
        contradicted: Number of those that they prove false.
    """

    sizes: dict[str, int] = field(default_factory=dict)
    images: int = 0
    expressions: int = 0
    checked: int = 0
    contradicted: int = 0


def inspect(config: DatasetConfig, split: str, findings: Findings) -> InspectedSplit:
    """Check a split, and return what the checks across splits need."""
    seen = InspectedSplit()
    file = config.splits[split]
    try:
        content = read_json_file(file)
    except UnreadableFileError as error:
        findings.error("annotation file that cannot be read", str(error))
        return seen
    if not isinstance(content, dict) or not all(isinstance(content.get(k), list) for k in ("images", "annotations")):
        findings.error("annotation file without the lists 'images' and 'annotations'", str(file))
        return seen
    entries = _entries(content["images"], split, findings)
    notes = _notes(content, entries, config, split, findings)
    seen.images = len(entries)
    for image_id, entry in entries.items():
        if (size := _image(entry, config, split, findings)) is not None:
            seen.sizes[entry["file_name"]] = size
        mine = notes.get(image_id, [])
        inside = [n for n in mine if _inside(n, entry, findings)]
        seen.expressions += sum(bool(n.caption) for n in mine)
        boxes = _labels(entry, inside, config, split, findings)
        _xml(entry, mine, config, split, findings)
        sides = entry["width"], entry["height"]
        checked, contradicted = check_expressions(inside, boxes, sides, findings, config.vocabulary)
        seen.checked += checked
        seen.contradicted += contradicted
    _strays(entries, config, split, findings)
    if not seen.expressions:
        findings.error("split without any expression", split)
    return seen


def _entries(images: list[Any], split: str, findings: Findings) -> dict[Any, dict[str, Any]]:
    """Return the usable image records by id."""
    entries: dict[Any, dict[str, Any]] = {}
    names: set[str] = set()
    for number, entry in enumerate(images):
        record = f"{split} images[{number}]"
        if not isinstance(entry, dict) or not is_id(entry.get("id")) or not isinstance(entry.get("file_name"), str):
            findings.error("image record without id and file_name", record)
            continue
        name = entry["file_name"]
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.name:
            findings.error("image name that leads out of its folder", f"{record}, {name}")
        elif not all(is_number(entry.get(k)) and entry[k] >= 1 for k in ("width", "height")):
            findings.error("image record without width and height", f"{record}, {name}")
        elif entry["id"] in entries:
            findings.error("image id used twice", f"{record}, id {entry['id']}")
        elif name in names:
            findings.error("image listed twice", f"{record}, {name}")
        else:
            names.add(name)
            entries[entry["id"]] = entry
    return entries


def _notes(
    content: dict[str, Any], entries: dict[Any, Any], config: DatasetConfig, split: str, findings: Findings
) -> dict[Any, list[ExpressionNote]]:
    """Return the usable annotations by image id."""
    names = category_names(content)
    if list(names.items()) != list(enumerate(config.names)):
        findings.warning(
            "categories that are not those of the dataset config in their order", f"{split}: {list(names.values())}"
        )
    ids: set[Any] = set()
    notes: dict[Any, list[ExpressionNote]] = {}
    for number, note in enumerate(content["annotations"]):
        record = f"{split} annotations[{number}]"
        if not isinstance(note, dict) or not is_id(note.get("id")):
            findings.error("annotation without an id", record)
            continue
        if note["id"] in ids:
            findings.error("annotation id used twice", f"{record}, id {note['id']}")
        ids.add(note["id"])
        record = f"{split} annotation {note['id']}"
        image_id, category_id = note.get("image_id"), note.get("category_id")
        category = names.get(category_id) if is_id(category_id) else None
        box = from_xywh(note.get("bbox"))
        if not is_id(image_id) or image_id not in entries:
            findings.error("annotation of no known image", f"{record}, image_id {image_id}")
        elif category is None or category not in config.names:
            findings.error("annotation of unknown category", f"{record}, category_id {category_id}")
        elif box is None:
            findings.error("box that is not four finite numbers of positive area", f"{record}, {note.get('bbox')}")
        else:
            if note.get("category_name", category) != category:
                findings.error("category_name that is not its category_id's", f"{record}, {note['category_name']}")
            caption = _caption(note, record, findings)
            notes.setdefault(image_id, []).append(ExpressionNote(record, box, category, caption))
    return notes


def _caption(note: dict[str, Any], record: str, findings: Findings) -> str:
    """Return an annotation's caption, "" where it has none."""
    if "caption" not in note:
        return ""
    try:
        return clean(note["caption"])
    except ValueError:
        findings.error("caption that says nothing", f"{record}, {note['caption']!r}")
        return ""


def _image(entry: dict[str, Any], config: DatasetConfig, split: str, findings: Findings) -> int | None:
    """Check an image's file; return its number of bytes, or None where there is none."""
    name = entry["file_name"]
    path = image_path(config, split, name)
    if find_file(config.images[split], name, config.root) is None and os.path.isfile(path):
        findings.error("image outside the data set, which is not read", f"{split} {name}")
        return None
    try:
        size, found = os.stat(path).st_size, image_size(path)
    except (OSError, ValueError) as error:  # DataError is a ValueError
        missing = not os.path.exists(path)
        findings.error("image missing" if missing else "image that cannot be read", f"{path}: {error}")
        return None
    if found != (entry["width"], entry["height"]):
        noted = f"{entry['width']}x{entry['height']}"
        findings.error("image of another size than its record says", f"{split} {name}: {found[0]}x{found[1]}, {noted}")
    return size


def image_path(config: DatasetConfig, split: str, name: str) -> Path:
    """Return an image's file: in its split's folder, or beside that folder, where the loader looks too."""
    folder = config.images[split]
    return find_file(folder, name, config.root) or folder / name


def _inside(note: ExpressionNote, entry: dict[str, Any], findings: Findings) -> bool:
    """Check that a box lies in its image."""
    x1, y1, x2, y2 = note.box
    if min(x1, y1) >= -EDGE and x2 <= entry["width"] + EDGE and y2 <= entry["height"] + EDGE:
        return True
    findings.error("box that leaves its image", f"{note.label}, {entry['file_name']}")
    return False


def _labels(
    entry: dict[str, Any], notes: list[ExpressionNote], config: DatasetConfig, split: str, findings: Findings
) -> list[tuple[Box, str]]:
    """Compare an image's label file with its annotations; return the boxes that the label file alone has."""
    folder = config.labels[split]
    relative = PurePosixPath(entry["file_name"]).with_suffix(".txt")
    file = next((p for p in (folder / relative, folder.parent / relative) if p.is_file()), None)
    if file is None:
        if notes and folder.is_dir():
            findings.error("image without a label file", f"{split} {entry['file_name']}")
        return []
    problems = Skips()
    lines = list(label_boxes(file, (int(entry["width"]), int(entry["height"])), len(config.names), problems))
    for problem, examples in problems.examples.items():
        report = findings.warning if problem in READ_AS else findings.error
        report(problem, f"{split} {examples[0]}")
    index = {name: i for i, name in enumerate(config.names)}
    theirs = np.array([b for b, _ in lines], dtype=np.float64).reshape(-1, 4)
    kinds = np.array([c for _, c in lines], dtype=np.int64)
    matched = np.zeros(len(lines), dtype=bool)
    for note in notes:
        same = (iou(note.box, theirs) >= SAME_OBJECT) & (kinds == index[note.category])
        matched |= same
        if not same.any():
            findings.error("annotation that the label file lacks", f"{note.label}, {file.name}")
    if not matched.all():
        findings.note("objects that the label files alone have", f"{split} {file.name}")
    return [(b, config.names[c]) for (b, c), hit in zip(lines, matched.tolist(), strict=True) if not hit]


def _xml(
    entry: dict[str, Any], notes: list[ExpressionNote], config: DatasetConfig, split: str, findings: Findings
) -> None:
    """Compare an image's XML with its annotations, if there is XML."""
    folder = config.root / "annotations" / split
    file = folder / PurePosixPath(entry["file_name"]).with_suffix(".xml")
    if not file.is_file():
        if folder.is_dir():
            findings.error("image without an XML file", f"{split} {entry['file_name']}")
        return
    try:
        size, objects = read_xml(file)
    except ValueError as error:
        findings.error("XML file that cannot be read", f"{split} {file.name}: {error}")
        return
    ours = sorted((n.category, n.caption, n.box) for n in notes)
    theirs = sorted((name, " ".join(text.split()), box) for name, box, text in objects)
    equal = len(ours) == len(theirs) and all(
        a[:2] == b[:2] and max(abs(p - q) for p, q in zip(a[2], b[2], strict=True)) < XML_EDGE
        for a, b in zip(ours, theirs, strict=True)
    )
    if not equal or size != (entry["width"], entry["height"]):
        findings.error("XML file that differs from the JSON file", f"{split} {file.name}")


def _strays(entries: dict[Any, dict[str, Any]], config: DatasetConfig, split: str, findings: Findings) -> None:
    """Look for files in the split's own folder of images that no record names."""
    folder = config.images[split]
    if folder.name not in (split, config.splits[split].stem) or not folder.is_dir():
        return  # a folder that several splits share
    names = {PurePosixPath(e["file_name"]).name for e in entries.values()}
    with os.scandir(folder) as files:
        for file in files:
            if file.is_file() and file.name not in names:
                findings.warning("file among the images that no record names", f"{split} {file.name}")

"""Annotations: COCO JSON with captions, and YOLO label files with all boxes of an image, read into typed records.

A bad record is skipped and counted in `Skips`, and a warning names the first few of each kind. A file without any
usable record is a `DataError`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from ultralytics.utils import LOGGER

from optisar_yolo.data.config import DataError, DatasetConfig, find_file
from optisar_yolo.data.images import read_image
from optisar_yolo.data.labels import Box, read_label_line
from optisar_yolo.language import LONGEST_EXPRESSION, clean, parse
from optisar_yolo.utils import UnreadableFileError, iou, read_json_file

EXAMPLES = 3  # records named per kind of problem
LONGEST = 200  # characters of such a record that are shown
MIN_SIDE = 0.01  # pixels; thinner boxes have no area in float32 coordinates of a large image
SAME_OBJECT = 0.9  # IoU from which a label-file box and an annotation of the same category are one object
_WHOLE = re.compile(r"(?:0|[1-9]\d{0,14})(?:\.0)?")  # no leading zeros: "007" and "7" may be two names
SAME_BOX = 0.99  # IoU from which two annotations of the same category are one object with several captions


@dataclass
class Skips:
    """Counts of what was skipped or corrected while reading, with the first few records of each kind."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, problem: str, record: str) -> None:
        """Count one record under a problem."""
        self.counts[problem] = self.counts.get(problem, 0) + 1
        if len(shown := self.examples.setdefault(problem, [])) < EXAMPLES:
            shown.append(record if len(record) <= LONGEST else f"{record[:LONGEST]}...")

    def lines(self) -> list[str]:
        """Return one line per problem: its count and first records."""
        return [
            f"{n} x {problem} ({'; '.join(self.examples[problem])}{'; ...' if n > len(self.examples[problem]) else ''})"
            for problem, n in self.counts.items()
        ]


@dataclass(frozen=True, eq=False)
class ImageRecord:
    """One image with all its labelled objects.

    Attributes:
        path: The image file.
        width: Width in pixels.
        height: Height in pixels.
        modality: "optical", "sar" or one that the dataset config declares.
        boxes: float32 [N, 4], xyxy in pixels, inside the image, none of zero area.
        categories: int64 [N], index into the dataset config's names.
        captions: For each object its expressions; empty for an object without any.
        kinds: As `captions`: each expression's kind ("position", "relation", ...), "" where it has none.
        unlisted: Category names of objects that the image shows and that have no usable box, "" for an unknown one.
        channels: Bands that are read of it.
        sets: Captions that several objects have and that mean several ("the two ships on the left", not "a ship").
    """

    path: Path
    width: int
    height: int
    modality: str
    boxes: np.ndarray
    categories: np.ndarray
    captions: tuple[tuple[str, ...], ...]
    kinds: tuple[tuple[str, ...], ...] = ()
    unlisted: tuple[str, ...] = ()
    sets: frozenset[str] = frozenset()
    channels: int = 3


@dataclass
class _Object:
    box: Box
    category: int
    same: float  # IoU from which a box of the label file is this object; two label lines may overlap much
    captions: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)


def load_split(
    config: DatasetConfig, split: str, fraction: float = 1.0, seed: int = 0, skips: Skips | None = None
) -> list[ImageRecord]:
    """Read one split of a data set.

    The boxes of an image are those of its annotations, and those of its label file that match no annotation.
    Annotations with the same box and category are one object with several captions. Of two annotations with one id the
    later is skipped. An image file that is missing or empty is skipped with its annotations.

    Args:
        config: The dataset config.
        split: "train", "val" or "test".
        fraction: Share of the images to keep, in (0, 1]; drawn per modality, and a smaller share is a subset of a
            larger one.
        seed: Seed of that draw.
        skips: Receives the counts of skipped records, for callers who want them; they are logged in any case.

    Returns:
        The images in the order of the annotation file.

    Raises:
        DataError: The split or its file is missing or broken, or no usable expression is left.
    """
    if split not in config.splits:
        raise DataError(f"{config.path}: no split '{split}'; the dataset config has {', '.join(config.splits)}")
    if not isinstance(fraction, int | float) or not 0 < fraction <= 1:
        raise DataError(f"fraction must be above 0 and at most 1, not {fraction}")
    skips = Skips() if skips is None else skips
    file = config.splits[split]
    content = read_coco(file, config.download or f"Correct the dataset config {config.path}")
    entries = _image_entries(content["images"], file, skips)
    objects = _annotations(content, entries, config, skips)
    images = [
        image
        for image_id, entry in entries.items()
        if (image := _image(entry, objects.get(image_id, []), config, split, skips)) is not None
    ]
    lines = skips.lines()
    if not any(captions for image in images for captions in image.captions):
        reason = f" Skipped: {'; '.join(lines)}." if lines else ""
        raise DataError(f"{file}: no usable expression; annotations need 'caption' texts and their images.{reason}")
    if lines:
        LOGGER.warning(f"{file}: skipped or mended records: " + "; ".join(lines))
    return _subset(images, fraction, seed)


def read_text(file: Path) -> str:
    """Read a file as UTF-8, a byte order mark allowed.

    Raises:
        DataError: It is missing, cannot be read or is not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read as UTF-8 text ({error})") from error


def read_json(file: Path) -> object:
    """Read a JSON file.

    Raises:
        DataError: It is missing or no JSON.
    """
    try:
        return read_json_file(file)
    except UnreadableFileError as error:
        raise DataError(str(error)) from error


def from_xywh(bbox: object) -> Box | None:
    """Turn COCO's [x, y, w, h] into xyxy, or None where it is not four finite numbers with w, h > 0."""
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(is_number(v) for v in bbox):
        return None
    x, y, w, h = (float(v) for v in bbox)
    return (x, y, x + w, y + h) if w > 0 and h > 0 else None


def clip(box: Box | None, size: tuple[int, int], record: str, skips: Skips) -> Box | None:
    """Clip a box to the image.

    Args:
        box: A box in pixels, xyxy, or None for one that could not be read.
        size: Width and height of the image in pixels.
        record: How messages name the box.
        skips: Counts a box that is skipped, or clipped by more than a pixel.

    Returns:
        The box inside the image, or None where it has no area there.
    """
    if box is None:
        skips.add("box that is not four finite numbers of positive area", record)
        return None
    width, height = size
    inside = (max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(width)), min(box[3], float(height)))
    if inside[2] - inside[0] < MIN_SIDE or inside[3] - inside[1] < MIN_SIDE:
        skips.add("box outside its image", f"{record}, image {width}x{height}")
        return None
    if max(abs(a - b) for a, b in zip(box, inside, strict=True)) > 1:  # up to a pixel is rounding
        skips.add("box partly outside its image, clipped", record)
    return inside


def label_boxes(file: Path, size: tuple[int, int], categories: int, skips: Skips) -> Iterator[tuple[Box, int]]:
    """Read a YOLO label file (see `read_label_line`).

    Args:
        file: The label file.
        size: Width and height of the image in pixels.
        categories: Number of categories; a class is 0 to this number, exclusive.
        skips: Counts the lines that are skipped.

    Yields:
        A box in pixels, xyxy and inside the image, and its category.
    """
    for number, line in enumerate(file.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        record = f"{file.name} line {number}"
        read = read_label_line(line)
        if read is None or not all(map(math.isfinite, (read.number, *read.box))):
            skips.add("label line that is not five finite numbers", record)
        elif not read.number.is_integer() or not 0 <= read.number < categories:
            skips.add("label line of unknown category", f"{record}, {read.number:g}")
        else:
            if read.made_of:
                skips.add(read.made_of, record)
            x, y, w, h = (share * side for share, side in zip(read.box, size * 2, strict=True))
            box = (x - w / 2, y - h / 2, x + w / 2, y + h / 2) if w > 0 and h > 0 else None
            if (inside := clip(box, size, record, skips)) is not None:
                yield inside, int(read.number)


def is_id(value: object) -> TypeGuard[int | str]:
    """Tell whether a JSON value can serve as an id: a whole number or text."""
    return isinstance(value, int | str) and not isinstance(value, bool)


def same_ids(content: Mapping[str, Any]) -> bool:
    """Give ids that are one number written differently (1, 1.0 and "1") one form, in the lists of COCO JSON.

    Args:
        content: The JSON, which is changed: ids and the references to them become whole numbers.

    Returns:
        Whether an id was written as 1.0 or "1".
    """
    changed = False
    for key, ids in (("images", ("id",)), ("annotations", ("id", "image_id", "category_id")), ("categories", ("id",))):
        listed = content.get(key)
        for record in listed if isinstance(listed, list) else ():
            for name in ids if isinstance(record, dict) else ():
                value = record.get(name)
                if (isinstance(value, float) and value.is_integer()) or (
                    isinstance(value, str) and _WHOLE.fullmatch(value)
                ):
                    record[name] = int(float(value)) if isinstance(value, str) and "." in value else int(value)
                    changed = True
    return changed


def is_number(value: object) -> TypeGuard[float]:
    """Tell whether a JSON value is a finite number (Python reads NaN, Infinity and any length from JSON)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= 2**53 if isinstance(value, int) else math.isfinite(value)


def read_coco(file: Path, remedy: str = "") -> dict[str, Any]:
    """Read COCO JSON with ids of one type, or raise `DataError`; the remedy is said where the file is missing."""
    if remedy and not file.exists():
        raise DataError(f"{file}: annotation file missing. {remedy}")
    content = read_json(file)
    for key in ("images", "annotations"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(
                f"{file}: no list '{key}' at its top; expected COCO JSON with images, annotations, categories"
            )
    assert isinstance(content, dict)
    same_ids(content)
    return content


def _image_entries(images: list[Any], file: Path, skips: Skips) -> dict[Any, dict[str, Any]]:
    """Index the image records by id."""
    entries: dict[Any, dict[str, Any]] = {}
    for number, entry in enumerate(images):
        if not isinstance(entry, dict) or not is_id(entry.get("id")) or not isinstance(entry.get("file_name"), str):
            skips.add("image record without id and file_name", f"images[{number}]")
        elif entry["id"] not in entries:
            entries[entry["id"]] = entry
        elif entries[entry["id"]]["file_name"] == entry["file_name"]:
            skips.add("image listed twice", f"id {entry['id']}, {entry['file_name']}")
        else:  # its annotations could belong to either image: no safe way to go on
            raise DataError(
                f"{file}: image id {entry['id']} stands for both {entries[entry['id']]['file_name']} and "
                f"{entry['file_name']}; give every image an id of its own"
            )
    return entries


def _annotations(
    content: dict[str, Any], entries: dict[Any, Any], config: DatasetConfig, skips: Skips
) -> dict[Any, list[Any]]:
    """Group the annotation records by image, each as (record label, record, category index)."""
    index = {name: i for i, name in enumerate(config.names)}
    categories = content.get("categories")
    by_id = {
        c["id"]: c["name"]
        for c in (categories if isinstance(categories, list) else [])
        if isinstance(c, dict) and is_id(c.get("id")) and isinstance(c.get("name"), str)
    }
    # Without a list of categories in the file, its ids are taken for indices into the dataset config's names.
    by_id = by_id or dict(enumerate(config.names))
    seen: set[Any] = set()
    grouped: dict[Any, list[Any]] = {}
    for number, note in enumerate(content["annotations"]):
        if not isinstance(note, dict):
            skips.add("annotation that is no record", f"annotations[{number}]")
            continue
        note_id = note.get("id")
        label = f"annotation id {note_id}" if is_id(note_id) else f"annotations[{number}]"
        if is_id(note_id) and note_id in seen:
            skips.add("annotation id used before (renumber the annotations)", label)
            continue
        if is_id(note_id):
            seen.add(note_id)
        image_id = note.get("image_id")
        if not is_id(image_id) or image_id not in entries:
            skips.add("annotation without an image", f"{label}, image_id {image_id}")
            continue
        category = note.get("category_id")
        name = by_id.get(category) if is_id(category) else None
        name = name if name is not None else note.get("category_name")
        if not isinstance(name, str) or " ".join(name.split()) not in index:
            skips.add(
                "unknown category (add it to the dataset config's names)", f"{label}, '{name if name else category}'"
            )
            continue
        grouped.setdefault(image_id, []).append((label, note, index[" ".join(name.split())]))
    return grouped


def _image(
    entry: dict[str, Any], notes: list[Any], config: DatasetConfig, split: str, skips: Skips
) -> ImageRecord | None:
    """Build one image's record, or None where its file or modality is unusable."""
    name = entry["file_name"]
    folder = config.images[split]
    path = find_file(folder, name, config.root)
    if path is None and find_file(folder, name, None) is not None:
        skips.add("image file outside the data set (name its folder as `images:` in the dataset config)", name)
        return None
    if path is None or path.stat().st_size == 0:
        skips.add("image file missing" if path is None else "image file of zero bytes", str(path or folder / name))
        return None
    size = _size(entry, path)
    if size is None:
        skips.add("image of unknown size (no width and height, file unreadable)", str(path))
        return None
    stated = entry.get("modality")
    modality = _stated(stated, config) or _modality(name, [category for _, _, category in notes], config)
    if stated is not None and modality != _stated(stated, config):
        undeclared = "image of a modality that the dataset config does not declare (modalities:)"
        if config.vocabulary.modalities:
            skips.add(undeclared, f"{name}, {stated!r}")
            return None
        skips.add(f"{undeclared}, judged by categories and file name", f"{name}, {stated!r}")
    if modality is None:
        words = [*(m for m in config.modalities if m != "sar"), "SAR"]
        known = f"{', '.join(words[:-1])} or {words[-1]}"
        skips.add(f"image of unknown modality (neither category nor file name says {known})", name)
        return None

    noted = entry.get("unlisted")
    unlisted = [n for n in noted if isinstance(n, str)] if isinstance(noted, list) else []
    objects: list[_Object] = []
    for label, note, category in notes:
        if config.vocabulary.modality_of(config.names[category]) not in (modality, None):
            skips.add(
                "category of the other modality in an image", f"{label}, {config.names[category]} in {modality} {name}"
            )
            continue
        box = clip(from_xywh(note.get("bbox")), size, f"{label}, bbox {note.get('bbox')}", skips)
        if box is None:
            unlisted.append(config.names[category])
            continue
        caption = _caption(note, label, skips)
        same = next(_same_objects(objects, box, category, SAME_BOX), None)
        if same is None:
            objects.append(same := _Object(box, category, SAME_OBJECT))
        if caption in same.captions:
            skips.add("expression repeated for the same object", label)
        elif caption is not None:
            same.captions.append(caption)
            same.kinds.append(note["kind"] if isinstance(note.get("kind"), str) else "")
    labels = config.labels.get(split)
    labels = labels and find_file(labels, Path(name).with_suffix(".txt"), config.root)
    for box, category in label_boxes(labels, size, len(config.names), skips) if labels else ():
        if not any(_same_objects(objects, box, category)):
            objects.append(_Object(box, category, SAME_BOX))
    said = Counter(text for o in objects for text in o.captions)
    return ImageRecord(
        path=path,
        width=size[0],
        height=size[1],
        modality=modality,
        boxes=np.array([o.box for o in objects], dtype=np.float32).reshape(-1, 4),
        categories=np.array([o.category for o in objects], dtype=np.int64),
        captions=tuple(tuple(o.captions) for o in objects),
        kinds=tuple(tuple(o.kinds) for o in objects),
        unlisted=tuple(unlisted),
        channels=config.channels,
        sets=frozenset(t for t, n in said.items() if n > 1 and parse(t, config.vocabulary).number is not None),
    )


def _same_objects(objects: list[_Object], box: Box, category: int, limit: float | None = None) -> Iterator[_Object]:
    """Yield the objects of a category that a box overlaps by at least a limit, by default that of each object."""
    alike = [o for o in objects if o.category == category]
    overlaps = iou([o.box for o in alike], box).tolist() if alike else []
    return (o for o, overlap in zip(alike, overlaps, strict=True) if overlap >= (limit or o.same))


def _size(entry: dict[str, Any], path: Path) -> tuple[int, int] | None:
    """Return (width, height) as annotated, else from the file."""
    width, height = entry.get("width"), entry.get("height")
    if is_number(width) and is_number(height) and width >= 1 and height >= 1:
        return int(width), int(height)
    try:
        found = read_image(path).shape
    except DataError:
        return None
    return found[1], found[0]


def _stated(value: object, config: DatasetConfig) -> str | None:
    """Return the modality that an image's record names by the key "modality", or None."""
    name = " ".join(value.lower().split()) if isinstance(value, str) else ""
    return name if name in config.modalities else None


def _modality(name: str, categories: list[int], config: DatasetConfig) -> str | None:
    """Return the modality of most of an image's categories, else that of its file name's prefix."""
    votes = [m for c in categories if (m := config.vocabulary.modality_of(config.names[c])) is not None]
    ranked = Counter(votes).most_common(2)
    if not ranked or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):  # no votes, or a tie
        return modality_by_name(name, config.modalities) or (votes[0] if votes else None)
    return ranked[0][0]


def modality_by_name(name: str | Path, modalities: Iterable[str] = ()) -> str | None:
    """Return the modality that an image's file name begins with (``opt_``, ``sar_``), or None.

    Args:
        name: The file name.
        modalities: Further ones, whose names are prefixes themselves (``infrared_``).
    """
    file = Path(name).name.lower()
    known = {"opt_": "optical", "sar_": "sar"} | {f"{m.replace(' ', '-')}_": m for m in modalities}
    return next((m for prefix, m in known.items() if file.startswith(prefix)), None)


def _caption(note: dict[str, Any], label: str, skips: Skips) -> str | None:
    """Return a record's caption with its visible characters and single spaces, or None where it says nothing.

    The record's box counts even where its caption is unusable.
    """
    if "caption" not in note:
        return None
    caption = note["caption"]
    if not isinstance(caption, str):
        skips.add("caption that is not text", f"{label}, {type(caption).__name__}")
        return None
    if len(caption) > LONGEST_EXPRESSION:
        skips.add(f"caption of more than {LONGEST_EXPRESSION:,} characters", f"{label}, {len(caption):,}")
        return None
    try:
        text = clean(caption)
    except ValueError:  # nothing, or nothing that is visible: spaces, a zero-width space, control characters
        skips.add("empty caption", label)
        return None
    if not any(character.isalnum() for character in text):
        skips.add("caption without a word", f"{label}, {text[:20]!r}")
        return None
    return text


def _subset(images: list[ImageRecord], fraction: float, seed: int) -> list[ImageRecord]:
    """Keep a share of each modality's images: the first of one seeded order, so that shares nest."""
    if fraction == 1:
        return images
    kept: set[int] = set()
    for modality in {image.modality for image in images}:
        members = np.array([i for i, p in enumerate(images) if p.modality == modality], dtype=np.int64)
        count = math.ceil(fraction * len(members) - 1e-9)  # 0.07 * 100 is 7.000000000000001
        kept.update(np.random.default_rng(seed).permutation(members)[:count].tolist())
    return [p for i, p in enumerate(images) if i in kept]


def __getattr__(name: str) -> Any:
    from optisar_yolo.moved import renamed

    return renamed(__name__, name)

"""Objects under review as COCO JSON for CVAT, Label Studio and FiftyOne, and changes made there as decisions.

Every annotation has ``attributes``: ``object`` (the object's id), ``caption`` (its expressions, joined by " | "),
``flags`` and an empty ``review``. Reading back, a changed box, caption or category is a correction, a missing
annotation a rejection, and ``review`` may say "accept" or "reject". Nothing changed means no decision, and an empty
caption means none either: some tools lose them. Where a tool drops the attributes, boxes are matched within their
image. An image that is not in the file says nothing about its objects.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from optisar_yolo.construction.image_files import link_or_copy
from optisar_yolo.construction.review.decisions import Decision, cleaned, correction, is_box, resolved
from optisar_yolo.construction.samples import Instance, Sample
from optisar_yolo.construction.steps import Report
from optisar_yolo.data import Box, DataError, clip, from_xywh
from optisar_yolo.utils import UnreadableFileError, appearing, iou, read_json_file

BETWEEN = " | "  # between the expressions of one object
SAME = 0.5  # pixels; tools round coordinates
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # what Label Studio puts before the name of an uploaded file


def write_coco(
    file: Path,
    samples: Iterable[Sample],
    decisions: Mapping[str, Decision],
    names: Sequence[str] = (),
    flagged: bool = True,
    images: bool = False,
) -> tuple[int, int]:
    """Write objects after the decisions so far, without rejected ones, and return the numbers of images and objects.

    Args:
        file: The JSON file.
        samples: The images under review; iterated twice.
        decisions: Object id to the last decision about it.
        names: Category names of the data set, first in the list of categories.
        flagged: Only images with a flagged object that is open.
        images: Link the images into the folder ``<file>_images``, under the names that the file gives them.

    Raises:
        DataError: An image's name leads out of the folder, or it stands for a transformed copy.
        OSError: The folder cannot be written or the disk is full; the file is then as it was.
    """
    ids = {name: i for i, name in enumerate(names, 1)}
    entries = notes = 0
    with appearing(file) as out:
        out.write('{"images":[')
        for sample in _chosen(samples, decisions, flagged):
            entries += 1
            image = {"id": entries, "file_name": sample.name, "width": sample.width, "height": sample.height}
            out.write((",\n" if entries > 1 else "\n") + json.dumps(image, ensure_ascii=False))
            if images:
                _link(sample, file.with_name(f"{file.stem}_images"))
        out.write('\n],"annotations":[')
        for image_id, sample in enumerate(_chosen(samples, decisions, flagged), 1):
            for found in sample.instances:
                now = resolved(found, decisions.get(found.id))
                if now is not None:
                    notes += 1
                    category = ids.setdefault(now.category, len(ids) + 1)
                    note = {"id": notes, "image_id": image_id, "category_id": category} | _note(now)
                    out.write((",\n" if notes > 1 else "\n") + json.dumps(note, ensure_ascii=False))
        categories = [{"id": i, "name": name} for name, i in ids.items()]
        out.write(f'\n],"categories":{json.dumps(categories, ensure_ascii=False)}}}\n')
    return entries, notes


def _chosen(samples: Iterable[Sample], decisions: Mapping[str, Decision], flagged: bool) -> Iterator[Sample]:
    for sample in samples:
        if not flagged or any(i.flags and i.id not in decisions for i in sample.instances):
            yield sample


def _note(item: Instance) -> dict[str, Any]:
    x1, y1, x2, y2 = item.box if is_box(item.box) else (0.0, 0.0, 0.0, 0.0)  # JSON knows no NaN
    caption = BETWEEN.join(item.captions)
    return {
        "bbox": [round(v, 4) for v in (x1, y1, x2 - x1, y2 - y1)],
        "area": round((x2 - x1) * (y2 - y1), 4),
        "iscrowd": 0,
        "segmentation": [],
        "caption": caption,
        "attributes": {"object": item.id, "caption": caption, "flags": "; ".join(item.flags), "review": ""},
    }


def _link(sample: Sample, folder: Path) -> None:
    name = PurePosixPath(sample.name.replace("\\", "/"))
    if name.is_absolute() or ".." in name.parts:
        raise DataError(f"{sample.name}: this name leads out of {folder}; export without images=True")
    if sample.transform:
        raise DataError(f"{sample.name}: a transformed copy has no image yet; export with from=clean")
    target = folder / name
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        link_or_copy(Path(sample.path), target, link=True)


@dataclass
class ReviewNote:
    """One annotation as it came back; a box of None cannot be read, a category of None is unknown."""

    id: str
    box: Box | None
    captions: tuple[str, ...]
    category: str | None
    review: str


def decisions_of(
    file: Path,
    samples: Iterable[Sample],
    report: Report,
    decisions: Mapping[str, Decision],
    names: Sequence[str] = (),
) -> Iterator[Decision]:
    """Compare a COCO JSON file, held in memory whole, with the decisions so far, and yield the decisions that it makes.

    Args:
        file: An export of `write_coco`, changed by another tool.
        samples: The images under review; iterated twice.
        report: Counts images, and annotations that cannot be used.
        decisions: Object id to the last decision about it.
        names: Category names of the data set; empty allows any.

    Raises:
        DataError: No COCO JSON with annotations.
    """
    notes, images = _read(file, report, names)
    by_base = Counter(_base(s.name) for s in samples)
    met: set[str] = set()
    for sample in samples:
        key = sample.name
        if key not in notes and by_base[_base(key)] == 1:
            key = images.get(_base(key), "")
        if key not in notes:
            report.count("images not in the file")
            continue
        met.add(key)
        report.count("images in the file")
        yield from _of_image(sample, notes[key], report, decisions, file.name)
    for key in sorted(set(notes) - met):
        report.problems.add("image that is not under review, ignored", key)


def _base(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).name


def _read(file: Path, report: Report, names: Sequence[str]) -> tuple[dict[str, list[ReviewNote]], dict[str, str]]:
    """Return file name to its annotations, and bare name to file name where only one has it."""
    try:
        content = read_json_file(file)
        lists = [content[key] for key in ("images", "annotations", "categories")]
    except UnreadableFileError as error:
        raise DataError(str(error)) from error
    except (KeyError, TypeError) as error:
        raise DataError(f"{file}: no COCO JSON that can be read ({error!r}); export it again") from error
    if not all(isinstance(records, list) and records for records in lists):
        raise DataError(f"{file}: 'images', 'annotations' and 'categories' must be lists with content")
    images, annotations, categories = ([r for r in records if isinstance(r, dict)] for records in lists)
    words = {str(c.get("id")): c.get("name") for c in categories}
    files = {str(i.get("id")): str(i["file_name"]) for i in images if isinstance(i.get("file_name"), str)}
    notes: dict[str, list[ReviewNote]] = {name: [] for name in files.values()}
    for note in annotations:
        record = f"annotation {note.get('id')}"
        if (name := files.get(str(note.get("image_id")))) is None:
            report.problems.add("annotation without an image, ignored", record)
            continue
        word = words.get(str(note.get("category_id")))
        if not isinstance(word, str) or (names and word not in names):
            report.problems.add("annotation of an unknown category, category not taken", f"{record}, '{word}'")
            word = None
        extra = a if isinstance(a := note.get("attributes"), dict) else {}
        captions = tuple(t for t in (extra.get("caption"), note.get("caption")) if isinstance(t, str) and t.strip())
        box = from_xywh(note.get("bbox"))
        if box is None:
            report.problems.add("annotation without a box of positive area, its image loses no object", record)
        notes[name].append(
            ReviewNote(str(extra.get("object", "")), box, captions, word, str(extra.get("review", "")).lower())
        )
    bare: dict[str, list[str]] = {}
    for name in notes:
        for base in {_base(name), _UPLOADED.sub("", _base(name))}:
            bare.setdefault(base, []).append(name)
    return notes, {base: files[0] for base, files in bare.items() if len(files) == 1}


def _of_image(
    sample: Sample, notes: list[ReviewNote], report: Report, decisions: Mapping[str, Decision], by: str
) -> Iterator[Decision]:
    """Compare the objects of one image with its annotations."""
    present = {i.id: now for i in sample.instances if (now := resolved(i, decisions.get(i.id))) is not None}
    pairs = match(list(present.values()), notes)
    taken = {id(n) for n in pairs.values()}
    for note in notes:
        if id(note) not in taken and note.box is not None:
            report.problems.add("annotation that belongs to no object, ignored", f"{sample.name} {note.id or note.box}")
    broken = any(n.box is None for n in notes)
    for found in sample.instances:
        now, paired = present.get(found.id), pairs.get(found.id)
        if now is None or (paired is None and broken):
            continue
        if paired is None or paired.review == "reject":
            yield Decision(found.id, "reject", by=by)
        elif (after := _changed(found, now, paired, sample, report)) != now:
            yield correction(found, after, by)
        elif paired.review == "accept" and found.id not in decisions:
            yield Decision(found.id, "accept", by=by)


def _changed(found: Instance, now: Instance, note: ReviewNote, sample: Sample, report: Report) -> Instance:
    """Return the object as the annotation has it; what cannot be used or is the same within rounding is kept."""
    box = now.box
    if note.box is not None and max(abs(a - b) for a, b in zip(note.box, now.box, strict=True)) >= SAME:
        box = clip(note.box, (sample.width, sample.height), now.id, report.problems) or box
    return replace(now, box=box, captions=_captions(found, now, note), category=note.category or now.category)


def _captions(found: Instance, now: Instance, note: ReviewNote) -> list[str]:
    """Return the expressions of an annotation. It has them in two places, and tools change only one of these."""
    if set(note.captions) <= {BETWEEN.join(now.captions)}:
        return now.captions
    before, present = (cleaned(BETWEEN.join(item.captions).split(BETWEEN)) for item in (found, now))
    texts = [cleaned(text.split(BETWEEN)) for text in note.captions]
    if new := [text for text in texts if text not in (before, present)]:
        return new[0]
    return before if texts and present not in texts else now.captions


def match(objects: Sequence[Instance], notes: Sequence[ReviewNote]) -> dict[str, ReviewNote]:
    """Return object id to annotation, in one image: by id, else by overlap, else the only one left of its category."""
    known = {o.id: o for o in objects}
    pairs: dict[str, ReviewNote] = {}
    for note in notes:
        if note.id in known and (
            note.id not in pairs or _overlap(known[note.id], note) > _overlap(known[note.id], pairs[note.id])
        ):
            pairs[note.id] = note  # of a copied annotation the one that is nearer to the object
    free = [n for n in notes if not n.id and n.box is not None]
    left = [o for o in objects if o.id not in pairs]
    ranked = sorted(
        ((_overlap(o, n), o.category == n.category, -i, -j) for i, o in enumerate(left) for j, n in enumerate(free)),
        reverse=True,
    )
    used: set[int] = set()
    for overlap, _, i, j in ranked:
        if overlap > 0 and left[-i].id not in pairs and -j not in used:
            pairs[left[-i].id] = free[-j]
            used.add(-j)
    left = [o for o in left if o.id not in pairs]
    free = [n for j, n in enumerate(free) if j not in used]
    for item in left:
        same = [n for n in free if n.category == item.category]
        if len(same) == 1 and sum(o.category == item.category for o in left) == 1:
            pairs[item.id] = same[0]
    return pairs


def _overlap(item: Instance, note: ReviewNote) -> float:
    return iou(item.box, note.box) if note.box is not None and is_box(item.box) else 0.0

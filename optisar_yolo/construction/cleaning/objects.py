"""Checks the objects of one image: their boxes, records of the same object, captions that several objects share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from optisar_yolo.construction.samples import Instance
from optisar_yolo.construction.steps import Report
from optisar_yolo.data import Box, Skips, clip, iou, is_number

INSIDE = 0.5  # share of a box that must lie in the image; a box further out belongs to another image or convention
SAME = 0.99  # IoU from which on two boxes of a category are two records of one object


def mend(box: object, size: tuple[int, int], record: str, problems: Skips) -> Box | None:
    """Return a box inside its image, or None where it cannot be used.

    Args:
        box: xyxy in pixels, from a file: anything.
        size: Width and height of the image in pixels.
        record: How messages name the box.
        problems: Counts what was dropped or clipped, and why.
    """
    if not isinstance(box, tuple) or len(box) != 4 or not all(map(is_number, box)):
        problems.add("box that is not four finite numbers, dropped", f"{record}: {box}")
        return None
    x1, y1, x2, y2 = map(float, box)
    if x2 <= x1 or y2 <= y1:
        problems.add("box of zero or negative size, dropped", record)
        return None
    share = _share(x1, x2, size[0]) * _share(y1, y2, size[1])
    if share < INSIDE:
        problems.add("box mostly outside its image, dropped", f"{record}, {share:.0%} of it inside")
        return None
    return clip((x1, y1, x2, y2), size, record, problems)


def _share(low: float, high: float, side: float) -> float:
    """Return which share of a stretch lies between 0 and the side."""
    return max(min(high, side) - max(low, 0.0), 0.0) / (high - low)


def said_of(caption: str) -> str:
    """Return a caption as it is compared with others: letter case and the final full stop mean nothing."""
    return caption.casefold().rstrip(" .!")


def merge(instances: Iterable[Instance], report: Report, by_source: bool = False) -> list[Instance]:
    """Make one object of records with the same category and box, and say each of its captions once.

    Args:
        instances: The objects of one image.
        report: Counts the records that were merged and the captions said twice.
        by_source: Records of different splits stay apart.
    """
    groups: dict[tuple[str, str], list[Instance]] = {}
    merged: list[Instance] = []
    for instance in instances:
        group = groups.setdefault((instance.category, instance.split if by_source else ""), [])
        first = next((i for i in group if iou(i.box, instance.box) >= SAME), None)
        if first is None:
            first = replace(instance, captions=[], flags=[])
            group.append(first)
            merged.append(first)
        else:
            report.problems.add("object recorded twice, merged", f"{instance.id} into {first.id}")
        said = {said_of(c) for c in first.captions}
        for caption in instance.captions:
            if said_of(caption) in said:
                report.problems.add("caption said twice of one object, kept once", instance.id)
                continue
            said.add(said_of(caption))
            first.captions.append(caption)
        first.flags.extend(f for f in instance.flags if f not in first.flags)
    return merged


def settle(instances: list[Instance], report: Report, drop: bool = False) -> list[Instance]:
    """Flag the objects of an image that share a caption, or drop the caption.

    Args:
        instances: The objects of one image, merged.
        report: Counts the captions.
        drop: Drop the caption from all of them; otherwise each gets a flag.
    """
    owners: dict[str, list[Instance]] = {}
    for instance in instances:
        for caption in instance.captions:
            owners.setdefault(said_of(caption), []).append(instance)
    # Records of one object in two splits of its source are not two objects.
    shared = {c: o for c, o in owners.items() if any(iou(o[0].box, i.box) < SAME for i in o[1:])}
    if not shared:
        return instances
    report.count("captions said of several objects", sum(len(o) for o in shared.values()))
    settled = []
    for instance in instances:
        mine = {c: len(shared[said_of(c)]) for c in instance.captions if said_of(c) in shared}
        if drop:
            settled.append(replace(instance, captions=[c for c in instance.captions if c not in mine]))
        else:
            flags = [f"ambiguous: '{c}' is said of {n} objects" for c, n in mine.items()]
            settled.append(replace(instance, flags=[*instance.flags, *flags]))
    return settled

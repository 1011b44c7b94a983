"""Choice of one caption per box.

1. Matches of the same box are grouped by class-agnostic suppression.
2. Of each group, captions are tried from the most confident on. A caption is dropped if its category, modality, place,
   size, superlative or relation is false of the box among all boxes of the image; this is computed from the boxes.
3. The first caption that is not false gives the box its caption and score.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torchvision.ops import box_iou, nms

from optisar_yolo.annotate.match import CaptionMatches
from optisar_yolo.annotate.pool import Caption
from optisar_yolo.language import BUILT_IN, LabelledObjects, parse, strip_position

COMPARED = 30000  # matches of an image that are suppressed at most, as in Ultralytics
UNNAMED = "object"  # category of a caption whose noun is unknown
REMOVABLE = {"place", "extreme"}  # claims that can be left out of a caption
BETTER = "another caption fits the same box better"
NOTHING_TRUE = "box without a caption that is true of it"
TAKEN = "caption given to a more confident box of the image"
FEWER = "box beyond max_det"


class Annotation(NamedTuple):
    """One annotated object.

    Attributes:
        box: xyxy in pixels.
        category: Such as "optical ship"; without a modality where neither the pool nor the image's name tells it.
        caption: Its caption.
        score: Confidence of the caption at this box.
    """

    box: tuple[float, float, float, float]
    category: str
    caption: str
    score: float


def group_boxes(found: CaptionMatches, iou: float) -> list[np.ndarray]:
    """Group matches of the same box by class-agnostic suppression.

    Args:
        found: Matches, the most confident first.
        iou: IoU above which a box is the same as a more confident one.

    Returns:
        For each box that remains the indices of its matches, the most confident first; the first gives the box.
    """
    if not len(found.conf):
        return []
    boxes = torch.from_numpy(found.boxes[:COMPARED])
    kept = (
        nms(boxes, torch.from_numpy(found.conf[:COMPARED]), iou).sort().values
    )  # keeps the order of equal confidences
    covered = (box_iou(boxes[kept], boxes) > iou).numpy()  # [kept, pairs]
    covered[np.arange(len(kept)), kept.numpy()] = True
    owner = np.where(covered.any(0), covered.argmax(0), -1)  # the most confident box that covers it
    return [np.flatnonzero(owner == i) for i in range(len(kept))]


def category_of(caption: Caption, modality: str | None) -> str:
    """Return the category that a caption names, in an image of a modality."""
    for name in caption.categories:
        if modality is None or caption.vocabulary.modality_of(name) in (modality, None):
            return name
    query = parse(caption.text, caption.vocabulary)
    side, noun = modality or query.modality, query.category or UNNAMED
    return f"{side} {noun}" if side else noun


def choose_annotations(
    found: CaptionMatches,
    pool: Sequence[Caption],
    size: tuple[int, int],
    modality: str | None = None,
    iou: float = 0.5,
    max_det: int = 300,
    verify: str = "drop",
    unique: bool = False,
    dropped: Counter[str] | None = None,
) -> list[Annotation]:
    """Choose boxes and captions of one image.

    Args:
        found: Matches, the most confident first.
        pool: The captions.
        size: Width and height of the image in pixels.
        modality: "optical" or "sar" where it is known; by default that of most boxes' first captions.
        iou: IoU above which two boxes are the same.
        max_det: Boxes at most.
        verify: "drop" captions that are false of the box; "strip" their place and superlative where no other caption
            is left; "off": keep the first caption, true or not.
        unique: Give a caption to one box only, the most confident one.
        dropped: Counts what was dropped, by reason.

    Returns:
        The annotations, the most confident box first.
    """
    tally: Counter[str] = Counter() if dropped is None else dropped
    groups = group_boxes(found, iou)
    tally[FEWER] += len(groups[max_det:])
    groups = groups[:max_det]
    first = [pool[found.captions[g[0]]] for g in groups]
    modality = modality or _modality_of_most(first)
    names = [category_of(caption, modality) for caption in first]
    boxes = found.boxes[[g[0] for g in groups]] if groups else np.zeros((0, 4))
    objects = LabelledObjects(boxes, names, size, first[0].vocabulary if first else BUILT_IN)
    taken: set[str] = set()
    chosen = []
    for i, group in enumerate(groups):
        captions: dict[str, float] = {}
        for m in group:
            captions.setdefault(pool[found.captions[m]].text, float(found.conf[m]))
        picked = _pick(objects, i, list(captions.items()), verify, taken if unique else set(), tally)
        if picked is None:
            tally[NOTHING_TRUE] += 1
            continue
        taken.add(picked[0])
        x1, y1, x2, y2 = boxes[i].tolist()
        chosen.append(Annotation((x1, y1, x2, y2), names[i], *picked))
    tally += Counter()  # drops zeros
    return chosen


def _pick(
    objects: LabelledObjects,
    i: int,
    captions: list[tuple[str, float]],
    verify: str,
    taken: set[str],
    tally: Counter[str],
) -> tuple[str, float] | None:
    """Return the first caption that is not false of box i, with its confidence."""
    spare: tuple[str, float] | None = None
    for number, (text, conf) in enumerate(captions):
        if text in taken:
            tally[TAKEN] += 1
            continue
        wrong = [] if verify == "off" else false_claims(objects, text, i)
        if not wrong:
            tally[BETTER] += len(captions) - number - 1
            return text, conf
        tally[f"caption false of its box: {wrong[0]}"] += 1
        if verify == "strip" and spare is None:
            shorter = without_false(objects, text, i, wrong)
            spare = (shorter, conf) if shorter is not None and shorter not in taken else None
    if spare is not None:
        tally["caption false of its box, place left out"] += 1
    return spare


def false_claims(objects: LabelledObjects, text: str, i: int) -> list[str]:
    """Return the claims of a caption ("category", "place" …; see `LabelledObjects.claims`) that are false of box i."""
    return [claim for claim, truth in objects.claims(text, i).items() if truth is False]


def without_false(objects: LabelledObjects, text: str, i: int, wrong: Sequence[str]) -> str | None:
    """Remove place and superlative from a caption; None where a false claim or nothing would be left."""
    if not REMOVABLE.issuperset(wrong):
        return None
    shorter = strip_position(text, "extreme" in wrong, objects.vocabulary)
    return None if shorter is None or shorter == text or false_claims(objects, shorter, i) else shorter


def _modality_of_most(captions: Sequence[Caption]) -> str | None:
    """Return the modality that most captions name; None where none does, or both are named equally often."""
    votes: Counter[str] = Counter()
    for caption in captions:
        sides = (
            {caption.vocabulary.modality_of(c) for c in caption.categories}
            if caption.categories
            else {parse(caption.text, caption.vocabulary).modality}
        )
        votes.update(side for side in sides if side is not None and len(sides) == 1)
    ranked = votes.most_common()
    return ranked[0][0] if ranked and (len(ranked) == 1 or ranked[0][1] > ranked[1][1]) else None

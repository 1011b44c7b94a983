"""One caption per box: duplicates suppressed, and what a caption claims checked against the boxes found.

A box gets the surest caption of those that fell on it and that its place, its size and the other boxes do not disprove.
The network was asked whether a caption fits; whether "upper left" or "leftmost" is true of the box that it found is
arithmetic, and not left to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torchvision.ops import box_iou, nms

from optisar_yolo.annotate.match import Found
from optisar_yolo.annotate.pool import Caption
from optisar_yolo.data import MODALITIES, modality_of
from optisar_yolo.language import LabelledObjects, parse, strip_position

VERIFY = ("drop", "strip", "off")
COMPARED = 30000  # pairs of box and caption of an image that compete at most, as in ultralytics' suppression
UNNAMED = "object"  # category of a caption whose noun is not known
MOVABLE = {"place", "extreme"}  # claims that can be left out of a caption
BETTER = "another caption fits the same box better"
NOTHING_TRUE = "box without a caption that is true of it"
TAKEN = "caption given to a surer box of the image"
FEWER = "box beyond max_det"


class Annotation(NamedTuple):
    """One annotated object.

    Attributes:
        box: xyxy in pixels.
        category: "optical ship"; without a modality where neither the pool nor the image's name tells it.
        caption: What is said of it.
        score: Confidence that the caption got at this place.
    """

    box: tuple[float, float, float, float]
    category: str
    caption: str
    score: float


def same_box(found: Found, iou: float) -> list[np.ndarray]:
    """Bring captions on the same box together: class-agnostic suppression that keeps what it suppresses.

    Args:
        found: Pairs of box and caption, the surest first.
        iou: IoU above which a box is the same as a surer one.

    Returns:
        For each box that remains the places of its pairs in `found`, the surest first; the first gives the box.
    """
    if not len(found.conf):
        return []
    boxes = torch.from_numpy(found.boxes[:COMPARED])
    kept = nms(boxes, torch.from_numpy(found.conf[:COMPARED]), iou).sort().values  # equal confidences as they stand
    covered = (box_iou(boxes[kept], boxes) > iou).numpy()  # [kept, pairs]
    covered[np.arange(len(kept)), kept.numpy()] = True
    owner = np.where(covered.any(0), covered.argmax(0), -1)  # the surest box that covers it
    return [np.flatnonzero(owner == i) for i in range(len(kept))]


def category_of(caption: Caption, modality: str | None) -> str:
    """Return the category that a caption speaks of, in an image of a modality."""
    for name in caption.categories:
        if modality is None or modality_of(name) in (modality, None):
            return name
    said = parse(caption.text)
    side, noun = modality or said.modality, said.category or UNNAMED
    return f"{side} {noun}" if side else noun


def annotated(
    found: Found,
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
        found: Pairs of box and caption, the surest first.
        pool: The captions.
        size: Width and height of the image in pixels.
        modality: "optical" or "sar" where it is known; otherwise what most of the boxes' surest captions say.
        iou: IoU above which two boxes are the same.
        max_det: Boxes at most.
        verify: A caption with a claim that the boxes disprove is dropped ("drop"), or its place and extreme are left
            out where no other caption is true ("strip"); "off" writes the surest caption, true or not.
        unique: Say a caption of one box only, the surest one.
        dropped: Counts what was dropped, by reason.

    Returns:
        The annotations, the surest box first.
    """
    tally: Counter[str] = Counter() if dropped is None else dropped
    groups = same_box(found, iou)
    tally[FEWER] += len(groups[max_det:])
    groups = groups[:max_det]
    first = [pool[found.captions[g[0]]] for g in groups]
    modality = modality or _vote(first)
    names = [category_of(caption, modality) for caption in first]
    boxes = found.boxes[[g[0] for g in groups]] if groups else np.zeros((0, 4))
    scene = LabelledObjects(boxes, names, size)
    taken: set[str] = set()
    chosen = []
    for i, group in enumerate(groups):
        said: dict[str, float] = {}
        for m in group:
            said.setdefault(pool[found.captions[m]].text, float(found.conf[m]))
        picked = _pick(scene, i, list(said.items()), verify, taken if unique else set(), tally)
        if picked is None:
            tally[NOTHING_TRUE] += 1
            continue
        taken.add(picked[0])
        x1, y1, x2, y2 = boxes[i].tolist()
        chosen.append(Annotation((x1, y1, x2, y2), names[i], *picked))
    tally += Counter()  # no zeros in the record
    return chosen


def _pick(
    scene: LabelledObjects, i: int, said: list[tuple[str, float]], verify: str, taken: set[str], tally: Counter[str]
) -> tuple[str, float] | None:
    """Return the surest caption that is not false of box i, with its confidence."""
    spare: tuple[str, float] | None = None
    for number, (text, conf) in enumerate(said):
        if text in taken:
            tally[TAKEN] += 1
            continue
        wrong = [] if verify == "off" else false_claims(scene, text, i)
        if not wrong:
            tally[BETTER] += len(said) - number - 1
            return text, conf
        tally[f"caption false of its box: {wrong[0]}"] += 1
        if verify == "strip" and spare is None:
            less = without_false(scene, text, i, wrong)
            spare = (less, conf) if less is not None and less not in taken else None
    if spare is not None:
        tally["caption false of its box, place left out"] += 1
    return spare


def false_claims(scene: LabelledObjects, text: str, i: int) -> list[str]:
    """Return the claims of a caption ("category", "place", "extreme" …) that the boxes disprove of box i."""
    return [claim for claim, verdict in scene.claims(text, i).items() if verdict is False]


def without_false(scene: LabelledObjects, text: str, i: int, wrong: Sequence[str]) -> str | None:
    """Leave place and extreme out of a caption; None where something false, or nothing, would be left."""
    if not MOVABLE.issuperset(wrong):
        return None
    less = strip_position(text, superlatives="extreme" in wrong)
    return None if less is None or less == text or false_claims(scene, less, i) else less


def _vote(captions: Sequence[Caption]) -> str | None:
    """Return the modality that most captions speak of; None where none does, or as many of the other."""
    said: Counter[str] = Counter()
    for caption in captions:
        sides = {modality_of(c) for c in caption.categories} if caption.categories else {parse(caption.text).modality}
        said.update(side for side in sides if side in MODALITIES and len(sides) == 1)
    ranked = said.most_common()
    return ranked[0][0] if ranked and (len(ranked) == 1 or ranked[0][1] > ranked[1][1]) else None

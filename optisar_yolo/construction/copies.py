"""Makes mirrored and turned copies of one image: boxes, captions, and what to count.

1. Every caption of the image is checked against the boxes. One that the boxes disprove is an error of the source: its
   object is flagged, and no copy gets the caption (:func:`expand`).
2. The boxes are turned (:func:`turn_box`), and all other captions are rewritten (:func:`by_rules`, or a language
   model).
3. A rewritten caption must hold for the new boxes (:func:`conflicts`).
4. A caption that cannot be rewritten is replaced by an expression that singles the object out, or dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from optisar_yolo.construction.cleaning import comparable
from optisar_yolo.construction.samples import Instance, Sample, rng_of
from optisar_yolo.data import Box, DataError
from optisar_yolo.language import BUILT_IN, LabelledObjects, Vocabulary, describe, flip

_DISPROVED = {
    "category": "the object is of another kind: {name}",
    "place": "the centre of the object's box lies at x = {x:.0f}, y = {y:.0f} pixels",
    "size": "the object's box is {w:.0f} pixels wide and {h:.0f} high",
    "extreme": "another object of its kind goes further",
    "relation": "the object that it is compared with lies on another side",
    "number": "another number of objects is labelled",
}


def labelled_objects(sample: Sample, vocabulary: Vocabulary = BUILT_IN) -> LabelledObjects:
    """Return an image's objects, to check captions against them."""
    boxes = np.array([i.box for i in sample.instances], dtype=np.float64).reshape(-1, 4)
    names = [i.category for i in sample.instances]
    return LabelledObjects(boxes, names, (sample.width, sample.height), vocabulary, unlisted=sample.unlisted)


def disproved(caption: str, index: int, objects: LabelledObjects) -> list[str]:
    """Return the claims ("place", "extreme" …) of a caption about one object that the boxes disprove."""
    return [claim for claim, verdict in objects.claims(caption, index).items() if verdict is False]


def conflicts(caption: str, index: int, objects: LabelledObjects) -> list[str]:
    """Return, in words, the claims of a caption about one object that the boxes disprove."""
    x1, y1, x2, y2 = objects.boxes[index]
    facts = {"x": (x1 + x2) / 2, "y": (y1 + y2) / 2, "w": x2 - x1, "h": y2 - y1, "name": objects.names[index]}
    return [f"{claim}: {_DISPROVED[claim].format(**facts)}" for claim in disproved(caption, index, objects)]


AXES = {"hflip": (True, False), "vflip": (False, True), "rot180": (True, True)}
"""Transform to (mirrored left to right, mirrored top to bottom)."""


@dataclass(frozen=True)
class Task:
    """A caption to rewrite for a transformed image.

    Attributes:
        caption: The original caption, which the original boxes do not disprove.
        transform: One of `AXES`.
        index: The object that it refers to.
        before: The original objects.
        after: The same objects, in the same order, in the transformed image.
        size: Width and height of the image in pixels.
    """

    caption: str
    transform: str
    index: int
    before: LabelledObjects
    after: LabelledObjects
    size: tuple[int, int]


@dataclass(frozen=True)
class RewrittenCaption:
    """The result of rewriting a caption.

    Attributes:
        text: The caption for the transformed image; None where there is none.
        conflicts: Number of proposals that were refused because they conflict with the boxes or the original caption.
        unreadable: Number of a language model's replies that hold no caption.
        replies: Number of replies until one could be used; 0 where the rules gave the text.
        reason: Why there is no text.
    """

    text: str | None
    conflicts: int = 0
    unreadable: int = 0
    replies: int = 0
    reason: str = ""


Rewriter = Callable[[Task], RewrittenCaption]


def mirror(caption: str, transform: str, vocabulary: Vocabulary = BUILT_IN) -> str | None:
    """Return a caption as the rules rewrite it, for a transform of `AXES`; None where they cannot keep it true."""
    return flip(caption, *AXES[transform], vocabulary)


def by_rules(task: Task) -> RewrittenCaption:
    """Rewrite a caption by the rules of `optisar_yolo.language` alone, offline."""
    text = mirror(task.caption, task.transform, task.before.vocabulary)
    if text is None:
        return RewrittenCaption(None, reason="the rules cannot keep it true")
    found = conflicts(text, task.index, task.after)
    return RewrittenCaption(None, 1, reason=found[0]) if found else RewrittenCaption(text)


@dataclass
class Outcome:
    """An image with its copies.

    Attributes:
        samples: The image, then its copies.
        counts: What to add to a report's counts.
        problems: (problem, record) to add to a report's problems.
    """

    samples: list[Sample]
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[tuple[str, str]] = field(default_factory=list)


def turn_box(box: Box, transform: str, size: tuple[int, int]) -> Box:
    """Return a box, xyxy in pixels, in the transformed image; `size` is the image's width and height."""
    x1, y1, x2, y2 = box
    horizontal, vertical = AXES[transform]
    if horizontal:
        x1, x2 = size[0] - x2, size[0] - x1
    if vertical:
        y1, y2 = size[1] - y2, size[1] - y1
    return x1, y1, x2, y2


def expand(
    sample: Sample,
    transforms: Iterable[str],
    rewrite: Rewriter,
    replace_lost: bool = True,
    seed: int = 0,
    vocabulary: Vocabulary = BUILT_IN,
) -> Outcome:
    """Check an image's captions and make its copies.

    Args:
        sample: The image.
        transforms: A part of `samples.TRANSFORMS`.
        rewrite: Rewrites one caption.
        replace_lost: Replace a caption that cannot be rewritten by an expression that singles the object out.
        seed: Seed of the wording of such expressions.
        vocabulary: The nouns of the data set; those of the image's categories are added.

    Returns:
        The image with its flags, and its copies; without the copies that would have no caption where it has some.

    Raises:
        DataError: A box or caption that `clean` would not have let through.
    """
    outcome = Outcome([])
    sound: list[list[str]] = []  # captions to carry over, by object
    instances = []
    try:
        objects = labelled_objects(sample, vocabulary)
        wrong = [{c: disproved(c, k, objects) for c in i.captions} for k, i in enumerate(sample.instances)]
    except ValueError as error:
        raise DataError(f"{sample.name}: {error}; run 'optisar dataset clean' first") from error
    for instance, checked in zip(sample.instances, wrong, strict=True):
        false = {c: claims for c, claims in checked.items() if claims}
        sound.append([c for c in instance.captions if c not in false])
        flags = [f"false: the box disproves the {' and '.join(claims)} in '{c}'" for c, claims in false.items()]
        instances.append(replace(instance, flags=instance.flags + [f for f in flags if f not in instance.flags]))
        outcome.counts.update({"captions checked": len(instance.captions), "false at the source": len(false)})
        outcome.problems += [
            (f"caption whose {claim} its box disproves, flagged", f"{instance.id}: {c}")
            for c, claims in false.items()
            for claim in claims
        ]
    outcome.samples.append(replace(sample, instances=instances))
    for transform in transforms:
        copy = _copy(outcome, transform, sound, objects, rewrite, replace_lost, seed)
        if any(i.captions for i in copy.instances) or not any(i.captions for i in sample.instances):
            outcome.samples.append(copy)
            outcome.counts["copies"] += 1
        else:
            outcome.problems.append(("copy without any caption left, not made", copy.name))
    return outcome


def _copy(
    outcome: Outcome,
    transform: str,
    sound: list[list[str]],
    objects: LabelledObjects,
    rewrite: Rewriter,
    replace_lost: bool,
    seed: int,
) -> Sample:
    """Return one copy of the outcome's first sample, and count the results for its captions."""
    sample = outcome.samples[0]
    size = sample.width, sample.height
    turned = replace(
        sample,
        name=f"{sample.name}@{transform}",
        transform=transform,
        instances=[
            replace(i, id=f"{i.id}@{transform}", box=turn_box(i.box, transform, size), captions=[], flags=list(i.flags))
            for i in sample.instances
        ],
    )
    after = labelled_objects(turned, objects.vocabulary)
    rng = rng_of(f"{seed}/{turned.name}")
    for index, instance in enumerate(turned.instances):
        lost = 0
        for caption in sound[index]:
            text = _rewritten(Task(caption, transform, index, objects, after, size), instance, outcome, rewrite)
            if text is None:
                lost += 1
            else:
                instance.captions.append(text)
        # After the object's other captions, so that a replacement repeats none of them.
        if lost and replace_lost:
            lost -= _replaced(instance, index, after, lost, rng, outcome)
        outcome.counts["captions dropped"] += lost
    return turned


def _rewritten(task: Task, instance: Instance, outcome: Outcome, rewrite: Rewriter) -> str | None:
    """Return a caption for the copy, or None, and count the result."""
    result = rewrite(task)
    outcome.counts.update(
        {
            "captions to carry over": 1,
            "conflicts found": result.conflicts,
            "answers that hold no caption": result.unreadable,
        }
    )
    if result.text is None:
        outcome.problems.append(("caption that was not rewritten", f"{instance.id}: {task.caption} ({result.reason})"))
        return None
    same = result.text == task.caption
    outcome.counts["captions unchanged (no direction)" if same else "captions rewritten"] += 1
    outcome.counts["captions regenerated"] += result.replies > 1
    return result.text


def _replaced(
    instance: Instance, index: int, objects: LabelledObjects, lost: int, rng: np.random.Generator, outcome: Outcome
) -> int:
    """Add other expressions in place of lost captions, and return their number."""
    present = {comparable(c) for c in instance.captions}
    other = [t for t in describe(objects, index, rng) if comparable(t) not in present][:lost]
    instance.captions.extend(other)
    outcome.counts["captions replaced"] += len(other)
    return len(other)

"""Makes mirrored and turned copies of one image's record: boxes, captions, and what to count."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from optisar_yolo.construction.cleaning.objects import said_of
from optisar_yolo.construction.samples import Instance, Sample
from optisar_yolo.construction.transforms.rewrite import AXES, Rewriter, Task
from optisar_yolo.construction.transforms.verify import disproved, scene_of
from optisar_yolo.data import Box, DataError
from optisar_yolo.language import LabelledObjects


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
    """Return a box in the transformed image.

    Args:
        box: xyxy in pixels.
        transform: One of `samples.TRANSFORMS`.
        size: Width and height of the image in pixels.
    """
    x1, y1, x2, y2 = box
    horizontal, vertical = AXES[transform]
    if horizontal:
        x1, x2 = size[0] - x2, size[0] - x1
    if vertical:
        y1, y2 = size[1] - y2, size[1] - y1
    return x1, y1, x2, y2


def expand(
    sample: Sample, transforms: Iterable[str], rewrite: Rewriter, replace_lost: bool = True, seed: int = 0
) -> Outcome:
    """Check an image's captions and make its copies.

    A caption that the boxes disprove is an error of the source: the object is flagged, and no copy carries the caption.

    Args:
        sample: The image.
        transforms: A part of `samples.TRANSFORMS`.
        rewrite: Rewrites one caption.
        replace_lost: Where a caption cannot be rewritten, take an expression that singles the object out by the boxes.
        seed: Of the wording of such expressions.

    Returns:
        The image with its flags, and its copies; without the copies that would have no caption where it has some.

    Raises:
        DataError: A box or caption that `clean` would not have let through.
    """
    outcome = Outcome([])
    sound: list[list[str]] = []  # captions to carry over, by object
    instances = []
    try:
        scene = scene_of(sample)
        wrong = [{c: disproved(c, k, scene) for c in i.captions} for k, i in enumerate(sample.instances)]
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
        copy = _copy(outcome, transform, sound, scene, rewrite, replace_lost, seed)
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
    scene: LabelledObjects,
    rewrite: Rewriter,
    replace_lost: bool,
    seed: int,
) -> Sample:
    """Return one copy of the outcome's first sample, and count what became of the captions."""
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
    after = scene_of(turned)
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(f"{seed}/{turned.name}".encode()).digest()[:8], "big"))
    for index, instance in enumerate(turned.instances):
        lost = 0
        for caption in sound[index]:
            text = _rewritten(Task(caption, transform, index, scene, after, size), instance, outcome, rewrite)
            if text is None:
                lost += 1
            else:
                instance.captions.append(text)
        # The others of the object come first, so that a replacement repeats none of them.
        if lost and replace_lost:
            lost -= _replaced(instance, index, after, lost, rng, outcome)
        outcome.counts["captions dropped"] += lost
    return turned


def _rewritten(task: Task, instance: Instance, outcome: Outcome, rewrite: Rewriter) -> str | None:
    """Return a caption for the copy, and count how it came about."""
    answer = rewrite(task)
    outcome.counts.update(
        {
            "captions to carry over": 1,
            "conflicts found": answer.conflicts,
            "answers that hold no caption": answer.unreadable,
        }
    )
    if answer.text is None:
        outcome.problems.append(("caption that was not rewritten", f"{instance.id}: {task.caption} ({answer.reason})"))
        return None
    same = answer.text == task.caption
    outcome.counts["captions unchanged (no direction)" if same else "captions rewritten"] += 1
    outcome.counts["captions regenerated"] += answer.asked > 1
    return answer.text


def _replaced(
    instance: Instance, index: int, scene: LabelledObjects, lost: int, rng: np.random.Generator, outcome: Outcome
) -> int:
    """Add other expressions for the captions that were lost; return how many."""
    said = {said_of(c) for c in instance.captions}
    other = [t for t in scene.describe(index, rng) if said_of(t) not in said][:lost]
    instance.captions.extend(other)
    outcome.counts["captions replaced"] += len(other)
    return len(other)

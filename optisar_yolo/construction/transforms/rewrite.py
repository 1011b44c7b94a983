"""Captions of images that were mirrored or turned: rewritten by the rules of `optisar_yolo.language`, and checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from optisar_yolo.construction.transforms.verify import conflicts
from optisar_yolo.language import LabelledObjects, flip

AXES = {"hflip": (True, False), "vflip": (False, True), "rot180": (True, True)}
"""Transform to (mirrored left to right, mirrored top to bottom)."""


@dataclass(frozen=True)
class Task:
    """A caption to carry over to a transformed image.

    Attributes:
        caption: As it is, not disproved by the boxes as they are.
        transform: One of `AXES`.
        index: Which object.
        before: The image's objects as they are.
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
    """What became of a caption.

    Attributes:
        text: The caption for the transformed image; None where there is none.
        conflicts: Number of proposals that were refused because they conflict with the boxes or the old caption.
        unreadable: Number of a model's answers that hold no caption.
        asked: Number of answers that a model gave until one could be used; 0 where the rules gave the text.
        reason: Why there is no text.
    """

    text: str | None
    conflicts: int = 0
    unreadable: int = 0
    asked: int = 0
    reason: str = ""


Rewriter = Callable[[Task], RewrittenCaption]


def mirror(caption: str, transform: str) -> str | None:
    """Return a caption as the rules rewrite it; None where they cannot keep it true.

    Args:
        caption: An English expression.
        transform: One of `AXES`.
    """
    return flip(caption, *AXES[transform])


def by_rules(task: Task) -> RewrittenCaption:
    """Rewrite a caption by the rules of `optisar_yolo.language` alone, offline."""
    text = mirror(task.caption, task.transform)
    if text is None:
        return RewrittenCaption(None, reason="the rules cannot keep it true")
    found = conflicts(text, task.index, task.after)
    return RewrittenCaption(None, 1, reason=found[0]) if found else RewrittenCaption(text)

"""Checks captions against boxes: what a caption says of place, order, size and neighbours must hold for its object."""

from __future__ import annotations

import numpy as np

from optisar_yolo.construction.samples import Sample
from optisar_yolo.language import LabelledObjects

_DISPROVED = {
    "category": "the object is of another kind: {name}",
    "place": "the centre of the object's box lies at x = {x:.0f}, y = {y:.0f} pixels",
    "size": "the object's box is {w:.0f} pixels wide and {h:.0f} high",
    "extreme": "another object of its kind goes further",
    "relation": "the object that it is compared with lies on another side",
}


def scene_of(sample: Sample) -> LabelledObjects:
    """Return an image's objects, ready for questions about captions."""
    boxes = np.array([i.box for i in sample.instances], dtype=np.float64).reshape(-1, 4)
    return LabelledObjects(boxes, [i.category for i in sample.instances], (sample.width, sample.height))


def disproved(caption: str, index: int, scene: LabelledObjects) -> list[str]:
    """Return the claims of a caption ("place", "extreme" …) that the boxes disprove.

    Args:
        caption: An English expression.
        index: Which object it is said of.
        scene: All labelled objects of the image.
    """
    return [claim for claim, verdict in scene.claims(caption, index).items() if verdict is False]


def conflicts(caption: str, index: int, scene: LabelledObjects) -> list[str]:
    """Return, in words, what the boxes disprove of a caption; empty where nothing is.

    Args:
        caption: An English expression.
        index: Which object it is said of.
        scene: All labelled objects of the image.
    """
    x1, y1, x2, y2 = scene.boxes[index]
    facts = {"x": (x1 + x2) / 2, "y": (y1 + y2) / 2, "w": x2 - x1, "h": y2 - y1, "name": scene.names[index]}
    return [f"{claim}: {_DISPROVED[claim].format(**facts)}" for claim in disproved(caption, index, scene)]

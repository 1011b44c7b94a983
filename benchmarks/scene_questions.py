"""Questions with one right answer each about a made scene, by its true boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from optisar_yolo.language.parser import noun_of
from optisar_yolo.language.verify import LabelledObjects
from optisar_yolo.language.vocabulary import CELLS

LEAD = 30  # pixels by which an extreme must lead
RANKS = ("first", "second", "third")
# By the word of the image: that of the compass, axis, and sign of what comes first.
SIDES = {
    "left": ("western", 0, 1),
    "right": ("eastern", 0, -1),
    "top": ("northern", 1, 1),
    "bottom": ("southern", 1, -1),
}
_CORNERS = {"upper left": "north-west", "upper right": "north-east", "lower left": "south-west",
            "lower right": "south-east"}  # fmt: skip


def leaders(along: NDArray[np.float64]) -> list[int | None]:
    """Say which is the first, the second, …, as many as `RANKS` and members; None where `LEAD` does not part it."""
    order = np.argsort(along)
    gaps = np.diff(along[order], prepend=-np.inf, append=np.inf)
    return [int(order[k]) if min(gaps[k : k + 2]) >= LEAD else None for k in range(min(len(RANKS), len(order)))]


def questions(boxes: NDArray[np.float64], names: list[str], side: int) -> list[dict[str, Any]]:
    """Return expressions with one right answer each, by the centres of the true boxes."""
    asked: list[dict[str, Any]] = []
    scene = LabelledObjects(boxes, names, (side, side))
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2

    def add(kind: str, image: str, compass: str, index: int) -> None:
        text = compass if len(asked) % 2 else image
        asked.append({"text": text, "kind": kind, "object": index})

    for name in sorted(set(names)):
        members = [i for i, n in enumerate(names) if n == name]
        noun = noun_of(name)
        if len(members) == 1:
            asked.append({"text": f"the {noun}", "kind": "plain", "object": members[0]})
            continue
        for word, (compass_word, axis, sign) in SIDES.items():
            first = leaders(centre[members, axis] * sign)
            for rank, which in enumerate(first):
                if which is not None:
                    kind, said = ("rank", f"{RANKS[rank]} ") if rank else ("extreme", "")
                    add(kind, f"the {said}{word}most {noun}", f"the {said}{compass_word}most {noun}", members[which])
        for cell, phrase in CELLS.items():
            verdicts = {i: scene.claims(f"the {noun} {phrase} of the image", i).get("place") for i in members}
            true = [i for i, v in verdicts.items() if v is True]
            if not true or None in verdicts.values():  # one in a corner is neither in nor out
                continue
            corner = next((c for c in _CORNERS if c in phrase), None)
            lone = next((s for s in cell if s in SIDES), None) if None in cell else None
            compass = f"in the {_CORNERS[corner]}" if corner else f"in the {SIDES[lone][0][:-3]}" if lone else phrase
            if len(true) == 1:
                add("place", f"the {noun} {phrase} of the image", f"the {noun} {compass}", true[0])
                continue
            for word, (compass_word, axis, sign) in SIDES.items():
                best = leaders(centre[true, axis] * sign)[0]
                if best is not None:
                    image = f"the {word}most {noun} {phrase} of the image"
                    add("place and extreme", image, f"the {compass_word}most {noun} {compass}", true[best])
    return asked

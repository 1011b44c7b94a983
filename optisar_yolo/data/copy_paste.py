"""Copy-paste for boxes: objects of other images, cut out with some of what lies around them, in a new place.

After Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation" (2021), for
labels without masks: what is cut out is the box and a margin, and it fades into the image over the margin. Seen from
above an object may lie at any angle, so it is turned and mirrored, too. It changes what "left", "the largest" and "the
only one" mean: captions are proven by the new boxes or derived from them (`optisar_yolo.data.augment.retell`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from optisar_yolo.data.augment import View, mirror, retell, turn
from optisar_yolo.data.geometry import untouched

MOST = 4  # objects that are pasted into an image
TRIES = 10  # places that are tried for an object
MARGIN = 0.15  # of the longer side of its box: what is cut out around an object
LEAST = 3.0  # pixels of it
SIZES = (0.7, 1.4)  # how much smaller or larger an object may become
LARGE = 0.6  # of the image's shorter side: larger objects are not pasted


def copy_paste(view: View, draw: Callable[[], View], rng: np.random.Generator, rewrite: bool = True) -> View:
    """Paste up to `MOST` objects of other images where nothing is.

    Args:
        view: What to paste them into.
        draw: Gives a random image of the same modality.
        rng: Source of all choices.
        rewrite: Prove captions or derive them anew; otherwise they stay as they are, and many become false.

    Returns:
        The view with more objects, which have no captions of before. Where no place is free, the view itself.
    """
    h, w = view.img.shape[:2]
    scale = np.tile(np.array([w / view.size[0], h / view.size[1]]), 2)
    img, taken, names = view.img.copy(), view.boxes * scale, list(view.names)
    for _ in range(int(rng.integers(1, MOST + 1))):
        cut = _cut(draw(), rng)
        at = _free(cut.img.shape, (h, w), taken, rng) if cut else None
        if not cut or not at:
            continue
        left, top = at
        _fade_in(img[top : top + cut.img.shape[0], left : left + cut.img.shape[1]], cut.img, cut.boxes[0])
        taken = np.concatenate((taken, cut.boxes + np.array([left, top] * 2)))
        names += cut.names
    new = len(names) - len(view.names)
    if not new:
        return view
    pasted = replace(
        view,
        img=img,
        boxes=np.concatenate((view.boxes, (taken / scale)[-new:])).astype(np.float32),
        names=tuple(names),
        captions=view.captions + ((),) * new,
        share=np.concatenate((view.share, np.ones(new, np.float32))),
    )
    return retell(pasted, rng) if rewrite else pasted


def _cut(donor: View, rng: np.random.Generator) -> View | None:
    """Cut an object out, turned, mirrored and resized: a view of its own, whose boxes are in pixels of its array.

    None where another object would come along, the image ends too near, or there is none.
    """
    if not len(donor.boxes):
        return None
    h, w = donor.img.shape[:2]
    boxes = donor.boxes * np.tile(np.array([w / donor.size[0], h / donor.size[1]]), 2)
    chosen = int(rng.integers(len(boxes)))
    box = boxes[chosen]
    margin = max(LEAST, MARGIN * float((box[2:] - box[:2]).max()))
    first, last = np.floor(box[:2] - margin).astype(int), np.ceil(box[2:] + margin).astype(int)
    inside = (first >= 0).all() and (last <= [w, h]).all()
    if not inside or not untouched(first[None], last[None], np.delete(boxes, chosen, 0)).all():
        return None
    (left, top), (right, bottom) = first.tolist(), last.tolist()
    patch = View(
        img=donor.img[top:bottom, left:right],
        boxes=boxes[chosen : chosen + 1] - [left, top, left, top],
        names=(donor.names[chosen],),
        captions=((),),
        size=(right - left, bottom - top),
        modality=donor.modality,
    )
    patch = turn(patch, int(rng.integers(4)), rng, rewrite=False)
    patch = mirror(patch, rng.random() < 0.5, False, rewrite=False)
    grown = rng.uniform(*SIZES)
    width, height = (max(round(s * grown), 1) for s in patch.size)
    method = cv2.INTER_AREA if grown < 1 else cv2.INTER_LINEAR
    drawn = cv2.resize(np.ascontiguousarray(patch.img), (width, height), interpolation=method)
    resized = patch.boxes * np.tile([width / patch.size[0], height / patch.size[1]], 2)
    return replace(patch, img=drawn, boxes=resized, size=(width, height))


def _free(
    shape: tuple[int, ...], size: tuple[int, int], taken: NDArray[np.floating], rng: np.random.Generator
) -> tuple[int, int] | None:
    """Return left and top of a place for a patch of that shape that touches no box; None where none was found."""
    (height, width), (h, w) = shape[:2], size
    if max(height, width) > LARGE * min(h, w):
        return None
    for _ in range(TRIES):
        left, top = int(rng.integers(w - width + 1)), int(rng.integers(h - height + 1))
        first = np.array([[left, top]])
        if untouched(first, first + [width, height], taken).all():
            return left, top
    return None


def _fade_in(target: NDArray[np.uint8], patch: NDArray[np.uint8], box: NDArray[np.float64]) -> None:
    """Draw a patch in place: its box as it is, its margin fading towards its edge."""
    shares = []
    for axis, side in enumerate((patch.shape[1], patch.shape[0])):
        middle = np.arange(side) + 0.5
        before, after = middle / max(box[axis], 0.5), (side - middle) / max(side - box[axis + 2], 0.5)
        shares.append(np.minimum(before, after).clip(0, 1))
    alpha = np.minimum(shares[1][:, None], shares[0])[..., None]
    target[:] = (patch * alpha + target * (1 - alpha)).round().astype(np.uint8)

"""Copy-paste for boxes: objects of other pictures, cut out with some of what lies around them, in a new place.

After Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation" (2021), for
labels without masks: what is cut out is the box and a margin, and it fades into the picture over the margin. Seen from
above an object may lie at any angle, so it is turned and mirrored, too. It changes what "left", "the largest" and "the
only one" mean: captions are proven by the new boxes or derived from them (`optisar_yolo.data.augment.retell`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from optisar_yolo.data.augment import View, retell

MOST = 4  # objects that are pasted into a picture
TRIES = 10  # places that are tried for an object
MARGIN = 0.15  # of the longer side of its box: what is cut out around an object
LEAST = 3.0  # pixels of it
SIZES = (0.7, 1.4)  # how much smaller or larger an object may become
LARGE = 0.6  # of the picture's shorter side: larger objects are not pasted


def copy_paste(view: View, draw: Callable[[], View], rng: np.random.Generator, rewrite: bool = True) -> View:
    """Paste up to `MOST` objects of other pictures where nothing is.

    Args:
        view: What to paste them into.
        draw: Gives a random picture of the same modality.
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
        at = cut and _free(cut[0].shape, (h, w), taken, rng)
        if not cut or not at:
            continue
        patch, box, name = cut
        left, top = at
        _fade_in(img[top : top + patch.shape[0], left : left + patch.shape[1]], patch, box)
        taken = np.concatenate((taken, [box + np.array([left, top] * 2)]))
        names.append(name)
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


def _cut(donor: View, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.float64], str] | None:
    """Cut an object out, turned, mirrored and resized: its pixels, its box among them and its name.

    None where another object would come along, the picture ends too near, or there is none.
    """
    if not len(donor.boxes):
        return None
    h, w = donor.img.shape[:2]
    boxes = donor.boxes * np.tile(np.array([w / donor.size[0], h / donor.size[1]]), 2)
    chosen = int(rng.integers(len(boxes)))
    box = boxes[chosen]
    margin = max(LEAST, MARGIN * float((box[2:] - box[:2]).max()))
    left, top = np.floor(box[:2] - margin).astype(int)
    right, bottom = np.ceil(box[2:] + margin).astype(int)
    window = np.array([left, top, right, bottom])
    if left < 0 or top < 0 or right > w or bottom > h or _touched(window, np.delete(boxes, chosen, 0)):
        return None
    patch, inner = donor.img[top:bottom, left:right], box - [left, top, left, top]
    for _ in range(int(rng.integers(4))):  # as in `augment.turn`
        inner = np.array([inner[1], patch.shape[1] - inner[2], inner[3], patch.shape[1] - inner[0]])
        patch = np.rot90(patch)
    if rng.random() < 0.5:
        inner[[0, 2]] = patch.shape[1] - inner[[2, 0]]
        patch = patch[:, ::-1]
    grown = rng.uniform(*SIZES)
    height, width = (max(round(s * grown), 1) for s in patch.shape[:2])
    inner = inner * np.tile([width / patch.shape[1], height / patch.shape[0]], 2)
    method = cv2.INTER_AREA if grown < 1 else cv2.INTER_LINEAR
    drawn = cv2.resize(np.ascontiguousarray(patch), (width, height), interpolation=method)
    return drawn, inner, donor.names[chosen]  # type: ignore[return-value]


def _free(
    shape: tuple[int, ...], size: tuple[int, int], taken: NDArray[np.floating], rng: np.random.Generator
) -> tuple[int, int] | None:
    """Return left and top of a place for a patch of that shape that touches no box; None where none was found."""
    (height, width), (h, w) = shape[:2], size
    if max(height, width) > LARGE * min(h, w):
        return None
    for _ in range(TRIES):
        left, top = int(rng.integers(w - width + 1)), int(rng.integers(h - height + 1))
        if not _touched(np.array([left, top, left + width, top + height]), taken):
            return left, top
    return None


def _touched(window: NDArray[np.integer], boxes: NDArray[np.floating]) -> bool:
    """Tell whether some box reaches into a window."""
    return bool(((boxes[:, :2] < window[2:]) & (boxes[:, 2:] > window[:2])).all(1).any())


def _fade_in(target: NDArray[np.uint8], patch: NDArray[np.uint8], box: NDArray[np.float64]) -> None:
    """Draw a patch in place: its box as it is, its margin fading towards its edge."""
    shares = []
    for axis, side in enumerate((patch.shape[1], patch.shape[0])):
        middle = np.arange(side) + 0.5
        before, after = middle / max(box[axis], 0.5), (side - middle) / max(side - box[axis + 2], 0.5)
        shares.append(np.minimum(before, after).clip(0, 1))
    alpha = np.minimum(shares[1][:, None], shares[0])[..., None]
    target[:] = (patch * alpha + target * (1 - alpha)).round().astype(np.uint8)

"""Augmentation that keeps captions true: geometry is changed together with the words, or not at all.

Mirrors and turns by 90 degrees rewrite direction words; a caption that cannot be rewritten is left out for that sample.
A crop, like a mosaic (`optisar_yolo.data.mosaic`), changes what "left", "the largest" and "the only one" mean: captions
that the boxes still prove are kept, the others make room for ones derived from the boxes that are left (`retell`). Zoom
draws the whole image smaller, anywhere on the canvas and with a slightly changed aspect: positions in the unpadded
image stay what they are. Light, colour and speckle are in `optisar_yolo.data.radiometry`.

What a cut leaves of an object is judged by its visible part. Less than `KEEP` of it is a *remnant*: it has no caption
and is the answer to no expression, yet it stays among the boxes, because its pixels are still there. An expression is
false of a remnant only where the boxes prove it; otherwise the pair is left out of the loss (`open_doubts`). So a
remnant is neither taught as a hit nor as background of an expression that may mean it. How large a cut object is cannot
be seen: nothing is said about sizes in its category. All this takes the labels for complete, as
`LabelledObjects.describe` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from optisar_yolo.language import LabelledObjects, Meaning, flip, has_colour, noun_of, parse, rotate90

ASPECT = 0.1  # largest relative stretch of one side against the other
WHOLE = 0.95  # share from which an object counts as whole: labelled boxes are not exact
KEEP = 0.3  # share of an object's area that must be visible for it to be asked for
SEEN = 1.0  # pixels of width and height below which nothing of a cut object can be seen
CROP = 0.5  # smallest share of each side that a crop keeps

Captions = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, eq=False)
class View:
    """An image on its way to the network; operations return new views and leave arrays alone.

    Attributes:
        img: uint8 [h, w, 3], BGR; it may be at another scale than the boxes.
        boxes: float32 [N, 4], xyxy in pixels of an image of `size`: the visible part of each object.
        names: Category name of each object ("sar ship").
        captions: For each object what may be said of it.
        size: Width and height in the boxes' pixels.
        modality: "optical" or "sar".
        share: float32 [N], the visible share of each object; all of it by default.
        retold: The captions were derived anew from the boxes.
        fills: The image is a whole canvas, and must not be drawn smaller.
    """

    img: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    names: tuple[str, ...]
    captions: Captions
    size: tuple[int, int]
    modality: str
    share: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    retold: bool = False
    fills: bool = False

    def __post_init__(self) -> None:
        """Without a word on shares nothing is cut."""
        if len(self.share) != len(self.boxes):
            object.__setattr__(self, "share", np.ones(len(self.boxes), np.float32))

    @property
    def remnant(self) -> NDArray[np.bool_]:
        """Objects of which a cut left too little to be asked for, bool [N]."""
        return self.share < KEEP

    @property
    def trimmed(self) -> frozenset[str]:
        """Names of the categories of which some object is cut."""
        return frozenset(self.names[i] for i in np.flatnonzero(self.share < WHOLE))

    @cached_property
    def scene(self) -> LabelledObjects:
        """All objects that can be seen, remnants too, ready for questions."""
        return LabelledObjects(self.boxes, self.names, self.size)


def mirror(view: View, horizontal: bool, vertical: bool, rewrite: bool = True) -> View:
    """Mirror an image with its boxes and captions.

    Args:
        view: What to mirror.
        horizontal: Swap left and right.
        vertical: Swap top and bottom.
        rewrite: Change the captions' direction words; otherwise they stay as they are, and many become false.
    """
    if not (horizontal or vertical):
        return view
    img, boxes, captions = view.img, view.boxes.copy(), view.captions
    if horizontal:
        img = img[:, ::-1]
        boxes[:, [0, 2]] = view.size[0] - boxes[:, [2, 0]]
    if vertical:
        img = img[::-1]
        boxes[:, [1, 3]] = view.size[1] - boxes[:, [3, 1]]
    if rewrite:
        changed = [[flip(text, horizontal, vertical) for text in texts] for texts in captions]
        captions = tuple(tuple(c for c in texts if c is not None) for texts in changed)
    return replace(view, img=np.ascontiguousarray(img), boxes=boxes, captions=captions)


def turn(view: View, turns: int, rng: np.random.Generator, rewrite: bool = True) -> View:
    """Turn an image counter-clockwise by quarter turns, with its boxes and captions.

    Args:
        view: What to turn.
        turns: Number of quarter turns, as in ``np.rot90``.
        rng: Source of the wording where an object is described anew, for want of a caption that can be turned.
        rewrite: Change the captions' direction words; otherwise they stay as they are, and many become false.
    """
    turns %= 4
    if not turns:
        return view
    boxes, (width, height) = view.boxes, view.size
    for _ in range(turns):  # a point (x, y) comes to (y, width - x)
        boxes = np.stack((boxes[:, 1], width - boxes[:, 2], boxes[:, 3], width - boxes[:, 0]), axis=1)
        width, height = height, width
    img = np.ascontiguousarray(np.rot90(view.img, turns))
    turned = replace(view, img=img, boxes=boxes, size=(width, height))
    if not rewrite:
        return turned
    captions: list[tuple[str, ...]] = []
    for i, texts in enumerate(view.captions):
        changed = [rotate90(text, turns) for text in texts]
        kept = tuple(c for c in changed if c is not None)
        captions.append(kept or (surely(turned, i, rng) if texts else ()))
    return replace(turned, captions=tuple(captions))


def crop(view: View, rng: np.random.Generator, rewrite: bool = True) -> View:
    """Cut out a random window of at least `CROP` of each side that holds at least one object as a whole.

    Args:
        view: What to crop.
        rng: Source of all choices.
        rewrite: Derive captions from the boxes where the crop may have made them false (see `retell`).
    """
    h, w = view.img.shape[:2]
    scale = np.array([w / view.size[0], h / view.size[1]], np.float32)
    boxes = view.boxes * np.tile(scale, 2)  # in pixels of the array, so that the window's edges are exact
    whole = boxes[int(rng.integers(len(boxes)))] if len(boxes) else None
    window = []
    for axis, side in enumerate((w, h)):
        low, high = (int(whole[axis]), int(np.ceil(whole[axis + 2]))) if whole is not None else (side, 0)
        low, high = max(low, 0), min(high, side)
        length = int(rng.integers(max(int(np.ceil(CROP * side)), high - low), side + 1))
        first = max(high - length, 0)
        last = min(low, side - length)
        start = int(rng.integers(first, last + 1))
        window += [start, start + length]
    left, right, top, bottom = window
    visible, share = cut(boxes, (left, top, right, bottom))
    share = share * view.share
    keep = np.flatnonzero(share > 0)
    cropped = View(
        img=np.ascontiguousarray(view.img[top:bottom, left:right]),
        boxes=visible[keep],
        names=tuple(view.names[i] for i in keep),
        captions=tuple(view.captions[i] if share[i] >= KEEP else () for i in keep),
        size=(right - left, bottom - top),
        modality=view.modality,
        share=share[keep],
    )
    return retell(cropped, rng) if rewrite else cropped


def cut(
    boxes: NDArray[np.float32], window: tuple[int, int, int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Clip boxes to a window.

    Args:
        boxes: [N, 4] xyxy in pixels.
        window: Left, top, right and bottom in the same pixels.

    Returns:
        The visible parts [N, 4], relative to the window's corner, and the shares of the areas that they are [N]; 0
        where nothing can be seen.
    """
    left, top, right, bottom = window
    inside = np.clip(boxes, np.array([left, top] * 2), np.array([right, bottom] * 2)).astype(np.float32)
    sides, before = inside[:, 2:] - inside[:, :2], boxes[:, 2:] - boxes[:, :2]
    share = sides.prod(1) / np.maximum(before.prod(1), 1e-9)
    # An object that lies inside as a whole counts, however small it is.
    share[(sides < SEEN).any(1) & (share < 0.999)] = 0
    return inside - np.array([left, top] * 2, np.float32), share.astype(np.float32)


def retell(view: View, rng: np.random.Generator) -> View:
    """Keep the captions that the view's own boxes prove, and describe objects without one anew.

    Attributes that no box can prove, colours apart, are left out with their captions: a crop or other tiles may have
    falsified them. An object that nothing singles out gets no caption; the prompt list then asks for it by its
    category.

    Args:
        view: A view whose captions were written for another image.
        rng: Source of the wording.
    """
    captions: list[tuple[str, ...]] = []
    for i, texts in enumerate(view.captions):
        kept = tuple(c for c in texts if _holds(view, c, i))
        captions.append(kept or surely(view, i, rng))
    return replace(view, captions=tuple(captions), retold=True)


def surely(view: View, index: int, rng: np.random.Generator) -> tuple[str, ...]:
    """Describe an object by what the boxes prove true of it and false of all others of its category.

    Args:
        view: The image.
        index: Which object; a remnant is not described.
        rng: Source of the wording.
    """
    if view.remnant[index]:
        return ()
    return tuple(c for c in view.scene.describe(index, rng) if _holds(view, c, index))


def _holds(view: View, caption: str, index: int) -> bool:
    """Tell whether the boxes prove a caption true of an object and false of the others of its category."""
    scene, said, name = view.scene, parse(caption), view.names[index]
    hidden = {noun_of(view.names[k]) for k in np.flatnonzero(view.remnant)}
    if said.reference in hidden or (said.landmark and parse(said.landmark).category in hidden):
        return False  # where the whole of that object lies cannot be seen
    if _sizes(said) and name in view.trimmed:
        return False
    others = [k for k in scene.groups[name] if k != index]
    if said.rest:  # a colour stays what it is, and is enough where there is nothing to mistake the object for
        bare = not (said.place or said.size or said.extreme or said.relation or others)
        coloured = all(has_colour(w) for w in said.rest)
        return bare and coloured and scene.of_category(said, caption, name) is True
    return scene.verdict(caption, index) is True and all(scene.verdict(caption, k) is False for k in others)


def _sizes(said: Meaning) -> bool:
    """Tell whether a caption claims something about sizes."""
    return bool(said.size) or said.extreme in ("largest", "smallest")


def open_doubts(view: View, texts: Sequence[str], targets: NDArray[np.float32]) -> NDArray[np.float32]:
    """Leave out of the loss what cannot be known of cut objects.

    Args:
        view: The image.
        texts: T expressions.
        targets: [N, T], 1 true, 0 false, -1 leave out.

    Returns:
        The targets with the rows of remnants at 0 where the expression is proven false of them, else at -1. Where
        captions were derived anew, sizes in a category with a cut object are at -1, too.
    """
    if not view.trimmed:
        return targets
    out = targets.copy()
    for t, text in enumerate(texts):
        said = parse(text)
        doubtful = view.trimmed if view.retold and _sizes(said) else frozenset()
        for i, name in enumerate(view.names):
            if name in doubtful and view.scene.of_category(said, text, name) is not False:
                out[i, t] = -1
            elif view.remnant[i]:
                out[i, t] = 0 if view.scene.verdict(text, i) is False else -1
    return out


def zoom(
    imgsz: int, height: int, width: int, scale: float, rng: np.random.Generator
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Choose how large and where on a square canvas an image is drawn.

    Args:
        imgsz: Side of the canvas.
        height: Of the image.
        width: Of the image.
        scale: Largest relative reduction; 0 draws the image as large as it goes and centred.
        rng: Source of chance.

    Returns:
        Drawn (height, width) and (top, left).
    """
    r = imgsz / max(height, width)
    h, w = height * r, width * r
    if scale > 0:
        r = 1 - rng.random() * scale
        stretch = 1 - rng.random() * min(ASPECT, scale)
        h, w = (h * r * stretch, w * r) if rng.random() < 0.5 else (h * r, w * r * stretch)
    drawn = min(max(round(h), 1), imgsz), min(max(round(w), 1), imgsz)
    room = imgsz - drawn[0], imgsz - drawn[1]
    at = (int(rng.integers(room[0] + 1)), int(rng.integers(room[1] + 1))) if scale > 0 else (room[0] // 2, room[1] // 2)
    return drawn, at

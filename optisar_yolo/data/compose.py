"""Augmentation that makes one image of several of the same modality: mosaic, background, copy-paste.

The composed image is described as the one image it now is: "left", "the largest ship" and "the only ship" refer to the
whole canvas, so captions are revalidated (see `optisar_yolo.data.annotated`). All images are of one modality, because
an expression without "SAR" or "optical" could mean objects of both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from optisar_yolo.data.annotated import AnnotatedImage, revalidate_captions
from optisar_yolo.data.augment import cut_window, mirror, rotate
from optisar_yolo.data.geometry import free_of_boxes, resized

# Mosaic
SPLIT = (0.35, 0.65)  # where the quarters meet, as shares of the sides
ENLARGE = 0.25  # largest enlargement of an image beyond what fills its quarter

# Background
MIN_WINDOW = 0.25  # smallest share of each side that a window keeps
WINDOW_MARGIN = 0.02  # share of the longer side between a window and a box: labelled boxes are not exact
WINDOW_TRIES = 40  # windows that are drawn per image
IMAGE_TRIES = 12  # images that are drawn for the four windows of a canvas, at most

# Copy-paste
MAX_PASTED = 4  # objects that are pasted into an image
PLACE_TRIES = 10  # places that are tried for an object
MARGIN, MIN_MARGIN = 0.15, 3.0  # cut out around an object: a share of its longer side, and pixels
SIZES = (0.7, 1.4)  # range of the random scale of an object
LARGE = 0.6  # share of the image's shorter side; larger objects are not pasted


def mosaic(
    images: Sequence[AnnotatedImage], imgsz: int, rng: np.random.Generator, rewrite: bool = True
) -> AnnotatedImage:
    """Put four images on one canvas. Every image fills its quarter; what does not fit is cut off.

    Args:
        images: Four images of one modality: upper left, upper right, lower left, lower right.
        imgsz: Side of the canvas in pixels.
        rng: Source of all choices.
        rewrite: Revalidate the captions; otherwise captions stay as they are, and most become false.

    Returns:
        The mosaic, [imgsz, imgsz, 3], with the visible parts of all objects.

    Raises:
        ValueError: Not four images, or of different modalities.
    """
    if len(images) != 4 or len({image.modality for image in images}) != 1:
        raise ValueError(f"a mosaic needs four images of one modality, got {[image.modality for image in images]}")
    x, y = (round(imgsz * (SPLIT[0] + rng.random() * (SPLIT[1] - SPLIT[0]))) for _ in range(2))
    quarters = ((0, 0, x, y), (x, 0, imgsz, y), (0, y, x, imgsz), (x, y, imgsz, imgsz))
    canvas = np.empty((imgsz, imgsz, images[0].img.shape[2]), np.uint8)
    tiles = []
    for image, (left, top, right, bottom) in zip(images, quarters, strict=True):
        tile = _fill(image, right - left, bottom - top, rng)
        canvas[top:bottom, left:right] = tile.img
        tiles.append(replace(tile, boxes=tile.boxes + np.array([left, top] * 2, np.float32)))
    composed = AnnotatedImage(
        img=canvas,
        boxes=np.concatenate([tile.boxes for tile in tiles]),
        names=sum((tile.names for tile in tiles), ()),
        captions=sum((tile.captions for tile in tiles), ()),
        size=(imgsz, imgsz),
        modality=images[0].modality,
        visible=np.concatenate([tile.visible for tile in tiles]),
        fills_canvas=True,
        vocabulary=images[0].vocabulary,
        unlisted=sum((tile.unlisted for tile in tiles), ()),
        modality_word=images[0].modality_word,
    )
    return revalidate_captions(composed, rng) if rewrite else composed


def _fill(image: AnnotatedImage, width: int, height: int, rng: np.random.Generator) -> AnnotatedImage:
    """Resize an image so that it covers a quarter, and cut out a random window of the quarter's size."""
    h, w = image.img.shape[:2]
    scale = max(width / w, height / h) * (1 + rng.random() * ENLARGE)
    drawn_w, drawn_h = max(round(w * scale), width), max(round(h * scale), height)
    left, top = int(rng.integers(drawn_w - width + 1)), int(rng.integers(drawn_h - height + 1))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    drawn = resized(image.img, (drawn_w, drawn_h), method)
    return cut_window(replace(image, img=drawn), (left, top, left + width, top + height))


def background(draw: Callable[[], AnnotatedImage], imgsz: int, rng: np.random.Generator) -> AnnotatedImage | None:
    """Fill a canvas with four windows between the objects, of which every expression about an object is false.

    These are Ultralytics' background images, made of the images at hand: otherwise a network is never trained on
    ground without objects, which most tiles of a large raster show. Labels are taken to be complete.

    Args:
        draw: Returns a random image of one modality.
        imgsz: Side of the canvas in pixels.
        rng: Source of all choices.

    Returns:
        The canvas [imgsz, imgsz, 3] without objects; fewer than four windows are repeated, mirrored. None where none
        of `IMAGE_TRIES` images has room between its objects.
    """
    windows: list[AnnotatedImage] = []
    for _ in range(IMAGE_TRIES):
        window = background_window(draw(), rng)
        windows += [window] if window else []
        if len(windows) == 4:
            break
    if not windows:
        return None
    for i in range(len(windows), 4):
        windows.append(mirror(windows[i % len(windows)], horizontal=True, vertical=False))
    return mosaic(windows, imgsz, rng)


def background_window(image: AnnotatedImage, rng: np.random.Generator) -> AnnotatedImage | None:
    """Cut out the largest of `WINDOW_TRIES` random windows that no box overlaps; None where every window has one."""
    h, w = image.img.shape[:2]
    sides = np.array([w, h])
    lengths = np.ceil(sides * rng.uniform(MIN_WINDOW, 1, (WINDOW_TRIES, 2))).astype(int)
    first = (rng.random((WINDOW_TRIES, 2)) * (sides - lengths + 1)).astype(int)
    last = first + lengths
    room = WINDOW_MARGIN * max(h, w)
    free = free_of_boxes(first - room, last + room, image.boxes * image.scale)
    if not free.any():
        return None
    best = int(np.argmax(lengths.prod(1) * free))
    (left, top), (right, bottom) = first[best].tolist(), last[best].tolist()
    return cut_window(image, (left, top, right, bottom))


def copy_paste(
    image: AnnotatedImage, draw: Callable[[], AnnotatedImage], rng: np.random.Generator, rewrite: bool = True
) -> AnnotatedImage:
    """Paste up to `MAX_PASTED` objects of other images where no object is.

    After Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation" (2021), for
    labels without masks: the box is cut out with a margin, over which it fades into the image. An object seen from
    above may lie at any angle, so it is rotated and mirrored, too.

    Args:
        image: What to paste them into.
        draw: Returns a random image of the same modality.
        rng: Source of all choices.
        rewrite: Revalidate the captions; otherwise captions stay as they are, and many become false.

    Returns:
        The image with more objects, or the image itself where no place is free.
    """
    h, w = image.img.shape[:2]
    img, taken, names = image.img.copy(), image.boxes * image.scale, list(image.names)
    for _ in range(int(rng.integers(1, MAX_PASTED + 1))):
        patch = _cut_out(draw(), rng)
        at = _free_place(patch.img.shape, (h, w), taken, rng) if patch else None
        if not patch or not at:
            continue
        left, top = at
        _fade_in(img[top : top + patch.img.shape[0], left : left + patch.img.shape[1]], patch.img, patch.boxes[0])
        taken = np.concatenate((taken, patch.boxes + np.array([left, top] * 2)))
        names += patch.names
    new = len(names) - len(image.names)
    if not new:
        return image
    pasted = replace(
        image,
        img=img,
        boxes=np.concatenate((image.boxes, (taken / image.scale)[-new:])).astype(np.float32),
        names=tuple(names),
        captions=image.captions + ((),) * new,
        visible=np.concatenate((image.visible, np.ones(new, np.float32))),
    )
    return revalidate_captions(pasted, rng) if rewrite else pasted


def _cut_out(donor: AnnotatedImage, rng: np.random.Generator) -> AnnotatedImage | None:
    """Cut out an object, rotated, mirrored and resized: an image of its own, with the box in pixels of its array.

    None where there is no object, another object reaches into the margin, or the image ends inside it.
    """
    if not len(donor.boxes):
        return None
    h, w = donor.img.shape[:2]
    boxes = donor.boxes * donor.scale
    chosen = int(rng.integers(len(boxes)))
    box = boxes[chosen]
    margin = max(MIN_MARGIN, MARGIN * float((box[2:] - box[:2]).max()))
    first, last = np.floor(box[:2] - margin).astype(int), np.ceil(box[2:] + margin).astype(int)
    inside = (first >= 0).all() and (last <= [w, h]).all()
    if not inside or not free_of_boxes(first[None], last[None], np.delete(boxes, chosen, 0)).all():
        return None
    (left, top), (right, bottom) = first.tolist(), last.tolist()
    patch = AnnotatedImage(
        img=donor.img[top:bottom, left:right],
        boxes=boxes[chosen : chosen + 1] - [left, top, left, top],
        names=(donor.names[chosen],),
        captions=((),),
        size=(right - left, bottom - top),
        modality=donor.modality,
    )
    patch = rotate(patch, int(rng.integers(4)), rng, rewrite=False)
    patch = mirror(patch, rng.random() < 0.5, False, rewrite=False)
    factor = rng.uniform(*SIZES)
    width, height = (max(round(s * factor), 1) for s in patch.size)
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    drawn = resized(np.ascontiguousarray(patch.img), (width, height), method)
    boxes = patch.boxes * np.tile([width / patch.size[0], height / patch.size[1]], 2)
    return replace(patch, img=drawn, boxes=boxes, size=(width, height))


def _free_place(
    shape: tuple[int, ...], size: tuple[int, int], taken: NDArray[np.floating], rng: np.random.Generator
) -> tuple[int, int] | None:
    """Return left and top of a place for a patch of a shape that overlaps no box; None where none was found."""
    (height, width), (h, w) = shape[:2], size
    if max(height, width) > LARGE * min(h, w):
        return None
    for _ in range(PLACE_TRIES):
        left, top = int(rng.integers(w - width + 1)), int(rng.integers(h - height + 1))
        first = np.array([[left, top]])
        if free_of_boxes(first, first + [width, height], taken).all():
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

"""Augmentation of one image that keeps its captions true: geometry changes together with the words, or not at all.

Mirrors and rotations by 90 degrees rewrite direction words; a caption that cannot be rewritten is left out for that
sample. A crop revalidates the captions (see `optisar_yolo.data.annotated`). Zoom draws the whole image smaller,
anywhere on the canvas and with a slightly changed aspect ratio, so positions in the unpadded image stay as they are.

Brightness, contrast and gamma change in both modalities. Hue and saturation change in optical images only, and only
where no caption names a colour. Speckle is added to SAR images only. Degradation (resolution, blur, noise, haze, JPEG)
stands for other sensors and other ways of delivery; haze is for optical images only, as radar waves pass through it.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from optisar_yolo.data.annotated import KEEP, AnnotatedImage, describe_uniquely, revalidate_captions
from optisar_yolo.language import flip, rotate90

ASPECT = 0.1  # largest relative stretch of one side against the other
SEEN = 1.0  # pixels of width and height below which nothing of a cut object is visible
CROP = 0.5  # smallest share of each side that a crop keeps

# Degradation: each step is applied to DEGRADED of the degraded images, with a strength drawn evenly up to these limits.
DEGRADED = 0.4
REDUCTION = 3.0  # factor by which the ground sample distance grows
BLUR = 1.5  # standard deviation of the point spread function, pixels
NOISE = 12.0  # standard deviation of the sensor's noise, grey levels
HAZE = 0.4  # share of white light
JPEG = (30, 90)  # range of the quality


def mirror(image: AnnotatedImage, horizontal: bool, vertical: bool, rewrite: bool = True) -> AnnotatedImage:
    """Mirror an image with its boxes and captions.

    Args:
        image: What to mirror.
        horizontal: Swap left and right.
        vertical: Swap top and bottom.
        rewrite: Change the captions' direction words; otherwise captions stay as they are, and many become false.
    """
    if not (horizontal or vertical):
        return image
    boxes, captions = image.boxes.copy(), image.captions
    img = cv2.flip(image.img, -1 if horizontal and vertical else int(horizontal))  # 0: the rows change places
    if horizontal:
        boxes[:, [0, 2]] = image.size[0] - boxes[:, [2, 0]]
    if vertical:
        boxes[:, [1, 3]] = image.size[1] - boxes[:, [3, 1]]
    if rewrite:
        changed = [[flip(text, horizontal, vertical, image.vocabulary) for text in texts] for texts in captions]
        captions = tuple(tuple(c for c in texts if c is not None) for texts in changed)
    return replace(image, img=img, boxes=boxes, captions=captions)


def rotate(image: AnnotatedImage, turns: int, rng: np.random.Generator, rewrite: bool = True) -> AnnotatedImage:
    """Rotate an image counter-clockwise by multiples of 90 degrees, with its boxes and captions.

    Args:
        image: What to rotate.
        turns: Number of quarter turns, as in ``np.rot90``.
        rng: Source of the wording where no caption of an object can be rewritten and it is described anew.
        rewrite: Change the captions' direction words; otherwise captions stay as they are, and many become false.
    """
    turns %= 4
    if not turns:
        return image
    boxes, (width, height) = image.boxes, image.size
    for _ in range(turns):  # a point (x, y) moves to (y, width - x)
        boxes = np.stack((boxes[:, 1], width - boxes[:, 2], boxes[:, 3], width - boxes[:, 0]), axis=1)
        width, height = height, width
    img = np.ascontiguousarray(np.rot90(image.img, turns))
    rotated = replace(image, img=img, boxes=boxes, size=(width, height))
    if not rewrite:
        return rotated
    captions: list[tuple[str, ...]] = []
    for i, texts in enumerate(image.captions):
        changed = [rotate90(text, turns, image.vocabulary) for text in texts]
        kept = tuple(c for c in changed if c is not None)
        captions.append(kept or (describe_uniquely(rotated, i, rng) if texts else ()))
    return replace(rotated, captions=tuple(captions))


def crop(image: AnnotatedImage, rng: np.random.Generator, rewrite: bool = True) -> AnnotatedImage:
    """Cut out a random window of at least `CROP` of each side that contains at least one whole object.

    Args:
        image: What to crop.
        rng: Source of all choices.
        rewrite: Revalidate the captions; otherwise captions stay as they are, and many become false.
    """
    h, w = image.img.shape[:2]
    boxes = image.boxes * image.scale.astype(np.float32)  # in pixels of the array, so that the window's edges are exact
    whole = boxes[int(rng.integers(len(boxes)))] if len(boxes) else None
    window = []
    for axis, side in enumerate((w, h)):
        low, high = (int(whole[axis]), int(np.ceil(whole[axis + 2]))) if whole is not None else (side, 0)
        high = min(high, side)  # rounding may bring a box at the image's edge beyond it
        length = int(rng.integers(max(int(np.ceil(CROP * side)), high - low), side + 1))
        first = max(high - length, 0)
        last = min(low, side - length)
        start = int(rng.integers(first, last + 1))
        window += [start, start + length]
    left, right, top, bottom = window
    cropped = cut_window(image, (left, top, right, bottom))
    return revalidate_captions(cropped, rng) if rewrite else cropped


def cut_window(image: AnnotatedImage, window: tuple[int, int, int, int]) -> AnnotatedImage:
    """Cut out a window, with the visible parts of the objects in it. Remnants lose their captions.

    Args:
        image: What to cut it from.
        window: Left, top, right and bottom in pixels of the array; the boxes of the result are in such pixels, too.
    """
    left, top, right, bottom = window
    boxes, share = clip_to_window(image.boxes * image.scale.astype(np.float32), window)
    visible = share * image.visible
    keep = np.flatnonzero(visible > 0)
    return replace(
        image,
        img=np.ascontiguousarray(image.img[top:bottom, left:right]),
        boxes=boxes[keep],
        names=tuple(image.names[i] for i in keep),
        captions=tuple(image.captions[i] if visible[i] >= KEEP else () for i in keep),
        size=(right - left, bottom - top),
        visible=visible[keep],
    )


def clip_to_window(
    boxes: NDArray[np.float32], window: tuple[int, int, int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Clip boxes to a window.

    Args:
        boxes: [N, 4] xyxy in pixels.
        window: Left, top, right and bottom in the same pixels.

    Returns:
        The visible parts [N, 4], relative to the window's corner, and their shares of the boxes' areas [N]; 0 where
        nothing is visible.
    """
    left, top, right, bottom = window
    inside = np.clip(boxes, np.array([left, top] * 2), np.array([right, bottom] * 2)).astype(np.float32)
    sides, before = inside[:, 2:] - inside[:, :2], boxes[:, 2:] - boxes[:, :2]
    share = sides.prod(1) / np.maximum(before.prod(1), 1e-9)
    # An object that lies inside as a whole counts, however small it is.
    share[(sides < SEEN).any(1) & (share < 0.999)] = 0
    return inside - np.array([left, top] * 2, np.float32), share.astype(np.float32)


def zoom(
    imgsz: int, height: int, width: int, scale: float, rng: np.random.Generator
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Choose how large and where on a square canvas an image is drawn.

    Args:
        imgsz: Side of the canvas, pixels.
        height: Of the image.
        width: Of the image.
        scale: Largest relative reduction; 0 draws the image as large as possible and centred.
        rng: Source of all choices.

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


def jitter_tone(img: NDArray[np.uint8], amount: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Change brightness, contrast and gamma at random by up to a share ``amount``; 0 leaves the image as it is."""
    if amount <= 0:
        return img
    gain, gamma, shift = (1 + (rng.random(3) * 2 - 1) * amount * (0.5, 0.5, 0.25)).tolist()
    x = np.linspace(0, 1, 256, dtype=np.float32) ** gamma
    table = (np.clip((x - 0.5) * gain + 0.5 * shift, 0, 1) * 255).astype(np.uint8)
    return cv2.LUT(img, table)  # type: ignore[return-value]


def jitter_colour(img: NDArray[np.uint8], hue: float, saturation: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Change hue and saturation at random; 0 and 0 leave the image as it is.

    Args:
        img: uint8 [h, w, 3], BGR.
        hue: Largest rotation of the colour circle, as a share of it.
        saturation: Largest relative change.
        rng: Source of all choices.
    """
    if hue <= 0 and saturation <= 0:
        return img
    turn, gain = rng.random(2) * 2 - 1
    h, s, v = cv2.split(cv2.cvtColor(img, cv2.COLOR_BGR2HSV))
    levels = np.arange(256)
    h = cv2.LUT(h, ((levels + round(turn * hue * 180)) % 180).astype(np.uint8))  # OpenCV's hue has 180 steps
    s = cv2.LUT(s, np.clip(levels * (1 + gain * saturation), 0, 255).astype(np.uint8))
    return cv2.cvtColor(cv2.merge((h, s, v)), cv2.COLOR_HSV2BGR)  # type: ignore[return-value]


def add_speckle(img: NDArray[np.uint8], amount: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Multiply every pixel by gamma noise of mean 1, the same in all channels; 0 leaves the image as it is.

    Args:
        img: uint8 [h, w, 3].
        amount: Largest relative standard deviation s, drawn evenly from 0 to it. This is noise of L = 1 / s² looks:
            0.5 stands for at least four looks, 1 for a single one.
        rng: Source of all choices.
    """
    if amount <= 0:
        return img
    s = max(rng.random() * amount, 1e-3)
    noise = rng.standard_gamma(1 / s**2, img.shape[:2], dtype=np.float32) * np.float32(s**2)
    noisy = img * noise[..., None]
    return np.clip(noisy, 0, 255, out=noisy).astype(np.uint8)


def degrade(
    img: NDArray[np.uint8], probability: float, rng: np.random.Generator, haze: bool = True
) -> NDArray[np.uint8]:
    """Degrade an image at random: coarser pixels, blur, haze, noise and JPEG artefacts, in the order of a camera.

    Args:
        img: uint8 [h, w, 3].
        probability: Share of the images that are degraded; 0 leaves the image as it is and draws no random numbers.
        rng: Source of all choices.
        haze: Whether haze may be added.

    Returns:
        uint8 [h, w, 3]; the objects stay where they are.
    """
    if probability <= 0 or rng.random() >= probability:
        return img
    h, w = img.shape[:2]
    chosen, strength = rng.random(5) < DEGRADED, rng.random(5)
    if chosen[0]:
        factor = 1 + strength[0] * (REDUCTION - 1)
        small = cv2.resize(img, (max(round(w / factor), 1), max(round(h / factor), 1)), interpolation=cv2.INTER_AREA)
        img = cv2.resize(small, (w, h), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    if chosen[1] and (sigma := strength[1] * BLUR) > 0.1:
        img = cv2.GaussianBlur(img, (0, 0), sigma)  # type: ignore[assignment]
    if chosen[2] and haze:
        share = strength[2] * HAZE
        levels = np.clip(np.arange(256) * (1 - share) + 235 * share, 0, 255).astype(np.uint8)
        img = cv2.LUT(img, levels)  # type: ignore[assignment]
    if chosen[3]:
        noise = rng.standard_normal(img.shape, dtype=np.float32) * np.float32(strength[3] * NOISE)
        noise += img
        img = np.clip(noise, 0, 255, out=noise).astype(np.uint8)
    if chosen[4]:
        quality = round(JPEG[0] + strength[4] * (JPEG[1] - JPEG[0]))
        written, data = cv2.imencode(".jpg", img, [cv2.IMWRITE_JPEG_QUALITY, quality])
        img = cv2.imdecode(data, cv2.IMREAD_COLOR) if written else img  # type: ignore[assignment]
    return img

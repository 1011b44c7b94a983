"""Augmentation of grey values and colours, as far as it leaves captions true.

Brightness, contrast and gamma change in both modalities. Hue and saturation change in optical images alone, and only
where no caption names a colour; speckle is added to SAR images alone.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def light(img: NDArray[np.uint8], amount: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Change brightness, contrast and gamma at random by up to a share ``amount``; 0 leaves the image alone."""
    if amount <= 0:
        return img
    gain, gamma, shift = (1 + (rng.random(3) * 2 - 1) * amount * (0.5, 0.5, 0.25)).tolist()
    x = np.linspace(0, 1, 256, dtype=np.float32) ** gamma
    table = (np.clip((x - 0.5) * gain + 0.5 * shift, 0, 1) * 255).astype(np.uint8)
    return table[img]


def tint(img: NDArray[np.uint8], hue: float, saturation: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Change hue and saturation at random; 0 and 0 leave the image alone.

    Args:
        img: uint8 [h, w, 3], BGR.
        hue: Largest turn of the colour circle, as a share of it.
        saturation: Largest relative change.
        rng: Source of chance.
    """
    if hue <= 0 and saturation <= 0:
        return img
    turn, gain = rng.random(2) * 2 - 1
    h, s, v = cv2.split(cv2.cvtColor(img, cv2.COLOR_BGR2HSV))
    levels = np.arange(256)
    h = ((levels + round(turn * hue * 180)) % 180).astype(np.uint8)[h]  # OpenCV's hue has 180 steps
    s = np.clip(levels * (1 + gain * saturation), 0, 255).astype(np.uint8)[s]
    return cv2.cvtColor(cv2.merge((h, s, v)), cv2.COLOR_HSV2BGR)  # type: ignore[return-value]


def speckle(img: NDArray[np.uint8], amount: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Multiply every pixel by gamma noise of mean 1, the same in all channels; 0 leaves the image alone.

    Args:
        img: uint8 [h, w, 3].
        amount: Largest relative standard deviation s, drawn evenly from 0 to it: noise of L = 1 / s² looks, so 0.5
            stands for at least four looks and 1 for a single one.
        rng: Source of chance.
    """
    if amount <= 0:
        return img
    s = max(rng.random() * amount, 1e-3)
    noise = rng.standard_gamma(1 / s**2, img.shape[:2], dtype=np.float32) * np.float32(s**2)
    return np.clip(img * noise[..., None], 0, 255).astype(np.uint8)

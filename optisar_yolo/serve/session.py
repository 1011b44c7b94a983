"""Images that were encoded, kept for further expressions."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from torch import Tensor

from optisar_yolo.engine import CanvasImages, canvas
from optisar_yolo.nn import Encoded

Kept = TypeVar("Kept")


@dataclass(frozen=True)
class Prepared:
    """An image ready for the network.

    Attributes:
        key: Hash of its file.
        pixels: [3, H, W] RGB in 0..1, on its canvas.
        extent: [4] of the unpadded image in the canvas.
        size: Width and height of the image itself, pixels.
    """

    key: str
    pixels: Tensor
    extent: Tensor
    size: tuple[int, int]

    @classmethod
    def of(cls, key: str, image: np.ndarray, imgsz: int) -> Prepared:
        """Fit an image uint8 [h, w, 3] BGR on its canvas, long side to imgsz."""
        pixels, extent = canvas(image, imgsz)
        return cls(key, pixels, extent, (image.shape[1], image.shape[0]))


@dataclass(frozen=True)
class CachedImage:
    """An image that the network has looked at.

    Attributes:
        key: Hash of its file.
        encoded: What the network made of it, one row.
        canvas: Height and width of the canvas, pixels.
        size: Width and height of the image itself, pixels.
    """

    key: str
    encoded: Encoded | CanvasImages
    canvas: tuple[int, int]
    size: tuple[int, int]


class Remembered(Generic[Kept]):
    """The things that were asked for last, by name; safe to use from several threads.

    Args:
        most: How many are kept.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: str) -> Kept | None:
        """Return a thing, which by this becomes the latest; None where it is not kept (any more)."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: str, value: Kept) -> None:
        """Keep a thing; the one that was not asked for for longest goes."""
        with self._lock:
            self._kept[key] = value
            self._kept.move_to_end(key)
            while len(self._kept) > self.most:
                self._kept.popitem(last=False)


def key_of(data: bytes) -> str:
    """Return the name of an image: the SHA-256 of its file, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()

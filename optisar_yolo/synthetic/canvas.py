"""The canvas of optical scenes: free places, labelled objects, houses, trees and roads."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from optisar_yolo.synthetic import paint
from optisar_yolo.synthetic.paint import Colour, Image
from optisar_yolo.synthetic.stamps import STAMPS, house, tree

Mask = NDArray[np.bool_]
ASPHALT: Colour = (96, 98, 100)


@dataclass
class Canvas:
    """An image being drawn, with the objects placed so far.

    Attributes:
        img: [h, w, 3] BGR float32.
        rng: Source of all choices.
        sun: Direction of shadows, in pixels per pixel of height.
        boxes: [4] xyxy of each labelled object.
        names: Its category name.
        taken: [h, w] pixels that nothing else may cover.
        roads: [h, w] pixels of roads.
    """

    img: Image
    rng: np.random.Generator
    sun: tuple[float, float]
    boxes: list[NDArray[np.float64]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    taken: Mask = field(init=False)
    roads: Mask = field(init=False)

    def __post_init__(self) -> None:
        """Start with nothing taken."""
        self.taken = np.zeros(self.img.shape[:2], bool)
        self.roads = np.zeros(self.img.shape[:2], bool)

    @property
    def unit(self) -> float:
        """Return the image's scale: 1 for a shorter side of 320 pixels."""
        return min(self.img.shape[:2]) / 320

    def uniform(self, low: float, high: float) -> float:
        """Draw a number."""
        return float(self.rng.uniform(low, high))

    def count(self, low: int, high: int) -> int:
        """Draw a whole number from low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def spot(self, reach: float, where: Mask | None, tries: int = 40) -> tuple[float, float] | None:
        """Return a free place for something of the given reach, None where no try found one."""
        h, w = self.taken.shape
        if 2 * reach + 4 >= min(h, w):
            return None
        for _ in range(tries):
            x, y = self.uniform(reach + 1, w - reach - 1), self.uniform(reach + 1, h - reach - 1)
            window = np.s_[int(y - reach) : int(y + reach) + 1, int(x - reach) : int(x + reach) + 1]
            if not self.taken[window].any() and (where is None or where[window].mean() > 0.98):
                return x, y
        return None

    def add(
        self,
        name: str,
        size: float,
        angle: float | None = None,
        where: Mask | None = None,
        at: tuple[float, float] | None = None,
    ) -> bool:
        """Draw a labelled object in a free place, and tell whether there was one.

        Args:
            name: Category name, a key of `STAMPS`.
            size: Length in pixels.
            angle: Direction in radians, random when None.
            where: Pixels it may stand on, all when None.
            at: Its centre, in place of a free spot.
        """
        stamp = STAMPS[name](self.rng, size, self.uniform(0, 2 * np.pi) if angle is None else angle)
        rows, columns = np.nonzero(stamp.alpha > paint.VISIBLE)
        reach = max(np.ptp(rows), np.ptp(columns)) / 2 + 2
        at = at or self.spot(float(reach), where)
        if at is None:
            return False
        box = paint.paste(self.img, stamp, *at, sun=self.sun)
        self.label(name, box)
        return True

    def label(self, name: str, box: NDArray[np.float64]) -> None:
        """Record an object and keep its place."""
        self.boxes.append(box)
        self.names.append(name)
        x0, y0, x1, y1 = (int(v) for v in box)
        self.taken[max(y0 - 2, 0) : y1 + 2, max(x0 - 2, 0) : x1 + 2] = True

    def trees(self, n: int, where: Mask | None = None) -> None:
        """Draw trees in free places; crowns may touch."""
        kinds = [tree(self.rng, self.uniform(8, 18) * self.unit, self.uniform(0, 2 * np.pi)) for _ in range(8)]
        for _ in range(n):
            stamp = kinds[self.count(0, len(kinds) - 1)]
            at = self.spot(stamp.alpha.shape[0] * 0.36, where, tries=3)
            if at:
                paint.paste(self.img, stamp, *at, sun=self.sun)

    def houses(self, n: int, low: float, high: float, angle: float, where: Mask | None = None) -> None:
        """Draw houses in free places, most of them in line with the given direction."""
        for _ in range(n):
            size = self.uniform(low, high) * self.unit
            at = self.spot(size * 0.56, where, tries=4)
            if at:
                turn = angle + np.pi / 2 * self.count(0, 3) + self.uniform(-0.08, 0.08)
                x0, y0, x1, y1 = (int(v) for v in paint.paste(self.img, house(self.rng, size, turn), *at, sun=self.sun))
                self.taken[y0:y1, x0:x1] = True

    def road(self, start: tuple[float, float], stop: tuple[float, float], width: float, dashed: bool = True) -> None:
        """Draw a straight road between two points in pixels."""
        p, q = np.asarray(start), np.asarray(stop)
        ends = (int(p[0]), int(p[1])), (int(q[0]), int(q[1]))
        cv2.line(self.img, *ends, (150, 156, 158), int(width * 1.3), cv2.LINE_AA)
        cv2.line(self.img, *ends, paint.jitter(self.rng, ASPHALT, 6), int(width), cv2.LINE_AA)
        length = float(np.hypot(*(q - p)))
        if dashed and length:
            for t in np.arange(0, length, width * 1.1):
                a, b = (p + (q - p) * min(s, length) / length for s in (t, t + width * 0.5))
                cv2.line(
                    self.img,
                    tuple(int(v) for v in a),
                    tuple(int(v) for v in b),
                    (206, 214, 216),
                    max(int(width * 0.08), 1),
                )
        mask = np.zeros(self.taken.shape, np.uint8)
        cv2.line(mask, *ends, 1, int(width * 1.3))
        self.roads |= mask > 0

"""Drawing for rendered images: ground textures, and the pen that draws an object as a stamp.

A stamp is drawn four times too large, in its own frame with x along the object's length, and then reduced. This gives
smooth edges, and an alpha mask from which a tight box follows. Colours are BGR, 0-255.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Colour = tuple[float, float, float]
Points = Sequence[tuple[float, float]]

SUPER = 4  # supersampling factor of stamps
VISIBLE = 0.4  # a pixel belongs to the object from this opacity on


def fractal(rng: np.random.Generator, h: int, w: int, base: int = 3, octaves: int = 5, decay: float = 0.55) -> Image:
    """Return [h, w] smooth noise in about -1..1, the sum of ever finer and weaker grids."""
    out = np.zeros((h, w), np.float32)
    for k in range(octaves):
        n = base * 2**k
        grid = rng.uniform(-1, 1, (min(n, h), min(n, w))).astype(np.float32)
        out += decay**k * cv2.resize(grid, (w, h), interpolation=cv2.INTER_CUBIC)
    return out / 1.3


def blend(t: Image, low: Colour, high: Colour) -> Image:
    """Return [h, w, 3]: `low` where t is -1, `high` where it is 1."""
    share = np.clip(t * 0.5 + 0.5, 0, 1)[..., None]
    return np.asarray(low, np.float32) + share * np.subtract(high, low, dtype=np.float32)


def jitter(rng: np.random.Generator, colour: Colour, by: float = 12) -> Colour:
    """Return a colour a little lighter or darker, and a little off in hue."""
    shift = rng.uniform(-by / 2, by / 2, 3) + rng.uniform(-by, by)
    b, g, r = np.clip(np.add(colour, shift), 0, 255).tolist()
    return b, g, r


def ground(rng: np.random.Generator, h: int, w: int, low: Colour, high: Colour, grain: float = 5) -> Image:
    """Return [h, w, 3] ground: two colours in patches, with fine grain."""
    out = blend(fractal(rng, h, w, 4, 6, 0.7), low, high)
    return out + grain * rng.standard_normal((h, w, 1), dtype=np.float32)


def water(rng: np.random.Generator, h: int, w: int, colour: Colour) -> Image:
    """Return [h, w, 3] water: slow changes of depth and short waves across one direction."""
    depth = fractal(rng, h, w, 2, 3)[..., None]
    waves = cv2.GaussianBlur(rng.standard_normal((h, w), dtype=np.float32), (0, 0), 2.2, sigmaY=0.7)[..., None]
    return np.asarray(colour, np.float32) + depth * np.asarray((9, 10, 6), np.float32) + waves * 9


def fields(rng: np.random.Generator, h: int, w: int) -> Image:
    """Return [h, w, 3] farmland: a turned patchwork of crops with furrows."""
    y, x = np.mgrid[:h, :w].astype(np.float32)
    a = rng.uniform(0, np.pi)
    u = (x * np.cos(a) + y * np.sin(a)) / rng.uniform(70, 130) + 40
    v = (y * np.cos(a) - x * np.sin(a)) / rng.uniform(50, 100) + 40
    v += rng.uniform(0, 1, 90).astype(np.float32)[u.astype(int)]  # rows of plots do not line up
    crops = np.array([(70, 112, 92), (82, 128, 110), (96, 140, 150), (104, 150, 168), (74, 98, 84), (88, 120, 124)])
    crop = rng.integers(len(crops), size=(90, 90))[u.astype(int), v.astype(int)]
    out = crops[crop].astype(np.float32) + 5 * np.sin(v * 60)[..., None]
    edge = (np.minimum(u % 1, 1 - u % 1) < 0.02) | (np.minimum(v % 1, 1 - v % 1) < 0.02)
    out[edge] = (72, 92, 78)
    return cv2.GaussianBlur(out, (0, 0), 0.8) + 9 * fractal(rng, h, w, 6, 5)[..., None]


@dataclass(frozen=True)
class Stamp:
    """A drawn object.

    Attributes:
        colour: [n, n, 3], premultiplied.
        alpha: [n, n] in 0..1.
        height: In pixels, for the shadow.
    """

    colour: Image
    alpha: Image
    height: float


class Pen:
    """Draws a stamp in the object's own frame: x along its length, y across, in pixels, the centre at 0, 0.

    Args:
        reach: Distance of the farthest point from the centre in pixels.
        angle: Direction of x in radians, clockwise from the right as rows grow downwards.
    """

    def __init__(self, reach: float, angle: float) -> None:
        self.n = int(np.ceil(reach)) * 2 + 4
        side = self.n * SUPER
        self._colour = np.zeros((side, side, 3), np.uint8)
        self._alpha = np.zeros((side, side), np.uint8)
        self._turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])

    def _at(self, points: Points) -> NDArray[np.int32]:
        return np.round((np.asarray(points, np.float64) @ self._turn + self.n / 2) * SUPER).astype(np.int32)

    def poly(self, points: Points, colour: Colour) -> None:
        """Fill a polygon."""
        at = self._at(points)
        cv2.fillPoly(self._colour, [at], colour)
        cv2.fillPoly(self._alpha, [at], 255)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        """Fill a rectangle."""
        self.poly([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)

    def disc(self, x: float, y: float, r: float, colour: Colour) -> None:
        """Fill a circle."""
        centre = tuple(int(c) for c in self._at([(x, y)])[0])
        radius = max(int(round(r * SUPER)), 1)
        cv2.circle(self._colour, centre, radius, colour, -1)
        cv2.circle(self._alpha, centre, radius, 255, -1)

    def line(self, points: Points, colour: Colour, width: float, closed: bool = False) -> None:
        """Draw a line on what is there."""
        cv2.polylines(self._colour, [self._at(points)], closed, colour, max(int(round(width * SUPER)), 1))

    def done(self, height: float = 0.0) -> Stamp:
        """Shrink and return the stamp."""
        size = (self.n, self.n)
        covered = cv2.bitwise_and(self._colour, self._colour, mask=self._alpha)
        colour = cv2.resize(covered, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        return Stamp(
            colour, cv2.resize(self._alpha, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255, height
        )


def paste(img: Image, stamp: Stamp, x: float, y: float, sun: tuple[float, float] = (0.0, 0.0)) -> NDArray[np.float64]:
    """Put a stamp on an image and return its box.

    Args:
        img: [h, w, 3], changed in place.
        stamp: What to put there.
        x: Column of its centre in pixels.
        y: Row of its centre in pixels.
        sun: Direction of shadows in pixels per pixel of height; none at 0, 0.

    Returns:
        [4] xyxy of the visible pixels, clipped to the image.
    """
    n = stamp.alpha.shape[0]
    h, w = img.shape[:2]
    left, top = round(x - n / 2), round(y - n / 2)

    def window(dx: int, dy: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        x0, y0, x1, y1 = max(left + dx, 0), max(top + dy, 0), min(left + dx + n, w), min(top + dy + n, h)
        x1, y1 = max(x1, x0), max(y1, y0)
        return (slice(y0, y1), slice(x0, x1)), (
            slice(y0 - top - dy, y1 - top - dy),
            slice(x0 - left - dx, x1 - left - dx),
        )

    if stamp.height and any(sun):
        shade = cv2.GaussianBlur(stamp.alpha, (0, 0), 0.8)
        there, here = window(round(sun[0] * stamp.height), round(sun[1] * stamp.height))
        img[there] *= 1 - 0.5 * shade[here][..., None]
    there, here = window(0, 0)
    alpha = stamp.alpha[here][..., None]
    img[there] = img[there] * (1 - alpha) + stamp.colour[here]
    rows, columns = np.nonzero(stamp.alpha[here] > VISIBLE)
    y0, x0 = there[0].start, there[1].start
    return np.array([x0 + columns.min(), y0 + rows.min(), x0 + columns.max() + 1, y0 + rows.max() + 1], np.float64)

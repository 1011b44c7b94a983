"""SAR-like images: speckled sea with bright ships, coasts, and land with transmission towers."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from optisar_yolo.synthetic import paint
from optisar_yolo.synthetic.paint import Image

_LOBES = 30  # reach of the side lobes of a strong scatterer, in pixels
_SPOT = np.outer((0.3, 0.95, 0.3), (0.3, 0.95, 0.3)).astype(np.float32)  # the system's response to a point scatterer


class _Intensity:
    """A radar image that is drawn as intensity, with the objects placed so far."""

    def __init__(self, rng: np.random.Generator, h: int, w: int) -> None:
        self.rng, self.h, self.w = rng, h, w
        self.unit = min(h, w) / 320
        self.clutter = np.ones((h, w), np.float32)  # mean intensity under speckle
        self.points = np.zeros((h, w), np.float32)  # point scatterers, without speckle
        self.taken = np.zeros((h, w), bool)
        self.boxes: list[NDArray[np.float64]] = []
        self.names: list[str] = []

    def spot(self, reach: float, where: NDArray[np.bool_] | None) -> tuple[float, float] | None:
        """Return a free place; None where none was found."""
        for _ in range(40):
            x, y = self.rng.uniform(reach, self.w - reach), self.rng.uniform(reach, self.h - reach)
            window = np.s_[int(y - reach) : int(y + reach) + 1, int(x - reach) : int(x + reach) + 1]
            if not self.taken[window].any() and (where is None or where[window].all()):
                return float(x), float(y)
        return None

    def point(self, x: float, y: float, power: float) -> None:
        """Add a point scatterer."""
        column, row = int(round(x)), int(round(y))
        if 1 <= column < self.w - 1 and 1 <= row < self.h - 1:
            self.points[row - 1 : row + 2, column - 1 : column + 2] += power * _SPOT

    def lobes(self, x: float, y: float, power: float) -> None:
        """Add the cross of side lobes that a very strong scatterer has along range and azimuth."""
        column, row = int(round(x)), int(round(y))
        t = np.arange(1, _LOBES)
        fall = power * 0.4 * np.abs(np.sin(t * 1.7)) / t**1.25
        for s in (-1, 1):
            across, down = column + s * t, row + s * t
            ok = (across >= 0) & (across < self.w)
            self.points[row, across[ok]] += fall[ok]
            ok = (down >= 0) & (down < self.h)
            self.points[down[ok], column] += fall[ok] * 0.6

    def label(self, name: str, box: NDArray[np.float64]) -> None:
        """Record an object and keep its place."""
        box = box.clip(0, [self.w, self.h, self.w, self.h])
        self.boxes.append(box)
        self.names.append(name)
        x0, y0, x1, y1 = (int(v) for v in box)
        self.taken[max(y0 - 3, 0) : y1 + 3, max(x0 - 3, 0) : x1 + 3] = True

    def ship(self, length: float, angle: float, where: NDArray[np.bool_] | None, strong: float) -> None:
        """Add a ship: an elongated hull of many scatterers, a few of them very strong.

        Args:
            length: In pixels.
            angle: Direction of the bow in radians.
            where: Pixels it may stand on, all when None.
            strong: Brightness; about 1 saturates the image.
        """
        length = max(length, 13.0)
        at = self.spot(length / 2 + 3, where)
        if at is None:
            return
        a, b = length / 2, max(length * self.rng.uniform(0.1, 0.15), 2.6)
        if self.rng.random() < 0.3:
            self._wake(at, a, b, angle)
        pen = paint.Pen(length * 0.6 + 2, angle)
        outline = [(a, 0), (a * 0.75, b * 0.6), (a * 0.45, b), (-a * 0.8, b), (-a, b * 0.5)]
        pen.poly(outline + [(x, -y) for x, y in reversed(outline)], (255, 255, 255))
        hull = pen.done().alpha
        n = hull.shape[0]
        echo = hull * self.rng.gamma(0.6, 1 / 0.6, hull.shape).astype(np.float32) * 0.16
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        count = 6 + int(length / 2)
        spots = (
            np.stack([self.rng.uniform(-a, a, count) * 0.86, self.rng.normal(0, b * 0.34, count).clip(-b, b)], axis=1)
            @ turn
        )
        powers = np.exp(self.rng.normal(0.3, 1.1, count)).clip(0, 12)
        for (x, y), power in zip(spots + n / 2, powers, strict=True):
            column, row = int(np.clip(x, 1, n - 2)), int(np.clip(y, 1, n - 2))
            echo[row - 1 : row + 2, column - 1 : column + 2] += power * _SPOT
        echo = cv2.GaussianBlur(echo, (0, 0), 1.0, sigmaY=0.7) * strong
        left, top = round(at[0] - n / 2), round(at[1] - n / 2)
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + n, self.w), min(top + n, self.h)
        seen = echo[y0 - top : y1 - top, x0 - left : x1 - left]
        self.points[y0:y1, x0:x1] += seen
        if self.rng.random() < 0.45:
            best = int(powers.argmax())
            self.lobes(left + n / 2 + spots[best][0], top + n / 2 + spots[best][1], float(powers[best]) * strong)
        rows, columns = np.nonzero(seen > 0.12 * strong)
        self.label(
            "sar ship", np.array([x0 + columns.min(), y0 + rows.min(), x0 + columns.max() + 1, y0 + rows.max() + 1.0])
        )

    def _wake(self, at: tuple[float, float], a: float, b: float, angle: float) -> None:
        """Smooth the water behind a ship: a dark streak."""
        streak = np.zeros((self.h, self.w), np.float32)
        back = np.array([-np.cos(angle), -np.sin(angle)])
        stop = np.asarray(at) + back * a * self.rng.uniform(3, 6)
        cv2.line(streak, (int(at[0]), int(at[1])), (int(stop[0]), int(stop[1])), 1.0, max(int(b * 1.4), 2), cv2.LINE_AA)
        self.clutter *= 1 - 0.4 * streak

    def tower(self, height: float, layover: float, where: NDArray[np.bool_] | None) -> tuple[float, float] | None:
        """Add a lattice mast: its echo leans towards the radar, its shadow falls away from it; return its foot."""
        at = self.spot(height * 0.62, where)
        if at is None:
            return None
        way = np.array([np.cos(layover), np.sin(layover)])
        side = np.array([-way[1], way[0]])
        foot = np.asarray(at) - way * height * 0.5
        shade = np.zeros((self.h, self.w), np.float32)
        end = foot - way * height * 0.9
        cv2.line(shade, tuple(int(v) for v in foot), tuple(int(v) for v in end), 1.0, max(int(height * 0.14), 2))
        self.clutter *= 1 - 0.75 * cv2.GaussianBlur(shade, (0, 0), 0.8)
        low, high = foot.copy(), foot.copy()
        lattice = [
            (t, s * 0.1 * (1 - t) + 0.012 * s) for t in np.linspace(0, 1, max(int(height / 1.7), 9)) for s in (-1, 1)
        ]
        lattice += [
            (t, v) for t, r in ((0.62, 0.2), (0.77, 0.16), (0.91, 0.11)) for v in np.arange(-r, r + 1e-6, 1.6 / height)
        ]
        for t, v in lattice:
            p = foot + (way * t + side * v) * height
            self.point(float(p[0]), float(p[1]), float(np.exp(self.rng.normal(-0.2, 0.8))))
            low, high = np.minimum(low, p), np.maximum(high, p)
        self.lobes(float(foot[0]), float(foot[1]), 2.0)
        self.label("sar transmission tower", np.round(np.array([low[0] - 1, low[1] - 1, high[0] + 2, high[1] + 2])))
        return float(foot[0]), float(foot[1])


def _sea(e: _Intensity) -> Image:
    """Return the sea's mean intensity: swell and slicks."""
    y, x = np.mgrid[: e.h, : e.w].astype(np.float32)
    a, length = e.rng.uniform(0, np.pi), e.rng.uniform(9, 22)
    swell = np.sin((x * np.cos(a) + y * np.sin(a)) * 2 * np.pi / length + 2 * paint.fractal(e.rng, e.h, e.w, 3, 2))
    return np.exp(0.35 * paint.fractal(e.rng, e.h, e.w, 2, 4) + e.rng.uniform(0, 0.15) * swell).astype(np.float32)


def _land(e: _Intensity, level: float) -> Image:
    """Return the land's mean intensity: fields, relief and built-up areas."""
    plots = paint.fields(e.rng, e.h, e.w)[..., 2] / 130
    relief = np.exp(0.9 * paint.fractal(e.rng, e.h, e.w, 5, 6, 0.75))
    return (level * plots * relief).astype(np.float32)


def _built(e: _Intensity, where: NDArray[np.bool_], n: int) -> None:
    """Add blocks of bright corner echoes where there is land."""
    for _ in range(n):
        x, y = e.rng.uniform(0, e.w), e.rng.uniform(0, e.h)
        for p in e.rng.normal((x, y), 12 * e.unit, (14, 2)):
            if (
                0 <= p[0] < e.w
                and 0 <= p[1] < e.h
                and where[int(p[1]), int(p[0])]
                and not e.taken[int(p[1]), int(p[0])]
            ):
                e.point(float(p[0]), float(p[1]), e.rng.uniform(0.3, 1.4))


def _open_sea(e: _Intensity, level: float) -> None:
    e.clutter = level * _sea(e)
    size, strong = e.rng.uniform(16, 62) * e.unit, e.rng.uniform(0.8, 1.8)
    for _ in range(int(e.rng.integers(1, 8))):
        e.ship(size * e.rng.uniform(0.6, 1.4), e.rng.uniform(0, np.pi), None, strong)


def _coast(e: _Intensity, level: float) -> None:
    y, x = np.mgrid[: e.h, : e.w].astype(np.float32)
    a = e.rng.uniform(0, 2 * np.pi)
    shore = (x / e.w - 0.5) * np.cos(a) + (y / e.h - 0.5) * np.sin(a)
    shore += 0.16 * paint.fractal(e.rng, e.h, e.w, 2, 6) - e.rng.uniform(0.1, 0.35)
    inland = shore > 0
    e.clutter = np.where(inland, _land(e, e.rng.uniform(0.12, 0.3)), level * _sea(e)).astype(np.float32)
    e.clutter[np.abs(shore - 0.004) < 0.006] *= 2.2  # the water's edge
    size, strong = e.rng.uniform(16, 50) * e.unit, e.rng.uniform(0.9, 1.8)
    for _ in range(int(e.rng.integers(1, 7))):
        e.ship(size * e.rng.uniform(0.6, 1.4), e.rng.uniform(0, np.pi), shore < -0.02, strong)
    _built(e, inland, int(e.rng.integers(2, 9)))


def _towers(e: _Intensity, level: float) -> None:
    e.clutter = _land(e, level * 1.6 + 0.04)
    size, layover = e.rng.uniform(30, 62) * e.unit, e.rng.uniform(-0.35, 0.35) + np.pi * e.rng.integers(2)
    feet = [e.tower(size * e.rng.uniform(0.8, 1.25), layover, None) for _ in range(int(e.rng.integers(2, 6)))]
    line = sorted(f for f in feet if f is not None)
    wires = np.zeros((e.h, e.w), np.float32)
    for p, q in zip(line, line[1:], strict=False):
        cv2.line(wires, (int(p[0]), int(p[1])), (int(q[0]), int(q[1])), 0.16, 1, cv2.LINE_AA)
    e.points += wires
    _built(e, np.ones((e.h, e.w), bool), int(e.rng.integers(0, 4)))


def render_sar(rng: np.random.Generator, h: int, w: int, kind: int) -> tuple[NDArray[np.uint8], np.ndarray, list[str]]:
    """Render a SAR-like image.

    Args:
        rng: Source of all choices.
        h: Height in pixels.
        w: Width in pixels.
        kind: 0 open sea, 1 coast, 2 transmission towers.

    Returns:
        [h, w, 3] grey image in BGR, [N, 4] xyxy boxes in pixels, N category names.
    """
    echo = _Intensity(rng, h, w)
    level = float(np.exp(rng.uniform(np.log(0.004), np.log(0.14))))
    (_open_sea, _coast, _towers)[kind](echo, level)
    looks = float(rng.choice([1.0, 2.0, 4.0]))
    # Fully developed speckle: intensity times a gamma variable of mean 1, a little correlated by the resolution.
    speckle = rng.standard_gamma(looks, (h, w), dtype=np.float32) / looks
    bright = echo.points + 0.16 * cv2.GaussianBlur(echo.points, (0, 0), 1.8)  # strong echoes bloom
    intensity = cv2.GaussianBlur(echo.clutter * speckle, (0, 0), rng.uniform(0.4, 0.7)) + bright
    amplitude = np.sqrt(np.maximum(intensity, 0)) * rng.uniform(170, 240)
    grey = np.clip(amplitude, 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2), np.array(echo.boxes).reshape(-1, 4), echo.names

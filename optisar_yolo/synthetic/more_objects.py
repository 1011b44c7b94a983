"""Objects of the wide rendered set, beyond those of OptSAR-RSVG: (rng, length in pixels, angle) to a stamp.

They follow DIOR's and DOTA's categories as far as a plan view can show them: what makes a chimney or a windmill from
above is its long shadow, which the layout draws.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from optisar_yolo.synthetic.objects import WHITE, arc
from optisar_yolo.synthetic.paint import Colour, Pen, Stamp, jitter

_CARS: tuple[Colour, ...] = ((230, 230, 230), (60, 60, 64), (50, 50, 180), (160, 90, 50), (170, 172, 174))


def chimney(rng: np.random.Generator, size: float, angle: float) -> Stamp:
    """Draw the top of a chimney of the given diameter: a ring with a dark mouth."""
    pen = Pen(size * 0.55, angle)
    r = size / 2
    shell = jitter(rng, [(176, 182, 186), (120, 130, 170), (206, 208, 210)][int(rng.integers(3))])
    pen.disc(0, 0, r, shell)
    pen.disc(r * 0.1, 0, r * 0.82, (shell[0] * 0.8, shell[1] * 0.8, shell[2] * 0.8))
    pen.disc(0, 0, r * 0.6, (44, 44, 46))
    return pen.done()  # the layout draws its shadow


def windmill(rng: np.random.Generator, size: float, angle: float) -> Stamp:
    """Draw a wind turbine of the given rotor diameter: three blades, nacelle and the pad at its foot."""
    pen = Pen(size * 0.58, angle)
    r, wide = size / 2, max(size * 0.028, 0.9)
    pen.disc(-r * 0.1, 0, max(size * 0.06, 1.4), jitter(rng, (160, 176, 186)))
    turn = rng.uniform(0, 2 * np.pi)
    flat = rng.uniform(0.45, 1.0)  # the rotor stands upright and is seen from the side
    for k in range(3):
        a = turn + 2 * np.pi * k / 3
        x, y = r * np.cos(a) * flat, r * np.sin(a)
        nx, ny = -np.sin(a) * wide, np.cos(a) * wide
        pen.poly([(nx, ny), (x + nx * 0.6, y + ny * 0.6), (x - nx * 0.6, y - ny * 0.6), (-nx, -ny)], WHITE)
    pen.box(-size * 0.05, -wide * 1.2, size * 0.05, wide * 1.2, (228, 230, 230))
    return pen.done()


def truck(rng: np.random.Generator, size: float, angle: float) -> Stamp:
    """Draw a truck of the given length: cab, gap and a long box."""
    pen = Pen(size * 0.58, angle)
    a, b = size / 2, size * 0.15
    cab = jitter(rng, [(60, 60, 190), (200, 202, 204), (170, 100, 50), (60, 150, 200)][int(rng.integers(4))])
    load = jitter(rng, [(226, 228, 228), (150, 120, 80), (110, 140, 170), (90, 96, 100)][int(rng.integers(4))])
    pen.box(a * 0.62, -b * 0.9, a, b * 0.9, cab)
    pen.box(a * 0.78, -b * 0.75, a * 0.86, b * 0.75, (54, 50, 46))
    pen.box(a * 0.54, -b * 0.3, a * 0.62, b * 0.3, (70, 72, 74))
    pen.box(-a, -b, a * 0.54, b, load)
    pen.line([(-a * 0.98, 0), (a * 0.52, 0)], (load[0] * 0.9, load[1] * 0.9, load[2] * 0.9), max(size * 0.01, 0.3))
    return pen.done(size * 0.14)


def van(rng: np.random.Generator, size: float, angle: float) -> Stamp:
    """Draw a van of the given length: a box with a windscreen at its front."""
    pen = Pen(size * 0.6, angle)
    a, b = size / 2, size * 0.2
    paint = jitter(rng, [(232, 232, 232), (196, 198, 200), (60, 62, 66), (160, 90, 50)][int(rng.integers(4))])
    pen.poly([(a, -b * 0.6), (a, b * 0.6), (a * 0.84, b), (-a, b), (-a, -b), (a * 0.84, -b)], paint)
    pen.box(a * 0.56, -b * 0.8, a * 0.76, b * 0.8, (56, 50, 46))
    return pen.done(size * 0.16)


def hangar(rng: np.random.Generator, size: float, angle: float) -> Stamp:
    """Draw a hangar of the given length: a barrel roof with ribs, brighter on the side of the sun."""
    pen = Pen(size * 0.72, angle)
    a, b = size / 2, size * rng.uniform(0.34, 0.45)
    roof = jitter(rng, [(196, 200, 202), (150, 158, 150), (130, 140, 160)][int(rng.integers(3))])
    steps = 10
    for k in range(steps):  # light falls off across the barrel
        light = 0.74 + 0.36 * float(np.sin(np.pi * (k + 1.5) / (steps + 2)))
        y0, y1 = -b + 2 * b * k / steps, -b + 2 * b * (k + 1) / steps
        pen.box(-a, y0, a, y1, (roof[0] * light, roof[1] * light, roof[2] * light))
    for x in np.linspace(-a, a, int(rng.integers(5, 9))):
        pen.line([(float(x), -b), (float(x), b)], (roof[0] * 0.8, roof[1] * 0.8, roof[2] * 0.8), max(size * 0.008, 0.3))
    pen.box(a - size * 0.03, -b * 0.85, a, b * 0.85, (84, 86, 88))
    return pen.done(size * 0.2)


def terminal(rng: np.random.Generator, size: float, angle: float) -> Stamp:
    """Draw an airport terminal of the given length: a long roof with piers towards the apron."""
    pen = Pen(size * 0.6, angle)
    a, b = size / 2, size * 0.1
    roof = jitter(rng, (196, 202, 206))
    dark: Colour = (roof[0] * 0.84, roof[1] * 0.84, roof[2] * 0.84)
    pen.box(-a, -b * 1.2, a, b * 0.6, roof)
    for x in np.linspace(-a * 0.75, a * 0.75, int(rng.integers(2, 5))):
        pen.box(float(x) - b * 0.3, b * 0.6, float(x) + b * 0.3, b * 2.4, dark)
    pen.line([(-a * 0.96, -b * 0.3), (a * 0.96, -b * 0.3)], dark, max(size * 0.01, 0.4))
    for x in np.linspace(-a * 0.85, a * 0.85, 12):
        pen.box(float(x), -b * 0.9, float(x) + size * 0.02, -b * 0.6, (120, 130, 140))
    return pen.done(size * 0.06)


def stadium(rng: np.random.Generator, size: float, angle: float) -> Stamp:
    """Draw a stadium of the given length: an oval of stands, partly roofed, around a pitch."""
    pen = Pen(size * 0.58, angle)
    a, b = size / 2, size * rng.uniform(0.38, 0.46)

    def oval(q: float) -> list[tuple[float, float]]:
        t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
        power = 0.8  # between an ellipse and a rectangle
        x = np.sign(np.cos(t)) * np.abs(np.cos(t)) ** power * a * q
        y = np.sign(np.sin(t)) * np.abs(np.sin(t)) ** power * (b - (1 - q) * a)
        return [(float(u), float(v)) for u, v in zip(x, y, strict=True)]

    pen.poly(oval(1.0), jitter(rng, (206, 210, 212)))
    seats = jitter(rng, [(150, 90, 60), (80, 80, 170), (130, 134, 138)][int(rng.integers(3))])
    pen.poly(oval(0.82), seats)
    for q in (0.76, 0.7, 0.64):
        pen.line(oval(q), (seats[0] * 0.8, seats[1] * 0.8, seats[2] * 0.8), max(size * 0.006, 0.3), closed=True)
    pen.poly(oval(0.6), jitter(rng, (92, 110, 150)))
    x, y = a * 0.44, (b - 0.5 * a) if b > 0.72 * a else b * 0.38
    y = max(min(y, b * 0.45), size * 0.1)
    for k in range(8):
        pen.box(-x + k * x / 4, -y, -x + (k + 1) * x / 4, y, jitter(rng, (70, 140 if k % 2 else 124, 84), 3))
    wide = max(size * 0.006, 0.4)
    pen.line([(-x, -y), (x, -y), (x, y), (-x, y)], WHITE, wide, closed=True)
    pen.line([(0, -y), (0, y)], WHITE, wide)
    return pen.done(size * 0.05)


def golf_field(rng: np.random.Generator, size: float, angle: float) -> Stamp:
    """Draw a golf course of the given length: rough, winding fairways, greens, bunkers and a pond."""
    pen = Pen(size * 0.56, angle)
    a, b = size / 2, size * rng.uniform(0.3, 0.42)

    def blob(x: float, y: float, u: float, v: float, n: int = 28) -> list[tuple[float, float]]:
        t = np.linspace(0, 2 * np.pi, n, endpoint=False)
        wave = 1 + 0.12 * np.sin(2 * t + rng.uniform(0, 6)) + 0.08 * np.sin(3 * t + rng.uniform(0, 6))
        return [(x + u * float(w * np.cos(s)), y + v * float(w * np.sin(s))) for s, w in zip(t, wave, strict=True)]

    pen.poly([(x * 0.86, y * 0.86) for x, y in blob(0, 0, a, b, 48)], jitter(rng, (66, 108, 78)))
    for _ in range(int(rng.integers(4, 7))):
        x, y = rng.uniform(-0.5, 0.5) * a, rng.uniform(-0.5, 0.5) * b
        pen.poly(blob(x, y, a * rng.uniform(0.14, 0.26), b * rng.uniform(0.1, 0.2)), jitter(rng, (92, 158, 112)))
        pen.poly(blob(x + a * 0.1, y, a * 0.05, a * 0.05, 14), jitter(rng, (110, 184, 132)))
        for _ in range(int(rng.integers(1, 4))):
            u, v = x + rng.uniform(-0.2, 0.2) * a, y + rng.uniform(-0.16, 0.16) * b
            pen.poly(blob(u, v, a * 0.035, a * 0.025, 12), jitter(rng, (176, 214, 228), 6))
    if rng.random() < 0.5:
        pen.poly(blob(rng.uniform(-0.4, 0.4) * a, 0, a * 0.1, b * 0.12), jitter(rng, (120, 96, 60)))
    return pen.done()


def train_station(rng: np.random.Generator, size: float, angle: float) -> Stamp:
    """Draw a railway station of the given length: parallel tracks, roofed platforms and a hall."""
    pen = Pen(size * 0.62, angle)
    a, b = size / 2, size * 0.2
    pen.box(-a, -b, a, b, jitter(rng, (112, 120, 128)))
    lanes = int(rng.integers(3, 6))
    for k in range(lanes):
        y = -b * 0.7 + 1.5 * b * k / max(lanes - 1, 1)
        for s in (-1, 1):
            pen.line([(-a, y + s * size * 0.012), (a, y + s * size * 0.012)], (76, 80, 92), max(size * 0.005, 0.35))
        if k % 2 == 0:
            roof = jitter(rng, (186, 190, 194))
            pen.box(-a * 0.7, y + b * 0.1, a * 0.7, y + b * 0.28, roof)
        elif rng.random() < 0.6:  # a train
            train = jitter(rng, [(210, 212, 214), (60, 60, 180), (160, 110, 60)][int(rng.integers(3))])
            start = rng.uniform(-0.9, -0.3) * a
            for c in range(int(rng.integers(4, 8))):
                x = start + c * size * 0.105
                if x + size * 0.1 < a:
                    pen.box(x, y - size * 0.017, x + size * 0.098, y + size * 0.017, train)
    pen.box(-a * 0.4, b, a * 0.4, b * 1.45, jitter(rng, (96, 110, 160)))
    return pen.done(size * 0.03)


def helipad(rng: np.random.Generator, size: float, angle: float) -> Stamp:
    """Draw a helipad of the given diameter: a painted disc or square with a circle and an H."""
    pen = Pen(size * 0.75, angle)
    r = size / 2
    floor = jitter(rng, [(90, 94, 96), (80, 120, 84), (150, 156, 160)][int(rng.integers(3))])
    if rng.random() < 0.5:
        pen.disc(0, 0, r, floor)
    else:
        pen.box(-r, -r, r, r, floor)
    wide = max(size * 0.05, 0.6)
    pen.line(arc(0, 0, r * 0.78, 0, 2 * np.pi, 40), WHITE, wide, closed=True)
    for x in (-r * 0.28, r * 0.28):
        pen.line([(x, -r * 0.42), (x, r * 0.42)], WHITE, wide * 1.3)
    pen.line([(-r * 0.28, 0), (r * 0.28, 0)], WHITE, wide * 1.3)
    return pen.done()


def solar_panel(rng: np.random.Generator, size: float, angle: float) -> Stamp:
    """Draw a solar field of the given length: rows of dark blue modules on bare ground."""
    pen = Pen(size * 0.64, angle)
    a, b = size / 2, size * rng.uniform(0.24, 0.36)
    rows = max(int(b * 2 / max(size * 0.1, 3)), 2)
    blue = jitter(rng, (110, 70, 44), 8)
    for k in range(rows):
        y0 = -b + 2 * b * k / rows
        pen.box(-a, y0, a, y0 + 2 * b / rows * 0.96, (150, 164, 172))
        pen.box(-a, y0, a, y0 + 2 * b / rows * 0.6, blue)
        for x in np.linspace(-a, a, 9)[1:-1]:
            pen.line([(float(x), y0), (float(x), y0 + 2 * b / rows * 0.6)], (150, 116, 90), max(size * 0.006, 0.3))
    return pen.done(size * 0.01)


def parking_lot(rng: np.random.Generator, size: float, angle: float) -> Stamp:
    """Draw a car park of the given length: asphalt, bays and rows of parked cars."""
    pen = Pen(size * 0.64, angle)
    a, b = size / 2, size * rng.uniform(0.26, 0.38)
    pen.box(-a, -b, a, b, jitter(rng, (104, 106, 108)))
    bay = size * 0.052
    depth = bay * 2
    filled = rng.uniform(0.3, 0.95)
    for y in np.arange(-b + depth * 0.1, b - depth, depth * 2.1):
        for x in np.arange(-a + bay * 0.3, a - bay, bay):
            pen.line([(float(x), float(y)), (float(x), float(y) + depth)], (196, 200, 202), max(size * 0.004, 0.25))
            if rng.random() < filled:
                paint = jitter(rng, [(230, 230, 230), (60, 60, 64), (50, 50, 180), (160, 90, 50), (170, 172, 174)][
                    int(rng.integers(5))])  # fmt: skip
                pen.box(
                    float(x) + bay * 0.2, float(y) + depth * 0.1, float(x) + bay * 0.8, float(y) + depth * 0.9, paint
                )
    return pen.done()


MORE_OBJECTS: dict[str, Callable[[np.random.Generator, float, float], Stamp]] = {
    "optical chimney": chimney, "optical windmill": windmill, "optical truck": truck, "optical van": van,
    "optical hangar": hangar, "optical terminal": terminal, "optical stadium": stadium,
    "optical golf field": golf_field, "optical train station": train_station, "optical helipad": helipad,
    "optical solar panel": solar_panel, "optical parking lot": parking_lot,
}  # fmt: skip

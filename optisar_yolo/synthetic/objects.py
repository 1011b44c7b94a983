"""The objects of rendered optical images, one function each: (rng, length in pixels, angle) to a stamp."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from optisar_yolo.synthetic.paint import Colour, Pen, Stamp, jitter

WHITE: Colour = (236, 238, 238)


def arc(x: float, y: float, r: float, start: float, stop: float, n: int = 24) -> list[tuple[float, float]]:
    """Return points of an arc, angles in radians."""
    return [(x + r * float(np.cos(a)), y + r * float(np.sin(a))) for a in np.linspace(start, stop, n)]


def airplane(rng: np.random.Generator, size: float, angle: float) -> Stamp:
    """Draw an airliner of the given length: swept wings, engines, tail."""
    pen = Pen(size * 0.56, angle)
    k = size / 100
    body = jitter(rng, (232, 232, 230), 14)
    wing: Colour = (body[0] * 0.87, body[1] * 0.86, body[2] * 0.85)
    accent = [(150, 70, 40), (50, 50, 190), (60, 140, 60), (40, 130, 220), wing][int(rng.integers(5))]
    for s in (-1, 1):
        pen.poly([(14 * k, 4 * s * k), (-14 * k, 47 * s * k), (-22 * k, 47 * s * k), (-8 * k, 4 * s * k)], wing)
        pen.poly([(-36 * k, 3 * s * k), (-46 * k, 18 * s * k), (-51 * k, 18 * s * k), (-47 * k, 3 * s * k)], wing)
        for out in (16, 29)[: int(rng.integers(1, 3))]:
            pen.box(
                (9 - out * 0.6) * k, (out - 2.4) * s * k, (23 - out * 0.6) * k, (out + 2.4) * s * k, (140, 142, 144)
            )
    nose = [(x * k, y * k) for x, y in arc(42, 0, 5, -np.pi / 2, np.pi / 2)]
    pen.poly([*[(x + (x > 42 * k) * 3 * k, y) for x, y in nose], (-30 * k, 5 * k), (-52 * k, 1 * k), (-52 * k, -1 * k),
              (-30 * k, -5 * k)], body)  # fmt: skip
    pen.line([(40 * k, 0), (-46 * k, 0)], (250, 250, 250), 2.4 * k)
    pen.line([(-36 * k, 0), (-51 * k, 0)], accent, 2.6 * k)
    return pen.done(size * 0.07)


def ship(rng: np.random.Generator, size: float, angle: float) -> Stamp:
    """Draw a ship of the given length: hull, deck with hatches or containers, bridge."""
    pen = Pen(size * 0.55, angle)
    a, b = size / 2, size * rng.uniform(0.1, 0.15)
    hull = jitter(rng, [(60, 58, 120), (70, 70, 74), (110, 80, 50), (200, 204, 206)][int(rng.integers(4))])
    deck = jitter(rng, [(150, 156, 160), (90, 110, 150), (196, 200, 202), (110, 130, 96)][int(rng.integers(4))])
    outline = [(a, 0), (a * 0.82, b * 0.62), (a * 0.6, b), (-a * 0.92, b), (-a, b * 0.7)]
    pen.poly(outline + [(x, -y) for x, y in reversed(outline)], hull)
    pen.poly([(x * 0.93, y * 0.78) for x, y in outline + [(x, -y) for x, y in reversed(outline)]], deck)
    if rng.random() < 0.5:
        boxes = [(60, 90, 190), (150, 100, 60), (80, 150, 90), (190, 190, 186), (70, 150, 210)]
        for x in np.arange(-a * 0.45, a * 0.6, size * 0.085):
            for y in (-b * 0.6, -b * 0.05):
                pen.box(float(x), y, float(x) + size * 0.07, y + b * 0.52, boxes[int(rng.integers(5))])
    else:
        for x in np.linspace(-a * 0.35, a * 0.5, int(rng.integers(2, 5))):
            pen.box(float(x), -b * 0.45, float(x) + size * 0.12, b * 0.45, jitter(rng, (96, 104, 110)))
    pen.box(-a * 0.8, -b * 0.72, -a * 0.58, b * 0.72, WHITE)
    pen.box(-a * 0.74, -b * 0.3, -a * 0.66, b * 0.3, (120, 126, 130))
    return pen.done(size * 0.04)


def storage_tank(rng: np.random.Generator, size: float, angle: float) -> Stamp:
    """Draw a round tank of the given diameter, lit from one side."""
    pen = Pen(size * 0.55, angle)
    r = size / 2
    tone = float(rng.uniform(0.72, 1.0)) if rng.random() < 0.8 else 0.45
    rim: Colour = (225 * tone, 228 * tone, 228 * tone)
    pen.disc(0, 0, r, rim)
    for k in range(10):  # light grows towards one side of the roof
        t = 1 - k / 10
        shade = (165 + 70 * k / 10) * tone
        pen.disc(r * 0.3 * (1 - t), 0, r * 0.88 * t, (shade * 0.98, shade, shade))
    if rng.random() < 0.6:  # the wall's shadow on a floating roof
        pen.poly([*arc(0, 0, r * 0.93, 2.2, 4.1), *arc(-r * 0.16, 0, r * 0.84, 4.0, 2.3)], (70 * tone,) * 3)
    pen.disc(r * 0.1, r * 0.05, max(r * 0.07, 0.4), (110, 112, 114))
    pen.line([(0, -r * 0.2), (r * 0.9, -r * 0.25)], (130, 132, 134), max(r * 0.05, 0.3))
    return pen.done(size * 0.22)


def tennis_court(rng: np.random.Generator, size: float, angle: float) -> Stamp:
    """Draw a tennis court of the given length with its surround."""
    pen = Pen(size * 0.62, angle)
    a, b = size / 2, size * 0.27
    outer, inner = [((70, 110, 60), (90, 150, 80)), ((70, 100, 58), (160, 110, 60)), ((60, 80, 150), (80, 130, 76)),
                    ((74, 120, 66), (60, 76, 160))][int(rng.integers(4))]  # fmt: skip
    pen.box(-a, -b, a, b, jitter(rng, outer))
    x, y, s = a * 0.68, b * 0.62, a * 0.37
    pen.box(-x, -y, x, y, jitter(rng, inner))
    wide = max(size * 0.013, 0.55)
    pen.line([(-x, -y), (x, -y), (x, y), (-x, y)], WHITE, wide, closed=True)
    for v in (-y * 0.75, y * 0.75):
        pen.line([(-x, v), (x, v)], WHITE, wide)
    for u in (-s, s):
        pen.line([(u, -y * 0.75), (u, y * 0.75)], WHITE, wide)
    pen.line([(-s, 0), (s, 0)], WHITE, wide)
    pen.line([(0, -y * 1.12), (0, y * 1.12)], (225, 228, 228), wide * 1.2)
    return pen.done()


def basketball_court(rng: np.random.Generator, size: float, angle: float) -> Stamp:
    """Draw a basketball court of the given length."""
    pen = Pen(size * 0.6, angle)
    a, b = size / 2, size * 0.29
    floor, key = [((110, 150, 190), (80, 90, 190)), ((90, 96, 100), (100, 140, 70)), ((150, 110, 70), (70, 90, 180)),
                  ((80, 130, 80), (70, 80, 170))][int(rng.integers(4))]  # fmt: skip
    pen.box(-a, -b, a, b, jitter(rng, (120, 124, 122)))
    x, y = a * 0.9, b * 0.86
    pen.box(-x, -y, x, y, jitter(rng, floor))
    wide = max(size * 0.014, 0.55)
    for s in (-1, 1):
        pen.box(s * x, -y * 0.32, s * x * 0.6, y * 0.32, key)
        pen.line(
            [(s * x, -y * 0.32), (s * x * 0.6, -y * 0.32), (s * x * 0.6, y * 0.32), (s * x, y * 0.32)], WHITE, wide
        )
        reach = (
            arc(s * x * 0.9, 0, y * 0.82, np.pi / 2, 3 * np.pi / 2)
            if s > 0
            else arc(-x * 0.9, 0, y * 0.82, -np.pi / 2, np.pi / 2)
        )
        pen.line(reach, WHITE, wide)
    pen.line([(-x, -y), (x, -y), (x, y), (-x, y)], WHITE, wide, closed=True)
    pen.line([(0, -y), (0, y)], WHITE, wide)
    pen.line(arc(0, 0, y * 0.3, 0, 2 * np.pi), WHITE, wide, closed=True)
    return pen.done()


def ground_track_field(rng: np.random.Generator, size: float, angle: float) -> Stamp:
    """Draw a stadium track of the given length: red lanes around a pitch."""
    pen = Pen(size * 0.56, angle)
    r = size * 0.26
    straight = size / 2 - r

    def oval(q: float) -> list[tuple[float, float]]:
        return [*arc(straight, 0, q, -np.pi / 2, np.pi / 2), *arc(-straight, 0, q, np.pi / 2, 3 * np.pi / 2)]

    pen.poly(oval(r), jitter(rng, (72, 84, 168)))
    for q in (0.95, 0.9, 0.85, 0.8):
        pen.line(oval(r * q), (150, 160, 206), max(size * 0.003, 0.25), closed=True)
    pen.poly(oval(r * 0.76), jitter(rng, (66, 118, 82)))
    x, y = straight * 0.98, r * 0.6
    for k in range(8):
        if k % 2:
            pen.box(-x + k * x / 4, -y, -x + (k + 1) * x / 4, y, jitter(rng, (72, 140, 96), 3))
    wide = max(size * 0.006, 0.4)
    pen.line([(-x, -y), (x, -y), (x, y), (-x, y)], WHITE, wide, closed=True)
    pen.line([(0, -y), (0, y)], WHITE, wide)
    pen.line(arc(0, 0, y * 0.3, 0, 2 * np.pi), WHITE, wide, closed=True)
    return pen.done()


def baseball_diamond(rng: np.random.Generator, size: float, angle: float) -> Stamp:
    """Draw a baseball infield of the given radius of sand, home plate at one end."""
    pen = Pen(size * 0.62, angle)
    sand = jitter(rng, (112, 156, 196))
    home = -size * 0.5
    pen.poly([(home - size * 0.06, 0), *arc(home, 0, size, -np.pi / 4, np.pi / 4)], sand)
    side = size * 0.56
    corner = side / np.sqrt(2)
    grass = jitter(rng, (78, 140, 96))
    pen.poly([(home + size * 0.14, 0), (home + corner, corner - size * 0.1), (home + 2 * corner - size * 0.1, 0),
              (home + corner, -corner + size * 0.1)], grass)  # fmt: skip
    pen.disc(home + corner, 0, size * 0.06, sand)
    pen.disc(home + size * 0.04, 0, size * 0.09, sand)
    wide = max(size * 0.012, 0.4)
    for s in (-1, 1):
        pen.line([(home + size * 0.03, 0), (home + size * 0.7, s * size * 0.68)], WHITE, wide)
    return pen.done()


def swimming_pool(rng: np.random.Generator, size: float, angle: float) -> Stamp:
    """Draw a pool of the given length with a pale edge."""
    pen = Pen(size * 0.6, angle)
    a, b = size / 2, size * rng.uniform(0.22, 0.32)
    blue = jitter(rng, (214, 176, 72))
    if rng.random() < 0.5:
        pen.box(-a, -b, a, b, (206, 212, 214))
        pen.box(-a * 0.88, -b * 0.8, a * 0.88, b * 0.8, blue)
        for y in np.linspace(-b * 0.55, b * 0.55, 4):
            pen.line([(-a * 0.86, float(y)), (a * 0.86, float(y))], (228, 206, 140), max(size * 0.01, 0.3))
    else:
        for scale, colour in ((1.0, (206, 212, 214)), (0.84, blue)):
            pen.disc(-a * 0.36, 0, b * 1.15 * scale, colour)
            pen.disc(a * 0.42, b * 0.1, b * 0.95 * scale, colour)
            pen.box(-a * 0.36, -b * 0.72 * scale, a * 0.42, b * 0.8 * scale, colour)
    return pen.done()


def vehicle(rng: np.random.Generator, size: float, angle: float) -> Stamp:
    """Draw a car of the given length."""
    pen = Pen(size * 0.6, angle)
    paints: list[Colour] = [
        (236, 236, 236), (60, 60, 64), (50, 50, 190), (170, 90, 50), (170, 172, 174), (60, 160, 210),
    ]  # fmt: skip
    paint = jitter(rng, paints[int(rng.integers(len(paints)))])
    a, b = size / 2, size * 0.22
    pen.poly([(a, -b * 0.7), (a, b * 0.7), (a * 0.9, b), (-a * 0.94, b), (-a, b * 0.8), (-a, -b * 0.8), (-a * 0.94, -b),
              (a * 0.9, -b)], paint)  # fmt: skip
    pen.box(a * 0.28, -b * 0.78, a * 0.52, b * 0.78, (58, 52, 46))
    pen.box(-a * 0.72, -b * 0.74, -a * 0.54, b * 0.74, (58, 52, 46))
    return pen.done(size * 0.12)


def harbor(rng: np.random.Generator, size: float, angle: float) -> Stamp:
    """Draw a landing stage of the given length: a pier with fingers and small craft between them."""
    pen = Pen(size * 0.62, angle)
    a, b = size / 2, size * 0.26
    deck = jitter(rng, (150, 158, 164))
    pen.box(-a, -size * 0.045, a, size * 0.045, deck)
    for x in np.linspace(-a * 0.8, a * 0.85, int(rng.integers(4, 7))):
        pen.box(float(x), -b, float(x) + size * 0.035, b, deck)
    pen.line([(-a, 0), (a, 0)], (186, 192, 196), max(size * 0.012, 0.4))
    return pen.done(size * 0.02)


def house(rng: np.random.Generator, size: float, angle: float) -> Stamp:
    """Draw a hipped roof of the given length."""
    pen = Pen(size * 0.75, angle)
    a, b = size / 2, size * rng.uniform(0.3, 0.45)
    tile = jitter(rng, [(80, 96, 150), (110, 112, 118), (140, 150, 160), (90, 84, 96)][int(rng.integers(4))])
    ridge = a - b * 0.9
    for points, light in (
        ([(-a, -b), (a, -b), (ridge, 0), (-ridge, 0)], 1.12), ([(-a, b), (a, b), (ridge, 0), (-ridge, 0)], 0.8),
        ([(a, -b), (a, b), (ridge, 0)], 0.95), ([(-a, -b), (-a, b), (-ridge, 0)], 0.9),
    ):  # fmt: skip
        pen.poly(points, (tile[0] * light, tile[1] * light, tile[2] * light))
    return pen.done(size * 0.22)


def tree(rng: np.random.Generator, size: float, angle: float) -> Stamp:
    """Draw a tree crown of the given diameter, lit from one side."""
    pen = Pen(size * 0.7, angle)
    r = size / 2
    green = jitter(rng, (48, 84, 60), 14)
    for k in range(7):
        x, y = rng.uniform(-r * 0.4, r * 0.4, 2)
        light = 0.75 + 0.09 * k
        pen.disc(
            float(x) + r * 0.05 * k,
            float(y),
            r * (0.65 - 0.05 * k),
            (green[0] * light, green[1] * light, green[2] * light),
        )
    return pen.done(size * 0.3)


OBJECTS: dict[str, Callable[[np.random.Generator, float, float], Stamp]] = {
    "optical airplane": airplane, "optical ship": ship, "optical storage tank": storage_tank,
    "optical tennis court": tennis_court, "optical basketball court": basketball_court,
    "optical ground track field": ground_track_field, "optical baseball diamond": baseball_diamond,
    "optical swimming pool": swimming_pool, "optical vehicle": vehicle, "optical harbor": harbor,
}  # fmt: skip

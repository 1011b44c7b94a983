"""Layouts of the wide rendered set: industry, airfield, junctions, wind farm, golf, stadium, railway, solar field.

With them come things that are no objects and are taken for some: roofs like tanks and hangars, round ponds, clouds'
shadows and watermarks. They have no box, so every expression about them is false.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from optisar_yolo.synthetic import paint
from optisar_yolo.synthetic.optical import ASPHALT, CONCRETE, MARKING, Canvas, Mask, open_country, pixel

WATERMARKS = ("MAPS", "Imagery 2021", "SAMPLE", "(c) GeoData", "DO NOT COPY", "preview")


def shade_line(c: Canvas, x: float, y: float, length: float, width: float) -> None:
    """Draw the long shadow of something tall and thin."""
    shadow = np.zeros(c.taken.shape, np.float32)
    to = x + c.sun[0] * length, y + c.sun[1] * length
    cv2.line(shadow, pixel((x, y)), pixel(to), 1.0, max(round(width), 1), cv2.LINE_AA)
    c.img *= 1 - 0.5 * cv2.GaussianBlur(shadow, (0, 0), 0.7)[..., None]


def tall(c: Canvas, name: str, size: float, height: float, thickness: float, where: Mask | None = None) -> None:
    """Draw a tall object with its shadow under it; the box is that of the object alone."""
    at = c.spot(size * 0.7, where)
    if at is not None:
        shade_line(c, *at, height, thickness)
        c.add(name, size, None, at=at)


def industry(c: Canvas) -> None:
    """Draw halls, chimneys with long shadows, tanks, trucks in yards and a car park."""
    h, w = c.taken.shape
    c.img[:] = paint.ground(c.rng, h, w, (118, 130, 138), (156, 166, 172))
    a = c.uniform(-0.4, 0.4)
    y = c.uniform(0.25, 0.75) * h
    c.road((-20, y - 20 * np.tan(a)), (w + 20, y + (w + 20) * np.tan(a)), 20 * c.unit)
    for _ in range(c.count(1, 3)):
        c.add("optical truck", c.uniform(22, 34) * c.unit, a + np.pi * c.count(0, 1), c.roads)
    c.taken |= c.roads
    size = c.uniform(11, 22) * c.unit
    for _ in range(c.count(1, 4)):
        tall(c, "optical chimney", size * c.uniform(0.8, 1.25), size * c.uniform(3, 6), size * 0.8)
    if c.rng.random() < 0.6:
        c.add("optical parking lot", c.uniform(70, 110) * c.unit, a)
    for _ in range(c.count(0, 3)):
        c.add("optical storage tank", c.uniform(24, 46) * c.unit, 0.6)
    for _ in range(c.count(0, 3)):
        c.add("optical truck", c.uniform(22, 32) * c.unit)
    halls(c, c.count(3, 7), a)
    c.trees(15)


def halls(c: Canvas, n: int, angle: float) -> None:
    """Draw flat roofs of halls, some with round vents or domes like tanks; none of them is an object."""
    for _ in range(n):
        size = c.uniform(40, 90) * c.unit
        at = c.spot(size * 0.6, None, tries=8)
        if at is None:
            continue
        pen = paint.Pen(size * 0.62, angle + np.pi / 2 * c.count(0, 1))
        u, v = size / 2, size * c.uniform(0.22, 0.36)
        roof = paint.jitter(c.rng, [(200, 204, 206), (150, 154, 160), (110, 130, 170), (170, 150, 120)][c.count(0, 3)])
        pen.box(-u, -v, u, v, roof)
        darker = (roof[0] * 0.9, roof[1] * 0.9, roof[2] * 0.9)
        for x in np.linspace(-u, u, c.count(4, 9)):
            pen.line([(float(x), -v), (float(x), v)], darker, max(size * 0.008, 0.3))
        if c.rng.random() < 0.4:
            for x in np.linspace(-u * 0.7, u * 0.7, c.count(2, 5)):
                pen.disc(float(x), 0, size * 0.05, (roof[0] * 0.7, roof[1] * 0.7, roof[2] * 0.72))
        x0, y0, x1, y1 = (int(t) for t in paint.paste(c.img, pen.done(size * 0.1), *at, sun=c.sun))
        c.taken[y0:y1, x0:x1] = True


def airfield(c: Canvas) -> None:
    """Draw a terminal with airplanes at its gates, hangars and helipads on an apron."""
    h, w = c.taken.shape
    c.img[:] = paint.ground(c.rng, h, w, CONCRETE, (198, 202, 204), 3)
    a = c.uniform(-0.3, 0.3)
    if c.rng.random() < 0.7:
        c.add("optical terminal", c.uniform(130, 190) * c.unit, a)
    size = c.uniform(46, 80) * c.unit
    for _ in range(c.count(1, 4)):
        c.add("optical hangar", c.uniform(54, 84) * c.unit, a + np.pi / 2 * c.count(0, 3))
    for _ in range(c.count(1, 5)):
        c.add("optical airplane", size * c.uniform(0.7, 1.2), a + np.pi / 2 + c.uniform(-0.3, 0.3))
    for _ in range(c.count(0, 3)):
        c.add("optical helipad", c.uniform(24, 44) * c.unit, a)
    for _ in range(c.count(0, 3)):
        c.add(f"optical {('van', 'truck', 'vehicle')[c.count(0, 2)]}", c.uniform(16, 26) * c.unit)
    c.trees(6)


def junctions(c: Canvas) -> None:
    """Draw a roundabout or an overpass between houses, with cars, vans and trucks on the roads."""
    h, w = c.taken.shape
    c.img[:] = paint.ground(c.rng, h, w, (82, 110, 96), (126, 146, 140))
    width = c.uniform(20, 28) * c.unit
    centre = np.array([c.uniform(0.35, 0.65) * w, c.uniform(0.35, 0.65) * h])
    a, far = c.uniform(0, np.pi), 2.0 * max(h, w)
    along = np.array([np.cos(a), np.sin(a)])
    if c.rng.random() < 0.5:
        r = width * c.uniform(1.5, 2.2)
        for k in range(c.count(3, 4)):
            turn = a + k * np.pi / 2 + c.uniform(-0.15, 0.15)
            c.road(tuple(centre), tuple(centre + far * np.array([np.cos(turn), np.sin(turn)])), width)
        cv2.circle(c.img, pixel(centre), int(r + width * 0.5), ASPHALT, -1, cv2.LINE_AA)
        cv2.circle(c.img, pixel(centre), int(r - width * 0.5), paint.jitter(c.rng, (84, 128, 96)), -1, cv2.LINE_AA)
        cv2.circle(c.img, pixel(centre), int(r), MARKING, max(int(width * 0.05), 1), cv2.LINE_AA)
        reach = r + width * 0.5
        c.label("optical roundabout", np.array([*(centre - reach), *(centre + reach)]).clip(0, [w, h, w, h]))
        directions = [a, a + np.pi / 2]
    else:
        b = a + c.uniform(0.9, 1.5)
        below = np.array([np.cos(b), np.sin(b)])
        c.road(tuple(centre - below * far), tuple(centre + below * far), width)
        span = width * c.uniform(1.8, 2.6)
        p, q = centre - along * span, centre + along * span
        shift = np.array(c.sun) * width * 0.35
        cv2.line(c.img, pixel(p + shift), pixel(q + shift), (58, 62, 60), int(width * 1.3), cv2.LINE_AA)
        c.road(tuple(centre - along * far), tuple(centre + along * far), width)
        side = np.array([-along[1], along[0]])
        for s in (-1, 1):  # parapets of the deck
            edge = side * s * width * 0.66
            cv2.line(c.img, pixel(p + edge), pixel(q + edge), (214, 218, 220), max(int(width * 0.1), 1), cv2.LINE_AA)
        corners = np.array([e + side * s * width * 0.7 for e in (p, q) for s in (-1, 1)])
        box = np.array([*corners.min(0), *corners.max(0)])
        c.label("optical overpass", box.clip(0, [w, h, w, h]))
        directions = [a, b]
    for _ in range(c.count(2, 6)):
        kind, length = (("vehicle", 0.65), ("van", 0.8), ("truck", 1.1))[c.count(0, 2)]
        turn = directions[c.count(0, 1)] + np.pi * c.count(0, 1)
        c.add(f"optical {kind}", length * width, turn, c.roads)
    c.taken |= c.roads
    c.houses(30, 24, 44, a)
    c.trees(40)


def wind_farm(c: Canvas) -> None:
    """Draw windmills with their shadows on farmland, and a track between them."""
    h, w = c.taken.shape
    c.img[:] = open_country(c.rng, h, w)
    a = c.uniform(0, np.pi)
    middle, far = np.array([w / 2, h / 2]), 2.0 * max(h, w)
    way = np.array([np.cos(a), np.sin(a)])
    c.road(tuple(middle - way * far), tuple(middle + way * far), 6 * c.unit, dashed=False)
    size = c.uniform(34, 70) * c.unit
    for _ in range(c.count(2, 6)):
        tall(c, "optical windmill", size * c.uniform(0.85, 1.2), size * 1.2, max(size * 0.05, 1.2))
    if c.rng.random() < 0.4:
        c.add("optical solar panel", c.uniform(70, 130) * c.unit)
    c.houses(5, 18, 30, a)
    c.trees(40)


def golf(c: Canvas) -> None:
    """Draw a golf course between woods, with a car park and a pool at its club."""
    h, w = c.taken.shape
    c.img[:] = paint.ground(c.rng, h, w, (58, 88, 66), (88, 116, 96))
    c.add("optical golf field", c.uniform(170, 250) * c.unit)
    if c.rng.random() < 0.5:
        c.add("optical parking lot", c.uniform(50, 80) * c.unit)
    if c.rng.random() < 0.4:
        c.add("optical swimming pool", c.uniform(20, 34) * c.unit)
    for _ in range(c.count(0, 2)):
        c.add("optical tennis court", c.uniform(32, 48) * c.unit)
    c.houses(8, 22, 40, 0.0)
    c.trees(90)


def arena(c: Canvas) -> None:
    """Draw a stadium with car parks, roads and sports grounds beside it."""
    h, w = c.taken.shape
    c.img[:] = paint.ground(c.rng, h, w, (96, 118, 112), (146, 156, 158))
    a = c.uniform(-0.4, 0.4)
    c.add("optical stadium", c.uniform(110, 170) * c.unit, a + np.pi / 2 * c.count(0, 1))
    for _ in range(c.count(1, 3)):
        c.add("optical parking lot", c.uniform(60, 100) * c.unit, a + np.pi / 2 * c.count(0, 1))
    for _ in range(c.count(0, 2)):
        c.add("optical tennis court", c.uniform(36, 54) * c.unit, a)
    if c.rng.random() < 0.3:
        c.add("optical baseball diamond", c.uniform(36, 60) * c.unit, a)
    for _ in range(c.count(0, 3)):
        c.add("optical vehicle", c.uniform(13, 17) * c.unit)
    c.houses(12, 24, 42, a)
    c.trees(40)


def railway(c: Canvas) -> None:
    """Draw a railway station on its line through a town."""
    h, w = c.taken.shape
    c.img[:] = paint.ground(c.rng, h, w, (100, 116, 116), (146, 152, 152))
    a = c.uniform(-0.25, 0.25) + (np.pi / 2 if c.rng.random() < 0.4 else 0)
    centre = np.array([c.uniform(0.4, 0.6) * w, c.uniform(0.4, 0.6) * h])
    way, far = np.array([np.cos(a), np.sin(a)]), 2.0 * max(h, w)
    ends = pixel(centre - way * far), pixel(centre + way * far)
    cv2.line(c.img, *ends, (112, 122, 132), int(22 * c.unit), cv2.LINE_AA)
    side = np.array([-way[1], way[0]])
    for s in (-6, -3, 3, 6):
        shift = side * s * c.unit
        cv2.line(
            c.img, pixel(centre - way * far + shift), pixel(centre + way * far + shift), (80, 84, 94), 1, cv2.LINE_AA
        )
    track = np.zeros(c.taken.shape, np.uint8)
    cv2.line(track, *ends, 1, int(28 * c.unit))
    c.add("optical train station", c.uniform(130, 190) * c.unit, a, at=(float(centre[0]), float(centre[1])))
    c.taken |= track > 0
    for _ in range(c.count(0, 2)):
        c.add("optical parking lot", c.uniform(50, 80) * c.unit, a)
    for _ in range(c.count(0, 3)):
        c.add(f"optical {('van', 'vehicle')[c.count(0, 1)]}", c.uniform(14, 18) * c.unit)
    halls(c, c.count(1, 3), a)
    c.houses(30, 24, 42, a)
    c.trees(30)


def solar_field(c: Canvas) -> None:
    """Draw solar fields on open country, with a windmill or a helipad."""
    h, w = c.taken.shape
    c.img[:] = open_country(c.rng, h, w)
    a = c.uniform(-0.3, 0.3)
    size = c.uniform(60, 110) * c.unit
    for _ in range(c.count(1, 4)):
        c.add("optical solar panel", size * c.uniform(0.7, 1.3), a)
    for _ in range(c.count(0, 2)):
        tall(c, "optical windmill", c.uniform(40, 60) * c.unit, 60 * c.unit, 2.0)
    if c.rng.random() < 0.3:
        c.add("optical helipad", c.uniform(26, 40) * c.unit, a)
    ponds(c, c.count(0, 2))
    c.houses(6, 20, 34, a)
    c.trees(40)


def ponds(c: Canvas, n: int) -> None:
    """Draw round ponds, which are no tanks."""
    for _ in range(n):
        r = c.uniform(10, 24) * c.unit
        at = c.spot(r * 1.2, None)
        if at is not None:
            cv2.circle(c.img, pixel(at), int(r), paint.jitter(c.rng, (104, 96, 70)), -1, cv2.LINE_AA)
            c.taken[int(at[1] - r) : int(at[1] + r), int(at[0] - r) : int(at[0] + r)] = True


def disturb(c: Canvas) -> None:
    """Draw what is no object over an image: a watermark or a cloud's shadow."""
    h, w = c.taken.shape
    if c.rng.random() < 0.15:
        shade = np.clip(paint.fractal(c.rng, h, w, 2, 4) * 2 - 0.4, 0, 1)
        c.img *= 1 - 0.45 * cv2.GaussianBlur(shade, (0, 0), 6)[..., None]
    if c.rng.random() < 0.15:
        text = WATERMARKS[c.count(0, len(WATERMARKS) - 1)]
        layer = np.zeros((h, w), np.uint8)
        scale = c.uniform(0.5, 1.4) * c.unit
        step = int(90 * scale) + 20
        for y in range(c.count(10, step), h, step if c.rng.random() < 0.5 else h):
            place = int(c.uniform(0, w * 0.6)), y
            cv2.putText(layer, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, max(int(2 * scale), 1), cv2.LINE_AA)
        share = c.uniform(0.25, 0.7) / 255 * layer[..., None].astype(np.float32)
        c.img *= 1 - share
        c.img += share * 245


MORE_LAYOUTS: tuple[Callable[[Canvas], None], ...] = (
    industry, airfield, junctions, wind_farm, golf, arena, railway, solar_field,
)  # fmt: skip

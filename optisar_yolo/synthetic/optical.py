"""Optical-like overhead images: airport, coast, sports grounds, town, river, tank farm.

`Canvas` keeps the image that is drawn, the labelled objects, and the places that are taken. Each layout is a function
that draws on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from optisar_yolo.synthetic import paint
from optisar_yolo.synthetic.more_objects import MORE_OBJECTS
from optisar_yolo.synthetic.objects import OBJECTS, house, tree
from optisar_yolo.synthetic.paint import Colour, Image

Mask = NDArray[np.bool_]
ASPHALT: Colour = (96, 98, 100)
CONCRETE: Colour = (172, 178, 182)
MARKING: Colour = (206, 214, 216)  # lines on roads


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
            name: Category name, a key of `OBJECTS` or `MORE_OBJECTS`.
            size: Length in pixels.
            angle: Direction in radians, random when None.
            where: Pixels it may stand on, all when None.
            at: Its centre, in place of a free spot.
        """
        stamp = {**OBJECTS, **MORE_OBJECTS}[name](
            self.rng, size, self.uniform(0, 2 * np.pi) if angle is None else angle
        )
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
        ends = pixel(p), pixel(q)
        cv2.line(self.img, *ends, (150, 156, 158), int(width * 1.3), cv2.LINE_AA)
        cv2.line(self.img, *ends, paint.jitter(self.rng, ASPHALT, 6), int(width), cv2.LINE_AA)
        length = float(np.hypot(*(q - p)))
        if dashed and length:
            for t in np.arange(0, length, width * 1.1):
                a, b = (p + (q - p) * min(s, length) / length for s in (t, t + width * 0.5))
                cv2.line(self.img, pixel(a), pixel(b), MARKING, max(int(width * 0.08), 1))
        mask = np.zeros(self.taken.shape, np.uint8)
        cv2.line(mask, *ends, 1, int(width * 1.3))
        self.roads |= mask > 0


def pixel(at: Sequence[float] | np.ndarray) -> tuple[int, int]:
    """Return a point in whole pixels, as OpenCV takes it."""
    return int(at[0]), int(at[1])


def open_country(rng: np.random.Generator, h: int, w: int) -> Image:
    """Return the texture of open country."""
    kind = rng.integers(4)
    if kind == 0:
        return paint.fields(rng, h, w)
    low, high = [((58, 88, 66), (92, 132, 110)), ((92, 120, 132), (136, 160, 170)), ((66, 92, 84), (104, 134, 130))][
        kind - 1
    ]
    return paint.ground(rng, h, w, low, high)


def _traffic(canvas: Canvas, along: float, n: int, width: float, where: Mask) -> None:
    """Draw cars on roads, in the direction of the road."""
    for _ in range(n):
        canvas.add("optical vehicle", canvas.uniform(0.5, 0.7) * width, along + np.pi * canvas.count(0, 1), where)


def airport(c: Canvas) -> None:
    """Draw an apron with airplanes, a runway, and grass between them."""
    h, w = c.taken.shape
    grass = paint.ground(c.rng, h, w, (72, 104, 88), (104, 138, 124))
    apron = paint.ground(c.rng, h, w, CONCRETE, (196, 200, 202), 3)
    a = c.uniform(-0.5, 0.5) + (np.pi / 2 if c.rng.random() < 0.3 else 0)
    y, x = np.mgrid[:h, :w].astype(np.float32)
    v = ((y - h / 2) * np.cos(a) - (x - w / 2) * np.sin(a)) / min(h, w)
    u = ((x - w / 2) * np.cos(a) + (y - h / 2) * np.sin(a)) / min(h, w)
    edge = c.uniform(-0.35, -0.2)
    paved = v > edge
    c.img[:] = np.where(paved[..., None], apron, grass)
    joints = paved & ((np.abs((u * 9) % 1) < 0.03) | (np.abs((v * 9) % 1) < 0.03))
    c.img[joints] *= 0.93
    runway = np.abs(v - edge + 0.14) < 0.05
    c.img[runway] = c.img[runway] * 0.2 + np.asarray(ASPHALT) * 0.75
    c.img[(np.abs(v - edge + 0.14) < 0.004) & ((u * 12) % 1 < 0.5)] = (226, 230, 230)
    for k in range(3):  # yellow guide lines
        c.img[paved & (np.abs(v - edge - 0.12 - 0.26 * k) < 0.004)] = (90, 190, 214)
    size = c.uniform(46, 92) * c.unit
    heading = a + np.pi / 2 * c.count(0, 3)
    stand = paved & ~runway
    for _ in range(c.count(2, 7)):
        c.add("optical airplane", size * c.uniform(0.65, 1.25), heading + c.uniform(-0.25, 0.25), stand)
    for _ in range(c.count(0, 4)):
        c.add("optical vehicle", c.uniform(15, 20) * c.unit, None, stand)
    if c.rng.random() < 0.3:
        for _ in range(c.count(1, 3)):
            c.add("optical storage tank", c.uniform(20, 34) * c.unit, 0.6, ~runway & ~paved)
    c.trees(25, ~paved & ~runway)


def coast(c: Canvas) -> None:
    """Draw a shore with piers, ships on the water and sometimes tanks on land."""
    h, w = c.taken.shape
    y, x = np.mgrid[:h, :w].astype(np.float32)
    a = c.uniform(0, 2 * np.pi)
    shore = (
        ((x / w - 0.5) * np.cos(a) + (y / h - 0.5) * np.sin(a))
        + 0.1 * paint.fractal(c.rng, h, w, 2, 5)
        - c.uniform(0.1, 0.42)
    )
    sea = paint.water(c.rng, h, w, [(92, 74, 42), (110, 96, 54), (86, 84, 60)][c.count(0, 2)])
    sea += np.clip(1 + shore / 0.12, 0, 1)[..., None] ** 2 * np.asarray((36, 44, 26), np.float32)  # shallows
    land = open_country(c.rng, h, w)
    sand = np.asarray((150, 190, 206), np.float32) + 6 * paint.fractal(c.rng, h, w, 8, 3)[..., None]
    c.img[:] = np.where((shore < 0)[..., None], sea, np.where((shore < 0.025)[..., None], sand, land))
    wet, dry = shore < -0.03, shore > 0.04
    for _ in range(c.count(0, 2)):
        near = (shore < 0.03) & (shore > -0.3)  # out from the beach
        c.add("optical harbor", c.uniform(48, 84) * c.unit, a + c.uniform(-0.2, 0.2), near)
    size = c.uniform(34, 84) * c.unit
    for _ in range(c.count(2, 7)):
        length, angle = size * c.uniform(0.6, 1.5), c.uniform(0, 2 * np.pi)
        before = len(c.boxes)
        c.add("optical ship", length, angle, wet)
        if len(c.boxes) > before and c.rng.random() < 0.5:
            _wake(c, c.boxes[-1], length, angle)
    if c.rng.random() < 0.5:
        tank = c.uniform(20, 40) * c.unit
        for _ in range(c.count(1, 5)):
            c.add("optical storage tank", tank * c.uniform(0.8, 1.2), 0.6, dry)
    c.houses(14, 14, 26, a, dry)
    c.trees(40, dry)


def _wake(c: Canvas, box: NDArray[np.float64], length: float, angle: float) -> None:
    """Draw foam behind a ship."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    back = np.array([-np.cos(angle), -np.sin(angle)])
    side = np.array([-back[1], back[0]])
    stern = np.array([x, y]) + back * length * 0.5
    foam = np.zeros(c.taken.shape, np.float32)
    far = stern + back * length * 0.9
    corners = np.array(
        [
            stern + side * length * 0.05,
            far + side * length * 0.17,
            far - side * length * 0.17,
            stern - side * length * 0.05,
        ]
    )
    cv2.fillPoly(foam, [np.round(corners).astype(np.int32)], 1.0)
    y0, x0 = (int(max(v, 0)) for v in (min(corners[:, 1]) - 6, min(corners[:, 0]) - 6))
    y1, x1 = int(max(corners[:, 1])) + 7, int(max(corners[:, 0])) + 7
    window = np.s_[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
    if min(foam[window].shape) < 2:
        return
    fade = cv2.GaussianBlur(foam[window], (0, 0), 2.0)
    fade *= ~c.taken[window]
    c.img[window] += fade[..., None] * 34


def sports(c: Canvas) -> None:
    """Draw sports grounds between lawns and trees."""
    h, w = c.taken.shape
    c.img[:] = paint.ground(
        c.rng, h, w, *[((72, 110, 84), (96, 138, 112)), ((104, 124, 128), (140, 160, 162))][c.count(0, 1)]
    )
    a = c.uniform(-0.35, 0.35)
    if c.rng.random() < 0.6:
        c.road((-20, c.uniform(0.05, 0.2) * h), (w + 20, c.uniform(0.05, 0.2) * h), 15 * c.unit)
        c.taken |= c.roads
    turn = a + np.pi / 2 * c.count(0, 1)
    if c.rng.random() < 0.55:
        c.add("optical ground track field", c.uniform(110, 170) * c.unit, turn)
    for _ in range(c.count(0, 3)):
        c.add("optical baseball diamond", c.uniform(36, 74) * c.unit, a + np.pi / 2 * c.count(0, 3))
    for name, most, low, high in (("tennis court", 5, 38, 62), ("basketball court", 2, 34, 54)):
        size = c.uniform(low, high) * c.unit
        for _ in range(c.count(0, most)):
            c.add(f"optical {name}", size * c.uniform(0.92, 1.1), a + np.pi / 2)
    if c.rng.random() < 0.3 or not c.boxes:
        c.add("optical swimming pool", c.uniform(34, 56) * c.unit, turn)
    for _ in range(c.count(0, 3)):
        c.add("optical vehicle", c.uniform(14, 18) * c.unit, a)
    c.houses(4, 22, 40, a)
    c.trees(60)


def town(c: Canvas) -> None:
    """Draw streets with a crossing, houses, pools and cars."""
    h, w = c.taken.shape
    c.img[:] = paint.ground(c.rng, h, w, (84, 112, 96), (128, 146, 140))
    a = c.uniform(-0.2, 0.2)
    width = c.uniform(20, 27) * c.unit
    x, y = c.uniform(0.3, 0.7) * w, c.uniform(0.3, 0.7) * h
    along, across = np.array([np.cos(a), np.sin(a)]), np.array([-np.sin(a), np.cos(a)])
    far = 2 * max(h, w)
    centre = np.array([x, y])
    ends = [centre + along * far, centre - along * far, centre + across * far, centre - across * far]
    tee = c.rng.random() < 0.45
    c.road(tuple(centre if tee else ends[3]), tuple(ends[2]), width)
    side = c.roads.copy()
    c.road(tuple(ends[1]), tuple(ends[0]), width)
    main = c.roads & ~side
    r = width * c.uniform(1.0, 1.25)
    middle = centre + (across * width * 0.25 if tee else 0)
    cv2.circle(c.img, pixel(centre), int(width * 0.5), ASPHALT, -1)
    for s, way in ((-1, along), (1, along), (1, across), *(() if tee else ((-1, across),))):
        for k in range(-2, 3):  # zebra stripes
            p = centre + way * s * width * 0.82 + np.array([-way[1], way[0]]) * k * width * 0.19
            q = p + way * s * width * 0.2
            cv2.line(c.img, pixel(p), pixel(q), (214, 220, 222), max(int(width * 0.08), 1))
    box = np.array([middle[0] - r, middle[1] - r, middle[0] + r, middle[1] + r])
    c.label("optical T junction" if tee else "optical crossroad", box.clip(0, [w, h, w, h]))
    _traffic(c, a, c.count(1, 4), width, main)
    _traffic(c, a + np.pi / 2, c.count(0, 3), width, side)
    c.taken |= c.roads
    for _ in range(c.count(0, 4)):
        c.add("optical swimming pool", c.uniform(20, 34) * c.unit)
    c.houses(50, 26, 46, a)
    c.trees(50)


def river(c: Canvas) -> None:
    """Draw a river with one or two bridges and ships."""
    h, w = c.taken.shape
    land = open_country(c.rng, h, w)
    flow = paint.water(c.rng, h, w, [(84, 92, 58), (96, 80, 48)][c.count(0, 1)])
    upright = c.rng.random() < 0.5  # the river runs from top to bottom
    long, short = (h, w) if upright else (w, h)
    t = np.arange(long) / long
    course = short * (c.uniform(0.4, 0.6) + 0.1 * np.sin(2 * np.pi * (t * c.uniform(0.5, 1.1) + c.uniform(0, 1))))
    half = short * c.uniform(0.12, 0.19)
    offset = np.abs(np.arange(short)[None] - course[:, None]) - half  # [long, short], negative on the water
    offset = (offset if upright else offset.T) + 5 * paint.fractal(c.rng, h, w, 5, 4)
    bank = np.asarray((104, 132, 140), np.float32)
    c.img[:] = np.where((offset < 0)[..., None], flow, np.where((offset < 4 * c.unit)[..., None], bank, land))
    width = c.uniform(15, 24) * c.unit
    for place in c.rng.permutation([0.25, 0.5, 0.75])[: c.count(1, 2)]:
        at = (place + c.uniform(-0.08, 0.08)) * long
        lo, hi = course[int(at)] - half - 9 * c.unit, course[int(at)] + half + 9 * c.unit
        points = [((-20.0, at), (short + 20.0, at)), ((lo, at), (hi, at))]
        if not upright:
            points = [tuple((q, p) for p, q in pair) for pair in points]  # type: ignore[misc]
        c.road(points[0][0], points[0][1], width * 0.75)
        (x0, y0), (x1, y1) = points[1]
        dx, dy = (0.0, width / 2) if upright else (width / 2, 0.0)
        shade = np.s_[int(y0 - dy + 5) : int(y1 + dy + 6), int(x0 - dx + 5) : int(x1 + dx + 6)]
        c.img[shade] = np.where((offset[shade] < 0)[..., None], c.img[shade] * 0.6, c.img[shade])
        box = np.array([x0 - dx, y0 - dy, x1 + dx, y1 + dy])
        inner = np.s_[int(box[1]) : int(box[3]), int(box[0]) : int(box[2])]
        c.img[inner] = (196, 202, 204)  # parapets, and the roadway between them
        edge = max(int(width * 0.14), 2)
        rows, columns = inner
        way = (
            (slice(rows.start + edge, rows.stop - edge), columns)
            if upright
            else (rows, slice(columns.start + edge, columns.stop - edge))
        )
        c.img[way] = ASPHALT
        for t in np.arange(lo, hi - 4, width * 0.8):
            p, q = (t, at), (t + width * 0.36, at)
            a, b = (p, q) if upright else (p[::-1], q[::-1])
            cv2.line(c.img, pixel(a), pixel(b), MARKING, max(int(width * 0.08), 1))
        c.label("optical bridge", np.array([int(v) for v in box], np.float64).clip(0, [w, h, w, h]))
    wet = offset < -4
    for _ in range(c.count(0, 4)):
        c.add("optical ship", c.uniform(24, 46) * c.unit, (np.pi / 2 if upright else 0) + c.uniform(-0.3, 0.3), wet)
    _traffic(c, 0.0 if upright else np.pi / 2, c.count(0, 3), width * 1.1, c.roads)
    c.taken |= c.roads
    dry = offset > 8
    c.houses(22, 16, 30, 0.0, dry)
    c.trees(60, dry)


def tank_farm(c: Canvas) -> None:
    """Draw storage tanks on bare ground and a service road with cars."""
    h, w = c.taken.shape
    c.img[:] = paint.ground(c.rng, h, w, (120, 140, 150), (158, 174, 182))
    a = c.uniform(-0.3, 0.3)
    y = c.uniform(0.2, 0.8) * h
    c.road((-20, y - 20 * np.tan(a)), (w + 20, y + (w + 20) * np.tan(a)), 18 * c.unit)
    _traffic(c, a, c.count(0, 3), 24 * c.unit, c.roads)
    c.taken |= c.roads
    size = c.uniform(30, 66) * c.unit
    light = float(np.arctan2(-c.sun[1], -c.sun[0]))
    for _ in range(c.count(3, 9)):
        c.add("optical storage tank", size * c.uniform(0.6, 1.45), light)
    c.houses(8, 20, 40, a)
    c.trees(20)


LAYOUTS: tuple[Callable[[Canvas], None], ...] = (airport, coast, sports, town, river, tank_farm)


def render_optical(
    rng: np.random.Generator,
    h: int,
    w: int,
    layout: Callable[[Canvas], None],
    over: Callable[[Canvas], None] | None = None,
) -> tuple[NDArray[np.uint8], np.ndarray, list[str]]:
    """Render an optical-like image.

    Args:
        rng: Source of all choices.
        h: Height in pixels.
        w: Width in pixels.
        layout: Draws the image, such as those of `LAYOUTS`.
        over: Draws on the finished image what is no object.

    Returns:
        [h, w, 3] BGR image, [N, 4] xyxy boxes in pixels, N category names.
    """
    a = rng.uniform(0, 2 * np.pi)
    canvas = Canvas(np.zeros((h, w, 3), np.float32), rng, (float(np.cos(a)), float(np.sin(a))))
    layout(canvas)
    if over is not None:
        over(canvas)
    img = cv2.GaussianBlur(canvas.img, (0, 0), rng.uniform(0.45, 0.8))
    # The lens, the light and the sensor.
    gain, cast = rng.uniform(0.82, 1.12), rng.uniform(0.95, 1.05, 3).astype(np.float32)
    haze = rng.uniform(0, 16)
    img = img * (np.float32(gain) * cast) + np.float32(haze) + 5 * paint.fractal(rng, h, w, 2, 2)[..., None]
    img += rng.uniform(1.5, 4) * rng.standard_normal((h, w, 1), dtype=np.float32)
    return np.clip(img, 0, 255).astype(np.uint8), np.array(canvas.boxes).reshape(-1, 4), canvas.names

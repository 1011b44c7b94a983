"""A kind of object that no data set of this project has: wind turbines on farmland, seen from above.

``optisar demo`` trains on it, and shows what a model finds before and after.
"""

from __future__ import annotations

import numpy as np

from optisar_yolo.synthetic import paint
from optisar_yolo.synthetic.optical import Canvas
from optisar_yolo.synthetic.paint import Pen, Stamp, jitter

WIND_TURBINE = "optical wind turbine"


def turbine(rng: np.random.Generator, size: float, angle: float) -> Stamp:
    """Draw a turbine of the given rotor diameter: three blades, nacelle, foundation."""
    pen = Pen(size * 0.56, angle)
    white = jitter(rng, (238, 240, 240), 8)
    pen.disc(0, 0, size * 0.1, (150, 158, 164))
    for turn in np.arange(3) * 2 * np.pi / 3:
        along, across = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
        root, tip = size * 0.055, size * 0.5
        pen.poly([tuple(p) for p in (across * root, along * tip, -across * root * 0.6)], white)
    pen.box(-size * 0.1, -size * 0.05, size * 0.07, size * 0.05, white)
    return pen.done(size * 0.3)


def wind_farm(c: Canvas) -> None:
    """Draw wind turbines of different sizes on fields, beside a track, houses and trees."""
    h, w = c.taken.shape
    c.img[:] = paint.fields(c.rng, h, w)
    a = c.uniform(-0.3, 0.3)
    y = c.uniform(0.2, 0.8) * h
    c.road((-20, y - 20 * np.tan(a)), (w + 20, y + (w + 20) * np.tan(a)), 9 * c.unit)
    c.taken |= c.roads
    for _ in range(c.count(2, 6)):
        stamp = turbine(c.rng, c.uniform(34, 84) * c.unit, c.uniform(0, 2 * np.pi))
        at = c.spot(stamp.alpha.shape[0] / 2, None)
        if at:
            c.label(WIND_TURBINE, paint.paste(c.img, stamp, *at, sun=c.sun))
    c.houses(4, 14, 26, a)
    c.trees(14)

"""A kind of object that the bundled weights have never seen: radio telescopes on dry ground, seen from above.

``optisar demo`` trains on it, and shows what a model finds before and after. It is in no other rendered set.
"""

from __future__ import annotations

import numpy as np

from optisar_yolo.synthetic import paint
from optisar_yolo.synthetic.objects import arc
from optisar_yolo.synthetic.optical import Canvas
from optisar_yolo.synthetic.paint import Pen, Stamp, jitter

RADIO_TELESCOPE = "optical radio telescope"


def telescope(rng: np.random.Generator, size: float, angle: float) -> Stamp:
    """Draw a radio telescope of the given diameter: a ribbed dish, its feed on three struts, and a counterweight."""
    pen = Pen(size * 0.75, angle)
    r = size / 2
    shell = jitter(rng, (228, 230, 230), 10)
    pen.box(-r * 1.35, -r * 0.22, -r * 0.7, r * 0.22, (120, 126, 132))
    for share, light in ((1.0, 0.82), (0.86, 1.0), (0.6, 0.9), (0.3, 0.78)):
        pen.disc(0, 0, r * share, (shell[0] * light, shell[1] * light, shell[2] * light))
    for turn in np.arange(12) * np.pi / 6:
        pen.line([(0, 0), (r * 0.94 * np.cos(turn), r * 0.94 * np.sin(turn))], (176, 180, 184), max(size * 0.012, 0.5))
    for x, y in arc(0, 0, r * 0.9, 0, 2 * np.pi * 2 / 3, 3):
        pen.line([(x, y), (0, 0)], (70, 74, 80), max(size * 0.03, 0.9))
    pen.disc(0, 0, r * 0.14, (52, 54, 58))
    return pen.done(size * 0.35)


def observatory(c: Canvas) -> None:
    """Draw radio telescopes of different sizes on dry ground, beside a track, houses and trees."""
    h, w = c.taken.shape
    c.img[:] = paint.ground(c.rng, h, w, (104, 138, 158), (140, 172, 190))
    a = c.uniform(-0.3, 0.3)
    y = c.uniform(0.2, 0.8) * h
    c.road((-20, y - 20 * np.tan(a)), (w + 20, y + (w + 20) * np.tan(a)), 9 * c.unit)
    c.taken |= c.roads
    for _ in range(c.count(2, 6)):
        stamp = telescope(c.rng, c.uniform(26, 62) * c.unit, c.uniform(0, 2 * np.pi))
        at = c.spot(stamp.alpha.shape[0] / 2, None)
        if at:
            c.label(RADIO_TELESCOPE, paint.paste(c.img, stamp, *at, sun=c.sun))
    c.houses(4, 14, 26, a)
    c.trees(14)

"""The long side at which an image runs through the network, where the caller sets none.

1. An image that the side of training shrinks by less than `COMFORTABLE` runs at that side.
2. A larger image is shrunk by `COMFORTABLE` alone, as far as the weights know such sizes: up to the largest side of
   their training (:mod:`optisar_yolo.engine.facts`).
3. Where that still shrinks it by more than `SHRUNK`, a message says so: small objects are lost, and rasters of any size
   are grounded in tiles.
"""

from __future__ import annotations

import math
from typing import Any

from optisar_yolo.engine.facts import facts_of

COMFORTABLE = 2.0  # optsar-real's images, 640 pixels on average, were trained at 320
SHRUNK = 3.0  # beyond what any image of that training was shrunk to; see benchmarks/travel.py for the figures by size
STRIDE = 32


def side_for(model: Any, size: tuple[int, int], trained: int) -> int:
    """Return the long side of an image in the network.

    Args:
        model: The network or an export, with its facts.
        size: Two sides of the image, pixels.
        trained: The side of training, pixels.
    """
    known = facts_of(model).get("sizes") or (trained, trained)
    wanted = math.ceil(max(size) / COMFORTABLE / STRIDE) * STRIDE
    return int(min(max(wanted, trained), max(trained, known[1])))


def shrink_note(size: tuple[int, int], side: int) -> str:
    """Return what to say about an image that is shrunk beyond `SHRUNK`, empty where it is not.

    Args:
        size: Two sides of the image, pixels.
        side: Its long side in the network, pixels.
    """
    factor = max(size) / side
    if factor <= SHRUNK:
        return ""
    return (
        f"its {max(size)} pixels are shrunk {factor:.1f} times to imgsz={side}, so that objects under "
        f"{round(8 * factor)} pixels are lost; `optisar scene` grounds it in tiles"
    )

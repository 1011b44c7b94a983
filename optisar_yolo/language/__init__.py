"""Referring expressions in English: read, verified against boxes, described, swapped, transformed and paraphrased."""

import lazy_loader

from optisar_yolo.moved import with_former_names

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__getattr__ = with_former_names(__name__, _load)

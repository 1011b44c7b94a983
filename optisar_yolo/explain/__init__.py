"""Explanations of a grounding model: score, activation and routing maps of an image, and pages of a data split."""

import lazy_loader

from optisar_yolo.moved import with_former_names

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__getattr__ = with_former_names(__name__, _load)

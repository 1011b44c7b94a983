"""Explanations of a grounding model: score, activation and routing maps of an image, and pages of a data split."""

import lazy_loader

from optisar_yolo.moved import renamed

_lazy, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    """Load a name on first use; a former name works and warns."""
    try:
        return _lazy(name)
    except AttributeError:
        return renamed(__name__, name)

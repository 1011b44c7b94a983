"""Looking into a grounding model: score, activation and routing maps of an image, and surveys of a data split."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

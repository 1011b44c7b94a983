"""Figures: predictions drawn on images, maps over images, sheets of many images, static pages."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

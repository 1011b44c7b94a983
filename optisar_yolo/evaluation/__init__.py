"""Evaluation of other models: predictions in a file, zero-shot grounders."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

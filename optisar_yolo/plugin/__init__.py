"""The one seam with Ultralytics: its patch, our configuration keys, and what tells our files from stock ones."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""One way of each everyday thing: command arguments, atomic writes, optional packages, parallel processes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

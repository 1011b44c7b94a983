"""Text encoders, the cache of their features, and the distillation of the small one."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""The network: patch-level mixture of experts, text-guided fusion, grounding head and loss."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

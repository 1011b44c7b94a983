"""The paper and its release: tables run again, published weights imported, the release's own blocks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

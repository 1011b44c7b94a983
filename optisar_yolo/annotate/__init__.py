"""Zero-shot annotation (``optisar annotate``): boxes and captions for images that have none.

Fig. 11 of OptiSAR-Net++. `pool` reads the captions, `match` scores all of them on an encoded image, `choose` keeps one
caption per box that is not false of it, and `run` writes COCO JSON for people to review.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Grounding in whole scenes: GeoTIFFs of any size, read window by window, asked tile by tile, answered as one image.

`run.ground_scene` is the door; ``optisar scene`` is the command. What each part does stands in its file: `tiling` cuts,
`reading` and `stretch` bring pixels, `detecting` asks, `state` remembers, `merging` makes one object of what several
tiles saw, `compass` and `rules` hold the words about the whole scene, `outputs`, `quicklook` and `webmap` write.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

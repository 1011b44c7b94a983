"""Grounding in georeferenced rasters of any size (``optisar scene``).

1. `sources` finds the raster (a file, a STAC item, a tile server), `placing` what places it, and `reading` opens it.
   `stretch` turns its values into 8 bits, `georeference` places pixels on the ground.
2. `tiling` cuts overlapping tiles, `detecting` runs the network on them in batches, and a journal keeps what is done.
3. `merging` makes one object of the boxes that several tiles have of it; `optisar_yolo.language` decides the words that
   concern the whole raster, such as "leftmost".
4. `outputs`, `vectors`, `style` and `webmap` write the results. `run.ground_raster` calls all of this in order.
"""

import lazy_loader

from optisar_yolo.moved import with_former_names

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__getattr__ = with_former_names(__name__, _load)

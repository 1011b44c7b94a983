"""Grounding in whole scenes: GeoTIFFs of any size, read window by window, asked tile by tile, answered as one picture.

`run.ground_scene` is the door; ``optisar scene`` is the command. What each part does stands in its file: `tiling` cuts,
`reading` and `stretch` bring pixels, `detecting` asks, `state` remembers, `merging` makes one object of what several
tiles saw, `compass` and `rules` hold the words about the whole scene, `outputs`, `quicklook` and `webmap` write.
"""

from optisar_yolo.scene.run import SceneResult, ground_scene

__all__ = ["SceneResult", "ground_scene"]

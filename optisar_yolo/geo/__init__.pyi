from .detecting import (
    CANDIDATES as CANDIDATES,
    ExpressionDetector as ExpressionDetector,
)
from .georeference import Georeference as Georeference
from .options import RasterOptions as RasterOptions
from .placed import (
    GROUND_COLUMNS as GROUND_COLUMNS,
    centres as centres,
    feature_collection as feature_collection,
    georeference_of as georeference_of,
)
from .result import RasterResult as RasterResult
from .run import ground_raster as ground_raster
from .tiling import Grid as Grid

from .detecting import (
    CANDIDATES as CANDIDATES,
    ExpressionDetector as ExpressionDetector,
)
from .options import RasterOptions as RasterOptions
from .result import RasterResult as RasterResult
from .run import ground_raster as ground_raster
from .tiling import Grid as Grid

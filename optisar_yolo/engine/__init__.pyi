from .calibrate import (
    ATTRIBUTE as ATTRIBUTE,
    Calibration as Calibration,
    CalibrationError as CalibrationError,
    attach as attach,
    calibration_of as calibration_of,
    default_conf as default_conf,
)
from .checkpoint import (
    BUNDLED as BUNDLED,
    CheckpointError as CheckpointError,
    find_weights as find_weights,
    load_shared as load_shared,
    readable as readable,
    save_shared as save_shared,
    store_calibration as store_calibration,
)
from .encoded_image import EncodedImage as EncodedImage
from .grounding import (
    CanvasImages as CanvasImages,
    ExportedNetwork as ExportedNetwork,
    KnownExpressions as KnownExpressions,
    TEXT_BATCH as TEXT_BATCH,
    checked_bank as checked_bank,
    ground as ground,
    outputs as outputs,
)
from .judging import judge as judge
from .metrics import (
    FIGURES as FIGURES,
    GroundingMetrics as GroundingMetrics,
    TITLES as TITLES,
)
from .predict import (
    GroundingPredictor as GroundingPredictor,
    OVERLAP as OVERLAP,
    answer as answer,
    canvas as canvas,
    checked_expressions as checked_expressions,
)
from .predictions import (
    Expressions as Expressions,
    read_predictions as read_predictions,
    write_predictions as write_predictions,
)
from .report import write_report as write_report
from .routing import (
    Routing as Routing,
    RoutingRecorder as RoutingRecorder,
)
from .sources import (
    ImageFiles as ImageFiles,
    opened as opened,
)
from .train import (
    GroundingTrainer as GroundingTrainer,
    TRAIN_DEFAULTS as TRAIN_DEFAULTS,
)
from .val import (
    GroundingValidator as GroundingValidator,
    SECTIONS as SECTIONS,
)
from .view import choose_images as choose_images

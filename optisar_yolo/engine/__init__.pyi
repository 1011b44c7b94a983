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
    TEXT_BATCH as TEXT_BATCH,
    ExportedNetwork as ExportedNetwork,
    KnownSentences as KnownSentences,
    Pictures as Pictures,
    ask as ask,
    checked_bank as checked_bank,
    outputs as outputs,
)
from .judging import judge as judge
from .metrics import (
    FIGURES as FIGURES,
    TITLES as TITLES,
    GroundingMetrics as GroundingMetrics,
)
from .predict import (
    OVERLAP as OVERLAP,
    GroundingPredictor as GroundingPredictor,
    answer as answer,
    canvas as canvas,
    sentences as sentences,
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
    PictureFiles as PictureFiles,
    opened as opened,
)
from .train import (
    TRAIN_DEFAULTS as TRAIN_DEFAULTS,
    GroundingTrainer as GroundingTrainer,
)
from .val import (
    SECTIONS as SECTIONS,
    GroundingValidator as GroundingValidator,
)
from .view import choose_pictures as choose_pictures

from .about import describe_model as describe_model
from .calibrate import (
    ATTRIBUTE as ATTRIBUTE,
    MATCH_ATTRIBUTE as MATCH_ATTRIBUTE,
    Calibration as Calibration,
    CalibrationError as CalibrationError,
    attach as attach,
    attach_all as attach_all,
    calibration_of as calibration_of,
    calibrations as calibrations,
    default_conf as default_conf,
    default_match_conf as default_match_conf,
    match_calibration_of as match_calibration_of,
)
from .checkpoint import (
    BUNDLED as BUNDLED,
    CheckpointError as CheckpointError,
    check_finite as check_finite,
    find_weights as find_weights,
    load_model as load_model,
    load_shared as load_shared,
    model_vocabulary as model_vocabulary,
    readable as readable,
    save_shared as save_shared,
    store_calibration as store_calibration,
    store_facts as store_facts,
)
from .encoded import EncodedImage as EncodedImage
from .facts import (
    FACTS as FACTS,
    facts_lines as facts_lines,
    facts_of as facts_of,
    facts_of_data as facts_of_data,
    facts_of_training as facts_of_training,
    figures_of_rows as figures_of_rows,
)
from .grounding import (
    OVERLAP as OVERLAP,
    ROUTING as ROUTING,
    SIZES as SIZES,
    TEXT_BATCH as TEXT_BATCH,
    CanvasImages as CanvasImages,
    Detections as Detections,
    ExportedNetwork as ExportedNetwork,
    KnownExpressions as KnownExpressions,
    NetworkRunner as NetworkRunner,
    best_boxes as best_boxes,
    distinct_boxes as distinct_boxes,
    ground as ground,
    log_notes as log_notes,
    notes_of as notes_of,
    outputs as outputs,
    text_features_for as text_features_for,
)
from .metrics import (
    FIGURES as FIGURES,
    TITLES as TITLES,
    GroundingMetrics as GroundingMetrics,
    expression_indices as expression_indices,
    score_image as score_image,
)
from .modes import (
    ModelModes as ModelModes,
    with_file as with_file,
)
from .predict import (
    GroundingPredictor as GroundingPredictor,
    ImageFiles as ImageFiles,
    PredictorPool as PredictorPool,
    canvas as canvas,
    checked_expressions as checked_expressions,
    read_sources as read_sources,
)
from .predictions import (
    Expressions as Expressions,
    read_predictions as read_predictions,
    write_predictions as write_predictions,
)
from .reasoning import (
    QueryPlan as QueryPlan,
    match as match,
    plan_of as plan_of,
    queries_in as queries_in,
    thresholds as thresholds,
)
from .report import write_report as write_report
from .resume import check_resumable as check_resumable
from .routing import (
    Routing as Routing,
    RoutingRecorder as RoutingRecorder,
)
from .sizes import (
    shrink_note as shrink_note,
    side_for as side_for,
)
from .start import (
    FINE_TUNING as FINE_TUNING,
    TUNE_SPACE as TUNE_SPACE,
    is_trained as is_trained,
    open_start as open_start,
)
from .tracking import tracking_settings as tracking_settings
from .train import (
    TRAIN_DEFAULTS as TRAIN_DEFAULTS,
    GroundingTrainer as GroundingTrainer,
)
from .val import (
    SECTIONS as SECTIONS,
    GroundingValidator as GroundingValidator,
)
from .view import (
    training_settings as training_settings,
    view_samples as view_samples,
)

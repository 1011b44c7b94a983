from .cases import (
    Case as Case,
    predicted_box as predicted_box,
)
from .checks import (
    Box as Box,
    EXAMPLES as EXAMPLES,
    Skips as Skips,
    clip as clip,
    from_xywh as from_xywh,
    iou as iou,
    is_id as is_id,
    is_number as is_number,
    label_boxes as label_boxes,
)
from .config import (
    DataError as DataError,
    DatasetConfig as DatasetConfig,
    MODALITIES as MODALITIES,
    SPLITS as SPLITS,
    dataset_names as dataset_names,
    load_dataset_config as load_dataset_config,
    modality_of as modality_of,
)
from .dataset import (
    EvaluationDataset as EvaluationDataset,
    GroundingDataset as GroundingDataset,
)
from .geometry import (
    GREY as GREY,
    STRIDE as STRIDE,
    letterbox as letterbox,
    to_canvas as to_canvas,
    to_image as to_image,
)
from .images import (
    read_encoded as read_encoded,
    read_image as read_image,
)
from .loader import GroundingLoader as GroundingLoader
from .prompts import written as written
from .records import (
    ImageRecord as ImageRecord,
    SAME_BOX as SAME_BOX,
    SAME_OBJECT as SAME_OBJECT,
    load_split as load_split,
    modality_by_name as modality_by_name,
    read_json as read_json,
    read_text as read_text,
)
from .sampler import (
    EpochSampler as EpochSampler,
    by_modality as by_modality,
    modality_sides as modality_sides,
)

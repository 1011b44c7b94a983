from .cases import (
    Case as Case,
    predicted_box as predicted_box,
)
from .checks import (
    EXAMPLES as EXAMPLES,
    Box as Box,
    Skips as Skips,
    clip as clip,
    from_xywh as from_xywh,
    iou as iou,
    is_id as is_id,
    is_number as is_number,
    label_boxes as label_boxes,
)
from .config import (
    MODALITIES as MODALITIES,
    SPLITS as SPLITS,
    Card as Card,
    DataError as DataError,
    card_names as card_names,
    load_card as load_card,
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
    to_picture as to_picture,
)
from .images import (
    read_encoded as read_encoded,
    read_image as read_image,
)
from .loader import GroundingLoader as GroundingLoader
from .prompts import written as written
from .records import (
    SAME_BOX as SAME_BOX,
    SAME_OBJECT as SAME_OBJECT,
    Picture as Picture,
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

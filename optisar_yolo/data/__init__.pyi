from .boxes_only import validation_config as validation_config
from .colours import (
    distinguishing_colour as distinguishing_colour,
    has_hues as has_hues,
    how_coloured as how_coloured,
)
from .config import (
    MODALITIES as MODALITIES,
    SPLITS as SPLITS,
    DataError as DataError,
    DatasetConfig as DatasetConfig,
    ExpressionSource as ExpressionSource,
    dataset_names as dataset_names,
    dataset_vocabulary as dataset_vocabulary,
    find_file as find_file,
    load_dataset_config as load_dataset_config,
    modality_of as modality_of,
    vocabulary_of as vocabulary_of,
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
from .image_cache import check_mode as check_mode
from .images import (
    decode_image as decode_image,
    read_image as read_image,
)
from .labels import (
    READ_AS as READ_AS,
    outer_box as outer_box,
    read_label_line as read_label_line,
)
from .layouts import (
    SUFFIXES as SUFFIXES,
    images_in as images_in,
)
from .prompts import category_phrase as category_phrase
from .records import (
    EXAMPLES as EXAMPLES,
    SAME_BOX as SAME_BOX,
    SAME_OBJECT as SAME_OBJECT,
    Box as Box,
    ImageRecord as ImageRecord,
    Skips as Skips,
    clip as clip,
    from_xywh as from_xywh,
    is_id as is_id,
    is_number as is_number,
    label_boxes as label_boxes,
    load_split as load_split,
    modality_by_name as modality_by_name,
    read_json as read_json,
    read_text as read_text,
    same_ids as same_ids,
)
from .sampler import (
    EpochSampler as EpochSampler,
    GroundingLoader as GroundingLoader,
    choose_images as choose_images,
    modality_groups as modality_groups,
)
from .sources import (
    SourceSplit as SourceSplit,
    load_source as load_source,
)
from .stretch import (
    DB_RANGE as DB_RANGE,
    SIDE as SIDE,
    ImageRendering as ImageRendering,
    Stretch as Stretch,
    choose_bands as choose_bands,
    choose_stretch as choose_stretch,
    find_fill as find_fill,
)
from .tiff import (
    MAGIC as MAGIC,
    as_shown as as_shown,
    check_types as check_types,
    colour_bands as colour_bands,
    image_bands as image_bands,
    is_masked as is_masked,
    orientation as orientation,
    palette as palette,
    polarisations as polarisations,
    say_once as say_once,
    tiff_size as tiff_size,
    undeclared_fill as undeclared_fill,
)

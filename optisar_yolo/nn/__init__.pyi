from .head import Looked as Looked
from .model import (
    Encoded as Encoded,
    GroundingModel as GroundingModel,
    SCALES as SCALES,
    count_table as count_table,
    fused_copy as fused_copy,
    trainable_parameters as trainable_parameters,
)
from .parts import named_parts as named_parts
from .plmoe import (
    BALANCE_COEFFICIENT as BALANCE_COEFFICIENT,
    LowRankExperts as LowRankExperts,
    MoEBlock as MoEBlock,
    PLMoE as PLMoE,
)
from .precision import mixed as mixed
from .rerank import local_maxima as local_maxima
from .tgdf import (
    DualGateFusion as DualGateFusion,
    SpatialShuffleAttention as SpatialShuffleAttention,
    TGDFSSA as TGDFSSA,
)
from .yaml import (
    SCALED as SCALED,
    load_model_yaml as load_model_yaml,
)

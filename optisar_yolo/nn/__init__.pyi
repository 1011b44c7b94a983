from .head import (
    WINDOW_COST as WINDOW_COST,
    HeadFeatures as HeadFeatures,
)
from .model import (
    SCALES as SCALES,
    Encoded as Encoded,
    GroundingModel as GroundingModel,
    count_table as count_table,
    fused_copy as fused_copy,
    named_parts as named_parts,
    trainable_parameters as trainable_parameters,
)
from .plmoe import (
    BALANCE_COEFFICIENT as BALANCE_COEFFICIENT,
    LowRankExperts as LowRankExperts,
    MoEBlock as MoEBlock,
    PLMoE as PLMoE,
)
from .precision import mixed as mixed
from .rerank import local_maxima as local_maxima
from .tgdf import (
    TGDFSSA as TGDFSSA,
    DualGateFusion as DualGateFusion,
    SpatialShuffleAttention as SpatialShuffleAttention,
)
from .yaml import (
    SCALED as SCALED,
    load_model_yaml as load_model_yaml,
)

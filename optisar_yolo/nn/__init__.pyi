from .head import (
    WINDOW_COST as WINDOW_COST,
    ContrastiveHead as ContrastiveHead,
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
from .transfer import (
    Transfer as Transfer,
    TransferError as TransferError,
    match_weights as match_weights,
)
from .yaml import (
    SCALED as SCALED,
    check_description as check_description,
    load_model_yaml as load_model_yaml,
)

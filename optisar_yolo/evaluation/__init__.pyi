from .score import (
    ScoredPredictions as ScoredPredictions,
    score_predictions as score_predictions,
)
from .zeroshot import (
    ZeroShotError as ZeroShotError,
    ZeroShotGrounder as ZeroShotGrounder,
    ground_split as ground_split,
)

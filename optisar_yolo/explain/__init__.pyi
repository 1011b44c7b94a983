from .command import explain as explain
from .explanation import (
    Answer as Answer,
    Explanation as Explanation,
)
from .look import (
    Explainer as Explainer,
    ExplainError as ExplainError,
)

from .command import explain as explain
from .explanation import (
    ExplainedBox as ExplainedBox,
    Explanation as Explanation,
)
from .look import (
    ExplainError as ExplainError,
    Explainer as Explainer,
)

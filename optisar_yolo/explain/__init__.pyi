from .explainer import (
    ExplainedBox as ExplainedBox,
    Explainer as Explainer,
    ExplainError as ExplainError,
    Explanation as Explanation,
    checked_network as checked_network,
    explain as explain,
)
from .pages import (
    explain_images as explain_images,
    explain_split as explain_split,
    write_explanation as write_explanation,
)

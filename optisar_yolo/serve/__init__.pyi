from .app import (
    AppHandlers as AppHandlers,
    ModelChoice as ModelChoice,
    launch_app as launch_app,
)
from .grounder import (
    ExpressionResult as ExpressionResult,
    Grounder as Grounder,
    GroundingRequest as GroundingRequest,
    PreparedImage as PreparedImage,
)
from .labelstudio import LabelStudio as LabelStudio
from .limits import Limits as Limits
from .protocol import (
    allow_connections as allow_connections,
    uvicorn_settings as uvicorn_settings,
)
from .service import create_app as create_app

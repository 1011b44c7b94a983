from .answers import (
    Engine as Engine,
    GroundingAnswer as GroundingAnswer,
    GroundingRequest as GroundingRequest,
)
from .session import Prepared as Prepared

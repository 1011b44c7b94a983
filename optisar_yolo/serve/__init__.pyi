from .answers import (
    Answer as Answer,
    Engine as Engine,
    Question as Question,
)
from .session import Prepared as Prepared

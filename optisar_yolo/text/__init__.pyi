from .cache import TextBank as TextBank
from .encoder import (
    TextEncoder as TextEncoder,
    offline_switch as offline_switch,
)
from .encoders import (
    PocketEncoder as PocketEncoder,
    load_text_encoder as load_text_encoder,
)

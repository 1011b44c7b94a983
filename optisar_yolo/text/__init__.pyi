from .cache import TextFeatureCache as TextFeatureCache
from .distillation.config import DistillConfig as DistillConfig
from .distillation.distill import distill as distill
from .encoder import (
    TextEncoder as TextEncoder,
    TextError as TextError,
    offline_switch as offline_switch,
)
from .encoders import load_text_encoder as load_text_encoder
from .pocket import PocketEncoder as PocketEncoder

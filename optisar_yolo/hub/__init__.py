"""Weights on the Hugging Face Hub: fetched by name, published with a model card. Only safetensors, which run nothing.

1. `download` turns ``hf://user/name`` into a file in the cache of huggingface_hub, without the network where that is
   switched off.
2. `card` writes what a weights file says about itself as a model card, and `upload` publishes both in one commit.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Numerical precision: which computations are upcast, and half precision for inference."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def upcast(x: Tensor) -> Tensor:
    """Return x in single precision, or in double where it is double already."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def mixed(half: bool, device: torch.device) -> AbstractContextManager[object]:
    """Return the autocast context of ``half=True`` in prediction and validation.

    Weights stay as they are. Casting them too, as ultralytics does, would round the cosines of the routers and scores.

    Args:
        half: Whether half precision is wanted; on a CPU it is never used, as in ultralytics.
        device: Where the network runs.
    """
    return torch.autocast(device.type, torch.float16) if half and device.type != "cpu" else nullcontext()

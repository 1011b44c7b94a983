"""Which sums are computed in which precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def full(x: Tensor) -> Tensor:
    """Return x in single precision, or in double where it comes in double: its rounding would reach every score."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def mixed(half: bool, device: torch.device) -> AbstractContextManager[object]:
    """Compute in half precision what bears it: `half=True` of prediction and validation.

    Weights stay as they are. Casting them too, as ultralytics does, would round the cosines of the routers and scores.

    Args:
        half: Whether it is wanted; on a CPU it never is, as in ultralytics.
        device: Where it is computed.
    """
    return torch.autocast(device.type, torch.float16) if half and device.type != "cpu" else nullcontext()

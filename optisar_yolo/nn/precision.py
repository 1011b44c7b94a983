"""The precision of the few sums whose rounding would reach every score."""

from __future__ import annotations

import torch
from torch import Tensor


def full(x: Tensor) -> Tensor:
    """Return x in single precision, or in double where it comes in double."""
    return x.to(torch.promote_types(x.dtype, torch.float32))

"""Processes that train together (DDP): what they add up, and what they hand to the first of them.

Outside a parallel training every function here is that of a single process, and costs nothing.
"""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor, distributed as dist
from ultralytics.utils import RANK

T = TypeVar("T")


def world_size() -> int:
    """Number of processes that train together; 1 outside a parallel training."""
    return dist.get_world_size() if _together() else 1


def process_rank() -> int:
    """Number of this process among them; 0 outside a parallel training."""
    return dist.get_rank() if _together() else 0


def gather_objects(value: T) -> list[T] | None:
    """Bring one value of every process to the first one.

    All processes must call this together. As with ultralytics' own validators the values are pickled.

    Args:
        value: Of this process.

    Returns:
        On the first process the values in the order of the ranks; None on the others.
    """
    if not _together():
        return [value] if RANK in {-1, 0} else None
    values: list[T] | None = [value] * world_size() if process_rank() == 0 else None
    dist.gather_object(value, values, dst=0)
    return values


def sum_over_processes(value: Tensor) -> Tensor:
    """Add up a tensor without gradient over all processes, which must call this together."""
    if _together():
        value = value.clone()
        dist.all_reduce(value)
    return value


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()

"""Work in threads, a few items ahead of who reads the results, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ordered_map(function: Callable[[T], R], items: Iterable[T], jobs: int = 1, ahead: int | None = None) -> Iterator[R]:
    """Apply a function in threads, ahead of the reader, and yield the results in order.

    Args:
        function: Work that waits (files, network) or leaves Python (decoding).
        items: Its inputs.
        jobs: Number of threads; 1 without `ahead` is a plain loop.
        ahead: Items that are begun before the reader asks for them; 4 x jobs by default.

    Yields:
        The results in the order of the items. What is not begun when the reader stops is not begun any more.
    """
    if jobs <= 1 and ahead is None:
        yield from map(function, items)
        return
    depth = 4 * jobs if ahead is None else ahead
    with ThreadPoolExecutor(max(jobs, 1), thread_name_prefix="optisar-ahead") as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

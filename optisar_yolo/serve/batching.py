"""Batch concurrent requests: one queue, and one thread that runs the model."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ultralytics.utils import LOGGER

from optisar_yolo.serve.grounder import ExpressionResult, GroundingRequest
from optisar_yolo.serve.limits import Limits, Refusal

Ground: TypeAlias = Callable[[Sequence[GroundingRequest]], list[list[ExpressionResult]]]


def busy(error: str = "the service is at its limit of waiting requests") -> Refusal:
    """Return the refusal of a request that the queue has no room for."""
    return Refusal(503, error, "try again in a moment", retry=1)


def late(seconds: float) -> Refusal:
    """Return the refusal of a request that waited too long."""
    return Refusal(503, f"no answer within {seconds:g} s", "try again when the service is less busy", retry=2)


@dataclass(frozen=True)
class QueuedRequest:
    """A request in the queue.

    Attributes:
        request: The request.
        until: Monotonic time after which the result is of no use.
        result: Filled in by the worker; cancelled when the client goes away.
    """

    request: GroundingRequest
    until: float
    result: Future[list[ExpressionResult]] = field(default_factory=Future)


class RequestBatcher:
    """Collects requests and runs them in batches.

    Args:
        ground: Grounds several requests; each gets the same results as alone.
        limits: Its ``queue``, ``batch``, ``window`` and ``seconds`` are used.
        observe: Called with the number of requests and the seconds of each batch.
        dropped: Called with the reason why a request was dropped: "gone" (the client left) or "late".
    """

    def __init__(
        self,
        ground: Ground,
        limits: Limits,
        observe: Callable[[int, float], Any] = lambda *_: None,
        dropped: Callable[[str], Any] = lambda _: None,
    ) -> None:
        self.ground, self.limits, self.observe, self.dropped = ground, limits, observe, dropped
        self._queue: queue.Queue[QueuedRequest | None] = queue.Queue(limits.queue)
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def alive(self) -> bool:
        """Whether the worker runs."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Number of requests in the queue."""
        return self._queue.qsize()

    @property
    def full(self) -> bool:
        """Whether the next request would be refused."""
        return self._queue.full()

    def start(self) -> None:
        """Start the worker."""
        self._thread = threading.Thread(target=self._work, name="optisar-model", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish the requests in the queue, then end the worker."""
        self._closed = True
        if self.alive:
            self._queue.put(None)
            assert self._thread is not None
            self._thread.join(self.limits.seconds)

    def submit(self, request: GroundingRequest, until: float | None = None) -> Future[list[ExpressionResult]]:
        """Put a request into the queue.

        Args:
            request: The request.
            until: Monotonic time after which the result is of no use; by default the limit of a request from now.

        Returns:
            The future results, one per expression, or a :class:`Refusal`.

        Raises:
            Refusal: The queue is full, or the service is shutting down.
        """
        if self._closed:
            raise busy("the service is being shut down")
        queued = QueuedRequest(request, time.monotonic() + self.limits.seconds if until is None else until)
        try:
            self._queue.put_nowait(queued)
        except queue.Full:
            raise busy() from None
        return queued.result

    def _work(self) -> None:
        """Run batches until :meth:`stop`."""
        more = True
        while more:
            batch, more = self._collect()
            batch = [queued for queued in batch if self._is_wanted(queued)]
            if batch:
                started = time.perf_counter()
                self._run(batch)
                self.observe(len(batch), time.perf_counter() - started)

    def _collect(self) -> tuple[list[QueuedRequest], bool]:
        """Wait for a request and take those that follow within the window; False after the last batch."""
        batch: list[QueuedRequest] = []
        wait: float | None = None
        while len(batch) < self.limits.batch:
            try:
                queued = self._queue.get(timeout=wait) if wait is None or wait > 0 else self._queue.get_nowait()
            except queue.Empty:
                break
            if queued is None:
                return batch, False
            if not batch:
                closes = time.monotonic() + self.limits.window / 1000
            batch.append(queued)
            wait = closes - time.monotonic()
        return batch, True

    def _is_wanted(self, queued: QueuedRequest) -> bool:
        """Drop a request whose client went away or whose time is over."""
        if not queued.result.set_running_or_notify_cancel():
            self.dropped("gone")
            return False
        if time.monotonic() > queued.until:
            self.dropped("late")
            queued.result.set_exception(late(self.limits.seconds))
            return False
        return True

    def _run(self, batch: list[QueuedRequest]) -> None:
        """Run a batch; where it fails, run each request alone, so that one does not fail the others."""
        try:
            results = self.ground([queued.request for queued in batch])
        except Exception as error:  # of any kind: the worker must go on, and the clients must be told
            if len(batch) > 1:
                LOGGER.warning(f"a batch of {len(batch)} failed ({type(error).__name__}: {error}); running one by one")
                for queued in batch:
                    self._run([queued])
                return
            batch[0].result.set_exception(error)
            return
        for queued, result in zip(batch, results, strict=True):
            queued.result.set_result(result)

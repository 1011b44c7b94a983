"""Requests that arrive together are answered together: one queue, one thread that owns the model."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ultralytics.utils import LOGGER

from optisar_yolo.serve.answers import GroundingAnswer, GroundingRequest
from optisar_yolo.serve.limits import Limits, Refusal

Answering: TypeAlias = Callable[[Sequence[GroundingRequest]], list[list[GroundingAnswer]]]


def busy(error: str = "the service is at its limit of waiting requests") -> Refusal:
    """Return the refusal of a request for which there is no room."""
    return Refusal(503, error, "try again in a moment", retry=1)


def late(seconds: float) -> Refusal:
    """Return the refusal of a request that waited too long."""
    return Refusal(503, f"no answer within {seconds:g} s", "try again when the service is less busy", retry=2)


@dataclass(frozen=True)
class QueuedRequest:
    """A question that waits.

    Attributes:
        question: What is asked.
        until: Monotonic time after which nobody waits for the answer.
        answer: Filled in by the worker; cancelled when the client goes away.
    """

    question: GroundingRequest
    until: float
    answer: Future[list[GroundingAnswer]] = field(default_factory=Future)


class Batcher:
    """Collects questions and has them answered in batches.

    Args:
        answering: Answers several questions, of which each gets the same answers as alone.
        limits: ``queue``, ``batch``, ``window`` and ``seconds`` of it.
        observe: Told the number of questions of each batch and the seconds it took.
        dropped: Told why a question was dropped: "gone" (the client left) or "late".
    """

    def __init__(
        self,
        answering: Answering,
        limits: Limits,
        observe: Callable[[int, float], Any] = lambda *_: None,
        dropped: Callable[[str], Any] = lambda _: None,
    ) -> None:
        self.answering, self.limits, self.observe, self.dropped = answering, limits, observe, dropped
        self._queue: queue.Queue[QueuedRequest | None] = queue.Queue(limits.queue)
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def alive(self) -> bool:
        """Whether the worker runs."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Questions in the queue."""
        return self._queue.qsize()

    @property
    def full(self) -> bool:
        """Whether the next question would be refused."""
        return self._queue.full()

    def start(self) -> None:
        """Start the worker."""
        self._thread = threading.Thread(target=self._work, name="optisar-model", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Answer what waits, then end the worker."""
        self._closed = True
        if self.alive:
            self._queue.put(None)
            assert self._thread is not None
            self._thread.join(self.limits.seconds)

    def submit(self, question: GroundingRequest, until: float | None = None) -> Future[list[GroundingAnswer]]:
        """Put a question into the queue.

        Args:
            question: What is asked.
            until: Monotonic time after which the answer is of no use; the limit of a request from now by default.

        Returns:
            The answers to come: one per expression, or a :class:`Refusal`.

        Raises:
            Refusal: The queue is full, or the service ends.
        """
        if self._closed:
            raise busy("the service is being shut down")
        job = QueuedRequest(question, time.monotonic() + self.limits.seconds if until is None else until)
        try:
            self._queue.put_nowait(job)
        except queue.Full:
            raise busy() from None
        return job.answer

    def _work(self) -> None:
        """Answer batches until the end is announced."""
        more = True
        while more:
            jobs, more = self._collect()
            jobs = [job for job in jobs if self._wanted(job)]
            if jobs:
                started = time.perf_counter()
                self._answer(jobs)
                self.observe(len(jobs), time.perf_counter() - started)

    def _collect(self) -> tuple[list[QueuedRequest], bool]:
        """Wait for a question and take those that come with it; False after the last batch."""
        jobs: list[QueuedRequest] = []
        wait: float | None = None
        while len(jobs) < self.limits.batch:
            try:
                job = self._queue.get(timeout=wait) if wait is None or wait > 0 else self._queue.get_nowait()
            except queue.Empty:
                break
            if job is None:
                return jobs, False
            if not jobs:
                closes = time.monotonic() + self.limits.window / 1000
            jobs.append(job)
            wait = closes - time.monotonic()
        return jobs, True

    def _wanted(self, job: QueuedRequest) -> bool:
        """Drop questions whose client went away, or for which it is too late."""
        if not job.answer.set_running_or_notify_cancel():
            self.dropped("gone")
            return False
        if time.monotonic() > job.until:
            self.dropped("late")
            job.answer.set_exception(late(self.limits.seconds))
            return False
        return True

    def _answer(self, jobs: list[QueuedRequest]) -> None:
        """Answer a batch; where it fails, each question alone, so that one does not spoil the others."""
        try:
            answers = self.answering([job.question for job in jobs])
        except Exception as error:  # whatever it is, the worker must live on and the clients must be told
            if len(jobs) > 1:
                LOGGER.warning(f"a batch of {len(jobs)} failed ({type(error).__name__}: {error}); asking one by one")
                for job in jobs:
                    self._answer([job])
                return
            jobs[0].answer.set_exception(error)
            return
        for job, mine in zip(jobs, answers, strict=True):
            job.answer.set_result(mine)

"""What the service counts, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)  # upper ends of the classes of times
BATCHES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """Counters of one service; each has a registry of its own, so that several can live in a process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "optisar_requests_total", "Requests by path and status", ["path", "status"], registry=registry
        )
        self.seconds = Histogram(
            "optisar_request_seconds", "Time of a request", ["path"], buckets=SECONDS, registry=registry
        )
        self.batches = Histogram(
            "optisar_batch_requests", "Requests answered together", buckets=BATCHES, registry=registry
        )
        self.model_seconds = Histogram(
            "optisar_batch_seconds", "Time of the model for a batch", buckets=SECONDS, registry=registry
        )
        self.expressions = Counter("optisar_sentences_total", "Expressions answered", ["found"], registry=registry)
        self.images = Counter(
            "optisar_pictures_total", "Images asked about: new ones, and those still remembered", ["state"],
            registry=registry,
        )  # fmt: skip
        self.dropped = Counter(
            "optisar_dropped_total", "Waiting requests dropped: the client went away, or too late", ["why"],
            registry=registry,
        )  # fmt: skip

    def follow(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a gauge that is read when it is asked for.

        Args:
            name: Its name.
            text: What it means.
            value: Returns its value.
        """
        Gauge(name, text, registry=self.registry).set_function(value)

    def batch(self, count: int, seconds: float) -> None:
        """Count a batch."""
        self.batches.observe(count)
        self.model_seconds.observe(seconds)

    def text(self) -> bytes:
        """Return all values in Prometheus' text format."""
        return generate_latest(self.registry)

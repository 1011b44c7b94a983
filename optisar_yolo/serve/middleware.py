"""Middleware of the service: check rate, capacity and size before a request's body is read; count and time requests."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from prometheus_client import CollectorRegistry, Counter as MetricCounter, Gauge, Histogram, generate_latest
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from optisar_yolo.serve.batching import busy
from optisar_yolo.serve.limits import MIB, Limits, Refusal
from optisar_yolo.utils import SettingError

FORM = 2 * MIB  # bytes of a request beside the image: expressions, and the separators of a form
HEADERS = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)  # upper bounds of the histogram buckets of times
BATCHES = (1, 2, 4, 8, 16, 32)


class ServiceMetrics:
    """Prometheus metrics of one service; each has its own registry, so that several services can run in a process."""

    def __init__(self) -> None:
        own: dict[str, Any] = {"registry": CollectorRegistry()}
        self.registry = own["registry"]
        self.requests = MetricCounter(
            "optisar_requests_total", "Requests by path and status", ["path", "status"], **own
        )
        self.seconds = Histogram("optisar_request_seconds", "Time of a request", ["path"], buckets=SECONDS, **own)
        self.batches = Histogram("optisar_batch_requests", "Requests in a batch", buckets=BATCHES, **own)
        self.model_seconds = Histogram("optisar_batch_seconds", "Model time of a batch", buckets=SECONDS, **own)
        # The names of the next two are those of earlier versions: dashboards use them.
        self.expressions = MetricCounter(
            "optisar_sentences_total", "Expressions, by whether a box was found", ["found"], **own
        )
        self.images = MetricCounter(
            "optisar_pictures_total", "Images of requests: new or from the cache", ["state"], **own
        )
        self.dropped = MetricCounter(
            "optisar_dropped_total", "Dropped requests: the client left, or too late", ["why"], **own
        )

    def follow(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a gauge whose value is computed when the metrics are read.

        Args:
            name: Name of the gauge.
            text: Its description.
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


def response(refusal: Refusal) -> JSONResponse:
    """Return a refusal as a response."""
    headers = {} if refusal.retry is None else {"Retry-After": str(math.ceil(refusal.retry))}
    return JSONResponse({"error": refusal.error, "hint": refusal.hint}, refusal.status, headers)


def parse_rate(text: str) -> RateLimitItem | None:
    """Read ``"300/minute"``; None for ``"none"``.

    Raises:
        SettingError: No such rate.
    """
    if text.lower() == "none":
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise SettingError(f"rate={text}: expected a rate such as 300/minute, or none") from error


def headers_too_large(limits: Limits) -> Refusal:
    """Return the refusal of a request whose headers are too large."""
    error = f"the headers are too large; at most {limits.max_header_kib} KiB are accepted"
    return Refusal(431, error, "send images and expressions in the body")


class RequestPlaces:
    """The places of a service: requests that are uploading, waiting or running.

    Args:
        limits: Its ``queue`` and ``uploads`` are used.

    Attributes:
        inside: Places that are taken.
        uploading: Requests of each client address whose body has not arrived.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.inside = 0
        self.uploading: Counter[str] = Counter()

    @property
    def full(self) -> bool:
        """Whether the next request would be refused, whatever its address."""
        return self.inside >= self.limits.queue

    def check(self, client: str) -> None:
        """Check whether there is a place for a request of an address.

        Raises:
            Refusal: There is none (503), or the address has its share of those that upload (429).
        """
        if self.full:
            raise busy()
        if self.uploading[client] >= self.limits.uploads_per_address:
            error = f"{self.uploading[client]} uploads of one address at once"
            raise Refusal(429, error, "finish one before the next", retry=1)

    def arrived(self, client: str) -> None:
        """Note that the body of a request has arrived, or will not."""
        self.uploading[client] -= 1
        if self.uploading[client] <= 0:
            del self.uploading[client]


class LimitsMiddleware:
    """ASGI middleware that enforces limits, and counts and times requests.

    Args:
        app: The service.
        limits: Limits of requests.
        metrics: Counters.
        places: The places for requests.
        paths: Known paths. All other paths are counted as "other", so that clients cannot make the metrics grow.
    """

    def __init__(
        self, app: ASGIApp, limits: Limits, metrics: ServiceMetrics, places: RequestPlaces, paths: Iterable[str]
    ) -> None:
        self.app, self.limits, self.metrics, self.paths = app, limits, metrics, frozenset(paths)
        self.rate = parse_rate(limits.rate)
        self.limiter = MovingWindowRateLimiter(MemoryStorage())
        self.places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self.paths else "other"
        started, status = time.perf_counter(), 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
            await send(message)

        try:
            if sum(len(name) + len(value) for name, value in scope["headers"]) > self.limits.max_header_bytes:
                await response(headers_too_large(self.limits))(scope, receive, send_with_headers)
            elif scope["method"] == "POST":
                await self._run_limited(scope, receive, send_with_headers)
            else:
                await self.app(scope, receive, send_with_headers)
        finally:
            self.metrics.requests.labels(path, str(status)).inc()
            self.metrics.seconds.labels(path).observe(time.perf_counter() - started)

    async def _run_limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request with a body, within the limits."""
        client = (scope.get("client") or ("unknown",))[0]
        try:
            self._check(scope, client)
        except Refusal as refusal:
            await response(refusal)(scope, receive, send)
            return
        self.places.inside += 1
        self.places.uploading[client] += 1
        uploading = True

        def arrived() -> None:
            nonlocal uploading
            if uploading:
                uploading = False
                self.places.arrived(client)

        try:
            await self.app(scope, self._limited(receive, arrived), send)
        finally:
            arrived()
            self.places.inside -= 1

    def _check(self, scope: Scope, client: str) -> None:
        """Check rate, capacity and the announced size, before the body is read.

        Raises:
            Refusal: Too many requests, no capacity, or too large.
        """
        if self.rate is not None and not self.limiter.hit(self.rate, client):
            wait = max(self.limiter.get_window_stats(self.rate, client).reset_time - time.time(), 1)
            error = f"more than {self.limits.rate.replace('/', ' requests a ')}"
            raise Refusal(429, error, f"wait {math.ceil(wait)} s", retry=wait)
        self.places.check(client)
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.limits.max_bytes + FORM:
            raise self._too_large()

    def _limited(self, receive: Receive, arrived: Callable[[], None]) -> Receive:
        """Limit the bytes of a body, whatever its header announces, and the time of its upload.

        Args:
            receive: Returns a part of the body.
            arrived: Called after the last part.
        """
        seconds = self.limits.upload_time
        count, until, complete = 0, time.monotonic() + seconds, False

        async def limited() -> Message:
            nonlocal count, complete
            if complete:
                return await receive()
            try:
                message: Any = await asyncio.wait_for(receive(), max(until - time.monotonic(), 0.001))
            except asyncio.TimeoutError:
                error = f"the request was not complete after {seconds:g} s"
                raise _as_http(Refusal(408, error, "send it again over a faster connection")) from None
            count += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if complete:
                arrived()
            if count > self.limits.max_bytes + FORM:
                raise _as_http(self._too_large())
            return message

        return limited

    def _too_large(self) -> Refusal:
        error = f"the request is too large; at most {self.limits.max_mib:g} MiB are accepted"
        return Refusal(413, error, "cut the image into tiles or compress it")


def _as_http(refusal: Refusal) -> HTTPException:
    """Return a refusal as the exception that FastAPI passes on while it reads a body."""
    detail: Any = {"error": refusal.error, "hint": refusal.hint}
    return HTTPException(refusal.status, detail)

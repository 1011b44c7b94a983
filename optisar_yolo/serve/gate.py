"""The gate before the service: rate, room and size are checked before a request's body is read."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable
from typing import Any

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from optisar_yolo.serve.batching import busy
from optisar_yolo.serve.limits import MIB, Limits, Refusal
from optisar_yolo.serve.metrics import Metrics

FORM = 2 * MIB  # bytes of a request beside the image: expressions, and what keeps the parts of a form apart
HEADERS = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))


def response(refusal: Refusal) -> JSONResponse:
    """Return a refusal as a response."""
    headers = {} if refusal.retry is None else {"Retry-After": str(math.ceil(refusal.retry))}
    return JSONResponse({"error": refusal.error, "hint": refusal.hint}, refusal.status, headers)


def raised(refusal: Refusal) -> HTTPException:
    """Return a refusal as the exception that FastAPI lets pass while it reads a body."""
    said: Any = {"error": refusal.error, "hint": refusal.hint}
    return HTTPException(refusal.status, said)


def rate_of(text: str) -> RateLimitItem | None:
    """Read ``"300/minute"``; None for ``"none"``.

    Raises:
        ValueError: No such rate.
    """
    if text.lower() == "none":
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise ValueError(f"rate={text}: expected a rate such as 300/minute, or none") from error


class Gate:
    """ASGI middleware that keeps limits, counts and times requests.

    Args:
        app: The service.
        limits: Limits.
        metrics: Counters.
        paths: Known paths; the counters call any other one "other", so that strangers cannot make them grow.
    """

    def __init__(self, app: ASGIApp, limits: Limits, metrics: Metrics, paths: Iterable[str]) -> None:
        self.app, self.limits, self.metrics, self.paths = app, limits, metrics, frozenset(paths)
        self.rate = rate_of(limits.rate)
        self.limiter = MovingWindowRateLimiter(MemoryStorage())
        self.inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self.paths else "other"
        started, status = time.perf_counter(), 500

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
            await send(message)

        try:
            if scope["method"] == "POST":
                await self._guarded(scope, receive, sent)
            else:
                await self.app(scope, receive, sent)
        finally:
            self.metrics.requests.labels(path, str(status)).inc()
            self.metrics.seconds.labels(path).observe(time.perf_counter() - started)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request with a body pass if it keeps the limits."""
        try:
            self._check(scope)
        except Refusal as refusal:
            await response(refusal)(scope, receive, send)
            return
        self.inside += 1
        try:
            await self.app(scope, self._limited(receive), send)
        finally:
            self.inside -= 1

    def _check(self, scope: Scope) -> None:
        """Check what is known before the body.

        Raises:
            Refusal: Too often, no room, or too large.
        """
        client = (scope.get("client") or ("unknown",))[0]
        if self.rate is not None and not self.limiter.hit(self.rate, client):
            wait = max(self.limiter.get_window_stats(self.rate, client).reset_time - time.time(), 1)
            error = f"more than {self.limits.rate.replace('/', ' requests a ')}"
            raise Refusal(429, error, f"wait {math.ceil(wait)} s", retry=wait)
        if self.inside >= self.limits.queue:
            raise busy()
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.limits.max_bytes + FORM:
            raise self._too_large()

    def _limited(self, receive: Receive) -> Receive:
        """Count the bytes of a body, whatever its header says, and the time that it takes."""
        count, until, complete = 0, time.monotonic() + self.limits.seconds, False

        async def counted() -> Message:
            nonlocal count, complete
            if complete:
                return await receive()
            try:
                message: Any = await asyncio.wait_for(receive(), max(until - time.monotonic(), 0.001))
            except asyncio.TimeoutError:
                error = f"the request was not complete after {self.limits.seconds:g} s"
                raise raised(Refusal(408, error, "send it again over a faster connection")) from None
            count += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if count > self.limits.max_bytes + FORM:
                raise raised(self._too_large())
            return message

        return counted

    def _too_large(self) -> Refusal:
        error = f"the request is too large; at most {self.limits.max_mib:g} MiB are taken"
        return Refusal(413, error, "cut the image into tiles or compress it")

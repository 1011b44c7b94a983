"""Connections of the service: what a client may do before its request reaches the application.

The settings are those of uvicorn where it has them (:func:`uvicorn_settings`). :class:`LimitedProtocol` adds what it
lacks:

1. A connection beyond those of its address is refused (429), and one beyond those of all addresses (503).
2. Headers that are larger than ``max_header_kib`` are refused while they arrive (431).
3. A client that has sent a part of its headers after ``header_seconds`` is told so (408). One that has sent nothing, or
   goes on sending a body that was refused, is disconnected.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from http import HTTPStatus
from typing import Any

import h11
from ultralytics.utils import LOGGER
from uvicorn.protocols.http.h11_impl import H11Protocol

from optisar_yolo.serve.limits import Limits, Refusal
from optisar_yolo.serve.middleware import headers_too_large

FILES = 256  # open files beside the connections: the weights, uploads, libraries
LINGER = 1  # seconds in which what a client still sends is discarded, so that it reads the refusal before a reset


class LimitedProtocol(H11Protocol):
    """uvicorn's protocol with limits of connections and headers; :func:`uvicorn_settings` makes a subclass with them.

    Attributes:
        limits: The limits.
        connected: Connections of each client address.
    """

    limits = Limits()
    connected: Counter[str] = Counter()
    _address: str | None = None
    _timer: asyncio.TimerHandle | None = None
    _sent_any = False  # bytes have arrived since the last request
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection, or refuse it."""
        super().connection_made(transport)
        self._address = self.client[0] if self.client else "unknown"
        self.connected[self._address] += 1
        most, all_together = self.limits.connections, self.limits.max_connections
        refusal = None
        if self.connected[self._address] > most:
            refusal = Refusal(429, f"more than {most} connections of one address", "use fewer connections", retry=1)
        elif sum(self.connected.values()) > all_together:  # uvicorn counts those whose request has arrived
            refusal = Refusal(503, f"more than {all_together} connections", "try again later", retry=1)
        if refusal is not None:
            self._refuse(refusal)
            self.transport.close()
            return
        self._timer = self.loop.call_later(self.limits.header_seconds, self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count the connection off."""
        self._stop_timer()
        if self._address is not None:
            self.connected[self._address] -= 1
            if self.connected[self._address] <= 0:
                del self.connected[self._address]
            self._address = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read, and limit the time until the headers of a request are complete."""
        if self._refused:
            return
        request = self.cycle
        self._sent_any = True
        if self._timer is None and (request is None or request.response_complete):
            self._timer = self.loop.call_later(self.limits.header_seconds, self._late)
        super().data_received(data)
        if self.cycle is not request and not self._refused:
            self._stop_timer()
            self._sent_any = False

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP in the form of every fault; uvicorn calls it while it handles h11's error."""
        hint = getattr(sys.exc_info()[1], "error_status_hint", 400)
        if hint == 431:
            self._refuse(headers_too_large(self.limits))
        else:
            self._refuse(Refusal(400, "the request is no valid HTTP", "/docs describes the request"))

    def shutdown(self) -> None:
        """End the connection when the service ends, after the response."""
        if self._refused:
            self.transport.close()
        else:
            super().shutdown()

    def _late(self) -> None:
        """End a connection whose request has not arrived in time."""
        self._timer = None
        if self._sent_any and self.conn.our_state is h11.IDLE:
            error = f"the headers were not complete after {self.limits.header_seconds:g} s"
            self._refuse(Refusal(408, error, "send them in one piece"))
        else:
            self.transport.close()

    def _refuse(self, refusal: Refusal) -> None:
        """Write a refusal, and close the connection a little later."""
        body = json.dumps({"error": refusal.error, "hint": refusal.hint}).encode()
        lines = [
            f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}",
            "content-type: application/json",
            f"content-length: {len(body)}",
            "connection: close",
            *([] if refusal.retry is None else [f"retry-after: {refusal.retry:.0f}"]),
        ]
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        self._refused = True
        self._stop_timer()
        if self.cycle is not None and not self.cycle.response_complete:  # its body is broken; nothing more is sent
            self.transport.close()
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._timer = self.loop.call_later(LINGER, self.transport.close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def allow_connections(limits: Limits) -> None:
    """Let this process have as many open files as the limits have connections, where the system allows it.

    Without it, the usual limit of 1,024 open files stops the service from accepting any connection, health checks
    included.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.max_connections + FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    if most < wanted:
        LOGGER.warning(
            f"max_connections={limits.max_connections} needs {wanted} open files, and the system allows {hard} "
            f"(ulimit -n): set max_connections={max(hard - FILES, 1)} or raise it"
        )


def uvicorn_settings(limits: Limits) -> dict[str, Any]:
    """Return the settings with which ``uvicorn.run`` or ``uvicorn.Config`` keeps the limits of connections.

    Args:
        limits: The limits, those of :func:`~optisar_yolo.serve.service.create_app` too.
    """
    protocol = type("ServiceProtocol", (LimitedProtocol,), {"limits": limits, "connected": Counter()})
    return {
        "http": protocol,
        "ws": "none",  # the service has no WebSockets
        "h11_max_incomplete_event_size": limits.max_header_bytes,
        "limit_concurrency": limits.max_connections + 1,  # it refuses at this number, not beyond it
        "server_header": False,
    }

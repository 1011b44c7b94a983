"""The HTTP service while others attack it: clients get right answers or a stated limit.

The service runs as ``optisar serve`` starts it, with its default limits. Every client and attacker has an address of
its own (127.0.0.0/8, so Linux).

1. 50 clients send images for a minute, while 900 half-open connections of 15 addresses and 20 slow uploads of 4
   addresses are held: what the service closes is opened again. Every response but the right boxes, 429 and 503 counts
   as a fault.
2. One address begins 70 slow uploads; three addresses take all places. Others are served, or ``/readyz`` says that they
   will not be.
3. Headers of 5 to 300 MiB are sent; the slowest health check meanwhile counts.

    python benchmarks/service_load.py
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from service import PATH, Service, body_of, service
from service_faults import encoded
from timing import RESULTS, about, add_to_record, pin

RECORD = RESULTS / "service-load.json"
STATED = {"200", "429", "503"}  # right answers and limits that docs/service.md states
CLIENTS, HALF_OPEN, SLOW = 50, (15, 60), (4, 5)  # clients; addresses, and connections of each
HEADERS = (5, 20, 80, 300)  # MiB
TEXT = "the ship in the upper left"
Address = tuple[str, int]


def connect(to: Address, source: str, timeout: float = 60) -> socket.socket:
    """Open a connection from an address of this machine."""
    return socket.create_connection(to, timeout, (source, 0))


def request(image: bytes) -> bytes:
    """Return a whole request with an image."""
    body, kind = body_of(image, "", TEXT)
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body


def read(one: socket.socket) -> tuple[str, Any]:
    """Read a response to its end: status and content; "none" where the connection ended without one."""
    data = b""
    with contextlib.suppress(ConnectionError, TimeoutError):
        while part := one.recv(65536):
            data += part
    head, _, body = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 "):
        return "none", {}
    content = json.loads(body) if b"application/json" in head.lower() else body.decode(errors="replace")
    return head.split()[1].decode(), content


def ask(to: Address, source: str, sent: bytes) -> tuple[str, Any, float]:
    """Send a request: status, content and seconds."""
    begun = time.perf_counter()
    try:
        with connect(to, source) as one:
            with contextlib.suppress(ConnectionError):  # it may be refused before all is sent
                one.sendall(sent)
            status, content = read(one)
    except OSError as error:
        status, content = type(error).__name__, {}
    return status, content, time.perf_counter() - begun


def get(to: Address, path: str, source: str = "127.0.9.1") -> tuple[str, Any, float]:
    """GET a page: status, content and seconds."""
    return ask(to, source, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())


class Held:
    """Connections that are held open, each opened again when the service closes it.

    Args:
        to: The service.
        source: Address that they come from.
        count: How many.
        start: What each sends first.
        drip: What each sends every second.

    Attributes:
        again: How many were opened again.
    """

    def __init__(self, to: Address, source: str, count: int, start: bytes, drip: bytes = b"") -> None:
        self.to, self.source, self.count, self.start, self.drip = to, source, count, start, drip
        self.again, self.end = 0, threading.Event()
        self.opened: list[socket.socket | None] = [None] * count
        self.thread = threading.Thread(target=self._hold, daemon=True)

    def __enter__(self) -> Held:
        self._open()
        self.again = 0
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end.set()
        self.thread.join(60)
        for one in self.opened:
            if one is not None:
                one.close()

    @property
    def alive(self) -> int:
        """How many are open."""
        return sum(one is not None for one in self.opened)

    def _open(self) -> None:
        for i, one in enumerate(self.opened):
            if one is None:
                with contextlib.suppress(OSError):
                    made = connect(self.to, self.source, 20)
                    made.sendall(self.start)
                    made.setblocking(False)
                    self.opened[i], self.again = made, self.again + 1

    def _hold(self) -> None:
        while not self.end.wait(1):
            for i, one in enumerate(self.opened):
                if one is None:
                    continue
                try:
                    if not one.recv(4096):
                        raise ConnectionError
                except BlockingIOError:
                    pass
                except OSError:
                    self._drop(i, one)
                    continue
                try:
                    if self.drip:
                        one.send(self.drip)
                except BlockingIOError:
                    pass
                except OSError:
                    self._drop(i, one)
            self._open()

    def _drop(self, i: int, one: socket.socket) -> None:
        one.close()
        self.opened[i] = None


def attacked(served: Service, seconds: float) -> dict[str, Any]:
    """Let clients send images while connections are held."""
    to = ("127.0.0.1", served.port)
    image = encoded(".jpg", 0)
    status, first, _ = ask(to, "127.0.9.2", request(image))
    assert status == "200", (status, first)
    right = {str(first["answers"])}
    answers: Counter[str] = Counter()
    times: list[float] = []
    wrong, lock = 0, threading.Lock()
    half, slow = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: ", request(image)[:300]
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(Held(to, f"127.0.2.{k + 1}", HALF_OPEN[1], half)) for k in range(HALF_OPEN[0])]
        held += [stack.enter_context(Held(to, f"127.0.3.{k + 1}", SLOW[1], slow, b"\0")) for k in range(SLOW[0])]
        least = [sum(h.alive for h in held)]
        until = time.monotonic() + seconds

        def client(number: int) -> None:
            nonlocal wrong
            while time.monotonic() < until:
                # bytes after a JPEG's end change its name, not the image: each is decoded and encoded anew
                own = image + f"{number} {time.time_ns()}".encode()
                status, content, spent = ask(to, f"127.0.1.{number + 1}", request(own))
                with lock:
                    answers[status] += 1
                    if status == "200":
                        times.append(spent)
                        wrong += str(content["answers"]) not in right
                if status != "200":
                    time.sleep(1)  # what Retry-After says

        threads = [threading.Thread(target=client, args=(n,), daemon=True) for n in range(CLIENTS)]
        for thread in threads:
            thread.start()
        health: list[float] = []
        while time.monotonic() < until:
            status, _, spent = get(to, "/healthz")
            answers[f"/healthz {status}"] += 1
            health.append(spent)
            least.append(sum(h.alive for h in held))
            time.sleep(0.5)
        for thread in threads:
            thread.join(90)
        again = sum(h.again for h in held)
    p50, p95 = (round(float(p), 2) for p in np.percentile(times or [np.nan], (50, 95)))
    faults = sum(n for status, n in answers.items() if status.removeprefix("/healthz ") not in STATED)
    return {
        "clients": CLIENTS, "seconds": seconds, "held_at_least": min(least), "held_mean": round(float(np.mean(least))),
        "opened_again": again, "statuses": dict(answers), "faults": faults, "wrong_boxes": wrong,
        "seconds_p50": p50, "seconds_p95": p95, "slowest_health_check": round(max(health), 2),
    }  # fmt: skip


def until(check: Callable[[], bool], seconds: float) -> float:
    """Wait until something is true: seconds that it took; infinity where it did not come true."""
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        if check():
            return round(time.monotonic() - begun, 2)
        time.sleep(0.1)
    return float("inf")


def slow_uploads(served: Service) -> dict[str, dict[str, Any]]:
    """Begin more slow uploads than there are places, from one address and from three."""
    to, image = ("127.0.0.1", served.port), encoded(".jpg", 0)
    found: dict[str, dict[str, Any]] = {}
    for name, addresses in (("70 slow uploads of one address", 1), ("slow uploads of three addresses", 3)):
        with contextlib.ExitStack() as stack:
            for k in range(addresses):
                count = 70 if addresses == 1 else 40
                stack.enter_context(Held(to, f"127.0.4.{k + 1}", count, request(image)[:300], b"\0"))
            time.sleep(1)
            ready, state, _ = get(to, "/readyz")
            status, _, spent = ask(to, "127.0.9.3", request(image))
            found[name] = {"readyz": ready, "state": state, "another_address": status, "seconds": round(spent, 2)}
        found[name]["ready_again_after"] = until(lambda: get(to, "/readyz")[1].get("inside") == 0, 60)
    return found


def big_headers(served: Service) -> dict[str, dict[str, Any]]:
    """Send large headers, and time health checks meanwhile."""
    to = ("127.0.0.1", served.port)
    found: dict[str, dict[str, Any]] = {}
    for mib in HEADERS:
        answer: list[Any] = []

        def attack(mib: int = mib, answer: list[Any] = answer) -> None:
            lines = (b"X-A: " + b"a" * 65_529 + b"\r\n") * (16 * mib)
            answer.append(ask(to, "127.0.5.1", b"GET / HTTP/1.1\r\nHost: x\r\n" + lines))

        thread = threading.Thread(target=attack, daemon=True)
        thread.start()
        slowest = 0.0
        while thread.is_alive():
            status, _, spent = get(to, "/healthz")
            slowest = max(slowest, spent if status == "200" else 1e9)
        found[f"headers of {mib} MiB"] = {
            "status": answer[0][0], "seconds": round(answer[0][2], 2), "slowest_health_check": round(slowest, 2),
        }  # fmt: skip
    return found


@contextlib.contextmanager
def with_default_limits(threads: int) -> Iterator[Service]:
    """Run the service with its default limits."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    with service(rate="300/minute", uploads=32) as served:
        yield served


def main() -> None:
    """Measure, and add to the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=1, help="of the service's network")
    parser.add_argument("--record", type=Path, default=RECORD)
    args = parser.parse_args()
    pin(args.threads)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 8192) if most > 0 else 8192, most))
    run = about(args.threads) | {"seconds": args.seconds, "cores": len(psutil.Process().cpu_affinity() or [])}
    with with_default_limits(args.threads) as served:
        cells = slow_uploads(served) | big_headers(served)
        cells["50 clients among 900 half-open and 20 slow connections"] = attacked(served, args.seconds)
        cells["service"] = {"peak_mib": served.peak()}
    for name, cell in cells.items():
        print(f"{name}: {json.dumps(cell)}", flush=True)
    add_to_record(args.record, run, cells)


if __name__ == "__main__":
    main()

"""Throughput of the HTTP service with many clients at once and with a single one, and its responses to faults.

The service runs in a process of its own, as ``optisar serve`` starts it, with ``rate=none uploads=64`` (all clients
have one address here). Clients are threads of this process, on the same machine, so that their own work counts against
the service. Each sends images that are new to the service, or a new expression for a cached image.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import requests
from service_faults import encoded, faults, heaviest
from timing import RESULTS, about, add_to_record, pin

RECORD = RESULTS / "service.json"
PATH = "/v1/predict"
IMAGES = 8  # rendered images that are sent in turn, each time with other bytes at the end
EXPRESSIONS = ("the ship in the upper left", "the SAR transmission tower in the lower right corner", "the airplane")
TIMEOUT = 60  # seconds until a client gives up


@dataclass
class Outcome:
    """Responses that clients got.

    Attributes:
        seconds: Times of the answered requests.
        statuses: How often each status came; "no connection" where none did.
        lasted: Seconds of the whole measurement.
    """

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    lasted: float = 0.0

    def cell(self) -> dict[str, Any]:
        """Figures for the record: milliseconds of a request, and requests per second."""
        ms = np.array(self.seconds or [np.nan]) * 1e3
        p50, p95, p99 = (round(float(p), 1) for p in np.percentile(ms, (50, 95, 99)))
        rate = round(len(self.seconds) / max(self.lasted, 1e-9), 2)
        return {"p50": p50, "p95": p95, "p99": p99, "per_second": rate, "statuses": dict(self.statuses)}


class Service:
    """``optisar serve`` in a process of its own."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.port, self.process = port, process
        self.url = f"http://127.0.0.1:{port}"

    def peak(self) -> int:
        """Peak of its memory, MiB."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(x for x in lines if x.startswith("VmHWM")).split()[1]) // 1024

    def mean_batch(self) -> float:
        """Mean number of requests in a batch."""
        lines = requests.get(f"{self.url}/metrics", timeout=TIMEOUT).text.splitlines()
        found = {x.split()[0]: float(x.split()[1]) for x in lines if x.startswith("optisar_batch_requests_")}
        return round(found["optisar_batch_requests_sum"] / max(found["optisar_batch_requests_count"], 1), 2)


@contextmanager
def service(**options: object) -> Iterator[Service]:
    """Run the service with these options."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [f"{k}={v}" for k, v in {"port": port, "rate": "none", "uploads": 64, **options}.items()]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "optisar_yolo", "serve", *words], stdout=log, stderr=subprocess.STDOUT
        )
        try:
            started = Service(port, process)
            for _ in range(480):
                if process.poll() is not None:
                    log.seek(0)
                    raise RuntimeError(log.read().decode())
                try:
                    if requests.get(f"{started.url}/readyz", timeout=5).ok:
                        break
                except requests.ConnectionError:
                    time.sleep(0.25)
            yield started
        finally:
            process.terminate()
            process.wait(30)


def body_of(image: bytes | None, name: str, text: str) -> tuple[bytes, str]:
    """Return a form's content and content type."""
    form: Any = {"text": text} | ({} if image is not None else {"image": name})
    files = None if image is None else {"source": ("image.jpg", image)}
    ready = requests.Request("POST", "http://x", data=form, files=files).prepare()
    body = ready.body or b""
    return body.encode() if isinstance(body, str) else body, ready.headers["Content-Type"]


def load(served: Service, clients: int, seconds: float, new: bool) -> Outcome:
    """Let clients send one request after the other for some time.

    Args:
        served: The service.
        clients: How many at once.
        seconds: How long new requests are sent.
        new: Send new images; otherwise expressions for a cached image.
    """
    images = [encoded(".jpg", i) for i in range(IMAGES)]
    known = requests.post(served.url + PATH, data={"text": "x"}, files={"source": images[0]}, timeout=TIMEOUT).json()
    numbers, outcome, lock = count(), Outcome(), threading.Lock()
    started = time.perf_counter()

    def client() -> None:
        line = http.client.HTTPConnection("127.0.0.1", served.port, timeout=TIMEOUT)
        while time.perf_counter() - started < seconds:
            with lock:
                i = next(numbers)
            # bytes after a JPEG's end change its name, not the image
            image = images[i % IMAGES] + f"{os.getpid()}-{time.time_ns()}-{i}".encode() if new else None
            body, kind = body_of(image, known["image"], f"{EXPRESSIONS[i % len(EXPRESSIONS)]} {i % 97}")
            begun = time.perf_counter()
            try:
                line.request("POST", PATH, body, {"Content-Type": kind})
                response = line.getresponse()
                response.read()
                status = str(response.status)
            except (OSError, http.client.HTTPException):
                status = "no connection"
                line.close()
            with lock:
                outcome.statuses[status] += 1
                if status == "200":
                    outcome.seconds.append(time.perf_counter() - begun)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcome.lasted = time.perf_counter() - started
    return outcome


def injected(served: Service) -> list[dict[str, Any]]:
    """Send every faulty request, and check after each that the service is alive."""
    found = []
    for fault in (*faults(), heaviest()):
        files = None if fault.image is None else {"source": ("x", fault.image)}
        begun = time.perf_counter()
        try:
            response = requests.post(served.url + PATH, data=fault.form, files=files, timeout=TIMEOUT)
            status, said = response.status_code, "" if response.ok else response.json()["error"]
        except requests.ConnectionError:  # the answer came, and the line was cut, before all was sent
            status, said = 0, "the connection was closed"
        spent = round((time.perf_counter() - begun) * 1e3, 1)
        alive = requests.get(f"{served.url}/healthz", timeout=TIMEOUT).ok
        found.append({"fault": fault.name, "expected": fault.status, "status": status, "error": said, "ms": spent})
        found[-1]["alive"] = alive
    return found


def main() -> None:
    """Measure, and add to the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=2, help="of the service's network")
    parser.add_argument("--record", type=Path, default=RECORD)
    args = parser.parse_args()
    pin(args.threads)
    run = about(args.threads)
    run["versions"] |= {name: version(name) for name in ("fastapi", "starlette", "uvicorn")}
    run |= {"seconds": args.seconds, "cores": len(psutil.Process().cpu_affinity() or [])}
    cells: dict[str, Any] = {}
    many = args.clients
    for batch in (8, 1):
        with service(batch=batch) as served:
            for new in (True, False):
                for clients in (1, many) if batch > 1 else (many,):
                    kind = "new pictures" if new else "a remembered picture"  # keys of the record
                    name = f"{kind}, {clients} client{'s' * (clients > 1)}, batches of {batch} at most"
                    cells[name] = load(served, clients, args.seconds, new).cell()
                    print(f"{name}: {cells[name]}", flush=True)
            cells[f"service, batches of {batch} at most"] = {
                "peak_mib": served.peak(),
                "mean_batch": served.mean_batch(),
            }
    with service() as served:
        cells["faults"] = {"injected": injected(served), "peak_mib": served.peak()}
    for found in cells["faults"]["injected"]:
        print(json.dumps(found, ensure_ascii=False))
    add_to_record(args.record, run, cells)


if __name__ == "__main__":
    main()

"""The service while others attack it: huge headers, half-open connections, slow uploads."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "serve"))
attacks = pytest.importorskip("test_serve_limits")  # needs the extra serve

KIND = "service"
SECONDS = float(os.environ.get("OPTISAR_FAULTS_SECONDS", 60))
STATED = {200, 429, 503}
"""Answers that are right or a stated limit (see docs/service.md)."""


@pytest.fixture(autouse=True)
def many_files() -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 8192), most))


@pytest.mark.fault(KIND, "headers of 5 to 80 MiB, and headers that never end")
@pytest.mark.parametrize("mib", [1, 5, 20, 80])
def test_headers(mib: int) -> None:
    slowest = 0.0
    with attacks.serving() as address:
        done = threading.Event()

        def attack() -> None:
            with (
                contextlib.suppress(OSError),
                attacks.connections(address, 1, b"GET / HTTP/1.1\r\nHost: x\r\n") as (one,),
            ):
                one.settimeout(20)
                for _ in range(mib * 16):
                    one.sendall(b"X-A: " + b"a" * 65_000 + b"\r\n")
                one.recv(10)
            done.set()

        thread = threading.Thread(target=attack, daemon=True)
        thread.start()
        while not done.wait(0.05):
            begun = time.monotonic()
            assert attacks.get(address)[0] == 200
            slowest = max(slowest, time.monotonic() - begun)
        thread.join(30)
    assert slowest < 2, slowest


@pytest.mark.fault(
    KIND, "50 clients for a minute, while 900 half-open connections and 20 slow uploads of others are held"
)
@pytest.mark.timeout(400)
def test_clients_among_attackers() -> None:
    body = attacks.form()
    answers: Counter[Any] = Counter()
    boxes: set[str] = set()
    lock = threading.Lock()
    until = time.monotonic() + SECONDS

    def client(address: Any, number: int) -> None:
        mine = f"127.0.1.{number + 1}"
        while time.monotonic() < until:
            try:
                with attacks.connections(address, 1, attacks.upload(body), mine) as (one,):
                    status, _, content = attacks.read(one)
            except OSError as error:
                status, content = type(error).__name__, {}
            with lock:
                answers[status] += 1
                if status == 200:
                    boxes.add(str(content["answers"]))
            if status != 200:
                time.sleep(0.2)

    with attacks.serving(upload_seconds=60, header_seconds=60) as address, contextlib.ExitStack() as held:
        for k in range(15):  # 900 connections of 15 addresses, as many as each may have
            half = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
            held.enter_context(attacks.connections(address, 60, half, f"127.0.2.{k + 1}"))
        for k in range(4):
            held.enter_context(
                attacks.connections(address, 5, attacks.upload(body[:100], len(body)), f"127.0.3.{k + 1}")
            )
        threads = [threading.Thread(target=client, args=(address, n), daemon=True) for n in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS + 60)
    assert answers[200] > 20 and len(boxes) == 1, (answers, boxes)
    assert not set(answers) - STATED, answers

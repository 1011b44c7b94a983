"""Limits of the service on real sockets: connections, headers and uploads, and what it leaves when it is ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from serving import encoded, grounder

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
pytest.importorskip("limits")
uvicorn = pytest.importorskip("uvicorn")

from optisar_yolo.serve.limits import Limits  # noqa: E402
from optisar_yolo.serve.protocol import allow_connections, uvicorn_settings  # noqa: E402
from optisar_yolo.serve.service import create_app  # noqa: E402

OTHER = "127.0.0.2"  # another client address of this machine


@contextlib.contextmanager
def serving(**limits):
    """The service behind a real socket, as ``optisar serve`` sets it up; yields its address."""
    own = Limits(**{"rate": "none", **limits})
    app = create_app(grounder(), own)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", **uvicorn_settings(own)))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.02)
        try:
            yield listening.getsockname()
        finally:
            server.should_exit = server.force_exit = True
            thread.join(20)


@contextlib.contextmanager
def connections(address, count, start=b"", source=None):
    """Open connections that have sent `start`."""
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(count):
            try:
                one = socket.create_connection(address, 20, source_address=source and (source, 0))
            except OSError:
                if source:
                    pytest.skip(f"this machine has no second loopback address {source}")
                raise
            opened.append(stack.enter_context(one))
            if start:
                one.sendall(start)
        yield opened


def read(connection):
    """Read a response to its end, or as far as it comes: status, headers and body (text where it is no JSON)."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while True:
            head, end, body = data.partition(b"\r\n\r\n")
            length = next((int(x[15:]) for x in head.lower().split(b"\r\n") if x.startswith(b"content-length:")), 0)
            if end and len(body) >= length:
                break
            part = connection.recv(65536)
            if not part:
                break
            data += part
    head, _, body = data.partition(b"\r\n\r\n")
    content = json.loads(body) if b"json" in head else body.decode()
    return int(head.split()[1]) if head else 0, head.decode().lower(), content


def get(address, path="/healthz", source=None, header=b""):
    """GET a page: status, headers, body."""
    with connections(address, 1, f"GET {path} HTTP/1.1\r\nHost: x\r\n".encode() + header + b"\r\n", source) as (one,):
        return read(one)


def closed(connection, seconds):
    """Whether the service closes a connection in that time, without a word."""
    connection.settimeout(seconds)
    try:
        return connection.recv(100) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False


def form():
    parts = [b'--x\r\nContent-Disposition: form-data; name="text"\r\n\r\nthe ship\r\n']
    parts.append(b'--x\r\nContent-Disposition: form-data; name="source"; filename="a"\r\n\r\n' + encoded() + b"\r\n")
    return b"".join(parts) + b"--x--\r\n"


def upload(body, length=None):
    """A request of which `body` has been sent."""
    return (
        f"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: {length or len(body)}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    ).encode() + body


def is_fault(answer, status, word):
    assert answer[0] == status, answer
    assert set(answer[2]) == {"error", "hint"} and word in answer[2]["error"], answer
    return True


@pytest.mark.parametrize("where", ["value", "many", "target", "second request"])
def test_big_headers_are_refused_while_they_arrive(where):
    big = 8 * 1024 * 1024
    with serving(max_header_kib=16) as address, connections(address, 1) as (one,):
        if where == "second request":
            one.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read(one)[0] == 200
        start = {"target": b"GET /", "many": b"GET / HTTP/1.1\r\nHost: x\r\n"}.get(where, b"GET / HTTP/1.1\r\nX: ")
        piece = b"X-A: " + b"a" * 1017 + b"\r\n" if where == "many" else b"a" * 1024
        one.sendall(start)
        one.sendall(piece * (big // len(piece)))
        started = time.monotonic()
        assert is_fault(read(one), 431, "at most 16 KiB")
        assert get(address)[0] == 200 and time.monotonic() - started < 2
        assert closed(one, 5)
    with serving(max_header_kib=4) as address:
        for size, status in ((3000, 200), (6000, 431), (40_000, 431)):  # these arrive in one piece
            answer = get(address, header=b"X-A: " + b"a" * size + b"\r\n")
            assert answer[0] == status
            assert status == 200 or is_fault(answer, 431, "at most 4 KiB")


def test_slow_headers_and_half_open_connections_are_closed():
    with serving(header_seconds=0.6, connections=100) as address, connections(address, 40) as silent:
        with connections(address, 2, b"GET / HTTP/1.1\r\nX-A") as (slow, drip):
            end = threading.Event()

            def trickle():
                with contextlib.suppress(OSError):
                    while not end.wait(0.1):
                        drip.sendall(b"a")

            thread = threading.Thread(target=trickle, daemon=True)
            thread.start()
            assert get(address)[0] == 200
            assert is_fault(read(slow), 408, "headers")
            assert is_fault(read(drip), 408, "headers"), "one byte at a time makes no difference"
            end.set()
            thread.join(5)
        assert all(closed(one, 5) for one in silent)
        with connections(address, 1, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /hea") as (one,):
            assert read(one)[0] == 200
            assert closed(one, 8) or one.recv(1) == b"", "the second request of a connection is no exception"


def test_a_refused_body_that_goes_on_is_cut_off():
    with serving(max_mib=1, header_seconds=0.6) as address:
        with connections(address, 1, upload(b"--x", 2**30)) as (one,):
            assert is_fault(read(one), 413, "at most 1 MiB")
            started = time.monotonic()
            with contextlib.suppress(ConnectionError):
                while time.monotonic() - started < 10:
                    one.sendall(b"a")
                    time.sleep(0.05)
            assert time.monotonic() - started < 8


def test_what_is_no_http():
    chunked = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n"
    pipelined = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n<b>\r\n\r\n"
    with serving() as address:
        for sent, statuses in ((b"<b>\r\n\r\n", [400]), (chunked, [400]), (pipelined, [200, 400])):
            with connections(address, 1, sent) as (one,):
                one.settimeout(5)
                said = b""
                with contextlib.suppress(ConnectionError):
                    while part := one.recv(1000):
                        said += part
                assert [int(part.split()[0]) for part in said.split(b"HTTP/1.1 ")[1:]] == statuses
                assert b"<b>" not in said
        assert get(address, "/readyz")[2]["inside"] == 0


def test_connections_of_one_address():
    with serving(connections=8, header_seconds=30) as address, connections(address, 8) as opened:
        with connections(address, 3) as more:
            assert all(is_fault(read(one), 429, "more than 8 connections") for one in more)
        assert get(address, source=OTHER)[0] == 200
        opened[0].close()
        until = time.monotonic() + 10
        while get(address)[0] != 200:
            assert time.monotonic() < until, "a place of a closed connection is free again"


def test_all_connections_together():
    with serving(max_connections=5, header_seconds=30) as address, connections(address, 5) as opened:
        answer = get(address, source=OTHER)
        assert is_fault(answer, 503, "more than 5 connections") and "retry-after: 1" in answer[1]
        with connections(address, 1, source=OTHER) as (silent,):  # one that sends nothing is not kept either
            assert read(silent)[0] == 503 and closed(silent, 5)
        opened[0].close()
        until = time.monotonic() + 10
        while get(address, source=OTHER)[0] != 200:
            assert time.monotonic() < until, "a place of a closed connection is free again"


@pytest.mark.parametrize(("soft", "hard", "set_to"), [(1024, 4096, 1256), (1024, 1100, 1100), (4096, 4096, None)])
def test_open_files_suffice_for_the_connections(monkeypatch, log, soft, hard, set_to):
    resource = pytest.importorskip("resource")
    made = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: made.append(limits))
    allow_connections(Limits())
    assert made == ([] if set_to is None else [(set_to, hard)])
    assert ("set max_connections=844 or raise it" in log.text) == (hard == 1100)


def test_slow_uploads_of_one_address_leave_places_for_others():
    body = form()
    with serving(queue=8, seconds=20, upload_seconds=2) as address:
        with connections(address, 4, upload(body[:60], len(body))) as slow:
            until = time.monotonic() + 10
            while get(address, "/readyz")[2]["inside"] < 4 and time.monotonic() < until:
                time.sleep(0.02)
            with connections(address, 3, upload(body)) as more:
                for one in more:
                    answer = read(one)
                    assert is_fault(answer, 429, "uploads of one address") and "retry-after: 1" in answer[1]
            assert get(address, "/readyz")[0] == 200, "there is room for others"
            with connections(address, 1, upload(body), OTHER) as (one,):
                assert read(one)[0] == 200
            assert all(is_fault(read(one), 408, "not complete after 2 s") for one in slow)
        with connections(address, 1, upload(body)) as (one,):
            assert read(one)[0] == 200
        assert get(address, "/readyz")[2] == {"ready": True, "waiting": 0, "inside": 0}


def test_not_ready_while_no_place_is_free():
    body = form()
    with serving(queue=2, uploads=2, upload_seconds=30) as address:
        with connections(address, 2, upload(body[:60], len(body))):
            until = time.monotonic() + 10
            while (state := get(address, "/readyz"))[0] == 200 and time.monotonic() < until:
                time.sleep(0.02)
            assert state[0] == 503 and state[2] == {"ready": False, "waiting": 0, "inside": 2}
            assert get(address, "/healthz")[0] == 200, "it is alive"
            with connections(address, 1, upload(body), OTHER) as (one,):
                assert is_fault(read(one), 503, "limit")
        until = time.monotonic() + 10
        while get(address, "/readyz")[0] != 200:
            assert time.monotonic() < until, "clients that left give their places back"
            time.sleep(0.02)


@pytest.mark.parametrize("verb", ["serve", "app"])
def test_sigterm_leaves_no_files(verb, tmp_path):
    if verb == "app":
        pytest.importorskip("gradio")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env = {k: v for k, v in os.environ.items() if k != "GRADIO_TEMP_DIR"} | {"TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "optisar_yolo", verb, f"port={port}"],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    url, until = f"http://127.0.0.1:{port}", time.monotonic() + 120
    try:
        while True:
            assert process.poll() is None and time.monotonic() < until, process.stdout.read().decode()
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
                break
            time.sleep(0.2)
        if verb == "app":
            boundary = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
            request = urllib.request.Request(
                f"{url}/gradio_api/upload",
                boundary + encoded() + b"\r\n--x--\r\n",
                {"Content-Type": "multipart/form-data; boundary=x"},
            )
            with urllib.request.urlopen(request, timeout=20) as response:
                assert Path(json.load(response)[0]).is_relative_to(tmp_path)
            assert list(tmp_path.rglob("*.png"))
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == 128 + signal.SIGTERM
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]
        assert not list(tmp_path.glob("optisar-*"))
    finally:
        process.kill()

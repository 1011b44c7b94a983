"""The HTTP service: results, limits, faults, and its description of itself."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from serving import LEFT, RIGHT, SIDE, TOWERS, SlowModel, encoded, grounder, rendered

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
pytest.importorskip("limits")

from fastapi.testclient import TestClient  # noqa: E402

from optisar_yolo import OptiSAR  # noqa: E402
from optisar_yolo.commands.main import main  # noqa: E402
from optisar_yolo.engine.grounding import KnownExpressions  # noqa: E402
from optisar_yolo.serve.limits import Limits  # noqa: E402
from optisar_yolo.serve.service import create_app  # noqa: E402
from optisar_yolo.utils.options import BUNDLED_MODEL  # noqa: E402

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))


@contextlib.contextmanager
def client(**limits):
    """The service with these limits; faults become responses, not exceptions."""
    limits = {"rate": "none"} | limits
    with TestClient(create_app(grounder(), Limits(**limits)), raise_server_exceptions=False) as opened:
        yield opened


def ground(opened, data=None, texts=(LEFT,), **form):
    files = None if data is None else {"source": ("<b>../x.png", data)}
    return opened.post("/v1/predict", files=files, data={"text": list(texts), **form})


def clean_fault(response, status):
    """Whether a response is a fault in the documented form, without a traceback."""
    body = response.json()
    assert response.status_code == status, body
    assert set(body) == {"error", "hint"} and all(isinstance(v, str) and v for v in body.values())
    assert not re.search(r"Traceback|File \"|/tmp|site-packages", response.text)
    return True


def counter(opened, line):
    found = re.search(rf"^{re.escape(line)} ([\d.]+)", opened.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_results_equal_the_librarys_and_a_named_image_is_not_sent_again():
    expected = OptiSAR(BUNDLED_MODEL).encode(rendered(TOWERS), SIDE).ground([LEFT, RIGHT], conf=0.0).boxes.data.tolist()
    with client() as c:
        first = ground(c, encoded(), (LEFT, RIGHT), conf=0)
        assert first.status_code == 200
        body = first.json()
        assert (body["width"], body["height"]) == rendered().shape[1::-1] and body["conf"] == 0
        for found, box in zip(body["answers"], expected, strict=True):
            assert found["found"] and found["boxes"][0]["xyxy"] == pytest.approx(box[:4], abs=0.02)
            assert found["boxes"][0]["conf"] == found["best"] == pytest.approx(box[4], abs=1e-4)
        for field in ("image", "picture"):  # the second is the former name
            again = ground(c, None, (RIGHT,), **{field: body["image"]}, conf=0)
            assert again.json()["answers"][0]["best"] == pytest.approx(body["answers"][1]["best"], abs=1e-6)
        assert ground(c, encoded(), (RIGHT,), conf=0).json()["image"] == body["image"] == body["picture"]
        assert counter(c, 'optisar_pictures_total{state="new"}') <= 1
        assert counter(c, 'optisar_pictures_total{state="remembered"}') >= 3
        strict = ground(c, encoded(), conf=1).json()["answers"][0]
        assert not strict["found"] and strict["boxes"] == [] and strict["best"] > 0


@pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="benchmarks are not part of this distribution")
def test_every_fault_gets_its_status_and_the_service_lives():
    from service_faults import faults

    with client() as c:
        for fault in faults():
            files = None if fault.image is None else {"source": ("x", fault.image)}
            form: dict[str, list[str]] = {}
            for key, value in fault.form:
                form.setdefault(key, []).append(value)
            response = c.post("/v1/predict", files=files, data=form)
            assert response.status_code == fault.status, (fault.name, response.text[:300])
            assert fault.status == 200 or clean_fault(response, fault.status)
            assert response.headers["x-content-type-options"] == "nosniff"
        assert c.get("/healthz").json() == {"alive": True} and c.get("/readyz").status_code == 200


def test_requests_that_are_no_form():
    with client() as c:
        clean_fault(c.get("/v1/predict"), 405)
        clean_fault(c.get("/nothing"), 404)
        clean_fault(c.post("/v1/predict", json={"text": LEFT}), 422)
        header = {"content-type": "multipart/form-data; boundary=x"}
        clean_fault(c.post("/v1/predict", content=b"not a form", headers=header), 400)
        clean_fault(c.post("/v1/predict", data={"text": LEFT, "source": "a string"}), 422)
        assert counter(c, 'optisar_requests_total{path="other",status="404"}') == 1
        assert "/nothing" not in c.get("/metrics").text, "clients could make the metrics grow"


def test_a_body_without_a_length_is_counted():
    sent = []

    def endless():
        yield b'--x\r\nContent-Disposition: form-data; name="source"; filename="a"\r\n\r\n'
        for _ in range(8):
            sent.append(1)
            yield bytes(1024 * 1024)

    with client(max_mib=1) as c:
        header = {"content-type": "multipart/form-data; boundary=x"}
        clean_fault(c.post("/v1/predict", content=endless(), headers=header), 413)
        clean_fault(ground(c, bytes(4 * 1024 * 1024)), 413)  # this one says its length


def test_rate():
    with client(rate="3/hour") as c:
        assert [ground(c, encoded()).status_code for _ in range(3)] == [200] * 3
        refused = ground(c, encoded())
        clean_fault(refused, 429)
        assert 0 < int(refused.headers["retry-after"]) <= 3600
        assert c.get("/healthz").status_code == 200
    with pytest.raises(ValueError, match="rate=often"):
        create_app(grounder(), Limits(rate="often"))


def test_no_capacity_and_no_answer_in_time():
    slow = SlowModel()
    with client(queue=1, seconds=1) as c, ThreadPoolExecutor(2) as pool:
        c.app.state.batcher.ground = slow
        first = pool.submit(ground, c, encoded())
        assert slow.begun.acquire(timeout=10)
        refused = ground(c, encoded())
        clean_fault(refused, 503)
        assert refused.headers["retry-after"] == "1"
        late = first.result(20)
        assert clean_fault(late, 503) and "within 1 s" in late.text
        slow.go.set()


def test_a_fault_of_the_service_is_not_explained_to_clients():
    def broken(_):
        raise RuntimeError("secret: /home/x")

    with client() as c:
        c.app.state.batcher.ground = broken
        response = ground(c, encoded())
        assert clean_fault(response, 500) and "secret" not in response.text
        assert c.get("/healthz").status_code == 200


def test_a_model_of_fixed_expressions_names_them(monkeypatch):
    monkeypatch.setattr(grounder(), "bank", KnownExpressions([LEFT], Path("/somewhere/best.onnx")))
    with client() as c:
        response = ground(c, encoded(), (RIGHT,))
        assert clean_fault(response, 422) and LEFT in response.json()["hint"]


def test_it_describes_itself():
    with client() as c:
        about = c.get("/openapi.json").json()
        done = about["paths"]["/v1/predict"]["post"]["responses"]
        assert {"200", "400", "404", "408", "413", "415", "422", "429", "500", "503"} <= set(done)
        schemas = about["components"]["schemas"]
        assert set(schemas["Grounding"]["examples"][0]) == set(schemas["Grounding"]["required"])
        assert schemas["Grounding"]["properties"]["picture"]["deprecated"]
        assert done["413"]["content"]["application/json"]["schema"]["$ref"].endswith("/Fault")
        assert c.get("/").json()["model"] == grounder().name
        ground(c, encoded(), (LEFT, RIGHT))
        text = c.get("/metrics").text
        for name in ("requests_total", "request_seconds_bucket", "batch_requests_sum", "waiting", "sentences_total"):
            assert f"\noptisar_{name}" in text
        c.app.state.batcher.stop()
        assert c.get("/healthz").status_code == 503 and c.get("/readyz").status_code == 503


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("served", [60], indirect=True)
def test_the_page_of_the_service_needs_no_network(served, page, tmp_path):
    _, (host, port) = served
    url, requested, noise = f"http://{host}:{port}", [], []
    page.on("request", lambda request: requested.append(request.url))
    page.on("pageerror", lambda error: noise.append(str(error)))
    page.goto(f"{url}/docs")
    page.expect(page.locator("#paths")).to_contain_text("/v1/predict")
    page.expect(page.locator("#paths")).to_contain_text("an expression; repeat it for several")
    page.expect(page.locator("#schemas")).to_contain_text("confidence threshold")
    file = tmp_path / "towers.png"
    file.write_bytes(encoded())
    page.locator("input[name=source]").set_input_files(file)
    page.locator("textarea").fill(f"{LEFT}\n{RIGHT}")
    page.locator("button").click()
    page.expect(page.locator("#said")).to_contain_text('"answers"')
    page.expect(page.locator("#drawn")).to_be_visible()
    page.locator("input[name=conf]").fill("2")
    page.locator("button").click()
    page.expect(page.locator("#said")).to_contain_text("422")
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.screenshot(path=str(tmp_path / "docs.png"), full_page=True)
    assert not noise and all(u.startswith((url, "blob:")) for u in requested)


@pytest.fixture
def served(request):
    """The service behind a real socket, its model busy."""
    uvicorn = pytest.importorskip("uvicorn")
    app = create_app(grounder(), Limits(rate="none", seconds=getattr(request, "param", 4), batch=1))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.02)
        yield app, listening.getsockname()
        server.should_exit = True
        thread.join(20)


def raw(body: bytes, length: int) -> bytes:
    return (
        f"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    ).encode() + body


def test_a_client_that_leaves_is_dropped_and_a_slow_upload_is_refused(served):
    app, address = served
    slow = SlowModel()
    app.state.batcher.ground = slow
    parts = [b'--x\r\nContent-Disposition: form-data; name="text"\r\n\r\nthe ship\r\n']
    parts.append(b'--x\r\nContent-Disposition: form-data; name="source"; filename="a"\r\n\r\n' + encoded() + b"\r\n")
    body = b"".join(parts) + b"--x--\r\n"
    with socket.create_connection(address, 20) as stays, socket.create_connection(address, 20) as slow_upload:
        stays.sendall(raw(body, len(body)))
        assert slow.begun.acquire(timeout=10)
        slow_upload.sendall(raw(body[:100], len(body)))
        with socket.create_connection(address, 20) as leaves:
            leaves.sendall(raw(body, len(body)))
            until = time.monotonic() + 10
            while not app.state.batcher.waiting and time.monotonic() < until:
                time.sleep(0.02)
        time.sleep(0.6)
        slow.go.set()
        assert stays.recv(100).startswith(b"HTTP/1.1 200")
        assert slow_upload.recv(100).startswith(b"HTTP/1.1 408")
    text = app.state.metrics.text().decode()
    assert 'optisar_dropped_total{why="gone"} 1.0' in text and slow.batches == [1]


def test_the_example_runs(served, tmp_path, capsys):
    path = BENCHMARKS.parent / "examples" / "service_client.py"
    spec = importlib.util.spec_from_file_location("service_client", path)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    (tmp_path / "a.png").write_bytes(encoded())
    example.URL = "http://{}:{}/v1/predict".format(*served[1])
    example.main(str(tmp_path / "a.png"), [LEFT, RIGHT])
    said = capsys.readouterr().out
    assert said.count(LEFT) == 1 and "the largest ship" in said
    with pytest.raises(SystemExit, match="400: expression 1 is blank; say"):
        example.main(str(tmp_path / "a.png"), [" "])


@pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="benchmarks are not part of this distribution")
def test_the_benchmark_counts_responses(served):
    import service

    for new in (True, False):
        outcome = service.load(service.Service(served[1][1], None), 2, 0.3, new)
        cell = outcome.cell()
        assert set(outcome.statuses) == {"200"} and len(outcome.seconds) == outcome.statuses["200"] >= 2
        assert 0 < cell["p50"] <= cell["p95"] and cell["per_second"] > 0


def test_the_command_says_what_is_wrong(capsys, monkeypatch):
    assert main(["serve", "port=many"]) == 2 and "port=many" in capsys.readouterr().err
    assert main(["serve", "prot=1"]) == 2 and "did you mean 'port'" in capsys.readouterr().err
    assert main(["serve", "queue=0"]) == 2 and "queue=0" in capsys.readouterr().err
    assert main(["serve", "rate=often"]) == 2 and "rate=often" in capsys.readouterr().err
    assert main(["serve", "model=nowhere.pt"]) == 1 and "nowhere.pt" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", f"port={port}", "model=nowhere.pt"]) == 1, "before weights are loaded"
        assert f"127.0.0.1:{port} is taken by another program; give another port=" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve"]) == 1 and "optisar-yolo[serve]" in capsys.readouterr().err


def test_the_command_runs_the_service(capsys, monkeypatch):
    ran = {}
    monkeypatch.setattr("uvicorn.run", lambda app, **kwargs: ran.update(kwargs, app=app))
    assert main(["serve", "port=8123", "max_sentences=3", "imgsz=64"]) == 0
    assert "'max_sentences=' is now 'max_expressions='" in capsys.readouterr().err
    assert ran["port"] == 8123 and ran["host"] == "127.0.0.1" and ran["app"].state.grounder.imgsz == 64
    with TestClient(ran["app"]) as c:
        clean_fault(ground(c, encoded(), (LEFT,) * 4), 422)
        assert ground(c, encoded(), (LEFT,) * 3).status_code == 200

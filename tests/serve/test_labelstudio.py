"""The backend of Label Studio: requests as it sends them, answers as its own SDK reads them."""

import base64
import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from serving import LEFT, RIGHT, encoded, grounder, rendered

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
pytest.importorskip("limits")

from fastapi.testclient import TestClient  # noqa: E402

from optisar_yolo.serve import LabelStudio, Limits, create_app  # noqa: E402
from optisar_yolo.serve.labelstudio import BoxControl  # noqa: E402
from optisar_yolo.serve.limits import Refusal  # noqa: E402

CONFIG = f"""<View>
  <!-- a comment -->
  <Image name="image" value="$image" zoom="true"/>
  <RectangleLabels name="label" toName="image" model_topk="1">
    <Label value="left tower" expression="{LEFT}" background="red"/>
    <Label value="right tower" expression="{RIGHT}"/>
  </RectangleLabels>
</View>"""
BY_FIELD = f"""<View><Image name="img" value="$picture"/>
<RectangleLabels name="box" toName="img" model_text="$sentences">
<Label value="object"/><Label value="{RIGHT}"/></RectangleLabels>
</View>"""
BARE = '<View><Image name="img" value="$image"/><Rectangle name="box" toName="img" model_text="$text"/></View>'


class Studio(BaseHTTPRequestHandler):
    """Label Studio's store of uploads, which wants a token."""

    seen: list = []

    def do_GET(self):
        self.seen.append((self.path, self.headers.get("Authorization")))
        if self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:9/secret")
            self.end_headers()
            return
        known = self.headers.get("Authorization") == "Token abc"
        body = encoded() if known else b"{}"
        self.send_response(200 if known else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def studio(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("LABEL_STUDIO_API_KEY", raising=False)
    monkeypatch.setattr(Studio, "seen", [])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Studio)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def backend(studio):
    app = create_app(grounder(), Limits(rate="none"), label_studio=LabelStudio(studio))
    with TestClient(app, raise_server_exceptions=False) as opened:
        yield opened


def task(number=1, **data):
    """Return a task as Label Studio sends it."""
    return {
        "id": number, "data": data, "meta": {}, "created_at": "2024-05-01T10:00:00Z",
        "updated_at": "2024-05-01T10:00:00Z",
        "is_labeled": False, "overlap": 1, "project": 3, "annotations": [], "predictions": [],
    }  # fmt: skip


def request(config, *tasks):
    """Return a request as Label Studio sends it."""
    return {
        "tasks": list(tasks), "model_version": "optisar++n-pocket", "project": "3.1714557600", "label_config": config,
        "params": {"login": None, "password": None, "context": None},
    }  # fmt: skip


SETUP = {"project": "3.1714557600", "schema": CONFIG, "hostname": "http://x", "access_token": "abc", "extra_params": {}}
INLINE = "data:image/png;base64," + base64.b64encode(encoded()).decode()


def test_health_and_setup(backend):
    assert backend.get("/health").json()["status"] == "UP"
    said = backend.post("/setup", json=SETUP).json()
    assert (
        said["model_version"] == "optisar++n-pocket"
        and said["model_version"] in backend.get("/versions").json()["versions"]
    )
    assert backend.post("/webhook", json={"action": "PROJECT_UPDATED"}).status_code == 200


def test_expressions_of_labels(backend):
    backend.post("/setup", json=SETUP)
    said = backend.post("/predict", json=request(CONFIG, task(image="/data/upload/3/a.png"))).json()
    (prediction,) = said["results"]
    assert [r["value"]["rectanglelabels"] for r in prediction["result"]] == [["left tower"], ["right tower"]]
    height, width = rendered().shape[:2]
    direct = backend.post("/v1/predict", files={"source": ("a.png", encoded())}, data={"text": [LEFT, RIGHT]}).json()
    for region, text, answer in zip(prediction["result"], (LEFT, RIGHT), direct["answers"], strict=True):
        v, (x1, y1, x2, y2) = region["value"], answer["boxes"][0]["xyxy"]
        assert [v["x"] * width / 100, v["y"] * height / 100] == pytest.approx([x1, y1], abs=0.01)
        assert [v["width"] * width / 100, v["height"] * height / 100] == pytest.approx([x2 - x1, y2 - y1], abs=0.02)
        assert (region["original_width"], region["original_height"], v["rotation"]) == (width, height, 0)
        assert region["meta"] == {"text": [text]} and region["score"] == answer["boxes"][0]["conf"]
        assert (region["from_name"], region["to_name"], region["type"]) == ("label", "image", "rectanglelabels")
    assert prediction["score"] == pytest.approx(sum(r["score"] for r in prediction["result"]) / 2)
    assert len({r["id"] for r in prediction["result"]}) == 2
    assert Studio.seen == [("/data/upload/3/a.png", "Token abc")]


def test_expressions_of_a_field(backend):
    tasks = [task(1, picture=INLINE, sentences=LEFT), task(2, picture=INLINE, sentences=[LEFT, RIGHT])]
    one, two = backend.post("/predict", json=request(BY_FIELD, *tasks)).json()["results"]
    assert [r["value"]["rectanglelabels"] for r in one["result"]] == [["object"]]
    assert [r["value"]["rectanglelabels"] for r in two["result"]] == [["object"], [RIGHT]]
    (bare,) = backend.post("/predict", json=request(BARE, task(image=INLINE, text=LEFT))).json()["results"]
    assert bare["result"][0]["type"] == "rectangle" and set(bare["result"][0]["value"]) == {
        "x",
        "y",
        "width",
        "height",
        "rotation",
    }


def test_nothing_found_is_an_empty_prediction(backend):
    strict = CONFIG.replace('model_topk="1"', 'model_score_threshold="1.0"')
    assert backend.post("/predict", json=request(strict, task(image=INLINE))).json()["results"][0]["result"] == []


def test_one_bad_task_of_several_is_said_and_the_others_go_on(backend, caplog):
    tasks = [task(7, image="/data/upload/gone.png"), task(8, image=INLINE)]
    said = backend.post("/predict", json=request(CONFIG, *tasks)).json()["results"]
    assert [len(r["result"]) for r in said] == [0, 2]
    assert "task 7: Label Studio answers 401" in caplog.text and "LABEL_STUDIO_API_KEY" in caplog.text


@pytest.mark.parametrize(
    "config, data, message",
    [
        (CONFIG, {"image": "http://169.254.169.254/latest"}, "not one of Label Studio's"),
        (CONFIG, {"image": "file:///etc/passwd"}, "not one of Label Studio's"),
        (CONFIG, {"image": "s3://bucket/a.png"}, "not one of Label Studio's"),
        (CONFIG, {"image": "/moved/a.png"}, "answers 302"),
        (CONFIG, {"image": "data:image/png;base64,%%%"}, "not base64"),
        (CONFIG, {"image": "data:image/png;base64,aGFsbG8="}, "not an image of a known kind"),
        (CONFIG, {"other": "a.png"}, "no image in its field 'image'"),
        (BY_FIELD, {"picture": INLINE}, "no expressions in its field 'sentences'"),
        (BY_FIELD, {"picture": INLINE, "sentences": [" "]}, "no expressions in its field 'sentences'"),
        ("<View>", {"image": INLINE}, "no XML"),
        ('<!DOCTYPE a [<!ENTITY x "y">]><View/>', {"image": INLINE}, "no XML"),
        ('<View><Text name="t" value="$text"/></View>', {"image": INLINE}, "no boxes on an image"),
        (
            '<View><Image name="i" value="$image"/><Rectangle name="r" toName="i"/></View>',
            {"image": INLINE},
            "names no labels",
        ),
        (CONFIG.replace('model_topk="1"', 'model_topk="0"'), {"image": INLINE}, "model_topk=0"),
        (CONFIG.replace('model_topk="1"', 'model_score_threshold="2"'), {"image": INLINE}, "model_score_threshold=2"),
    ],
)
def test_what_cannot_be_done_is_refused(backend, config, data, message):
    response = backend.post("/predict", json=request(config, task(**data)))
    assert 400 <= response.status_code < 500 and message in response.json()["error"], response.text


def test_a_configuration_without_boxes_is_refused_at_setup(backend):
    assert backend.post("/setup", json={**SETUP, "schema": "<View/>"}).status_code == 422


def test_local_files(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"1")
    (tmp_path / "b.png").write_bytes(b"2")
    link = LabelStudio("http://localhost:8080", tmp_path / "in")
    assert link.fetch("/data/local-files/?d=a.png", "", Limits()) == b"1"
    for name in ("../b.png", str(tmp_path / "b.png"), "", "gone.png"):
        with pytest.raises(Refusal, match="no file"):
            link.fetch(f"/data/local-files/?d={name}", "", Limits())
    with pytest.raises(ValueError, match="label_studio=localhost:8080"):
        LabelStudio("localhost:8080")
    with pytest.raises(ValueError, match="no such folder"):
        LabelStudio("http://localhost:8080", tmp_path / "gone")


def test_without_the_option_the_service_has_no_such_paths():
    with TestClient(create_app(grounder(), Limits(rate="none"))) as opened:
        assert opened.get("/health").status_code == 404 and opened.post("/predict", json={}).status_code == 404


def test_labels_of_expressions():
    control = BoxControl.of(CONFIG)
    assert control.expressions({}) == [LEFT, RIGHT] and control.label_of(RIGHT.upper()) == ["right tower"]
    assert control.label_of("something else") == ["left tower"]
    assert BoxControl.of(CONFIG.replace(' model_topk="1"', "")).topk == 20


READ = """
import json, sys
from label_studio_sdk.label_interface import LabelInterface
said = json.load(sys.stdin)
print(LabelInterface(said["config"]).validate_prediction(said["prediction"], return_errors=True))
"""


def test_label_studios_own_sdk_takes_the_predictions(backend):
    python = os.environ.get("OPTISAR_LABELS_PYTHON", sys.executable)
    if subprocess.run([python, "-c", "import label_studio_sdk"], capture_output=True).returncode:
        pytest.skip("label-studio-sdk is not installed (OPTISAR_LABELS_PYTHON names a Python that has it)")
    for config, data in ((CONFIG, {"image": INLINE}), (BY_FIELD, {"picture": INLINE, "sentences": [LEFT]})):
        (prediction,) = backend.post("/predict", json=request(config, task(**data))).json()["results"]
        said = json.dumps({"config": config, "prediction": prediction})
        out = subprocess.run([python, "-c", READ], input=said, capture_output=True, text=True, timeout=100)
        assert out.stdout.strip() == "[]", out.stdout + out.stderr

"""The review page in a real browser: everything a reviewer does, and what is left of it when the server is killed."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from review_set import HOSTILE, make_work, run

from optisar_yolo.construction.review.decisions import DecisionLog
from optisar_yolo.construction.samples import SampleFile
from optisar_yolo.data.config import DataError
from optisar_yolo.utils import UsageError


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Server:
    """``optisar dataset review`` in a process of its own."""

    def __init__(self, work: Path, **options: object) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        words = [f"{k}={v}" for k, v in ({"work": work, "port": self.port, "browser": False} | options).items()]
        environment = {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"}  # NiceGUI looks for it
        environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
        self.log = work.parent / f"server-{self.port}.log"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "optisar_yolo", "dataset", "review", *words],
            cwd=work.parent, env=environment, stdout=open(self.log, "wb"), stderr=subprocess.STDOUT,
        )  # fmt: skip

    def wait(self) -> Server:
        for _ in range(240):
            try:
                urllib.request.urlopen(self.url, timeout=5).close()
                return self
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
                time.sleep(0.25)
        raise AssertionError(f"no page: {self.log.read_text()}")

    def end(self, how: signal.Signals) -> str:
        self.process.send_signal(how)
        self.process.wait(30)
        return self.log.read_text()


@pytest.fixture
def work(tmp_path):
    return make_work(tmp_path)


@pytest.fixture
def serve(work):
    pytest.importorskip("nicegui")
    servers = []

    def start(**options):
        servers.append(Server(work, **options))
        return servers[-1].wait()

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.end(signal.SIGKILL)


def at(page, x: float, y: float) -> tuple[float, float]:
    """Return where a pixel of the image is on the screen."""
    return tuple(
        page.evaluate(
            "([x, y]) => { const p = new DOMPoint(x, y).matrixTransform("
            "document.querySelector('.review-image').getScreenCTM()); return [p.x, p.y]; }",
            [x, y],
        )
    )


def drag(page, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*at(page, *start))
    page.mouse.down()
    page.mouse.move(*at(page, *end), steps=5)
    page.mouse.up()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_flag_correct_kill_apply_export(work, serve, page, tmp_path):
    server = serve(by="ann")
    asked, noise = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: noise.append(message.text))
    page.on("pageerror", lambda error: noise.append(str(error)))
    page.goto(server.url)
    state, count = page.locator(".review-state"), page.locator(".review-count")

    # the first flagged object: its box, the others', its flag and words
    page.expect(page.locator(".review-name")).to_have_text("s/a.jpg#1")
    page.expect(page.locator(".review-box")).to_be_visible()
    page.expect(page.locator(".review-other")).to_have_count(2)
    page.expect(page.locator(".review-corner")).to_have_count(4)
    page.expect(page.locator(".review-flag")).to_have_text("screen: best IoU 0.12")
    page.expect(count).to_have_text("0 of 4 done")
    page.wait_for_function("document.querySelector('.review-image image').getBBox().width === 640")
    page.screenshot(path=str(tmp_path / "wide.png"))

    # the box drawn anew, one corner moved, then the words; a key typed there is a letter
    drag(page, (330, 260), (391, 285))
    page.expect(state).to_have_text("corrected")
    drag(page, (391, 285), (391, 291))
    page.keyboard.press("e")
    words = page.locator(".review-captions textarea")
    page.expect(words).to_be_focused()
    page.keyboard.press("Control+a")
    page.keyboard.type("a rare ship")
    page.keyboard.press("Enter")
    page.expect(words).not_to_be_focused()
    page.expect(words).to_have_value("a rare ship")
    page.keyboard.press("a")  # keeps the correction and goes on

    # hostile text is text; the other object's box is where it was corrected to
    page.expect(page.locator(".review-name")).to_have_text("s/a.jpg#2")
    page.expect(page.locator(".review-other").last).to_have_attribute("x", re.compile(r"^(329|33[01])(\.\d+)?$"))
    page.expect(words).to_have_value(f"{HOSTILE}\nthe upper right ship")
    assert page.locator(".review-side img").count() == 0 and page.title() == "Review"
    page.expect(page.locator(".review-flag").nth(1)).to_have_text(f"screen: {HOSTILE}")
    page.keyboard.press("Control+r")  # reloads, rejects nothing; the page comes back where it was
    page.expect(count).to_have_text("1 of 4 done")
    page.expect(page.locator(".review-name")).to_have_text("s/a.jpg#2")

    # reject, undo, reject again; the category by its key; accept by the button
    page.keyboard.press("r")
    page.expect(page.locator(".review-name")).to_have_text("s/b.tif#0")
    page.keyboard.press("u")
    page.expect(page.locator(".review-name")).to_have_text("s/a.jpg#2")
    page.expect(state).to_have_text("open")
    page.keyboard.press("c")
    page.get_by_role("option", name="optical airplane").click()
    page.expect(state).to_have_text("corrected")
    page.keyboard.press("ArrowRight")
    page.expect(page.locator(".review-name")).to_have_text("s/b.tif#0")
    page.wait_for_function("document.querySelector('.review-image image').getBBox().width === 300")  # the TIFF
    page.expect(page.locator(".review-failed")).to_have_count(0)
    page.keyboard.press("r")
    page.expect(page.locator(".review-name")).to_have_text("s/b.tif#1")
    page.set_viewport_size({"width": 800, "height": 600})
    page.screenshot(path=str(tmp_path / "narrow.png"))
    page.get_by_role("button", name="Accept").click()
    page.expect(count).to_have_text("4 of 4 done")
    page.keyboard.press("z")  # a click on a button leaves the keys alive
    page.wait_for_function("document.querySelector('.review-image').viewBox.baseVal.width < 300")
    assert all(url.startswith((server.url, "data:", "blob:")) for url in asked) and not noise

    server.end(signal.SIGKILL)
    last = DecisionLog(work / "review" / "journal.jsonl").last
    assert {i: d.action for i, d in last.items()} == {
        "s/a.jpg#1": "correct", "s/a.jpg#2": "correct", "s/b.tif#0": "reject", "s/b.tif#1": "accept",
    }  # fmt: skip
    assert last["s/a.jpg#1"].box == pytest.approx((330, 260, 391, 291), abs=1.5) and last["s/b.tif#1"].by == "ann"

    target = work / "reviewed.json"
    run(work, apply=True)
    run(work, export=str(target), show="all")
    done = {i.id: i for s in SampleFile(work / "review" / "samples.jsonl") for i in s.instances}
    assert list(done) == ["s/a.jpg#0", "s/a.jpg#1", "s/a.jpg#2", "s/b.tif#1"]
    assert done["s/a.jpg#1"].captions == ["a rare ship"] and done["s/a.jpg#2"].category == "optical airplane"
    assert not any(i.flags for i in done.values())
    notes = json.loads(target.read_text())["annotations"]
    assert [n["attributes"]["object"] for n in notes] == list(done) and notes[1]["caption"] == "a rare ship"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_lost_image_a_filter_and_a_journal_that_cannot_be_written(work, serve, page):
    (work.parent / "a.jpg").unlink()
    server = serve()
    page.goto(server.url)
    page.expect(page.locator(".review-failed")).to_contain_text("a.jpg")
    page.get_by_label("Flags").click()
    page.get_by_role("option", name="ambiguous (1)").click()
    page.expect(page.locator(".review-name")).to_have_text("s/a.jpg#2")
    page.expect(page.locator(".review-count")).to_have_text("0 of 1 done")
    journal = work / "review" / "journal.jsonl"
    journal.unlink()
    journal.mkdir()  # as good as a full disk
    page.keyboard.press("a")
    page.expect(page.get_by_text("Not recorded")).to_be_visible()
    page.expect(page.locator(".review-count")).to_have_text("0 of 1 done")
    drag(page, (10, 10), (200, 200))
    page.expect(page.locator(".review-state")).to_have_text("open")
    # the drag was taken back
    page.expect(page.locator(".review-box")).to_have_attribute("width", re.compile(r"^61(\.0)?$"))


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(work, serve):
    server = serve(show="all")
    for path, status in (("/picture/0", 200), ("/picture/5", 404), ("/picture/-1", 404), ("/picture/../x", 404)):
        try:
            with urllib.request.urlopen(server.url + path, timeout=20) as answer:
                assert answer.status == status and answer.read(2) == b"\xff\xd8"
        except urllib.error.HTTPError as error:
            assert error.code == status
    said = server.end(signal.SIGINT)
    assert "0 of 5 decided" in said and "apply=True" in said and "Traceback" not in said


def test_what_hinders_the_page_is_said(work, monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        with pytest.raises(DataError, match="is taken by another program; give another port="):
            run(work, port=server.getsockname()[1], browser=False)
    for wrong in ({"port": 70_000}, {"host": "no such host"}, {"show": "some"}, {"from": "clean"}):
        with pytest.raises((DataError, UsageError)):
            run(work, **wrong)
    monkeypatch.setitem(sys.modules, "nicegui", None)
    monkeypatch.delitem(sys.modules, "optisar_yolo.construction.review.page", raising=False)
    monkeypatch.delitem(sys.modules, "optisar_yolo.construction.review.page", raising=False)
    with pytest.raises(DataError, match="optisar-yolo\\[build\\]"):
        run(work, port=free_port(), browser=False)

"""The browser app: its handlers, and the page in a real browser."""

from __future__ import annotations

import csv
import json
import re
import socket
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from serving import LEFT, RIGHT, encoded, grounder, rendered

gr = pytest.importorskip("gradio")

from matplotlib.colors import to_rgb  # noqa: E402

from optisar_yolo.commands.main import main  # noqa: E402
from optisar_yolo.serve.app import ModelChoice, launch_app, shows_refusals  # noqa: E402
from optisar_yolo.serve.grounder import GroundingRequest  # noqa: E402
from optisar_yolo.serve.limits import Limits, Refusal  # noqa: E402
from optisar_yolo.serve.outputs import ResultFolder  # noqa: E402
from optisar_yolo.utils.options import BUNDLED_MODEL  # noqa: E402
from optisar_yolo.visualize.draw import PALETTE  # noqa: E402

HOSTILE = '<img src=x onerror="alert(1)"> the ship'


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "towers.png"
    path.write_bytes(encoded())
    return path


def coloured(image: np.ndarray, colour: str) -> np.ndarray:
    """Where an image BGR has a colour."""
    wanted = np.array(to_rgb(colour))[::-1] * 255
    return np.abs(image.astype(float) - wanted).max(2) < 3


def test_the_handlers_ground_draw_and_write(handlers, image):
    shown, status = handlers.show_upload(str(image), BUNDLED_MODEL)
    assert (cv2.imread(shown) == rendered()).all() and "encoded in" in status
    drawn, status, table, maps, files = handlers.ground(str(image), f"{LEFT}\n\n  {RIGHT}\n", 0.0, BUNDLED_MODEL, 1)
    assert "2 of 2 found; image already encoded" in status
    assert [row[:2] for row in table] == [[LEFT, "found"], [RIGHT, "found"]]
    boxes = [[float(v) for v in row[3].split()] for row in table]
    assert boxes[0][2] < boxes[1][0], "left and right"
    assert [text for _, text in maps] == [f"1. {LEFT}", f"2. {RIGHT}"]
    assert all(cv2.imread(path) is not None for path, _ in maps)
    paths = [Path(f) for f in files]
    assert [p.name for p in paths] == ["answers.png", "answers.json", "answers.csv"] and str(paths[0]) == drawn
    written = json.loads(paths[1].read_text())
    assert written["image"] == written["picture"]  # the second is the former name
    found = written["answers"]
    assert found[0]["boxes"][0]["xyxy"] == pytest.approx(boxes[0], abs=0.51)
    lines = list(csv.reader(paths[2].open(newline="")))
    assert len(lines) == 3 and lines[0][0] == "sentence" and lines[1][0] == LEFT
    assert [float(v) for v in lines[1][3:7]] == pytest.approx(boxes[0], abs=0.51)
    nothing = handlers.ground(str(image), LEFT, 1.0, BUNDLED_MODEL, 1)
    assert nothing[2][0][1] == "nothing found" and nothing[2][0][3] == "" and "0 of 1" in nothing[1]


def test_a_slider_that_was_not_moved_means_the_thresholds_of_the_model(handlers, tmp_path, monkeypatch):
    asked, real = [], grounder().ground
    monkeypatch.setattr(grounder(), "ground", lambda requests: asked.extend(requests) or real(requests))
    path = tmp_path / "port.png"
    path.write_bytes(encoded(9))
    shown = handlers.choose_model(BUNDLED_MODEL)[0].value
    both = handlers.ground(str(path), "all ships\nthe largest ship", shown, BUNDLED_MODEL, 1)
    image = handlers.load(str(path), grounder())[0]
    own = grounder().ground([GroundingRequest(image, ("all ships", "the largest ship"))])[0]
    assert [len(r.boxes) for r in own] == [sum(row[0] == r.text and row[1] == "found" for row in both[2]) for r in own]
    assert len(own[0].boxes) > 2 and f"2 of 2 found ({len(own[0].boxes) + 1} boxes)" in both[1]
    higher = handlers.ground(str(path), "all ships", min(own[0].boxes[1].conf, 0.99), BUNDLED_MODEL, 1)
    assert len(higher[2]) == 2, "a slider that was moved holds for all"
    moved = asked[2].conf
    assert [r.conf for r in asked] == [None, None, moved] and moved > shown


def test_all_matches_of_an_expression_that_is_no_plural(handlers, tmp_path):
    path = tmp_path / "port.png"
    path.write_bytes(encoded(9))
    one, every = (handlers.ground(str(path), "a ship", grounder().conf, BUNDLED_MODEL, 1, all_) for all_ in (0, 1))
    assert len(one[2]) == 1 and len(every[2]) > 2


def test_enter_grounds_and_other_keys_do_not(handlers, image):
    rest = (0.0, BUNDLED_MODEL, 1, False)
    assert handlers.typed(str(image), f"{LEFT}\n", *rest)[2][0][0] == LEFT
    for path, text in ((str(image), LEFT), (None, f"{LEFT}\n"), (str(image), "\n")):
        said = handlers.typed(path, text, *rest)
        assert len(said) == 5 and all(v == gr.skip() for v in said)


def test_a_model_comes_with_what_its_weights_know(handlers):
    slider, facts = handlers.choose_model(BUNDLED_MODEL)
    assert slider.value == pytest.approx(handlers.models.get(BUNDLED_MODEL).conf, abs=1e-3)
    assert "categories   optical vehicle" in facts and "optsar-real.yaml" in facts and "meanIoU" in facts


def test_what_the_handlers_refuse(handlers, image, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"<b>no image</b>")
    for path, texts, message in (
        (None, LEFT, "no image"), (str(image), " \n ", "no expression"), (str(bad), LEFT, "known kind"),
        (str(image), "ship " * 10_000, "characters"), (str(image), "a\n" * 65, "65 expressions"),
    ):  # fmt: skip
        with pytest.raises(Refusal, match=message):
            handlers.ground(path, texts, 0.5, BUNDLED_MODEL, 1)
    with pytest.raises(gr.Error) as shown:
        shows_refusals(lambda: (_ for _ in ()).throw(Refusal(400, "<b>", "a & b")))()
    assert shown.value.message == "&lt;b&gt;; a &amp; b"


def test_no_pickle_is_opened_that_was_not_named_at_the_start(tmp_path):
    mine = tmp_path / "uploaded.pt"
    mine.write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    for paths in (True, False):
        with pytest.raises(Refusal, match="cannot be chosen"):
            ModelChoice([BUNDLED_MODEL], paths, Limits()).get(str(mine))
    with pytest.raises(Refusal, match="cannot be chosen"):
        ModelChoice([BUNDLED_MODEL], False, Limits()).get("other.safetensors")
    with pytest.raises(Refusal, match=r"cannot be opened.*other\.safetensors"):
        ModelChoice([BUNDLED_MODEL], True, Limits()).get("other.safetensors")


def test_results_do_not_pile_up(monkeypatch):
    monkeypatch.setattr("optisar_yolo.serve.outputs.FOLDERS", 3)
    folder = ResultFolder()
    made = [folder.new() for _ in range(5)]
    assert [p.exists() for p in made] == [False, False, True, True, True]
    folder.remove()
    assert not folder.root.exists()


def test_the_command_says_what_is_wrong(capsys, monkeypatch):
    assert main(["app", "share=perhaps"]) == 2 and "share=perhaps" in capsys.readouterr().err
    assert main(["app", "model=nowhere.pt"]) == 1 and "nowhere.pt" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr("optisar_yolo.serve.app.Grounder", lambda *_, **__: grounder())
        assert main(["app", f"port={port}"]) == 1
        assert f"127.0.0.1:{port} is taken by another program" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "optisar_yolo.serve.app")
    assert main(["app"]) == 1 and "optisar-yolo[apps]" in capsys.readouterr().err


@pytest.fixture
def app(handlers):
    """The app behind a real socket."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    blocks = launch_app(handlers, "127.0.0.1", port, block=False)
    yield f"http://127.0.0.1:{port}"
    blocks.close()


def image_of(page, selector: str) -> np.ndarray:
    """The image that an element shows, BGR."""
    body = page.request.get(page.locator(f"{selector} img").first.evaluate("e => e.src")).body()
    return cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_upload_two_expressions_boxes(app, page, image, tmp_path):
    requested, noise = [], []
    page.on("request", lambda request: requested.append(request.url))
    page.on("pageerror", lambda error: noise.append(str(error)))
    page.on("dialog", lambda dialog: noise.append(dialog.message))
    page.goto(app)
    page.locator("#source input[type=file]").set_input_files(image)
    status = page.locator("#status textarea")
    page.expect(status).to_have_value(re.compile("encoded in"))

    # two expressions, two boxes where the table says
    page.locator("#texts textarea").fill(f"{LEFT}\n{RIGHT}")
    page.locator("#conf input[type=number]").fill("0")
    page.locator("#go").click()
    page.expect(status).to_have_value(re.compile("2 of 2 found; image already encoded"))
    page.expect(page.locator("#image img")).to_be_visible()
    drawn = image_of(page, "#image")[: rendered().shape[0]]
    for text, colour, side in ((LEFT, PALETTE[0], 0), (RIGHT, PALETTE[1], 1)):
        y, x = np.nonzero(coloured(drawn, colour))
        assert len(x) > 40, f"no box for {text}"
        assert (x.mean() > drawn.shape[1] / 2) == bool(side)
        inner = coloured(drawn, colour)[y.min() + 4 : y.max() - 3, x.min() + 4 : x.max() - 3]
        assert not inner.any(), "a box is an outline"
    page.expect(page.locator("#table")).to_contain_text(LEFT)
    page.expect(page.locator("#maps img").nth(1)).to_be_visible()
    page.expect(page.locator("#files")).to_contain_text(re.compile(r"answers\s*\.csv"))
    # pointing at a row shows its box, and pointing at a box its row
    cell, hit = page.locator("#table [data-row='1'][data-col='0']"), page.locator(".optisar-row-hit")
    cell.hover()
    page.expect(page.locator("#optisar-mark")).to_be_visible()
    marked, shown = page.locator("#optisar-mark").bounding_box(), page.locator("#image img").bounding_box()
    assert marked["x"] > shown["x"] + shown["width"] / 2 and shown["y"] < marked["y"] < shown["y"] + shown["height"]
    page.mouse.move(5, 5)
    page.expect(hit).to_have_count(0)
    page.locator("#image").scroll_into_view_if_needed()
    cell.hover()
    page.expect(page.locator("#optisar-mark")).to_be_visible()
    x, y = (page.locator("#optisar-mark").bounding_box()[k] for k in ("x", "y"))
    page.mouse.move(x + 3, y + 3)
    page.expect(hit).to_contain_text(RIGHT)

    page.wait_for_timeout(800)
    page.screenshot(path=str(tmp_path / "wide.png"), full_page=True)
    page.set_viewport_size({"width": 400, "height": 850})
    page.wait_for_timeout(800)
    page.screenshot(path=str(tmp_path / "narrow.png"), full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400, "the page is wider than the window"
    word = page.locator("#table [data-row='0'][data-col='1'] span")
    assert word.inner_text() == "found" and word.bounding_box()["height"] < 30, "letters of a word are stacked"
    sure = page.locator("#table [data-row='0'][data-col='2']").bounding_box()
    assert sure["x"] + sure["width"] <= 400, "confidences are beside the expressions"
    places = [page.locator(f"#{name}").bounding_box()["y"] for name in ("go", "image", "examples")]
    assert places == sorted(places), "results come before examples"
    page.set_viewport_size({"width": 1400, "height": 1000})

    # Enter at the end of a line grounds
    page.locator("#texts textarea").fill("")
    page.locator("#texts textarea").press_sequentially(LEFT)
    page.locator("#texts textarea").press("Enter")
    page.expect(status).to_have_value(re.compile("1 of 1 found"))

    # text is text, and a threshold that nothing reaches says so
    page.locator("#texts textarea").fill(HOSTILE)
    page.locator("#conf input[type=number]").fill("1")
    page.locator("#go").click()
    page.expect(page.locator("#table")).to_contain_text("onerror")
    page.expect(page.locator("#table")).to_contain_text("nothing found")
    assert page.locator("img[src='x']").count() == 0

    # a refusal is shown, also where the click comes while the results above are still being sent
    page.locator("#texts textarea").fill(" ")
    page.locator("#go").click()
    page.expect(page.get_by_text("no expression")).to_be_visible()

    # examples of both modalities
    page.locator("#examples img").first.click()
    page.expect(page.locator("#table")).to_contain_text("optical")
    assert page.locator("#examples img").count() == 2
    assert all(url.startswith((app, "data:", "blob:")) for url in requested), [
        u for u in requested if not u.startswith(app)
    ]
    assert not noise

"""What app and service are made of: limits, uploads, remembered images, batches, score maps."""

from __future__ import annotations

import time
from concurrent.futures import wait

import cv2
import numpy as np
import pytest
from serving import LEFT, RIGHT, SIDE, TOWERS, Slow, encoded, engine, scene

from optisar_yolo.data.images import read_image
from optisar_yolo.explain.look import Explainer
from optisar_yolo.serve import uploads
from optisar_yolo.serve.answers import Engine, GroundingRequest
from optisar_yolo.serve.batching import Batcher
from optisar_yolo.serve.limits import Limits, Refusal, within
from optisar_yolo.serve.maps import overlay, score_maps
from optisar_yolo.serve.session import Prepared, Remembered, key_of


def prepared(number: int) -> Prepared:
    return Prepared.of(key_of(encoded(number)), scene(number), SIDE)


def fresh() -> Engine:
    """The shared model with nothing remembered."""
    engine().seen = Remembered(8)
    return engine()


def test_expressions_are_cleaned_and_counted():
    limits = Limits(max_expressions=2, max_words=3, max_characters=20)
    assert within(["the\x00 ship\n", "<b>a</b>"], limits) == ["the ship", "<b>a</b>"]
    for texts, status, said in (
        ([], 422, "no expression"), (["a"] * 3, 422, "3 expressions"), (["a", " \u200b"], 400, "expression 2 is blank"),
        (["a b c d"], 422, "4 words"), (["a" * 21], 422, "21 characters"),
    ):  # fmt: skip
        with pytest.raises(Refusal, match=said) as refused:
            within(texts, limits)
        assert refused.value.status == status and refused.value.hint


def test_limits_must_be_possible():
    assert Limits(window=0).window == 0
    for wrong in ({"queue": 0}, {"seconds": -1.0}, {"max_pixels": 0}, {"max_mib": float("nan")}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Limits(**wrong)


@pytest.mark.parametrize("ending", [".png", ".jpg", ".tif", ".bmp", ".webp"])
def test_uploads_are_read_as_files_are(ending, tmp_path):
    data = encoded(TOWERS, ending)
    (tmp_path / "x").write_bytes(data)
    assert (uploads.read_upload(data, Limits()) == read_image(tmp_path / "x")).all()
    assert uploads.header(data) == scene().shape[1::-1]


def test_deep_images_are_stretched_as_files_are(tmp_path):
    deep = scene().astype(np.uint16)[..., 0] * 40
    data = bytes(cv2.imencode(".tif", deep)[1])
    (tmp_path / "x").write_bytes(data)
    assert (uploads.read_upload(data, Limits()) == read_image(tmp_path / "x")).all()


def test_too_many_pixels_are_refused_before_decoding(monkeypatch):
    monkeypatch.setattr(uploads, "read_encoded", lambda *_: pytest.fail("decoded"))
    height, width = scene().shape[:2]
    with pytest.raises(Refusal, match=f"{width} x {height}") as refused:
        uploads.read_upload(encoded(), Limits(max_pixels=width * height - 1))
    assert refused.value.status == 413
    with pytest.raises(Refusal, match="MiB"):
        uploads.read_upload(encoded(), Limits(max_mib=0.001))


@pytest.mark.parametrize("ending", [".png", ".jpg", ".tif", ".bmp", ".webp"])
def test_damaged_files_are_read_or_refused(ending):
    rng, data = np.random.default_rng(0), np.frombuffer(encoded(TOWERS, ending), np.uint8)
    outcomes = set()
    for _ in range(15):
        hurt = data[: rng.integers(1, len(data))] if rng.random() < 0.4 else data.copy()
        hurt = hurt.copy()
        hurt[rng.integers(0, min(len(hurt), 400), 4)] = rng.integers(0, 256, 4)
        try:
            image = uploads.read_upload(hurt.tobytes(), Limits())
            assert image.dtype == np.uint8 and image.ndim == 3
            outcomes.add(200)
        except Refusal as refusal:
            outcomes.add(refusal.status)
    assert outcomes <= {200, 400, 413, 415} and 400 in outcomes


def test_the_oldest_is_forgotten():
    kept: Remembered[int] = Remembered(2)
    kept.put("a", 1)
    kept.put("b", 2)
    assert kept.get("a") == 1  # now the latest
    kept.put("c", 3)
    assert len(kept) == 2 and kept.get("b") is None and kept.get("a") == 1 and kept.get("c") == 3


def test_answers_are_those_of_the_library():
    asked = (LEFT, RIGHT, "the ship")
    found = fresh().answer([GroundingRequest(prepared(TOWERS), asked, 0.0, 3)])[0]
    expected = open_scene().ground(list(asked), conf=0.0, topk=3).boxes.data.numpy()
    boxes = np.array([[*b.xyxy, b.conf, j] for j, a in enumerate(found) for b in a.boxes])
    np.testing.assert_allclose(boxes, expected, atol=1e-3)
    assert [a.text for a in found] == list(asked) and found[0].best == pytest.approx(expected[0, 4], abs=1e-5)
    strict = engine().answer([GroundingRequest(prepared(TOWERS), asked, 1.0)])[0]
    assert not any(a.boxes for a in strict) and strict[0].best == pytest.approx(found[0].best)


def open_scene():
    from optisar_yolo import OptiSAR
    from optisar_yolo.utils.options import BUNDLED_MODEL

    return OptiSAR(BUNDLED_MODEL).encode(scene(TOWERS), SIDE)


def test_long_expressions_say_that_they_are_cut():
    long = "the ship " * 45
    cut, whole = engine().answer([GroundingRequest(prepared(TOWERS), (long.strip(), LEFT))])[0]
    assert "first 64 of" in cut.note and whole.note == ""


def test_questions_together_are_one_look_with_the_answers_of_each_alone(monkeypatch):
    questions = [
        GroundingRequest(prepared(1), (LEFT, "the ship"), 0.0),
        GroundingRequest(prepared(TOWERS), (RIGHT,), 0.0),
        GroundingRequest(prepared(1), (RIGHT,), 0.0, topk=2),
        GroundingRequest(prepared(TOWERS), (LEFT, RIGHT), 0.0),
    ]
    alone = [fresh().answer([q])[0] for q in questions]
    used, batches, looks = fresh(), [], []
    look = used.network.encode
    monkeypatch.setattr(used.network, "encode", lambda x, extent: looks.append(len(x)) or look(x, extent))
    batcher = Batcher(used.answer, Limits(), lambda n, _: batches.append(n))
    futures = [batcher.submit(q) for q in questions]
    batcher.start()
    together = [f.result(30) for f in futures]
    batcher.stop()
    same_canvas = questions[0].image.pixels.shape == questions[1].image.pixels.shape
    assert batches == [4] and looks == ([2] if same_canvas else [1, 1])
    for mine, theirs in zip(together, alone, strict=True):
        assert [a.text for a in mine] == [a.text for a in theirs]
        for a, b in zip(mine, theirs, strict=True):
            np.testing.assert_allclose([x.xyxy for x in a.boxes], [x.xyxy for x in b.boxes], atol=0.02)
            np.testing.assert_allclose([x.conf for x in a.boxes], [x.conf for x in b.boxes], atol=1e-4)
    looked = len(looks)
    used.answer([questions[0]])
    assert len(looks) == looked, "a remembered image is not looked at again"


def test_images_of_one_canvas_share_one_run(monkeypatch):
    used, looks = fresh(), []
    look = used.network.encode
    monkeypatch.setattr(used.network, "encode", lambda x, extent: looks.append(len(x)) or look(x, extent))
    pair = [Prepared.of(str(i), np.ascontiguousarray(scene(TOWERS)[:, ::d]), SIDE) for i, d in enumerate((1, -1))]
    both = used.answer([GroundingRequest(p, (LEFT,), 0.0) for p in pair])
    assert looks == [2]
    kept = {id(t.untyped_storage()): t for t in used.seen.get("1").encoded.maps.values()}
    assert all(t.untyped_storage().nbytes() == t.numel() * 4 for t in kept.values()), "the batch is kept alive"
    for i, image in enumerate(pair):
        alone = fresh().answer([GroundingRequest(image, (LEFT,), 0.0)])[0][0]
        np.testing.assert_allclose(both[i][0].boxes[0].xyxy, alone.boxes[0].xyxy, atol=0.02)
        assert both[i][0].best == pytest.approx(alone.best, abs=1e-4)


def test_a_full_queue_refuses_and_who_left_or_is_late_is_dropped():
    slow, dropped = Slow(), []
    batcher = Batcher(slow, Limits(queue=3, batch=1, window=0), dropped=dropped.append)
    question = GroundingRequest(prepared(TOWERS), (LEFT,))
    batcher.start()
    first = batcher.submit(question)
    assert slow.begun.acquire(timeout=10)
    gone, late, last = (
        batcher.submit(question),
        batcher.submit(question, time.monotonic() - 1),
        batcher.submit(question),
    )
    assert batcher.full
    with pytest.raises(Refusal) as refused:
        batcher.submit(question)
    assert refused.value.status == 503 and refused.value.retry
    assert gone.cancel()
    slow.go.set()
    wait([first, late, last], 10)
    assert first.result()[0].text == LEFT == last.result()[0].text
    with pytest.raises(Refusal, match="no answer within"):
        late.result()
    batcher.stop()
    assert slow.asked == [1, 1] and sorted(dropped) == ["gone", "late"] and not batcher.alive
    with pytest.raises(Refusal, match="shut down"):
        batcher.submit(question)


def test_one_bad_question_does_not_spoil_the_others():
    def answering(questions):
        if any("bad" in q.texts for q in questions):
            raise RuntimeError("out of memory")
        return engine().answer(questions)

    batcher = Batcher(answering, Limits())
    futures = [batcher.submit(GroundingRequest(prepared(TOWERS), (t,))) for t in (LEFT, "bad", RIGHT)]
    batcher.start()
    assert futures[0].result(30)[0].text == LEFT and futures[2].result(30)[0].text == RIGHT
    with pytest.raises(RuntimeError):
        futures[1].result(30)
    assert batcher.alive
    batcher.stop()


def test_score_maps_are_those_of_the_explanation():
    from optisar_yolo import OptiSAR
    from optisar_yolo.utils.options import BUNDLED_MODEL

    texts = [LEFT, RIGHT]
    seen = engine().see(prepared(TOWERS))
    maps = score_maps(engine(), seen, texts)
    expected = Explainer(OptiSAR(BUNDLED_MODEL), SIDE)(scene(TOWERS), texts).score_maps
    np.testing.assert_allclose(1 / (1 + np.exp(-np.stack(maps))), expected, atol=1e-4)
    columns = [np.unravel_index(m.argmax(), m.shape)[1] / m.shape[1] for m in maps]
    assert columns[0] < 0.5 < columns[1]
    image = overlay(scene(TOWERS), maps[0])
    assert image.shape == scene(TOWERS).shape and image.dtype == np.uint8

"""Parts of app and service: limits, uploads, the cache of images, batches, score maps."""

from __future__ import annotations

import time
from concurrent.futures import wait

import cv2
import numpy as np
import pytest
from serving import LEFT, RIGHT, SIDE, TOWERS, SlowModel, encoded, grounder, rendered

from optisar_yolo.data.images import read_image
from optisar_yolo.explain.explainer import Explainer
from optisar_yolo.serve import uploads
from optisar_yolo.serve.batching import RequestBatcher
from optisar_yolo.serve.grounder import Grounder, GroundingRequest, LRUCache, PreparedImage
from optisar_yolo.serve.limits import Limits, Refusal, check_expressions
from optisar_yolo.serve.outputs import overlay, score_maps


def prepared(number: int) -> PreparedImage:
    return PreparedImage.of(uploads.image_key(encoded(number)), rendered(number), SIDE)


def fresh() -> Grounder:
    """The shared model with an empty cache."""
    grounder().cache = LRUCache(8)
    return grounder()


def test_expressions_are_cleaned_and_counted():
    limits = Limits(max_expressions=2, max_words=3, max_characters=20)
    assert check_expressions(["the\x00 ship\n", "<b>a</b>"], limits) == ["the ship", "<b>a</b>"]
    for texts, status, said in (
        ([], 422, "no expression"), (["a"] * 3, 422, "3 expressions"), (["a", " \u200b"], 400, "expression 2 is blank"),
        (["a b c d"], 422, "4 words"), (["a" * 21], 422, "21 characters"),
    ):  # fmt: skip
        with pytest.raises(Refusal, match=said) as refused:
            check_expressions(texts, limits)
        assert refused.value.status == status and refused.value.hint


def test_limits_must_be_possible():
    assert Limits(window=0).window == 0
    with pytest.warns(FutureWarning, match="max_expressions"):
        assert Limits(max_sentences=3).max_expressions == 3
    for wrong in ({"queue": 0}, {"seconds": -1.0}, {"max_pixels": 0}, {"max_mib": float("nan")}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Limits(**wrong)


@pytest.mark.parametrize("ending", [".png", ".jpg", ".tif", ".bmp", ".webp"])
def test_uploads_are_read_as_files_are(ending, tmp_path):
    data = encoded(TOWERS, ending)
    (tmp_path / "x").write_bytes(data)
    assert (uploads.read_upload(data, Limits()) == read_image(tmp_path / "x")).all()
    assert uploads.image_size(data) == rendered().shape[1::-1]


def test_deep_images_are_stretched_as_files_are(tmp_path):
    deep = rendered().astype(np.uint16)[..., 0] * 40
    data = bytes(cv2.imencode(".tif", deep)[1])
    (tmp_path / "x").write_bytes(data)
    assert (uploads.read_upload(data, Limits()) == read_image(tmp_path / "x")).all()


def test_too_many_pixels_are_refused_before_decoding(monkeypatch):
    monkeypatch.setattr(uploads, "decode_image", lambda *_: pytest.fail("decoded"))
    height, width = rendered().shape[:2]
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


def test_the_least_recently_used_value_is_dropped():
    kept: LRUCache[int] = LRUCache(2)
    kept.put("a", 1)
    kept.put("b", 2)
    assert kept.get("a") == 1  # now the latest
    kept.put("c", 3)
    assert len(kept) == 2 and kept.get("b") is None and kept.get("a") == 1 and kept.get("c") == 3


def test_results_are_those_of_the_library():
    texts = (LEFT, RIGHT, "the ship")
    found = fresh().ground([GroundingRequest(prepared(TOWERS), texts, 0.0, 3)])[0]
    expected = library_image().ground(list(texts), conf=0.0, topk=3).boxes.data.numpy()
    boxes = np.array([[*b.xyxy, b.conf, j] for j, a in enumerate(found) for b in a.boxes])
    np.testing.assert_allclose(boxes, expected, atol=1e-3)
    assert [a.text for a in found] == list(texts) and found[0].best == pytest.approx(expected[0, 4], abs=1e-5)
    strict = grounder().ground([GroundingRequest(prepared(TOWERS), texts, 1.0)])[0]
    assert not any(a.boxes for a in strict) and strict[0].best == pytest.approx(found[0].best)


def library_image():
    from optisar_yolo import OptiSAR
    from optisar_yolo.utils.options import BUNDLED_MODEL

    return OptiSAR(BUNDLED_MODEL).encode(rendered(TOWERS), SIDE)


def test_long_expressions_get_a_note():
    long = "the ship " * 45
    cut, whole = grounder().ground([GroundingRequest(prepared(TOWERS), (long.strip(), LEFT))])[0]
    assert "first 64 of" in cut.note and whole.note == ""


def test_a_negation_gets_a_note_and_no_box():
    texts = ("there is no tower", "the ships", LEFT)
    denied, plural, plain = grounder().ground([GroundingRequest(prepared(TOWERS), texts, 1e-6)])[0]
    assert not denied.boxes and "negation" in denied.note and "no box is returned" in denied.note
    assert len(plural.boxes) > 1 and plural.note == "" and plural.query == '"a ship", all'
    (one,) = grounder().ground([GroundingRequest(prepared(TOWERS), texts[1:2], 1e-6, several=False)])[0]
    assert len(one.boxes) == 1 and "one box" in one.note
    assert plain.boxes and plain.note == ""
    denied, plural, _ = grounder().ground([GroundingRequest(prepared(TOWERS), texts, 0.0, 2)])[0]
    assert len(denied.boxes) == 2 and "no box" not in denied.note and plural.note == ""


def test_a_batch_encodes_each_image_once_and_gives_the_results_of_each_request_alone(monkeypatch):
    requests = [
        GroundingRequest(prepared(1), (LEFT, "the ship"), 0.0),
        GroundingRequest(prepared(TOWERS), (RIGHT,), 0.0),
        GroundingRequest(prepared(1), (RIGHT,), 0.0, topk=2),
        GroundingRequest(prepared(TOWERS), (LEFT, RIGHT), 0.0),
    ]
    alone = [fresh().ground([q])[0] for q in requests]
    used, batches, encoded_counts = fresh(), [], []
    encode = used.network.encode
    monkeypatch.setattr(used.network, "encode", lambda x, extent: encoded_counts.append(len(x)) or encode(x, extent))
    batcher = RequestBatcher(used.ground, Limits(), lambda n, _: batches.append(n))
    futures = [batcher.submit(q) for q in requests]
    batcher.start()
    together = [f.result(30) for f in futures]
    batcher.stop()
    same_canvas = requests[0].image.pixels.shape == requests[1].image.pixels.shape
    assert batches == [4] and encoded_counts == ([2] if same_canvas else [1, 1])
    for mine, theirs in zip(together, alone, strict=True):
        assert [a.text for a in mine] == [a.text for a in theirs]
        for a, b in zip(mine, theirs, strict=True):
            np.testing.assert_allclose([x.xyxy for x in a.boxes], [x.xyxy for x in b.boxes], atol=0.02)
            np.testing.assert_allclose([x.conf for x in a.boxes], [x.conf for x in b.boxes], atol=1e-4)
    count = len(encoded_counts)
    used.ground([requests[0]])
    assert len(encoded_counts) == count, "a cached image is not encoded again"


def test_images_of_one_canvas_share_one_run(monkeypatch):
    used, encoded_counts = fresh(), []
    encode = used.network.encode
    monkeypatch.setattr(used.network, "encode", lambda x, extent: encoded_counts.append(len(x)) or encode(x, extent))
    pair = [
        PreparedImage.of(str(i), np.ascontiguousarray(rendered(TOWERS)[:, ::d]), SIDE) for i, d in enumerate((1, -1))
    ]
    both = used.ground([GroundingRequest(p, (LEFT,), 0.0) for p in pair])
    assert encoded_counts == [2]
    kept = used.cache.get("1").encoded
    tensors = [*kept.maps.values(), kept.first, kept.extent, *kept.head.cells, *kept.head.feats]
    assert all(t.untyped_storage().nbytes() == t.numel() * 4 for t in tensors), "the batch is kept alive"
    for i, image in enumerate(pair):
        alone = fresh().ground([GroundingRequest(image, (LEFT,), 0.0)])[0][0]
        np.testing.assert_allclose(both[i][0].boxes[0].xyxy, alone.boxes[0].xyxy, atol=0.02)
        assert both[i][0].best == pytest.approx(alone.best, abs=1e-4)


def test_a_full_queue_refuses_and_abandoned_or_late_requests_are_dropped():
    slow, dropped = SlowModel(), []
    batcher = RequestBatcher(slow, Limits(queue=3, batch=1, window=0), dropped=dropped.append)
    request = GroundingRequest(prepared(TOWERS), (LEFT,))
    batcher.start()
    first = batcher.submit(request)
    assert slow.begun.acquire(timeout=10)
    gone, late, last = (
        batcher.submit(request),
        batcher.submit(request, time.monotonic() - 1),
        batcher.submit(request),
    )
    assert batcher.full
    with pytest.raises(Refusal) as refused:
        batcher.submit(request)
    assert refused.value.status == 503 and refused.value.retry
    assert gone.cancel()
    slow.go.set()
    wait([first, late, last], 10)
    assert first.result()[0].text == LEFT == last.result()[0].text
    with pytest.raises(Refusal, match="no answer within"):
        late.result()
    batcher.stop()
    assert slow.batches == [1, 1] and sorted(dropped) == ["gone", "late"] and not batcher.alive
    with pytest.raises(Refusal, match="shut down"):
        batcher.submit(request)


def test_one_bad_request_does_not_fail_the_others():
    def ground(requests):
        if any("bad" in r.texts for r in requests):
            raise RuntimeError("out of memory")
        return grounder().ground(requests)

    batcher = RequestBatcher(ground, Limits())
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
    image = grounder().encode(prepared(TOWERS))
    maps = score_maps(grounder(), image, texts)
    expected = Explainer(OptiSAR(BUNDLED_MODEL), SIDE)(rendered(TOWERS), texts).score_maps
    np.testing.assert_allclose(1 / (1 + np.exp(-np.stack(maps))), expected, atol=1e-4)
    columns = [np.unravel_index(m.argmax(), m.shape)[1] / m.shape[1] for m in maps]
    assert columns[0] < 0.5 < columns[1]
    drawn = overlay(rendered(TOWERS), maps[0])
    assert drawn.shape == rendered(TOWERS).shape and drawn.dtype == np.uint8

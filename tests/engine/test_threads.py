"""Calls at the same time: one model in several threads, and a call inside the loop over another call's results."""

from __future__ import annotations

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from tiny_net import settle
from ultralytics import YOLO

from optisar_yolo import OptiSAR
from optisar_yolo.plugin.patch import keys_active
from optisar_yolo.text import TextFeatureCache, load_text_encoder

SIZE = 64
TEXTS = ["the ship in the upper left", "the airplane at the bottom", "all harbors", "the largest SAR ship"]
WAIT = 60  # seconds after which a call counts as blocked


def images(count):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (40 + 4 * i, 60, 3), np.uint8) for i in range(count)]


@pytest.fixture
def model():
    """A model that has not predicted yet: random weights, but results that depend on image and expression."""
    torch.manual_seed(0)
    model = OptiSAR("optisar++n.yaml")
    settle(model.model)
    model.overrides |= {"imgsz": SIZE, "save": False, "verbose": False}
    return model


def ground(model, source, text, topk=1, **kwargs):
    return model.predict(source, text=text, topk=topk, conf=0.0, **kwargs)


def same(result, expected):
    """Whether two results have the same expressions, image and boxes."""
    return (
        result.names == expected.names
        and np.array_equal(result.orig_img, expected.orig_img)
        and result.boxes.data.shape == expected.boxes.data.shape
        and torch.allclose(result.boxes.data, expected.boxes.data, rtol=1e-3, atol=1e-2)
    )


def finish(function, *args):
    """Run a function in a thread; fail instead of waiting for ever."""
    with_result = []
    thread = threading.Thread(target=lambda: with_result.append(function(*args)), daemon=True)
    thread.start()
    thread.join(WAIT)
    assert with_result, "it raised an error or waits for ever"
    return with_result[0]


@pytest.mark.parametrize(("threads", "calls"), [(2, 60), (8, 10)])
@pytest.mark.parametrize("way", ["predict", "stream", "encode"])
def test_threads_get_the_results_of_their_own_call(model, threads, calls, way):
    pictures, reference = images(threads), copy.deepcopy(model)
    asked = [(pictures[i], [TEXTS[i % 4], f"object {i}"]) for i in range(threads)]
    expected = [{k: ground(reference, image, text, k)[0] for k in (1, 3)} for image, text in asked]
    start = threading.Barrier(threads)  # the first calls at once, too: none has made the fused network yet

    def run(i):
        start.wait(WAIT)
        wrong = 0
        for n in range(calls if way == "predict" else calls // 2):
            k = (1, 3)[(i + n) % 2]
            if way == "encode":
                result = model.encode(asked[i][0]).ground(asked[i][1], conf=0.0, topk=k)
            else:
                (result,) = ground(model, *asked[i], k, stream=way == "stream")
            wrong += not same(result, expected[i][k])
        return wrong

    with ThreadPoolExecutor(threads) as pool:
        assert sum(pool.map(run, range(threads))) == 0
    predictors = model._predictors._all
    assert len(predictors) <= threads and len({id(p.model) for p in predictors}) <= 1, "one fused network for all"
    assert len({id(p.text_features) for p in predictors} | {id(model._text_features[1])}) == 1


def test_a_call_inside_a_stream_of_the_same_model(model):
    first, second = images(2)
    alone = [ground(model, image, TEXTS[0])[0] for image in (first, second)]
    other = ground(model, first, TEXTS[1], 3)[0]

    def nested():
        pairs = []
        for outer in ground(model, [first, second], TEXTS[0], stream=True):
            pairs.append((outer, ground(model, first, TEXTS[1], 3)[0]))
        return pairs

    pairs = finish(nested)
    assert len(pairs) == 2
    for (outer, inner), expected in zip(pairs, alone, strict=True):
        assert same(outer, expected) and same(inner, other)


def test_a_stream_that_is_abandoned_blocks_nothing(model):
    first, second = images(2)
    expected = ground(model, first, TEXTS[1])[0]
    kept = ground(model, [first, second], TEXTS[0], stream=True)
    next(kept)
    unstarted = ground(model, [first, second], TEXTS[0], stream=True)
    assert same(finish(ground, model, first, TEXTS[1])[0], expected)
    assert len(list(kept)) == 1 and len(list(unstarted)) == 2
    for _ in range(5):
        next(ground(model, [first, second], TEXTS[0], stream=True))
        ground(model, [first, second], TEXTS[0], stream=True)
    with pytest.raises(FileNotFoundError):
        ground(model, "nowhere.png", TEXTS[0])
    assert not model._predictors._taken and len(model._predictors._all) <= 3, "predictors are used again"


def test_callbacks_and_the_predictor_of_the_last_call(model):
    assert model.predictor is None
    first, second = images(2)
    seen = []
    model.add_callback("on_predict_batch_end", lambda p: seen.append((p.args.text, p.batch[1][0].shape)))
    ground(model, first, TEXTS[0])
    predictor = model.predictor
    assert predictor.results[0].names == {0: TEXTS[0]} and predictor.args.topk == 1
    ground(model, second, TEXTS[1], 3)
    assert model.predictor is predictor and predictor.args.topk == 3, "calls one after the other use one predictor"
    assert seen == [([TEXTS[0]], first.shape), ([TEXTS[1]], second.shape)]
    finish(ground, model, first, TEXTS[2])
    assert seen[-1] == ([TEXTS[2]], first.shape)
    stream = ground(model, [first, second], TEXTS[0], stream=True)
    assert model.predictor.args.text == [TEXTS[0]], "it is set up before the first result"
    stream.close()
    fused = model.predictor.network
    model.predictor = None
    assert model.predictor is None
    ground(model, first, TEXTS[0])
    assert model.predictor.network is not fused
    copied = copy.deepcopy(model)
    assert copied.predictor is None and same(ground(copied, first, TEXTS[0])[0], ground(model, first, TEXTS[0])[0])


def test_each_call_uses_the_text_encoder_that_it_names(model):
    image = images(1)[0]
    ground(model, image, TEXTS[0])
    with pytest.raises(ValueError, match="nowhere"):
        ground(model, image, TEXTS[0], text_weights="nowhere.safetensors")
    ground(model, image, TEXTS[0])


def test_a_stock_model_in_another_thread_sees_no_keys_of_ours(model):
    stock = YOLO("yolo11n.yaml")
    image = images(1)[0]
    end, faults, done = threading.Event(), [], []

    def predict_stock():
        while not end.is_set():
            stock.predict(image, imgsz=SIZE, verbose=False)
            done.append(1)
            if keys_active() or {"topk", "text"} & set(vars(stock.predictor.args)):
                faults.append("our keys are in a stock configuration")
            try:
                stock.predict(image, imgsz=SIZE, verbose=False, topk=1)
                faults.append("a stock model accepts our keys")
            except SyntaxError:
                pass

    thread = threading.Thread(target=predict_stock, daemon=True)
    thread.start()
    for n in range(30):
        (result,) = ground(model, image, TEXTS[n % 4], 1 + n % 2)
        assert result.names == {0: TEXTS[n % 4]}
    for _ in ground(model, [image, image], TEXTS[0], stream=True):
        assert not keys_active(), "a stock model may be used in the loop"
    end.set()
    thread.join(WAIT)
    assert done and not faults


def test_text_features_from_several_threads(tmp_path):
    encoder = load_text_encoder("pocket")
    texts = [f"the ship number {n}" for n in range(40)]
    expected = encoder.encode(texts)
    calls = []
    cache = TextFeatureCache(encoder, tmp_path)
    encode = encoder.encode
    encoder.encode = lambda new: (calls.extend(new), encode(new))[1]
    try:
        with ThreadPoolExecutor(8) as pool:

            def run(i):
                found = [torch.equal(cache([t]), cache([t])) for t in texts[i:] + texts[:i]]
                cache.save()
                return all(found)

            assert all(pool.map(run, range(0, 40, 5)))
    finally:
        del encoder.encode
    assert sorted(calls) == sorted(texts), "each expression is encoded once"
    torch.testing.assert_close(cache(texts), expected)
    assert len(TextFeatureCache(encoder, tmp_path)) == len(texts), "everything is in the file"
    copied = pickle.loads(pickle.dumps(cache))
    torch.testing.assert_close(copied(texts), expected)


def test_validations_at_the_same_time_write_to_folders_of_their_own(model, tiny, tmp_path):
    def run(_):
        return model.val(data=str(tiny), imgsz=SIZE, project=str(tmp_path), plots=False, split="val")

    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(run, range(2)))
    assert both[0].results_dict == both[1].results_dict
    assert len([folder for folder in tmp_path.iterdir() if (folder / "metrics.json").is_file()]) == 2

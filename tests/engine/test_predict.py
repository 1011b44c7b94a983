"""Prediction through the API: what comes back, every kind of source, and what bad input gets."""

from __future__ import annotations

import threading

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from tiny_net import settle
from torchvision.ops import box_iou
from ultralytics.engine.results import Results

from optisar_yolo import OptiSAR
from optisar_yolo.data.config import DataError
from optisar_yolo.data.images import read_image
from optisar_yolo.engine import predict
from optisar_yolo.engine.grounding import OVERLAP
from optisar_yolo.engine.predict import checked_expressions
from optisar_yolo.text import load_text_encoder

TEXTS = ["The ship in the upper left", "the airplane at the bottom"]
SIZE = 64


@pytest.fixture(scope="module")
def model():
    """Random weights, but answers that depend on image and expression."""
    torch.manual_seed(0)
    model = OptiSAR("optisar++n.yaml")
    settle(model.model)
    model.overrides |= {"imgsz": SIZE, "save": False, "verbose": False}
    return model


@pytest.fixture
def image():
    """An image with structure, BGR, wider than high."""
    rng = np.random.default_rng(0)
    return cv2.resize(rng.integers(0, 256, (6, 10, 3), np.uint8), (100, 60), interpolation=cv2.INTER_CUBIC)


def ground(model, source, text=TEXTS, conf=0.0, **kwargs):
    return model.predict(source, text=text, conf=conf, **kwargs)


def close(a, b):
    """Compare two results: the predictor's network is fused, which rounds otherwise."""
    torch.testing.assert_close(a.boxes.data, b.boxes.data, rtol=1e-3, atol=1e-2)


# what comes back


@pytest.mark.parametrize("weights", ["optisar++n.yaml", "optisar++n-pocket.safetensors"])
def test_half_precision_changes_little(weights, image, monkeypatch):
    """`half=True` computes on a GPU under autocast; here that is a CPU's, in bfloat16."""
    model = OptiSAR(weights)
    asked = {"text": TEXTS, "conf": 0.0, "imgsz": SIZE, "verbose": False}
    whole = model.predict(image, **asked)[0].boxes.data
    same = model.predict(image, half=True, **asked)[0].boxes.data
    assert torch.equal(same, whole)  # as in ultralytics: on GPUs only
    monkeypatch.setattr(predict, "mixed", lambda half, _: torch.autocast("cpu", torch.bfloat16, enabled=half))
    rounded = model.predict(image, half=True, **asked)[0].boxes.data
    assert not torch.equal(rounded, whole)
    assert (rounded[:, 4] - whole[:, 4]).abs().max() < 0.05


def test_results_name_the_expressions(model, image):
    (result,) = ground(model, image)
    assert isinstance(result, Results)
    assert result.names == dict(enumerate(TEXTS))
    assert result.boxes.cls.tolist() == [0, 1] and result.boxes.xyxy.shape == (2, 4)
    assert ((result.boxes.conf > 0) & (result.boxes.conf < 1)).all()
    x1, y1, x2, y2 = result.boxes.xyxy.T
    assert (x1 >= 0).all() and (y1 >= 0).all() and (x2 <= 100).all() and (y2 <= 60).all()
    assert (x1 < x2).all() and (y1 < y2).all()
    assert np.array_equal(result.orig_img, image) and result.orig_shape == (60, 100)


def test_answers_depend_on_image_and_expression(model, image):
    (result,), (mirrored,) = ground(model, image), ground(model, image[:, ::-1])
    assert not torch.allclose(result.boxes.conf, mirrored.boxes.conf, rtol=1e-3)
    assert not torch.allclose(result.boxes.data[0, 4], result.boxes.data[1, 4], rtol=1e-3)


def test_one_expression_alone(model, image):
    (alone,) = ground(model, image, text=TEXTS[1])
    assert alone.names == {0: TEXTS[1]} and len(alone.boxes) == 1
    torch.testing.assert_close(alone.boxes.data[0, :5], ground(model, image)[0].boxes.data[1, :5], rtol=1e-3, atol=1e-2)


def test_many_expressions_equal_each_alone(model, image):
    """More than run through the network at once."""
    texts = [f"the ship number {i}" for i in range(19)]
    (together,) = ground(model, image, text=texts)
    assert together.boxes.cls.tolist() == list(range(19))
    for i in (0, 16, 18):
        (alone,) = ground(model, image, text=texts[i])
        torch.testing.assert_close(together.boxes.data[i, :5], alone.boxes.data[0, :5], rtol=1e-3, atol=1e-2)


def test_expressions_are_cleaned(model, image):
    assert ground(model, image, text="  the \n ship ")[0].names == {0: "the ship"}


def test_topk_gives_several_boxes_that_do_not_overlap(model, image):
    (one,), (four,) = ground(model, image), ground(model, image, topk=4)
    for t in range(2):
        mine = four.boxes[four.boxes.cls == t]
        assert 1 < len(mine) <= 4
        assert (mine.conf.diff() <= 0).all()
        torch.testing.assert_close(mine.data[0], one.boxes.data[t])
        assert (box_iou(mine.xyxy, mine.xyxy).fill_diagonal_(0) <= OVERLAP + 1e-5).all()


def test_confidence_filters_and_says_so(model, image, log):
    conf = ground(model, image)[0].boxes.conf
    between = float(conf.mean())
    (result,) = ground(model, image, conf=between, verbose=True)
    kept, lost = int(conf.argmax()), int(conf.argmin())
    assert result.boxes.cls.tolist() == [kept] and len(result.names) == 2
    said = [r.getMessage() for r in log.records if "nothing found" in r.getMessage()]
    assert f'nothing found for "{TEXTS[lost]}" in image0.jpg: best confidence {conf[lost]:.3f}' in "\n".join(said)
    assert not any(TEXTS[kept] in line for line in said)


def test_nothing_found_at_all(model, image):
    (result,) = ground(model, image, conf=0.9999)
    assert len(result.boxes) == 0 and result.boxes.data.shape == (0, 6) and result.names[0] == TEXTS[0]


def test_confidence_default_lets_doubtful_boxes_through(model, image):
    conf = ground(model, image)[0].boxes.conf
    (result,) = model.predict(image, text=TEXTS)
    assert len(result.boxes) == int((conf >= 0.05).sum()) > 0


# sources


def write(path, image):
    assert cv2.imwrite(str(path), image)
    return path


@pytest.mark.parametrize("kind", [str, lambda p: p], ids=["str", "Path"])
def test_file(model, image, tmp_path, kind):
    path = write(tmp_path / "port.png", image)
    (result,) = ground(model, kind(path))
    close(result, ground(model, image)[0])
    assert result.path == str(path)


def test_files_are_read_while_the_network_works(model, image, tmp_path, monkeypatch):
    readers = set()

    def read(source, *how):
        if isinstance(source, str):  # not the arrays of `preprocess`
            readers.add(threading.current_thread())
        return read_image(source, *how)

    monkeypatch.setattr(predict, "read_image", read)
    for name in ("a.png", "b.png"):
        write(tmp_path / name, image)
    ground(model, tmp_path)
    assert readers and threading.main_thread() not in readers


def test_folder(model, image, tmp_path):
    for name, pixels in (("b.png", image[:40]), ("a.png", image), ("c.png", image[..., 0])):
        write(tmp_path / name, pixels)
    (tmp_path / "notes.md").write_text("no image")
    results = ground(model, tmp_path)
    assert [r.path.rsplit("/", 1)[-1] for r in results] == ["a.png", "b.png", "c.png"]
    for result, pixels in zip(results, (image, image[:40], image[..., 0]), strict=True):
        close(result, ground(model, pixels)[0])


def test_stream_gives_the_same_one_by_one(model, image, tmp_path):
    for name in "ab":
        write(tmp_path / f"{name}.png", image)
    stream = ground(model, tmp_path, stream=True)
    assert not isinstance(stream, list)
    results = list(stream)
    assert len(results) == 2
    close(results[0], ground(model, image)[0])


def test_pil_image(model, image):
    close(ground(model, Image.fromarray(image[..., ::-1]))[0], ground(model, image)[0])


def test_list_of_equal_sizes_equals_each_alone(model, image):
    other = np.ascontiguousarray(image[::-1])
    results = ground(model, [image, Image.fromarray(other[..., ::-1])])
    close(results[0], ground(model, image)[0])
    close(results[1], ground(model, other)[0])


def test_list_of_mixed_sizes_and_kinds(model, image, tmp_path):
    path = write(tmp_path / "port.png", image)
    results = ground(model, [path, image[:30], Image.fromarray(image[:, :50, 0]), str(path)])
    assert [r.orig_shape for r in results] == [(60, 100), (30, 100), (60, 50), (60, 100)]
    assert [r.path for r in results] == [str(path), "image1.jpg", "image2.jpg", str(path)]
    torch.testing.assert_close(results[0].boxes.data, results[3].boxes.data)
    for r in results:
        h, w = r.orig_shape
        assert (r.boxes.xyxy >= 0).all() and (r.boxes.xyxy <= torch.tensor([w, h, w, h])).all()


def test_tensor(model):
    """As it is, without letterbox: RGB in 0..1, sides multiples of 32."""
    torch.manual_seed(0)
    x = torch.randint(0, 256, (2, 3, 32, 64)).float() / 255
    results = ground(model, x)
    assert [r.orig_shape for r in results] == [(32, 64)] * 2
    for i in range(2):
        image = (x[i].permute(1, 2, 0).numpy()[..., ::-1] * 255).round().astype(np.uint8)
        assert np.array_equal(results[i].orig_img, image)
        close(results[i], ground(model, image)[0])  # an array of that size needs no letterbox either


def grey(image):
    return image[..., 0]


SAME = {  # other ways to hold a grey image
    "two dimensions": lambda g: g,
    "one channel": lambda g: g[..., None],
    "four channels": lambda g: np.dstack((g, g, g, np.full_like(g, 7))),
    "float of 0 to 1": lambda g: (g / 255).astype(np.float32),
    "double": lambda g: g / 255,
    "whole numbers as floats": lambda g: g.astype(np.float64),
    "PIL L": lambda g: Image.fromarray(g),
    "PIL RGBA": lambda g: Image.fromarray(np.dstack((g, g, g, np.full_like(g, 7)))),
}


@pytest.mark.parametrize("form", SAME)
def test_forms_of_one_image(model, image, form):
    expected = ground(model, grey(image)[..., None].repeat(3, 2))[0]
    (result,) = ground(model, SAME[form](grey(image)))
    close(result, expected)
    assert result.orig_img.dtype == np.uint8 and result.orig_img.shape == (60, 100, 3)


def test_sixteen_bits_are_used(model, image, tmp_path):
    """Eleven bits of sixteen, as many satellites give: the high byte alone would be all but black."""
    deep = grey(image).astype(np.uint16) * 8
    file = write(tmp_path / "deep.png", deep)
    by_kind = [ground(model, s)[0] for s in (deep, file, [file], tmp_path, Image.fromarray(deep))]
    assert by_kind[0].orig_img.max() == 255
    for result in by_kind[1:]:
        close(result, by_kind[0])
        assert np.array_equal(result.orig_img, by_kind[0].orig_img)
    (dark,) = ground(model, (deep >> 8).astype(np.uint8))
    assert not torch.allclose(dark.boxes.conf, by_kind[0].boxes.conf, rtol=1e-3)


def test_float_tiff_file(model, image, tmp_path):
    values = grey(image).astype(np.float32) * 7 - 100
    close(ground(model, write(tmp_path / "sar.tif", values))[0], ground(model, values)[0])


# encoded once


def test_scene_equals_predict(model, image, tmp_path):
    scene = model.encode(image)
    close(scene.ground(TEXTS, conf=0), ground(model, image)[0])
    second = scene.ground(TEXTS[1], conf=0)
    torch.testing.assert_close(
        second.boxes.data[0, :5], ground(model, image)[0].boxes.data[1, :5], rtol=1e-3, atol=1e-2
    )
    assert second.names == {0: TEXTS[1]}
    close(scene.ground(TEXTS, conf=0, topk=3), ground(model, image, topk=3)[0])
    path = write(tmp_path / "deep.png", grey(image).astype(np.uint16) * 8)
    result = model.encode(str(path)).ground(TEXTS, conf=0)
    close(result, ground(model, path)[0])
    assert result.path == str(path)


def test_scene_encodes_once(model, image, monkeypatch):
    scene = model.encode(image, imgsz=96)
    assert scene.canvas == (64, 96)
    monkeypatch.setattr(type(model.model), "encode", None)
    assert len(scene.ground(TEXTS, conf=0).boxes) == 2
    assert len(scene.ground(TEXTS, conf=0.9999).boxes) == 0


def test_scenes_share_a_copy_for_inference_until_the_network_changes(model, image):
    first, second = model.encode(image), model.encode(image)
    assert first.model is second.model is not model.model and not model.model.is_fused()
    with torch.no_grad():
        bias = model.model.head.cv4[0].bias
        bias += 1
        third = model.encode(image)
        bias -= 1
    assert third.model is not first.model
    assert third.ground(TEXTS, conf=0).boxes.conf.max() > first.ground(TEXTS, conf=0).boxes.conf.max()


# bad input


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "predict needs an expression"),
        ("", "must say something"),
        ("  \n", "must say something"),
        ([], "empty list"),
        (["a ship", ""], "must say something"),
        ([3], "must be a string, got int: 3"),
        (["a ship", None], "must be a string"),
        (5, "an expression or a list of them, got int: 5"),
    ],
)
def test_expressions_that_are_none(model, image, text, says):
    with pytest.raises(ValueError, match=says):
        checked_expressions(text)
    with pytest.raises(ValueError, match=says):
        model.predict(image, text=text)
    scene = model.encode(image)
    with pytest.raises(ValueError, match=says):
        scene.ground(text)


def test_missing_text(model, image):
    with pytest.raises(ValueError, match='text="the ship in the upper left"'):
        model.predict(image)
    with pytest.raises(ValueError, match="predict needs an expression"):
        model.predict(image, stream=True)


@pytest.mark.parametrize(("content", "says"), [(b"", "zero bytes"), (b"no image", "not an image")])
@pytest.mark.parametrize("form", [str, lambda p: [p]], ids=["file", "list"])
def test_unreadable_image(model, tmp_path, content, says, form):
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"broken\.jpg: .*{says}"):
        ground(model, form(path))
    with pytest.raises(DataError, match=rf"broken\.jpg: .*{says}"):
        model.encode(path)


def test_unreadable_image_among_others_is_skipped_and_named(model, image, tmp_path, log):
    (tmp_path / "a.jpg").write_bytes(b"")
    write(tmp_path / "b.png", image)
    (tmp_path / "c.jpg").write_bytes(b"no image")
    for batch in (1, 8):
        log.clear()
        results = ground(model, tmp_path, batch=batch)
        assert [r.path.rsplit("/", 1)[-1] for r in results] == ["b.png"]
        said = " ".join(r.getMessage() for r in log.records)
        assert "a.jpg: image file of zero bytes" in said and "c.jpg: not an image" in said
    (tmp_path / "b.png").unlink()
    with pytest.raises(DataError, match=r"c\.jpg"):
        ground(model, tmp_path)


def test_missing_file(model, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.jpg"):
        ground(model, str(tmp_path / "absent.jpg"))
    with pytest.raises(DataError, match=r"absent\.jpg"):
        ground(model, [str(tmp_path / "absent.jpg")])


@pytest.mark.parametrize("shape", [(3, 20, 30), (20, 30, 2), (0, 30, 3), (2, 20, 30, 3)])
def test_arrays_that_are_no_image(model, shape):
    with pytest.raises(DataError, match="expected height x width"):
        ground(model, np.zeros(shape, np.uint8))


def test_image_without_values(model):
    with pytest.raises(DataError, match="without a finite value"):
        ground(model, np.full((20, 30, 3), np.nan))


def test_model_of_another_text_encoder_is_refused(image):
    model = OptiSAR("optisar++n.yaml")
    model.model.text_model, model.model.text_fingerprint = "pocket", "0" * 64
    with pytest.raises(ValueError, match="000000000000.*text_weights="):
        ground(model, image)
    with pytest.raises(ValueError, match=load_text_encoder("pocket").fingerprint[:12]):
        model.encode(image)


def test_images_of_other_sizes_in_the_list_change_nothing(model: OptiSAR) -> None:
    rng = np.random.default_rng(3)
    images = [rng.integers(0, 255, (h, w, 3), dtype=np.uint8) for h, w in ((60, 90), (90, 60), (64, 64), (60, 90))]
    together = model.predict(images, text="the ship at the top", imgsz=96, conf=0.0, verbose=False)
    for image, result in zip(images, together, strict=True):
        alone = model.predict(image, text="the ship at the top", imgsz=96, conf=0.0, verbose=False)[0]
        gap = (result.boxes.data - alone.boxes.data).abs()[0]
        assert gap[:4].max() < 0.1 and gap[4] < 1e-4  # pixels: rounding of batched sums, not another canvas


# expressions that ask for something else than one object


def test_a_negation_gets_a_note_and_no_box(model, image, log):
    texts = ["there is no airplane", "is the ship white?", "船", "the ship"]
    result = ground(model, [image, image], texts, conf=1e-6, verbose=True)[1]
    assert {int(j) for j in result.boxes.cls} == {3}
    assert list(result.notes) == texts[:3]
    assert all("no box is returned" in note for note in result.notes.values())
    assert result.cpu().notes == result.notes and result[:0].notes == result.notes
    lines = [r.getMessage() for r in log.records if r.getMessage().startswith("'")]
    assert lines == [f"'{text}': {note}" for text, note in result.notes.items()]  # once for both images
    opened = ground(model, image, texts, conf=0)[0]
    assert {int(j) for j in opened.boxes.cls} == {0, 1, 2, 3}
    assert list(opened.notes) == texts[:3] and "no box" not in opened.notes[texts[0]]


def test_plurals_and_colours_keep_their_boxes(model, image):
    texts = ["all ships", "two tanks", "the white ship", "is there a ship?"]
    alone = ground(model, image, texts, conf=1e-6, reason=False)[0]
    assert {int(j) for j in alone.boxes.cls} == {0, 1, 2, 3} and list(alone.notes) == texts
    result = ground(model, image, texts, conf=1e-6)[0]
    assert list(result.notes) == texts[2:]
    several = ground(model, image, texts, conf=1e-6, topk=2)[0]
    assert list(several.notes) == texts[2:] and several.count == dict.fromkeys(texts, 2)
    assert ground(model, image)[0].notes == {}


def test_an_encoded_image_notes_the_same(model, image):
    texts = ["the ship without a wake", "the ships"]
    encoded = model.encode(image)
    found = encoded.ground(texts, conf=1e-6)
    assert found.notes == ground(model, image, texts, conf=1e-6)[0].notes and list(found.notes) == texts[:1]
    assert {int(j) for j in found.boxes.cls} == {1}
    assert {int(j) for j in encoded.ground(texts, conf=0).boxes.cls} == {0, 1}
    assert encoded.ground("the ship", conf=1e-6).notes == {}


def test_weights_know_the_wordings_of_their_training(image, tmp_path):
    model = OptiSAR("optisar++n-pocket.safetensors")
    assert "colour" in model.model.wordings  # of the free expressions in their training
    model.model.wordings = ()
    assert "colour" in model.encode(image).ground("the white ship").notes["the white ship"]
    model.model.wordings = ("colour", "negation")
    shared = OptiSAR(model.save_shared(tmp_path / "known.safetensors"))
    assert shared.model.wordings == ("colour", "negation")
    texts = ["the white ship", "the ship without a wake", "the ships"]
    found = shared.encode(image).ground(texts, conf=1e-6, reason=False)
    assert list(found.notes) == ["the ships"] and {int(j) for j in found.boxes.cls} == {0, 1, 2}

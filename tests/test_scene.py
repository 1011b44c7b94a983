"""Scenes from end to end: found once, resumed, read by windows; then the bundled weights and the command."""

import json

import numpy as np
import pytest
import rasters

from optisar_yolo.commands.main import main
from optisar_yolo.geo import ground_scene
from optisar_yolo.geo.reading import Raster
from optisar_yolo.geo.state import NAME

BOXES = [(30, 40, 70, 60), (300, 310, 345, 350), (900, 100, 960, 130), (1400, 1000, 1450, 1060), (700, 600, 1100, 640)]
FILES = ("objects.geojson", "objects-crs.geojson", "objects.coco.json", "objects.csv")


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A scene whose second object lies across four tiles, and whose last is longer than any overlap."""
    folder = tmp_path_factory.mktemp("scene")
    return rasters.write(folder / "scene.tif", rasters.painted(1500, 1100, BOXES), **rasters.UTM)


def run(source, texts, folder, detector=None, **options):
    options = {"imgsz": 320, "map": False, "project": str(folder), "stretch": "none"} | options
    return ground_scene(None, source, texts, detector=detector or rasters.Bright(), **options)


def boxes_of(result, j=0):
    return [tuple(b) for b in result.of(j)[:, :4].astype(int).tolist()]


@pytest.mark.parametrize("batch", [1, 7, 16])
@pytest.mark.parametrize("overlap", [0.2, 0.4])
def test_every_object_is_found_once(scene, tmp_path, batch, overlap):
    result = run(scene, "the ship", tmp_path, topk="all", batch=batch, overlap=overlap)
    assert sorted(boxes_of(result)) == sorted(BOXES)


def test_scene_wide_words(scene, tmp_path):
    texts = ["the leftmost ship", "the easternmost ship", "the second northernmost ship", "the ship in the south-east",
             "the largest ship", "the smallest ship", "the ship"]  # fmt: skip
    detector = rasters.Bright()
    result = run(scene, texts, tmp_path, detector)
    assert detector.asked == ["a ship"]  # one question to the tiles for all of them
    first = [boxes_of(result, j)[0] for j in range(len(texts))]
    assert first == [BOXES[i] for i in (0, 3, 2, 3, 4, 0, 4)]
    asked = json.loads((result.folder / "scene.json").read_text())["questions"]
    assert asked[1]["core"] == "a ship" and asked[1]["extreme"] == "right"


def test_a_killed_run_goes_on_and_ends_the_same(scene, tmp_path):
    texts = ["the leftmost ship", "the ship in the north"]
    whole = run(scene, texts, tmp_path / "whole", topk="all", batch=4)
    stopped = rasters.Bright(fail_after=9)
    with pytest.raises(KeyboardInterrupt):
        run(scene, texts, tmp_path / "cut", stopped, topk="all", batch=4)
    state = next((tmp_path / "cut").glob("*/" + NAME))
    state.write_bytes(state.read_bytes() + b'{"tiles": [33, 34], "fou')  # killed while it wrote
    rest = rasters.Bright()
    resumed = run(scene, texts, tmp_path / "cut", rest, topk="all", batch=4)
    assert 0 < rest.seen < resumed.record["tiles"] and resumed.folder == state.parent
    for name in FILES:
        assert (resumed.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    again = rasters.Bright()
    assert (
        run(scene, texts, tmp_path / "cut", again, conf=0.79).folder == state.parent
    )  # another conf asks nothing anew
    assert again.seen == 0


@pytest.mark.parametrize(
    "change",
    [{"overlap": 0.5}, {"imgsz": 256}, {"stretch": "percentile", "limits": (0.0, 255.0)}, {"resume": False}],
)
def test_another_run_does_not_go_on_with_it(scene, tmp_path, change):
    first = run(scene, "the ship", tmp_path)
    detector = rasters.Bright()
    second = run(scene, "the ship", tmp_path, detector, **change)
    assert detector.seen and second.folder != first.folder


def test_the_file_is_read_by_windows(scene, tmp_path, monkeypatch):
    areas = []
    original = Raster.read

    def spy(self, bands, window, size, smooth=True):
        areas.append((window, size, smooth))
        return original(self, bands, window, size, smooth)

    monkeypatch.setattr(Raster, "read", spy)
    monkeypatch.setattr("optisar_yolo.geo.stretch.SIDE", 200)
    run(scene, "the ship", tmp_path, batch=4)
    whole = [a for a in areas if not a[2]]
    assert len(whole) == 1 and max(whole[0][1]) == 200  # the decimated look at all of it
    assert len(areas) > 5 and max(w * h for (_, _, w, h), _, smooth in areas if smooth) <= 4 * 320 * 320


def test_empty_tiles_are_not_asked(tmp_path):
    image = np.zeros((1000, 1000), np.uint8)
    image[:300, :300] = rasters.ground(300, 300)
    image[100:130, 100:140] = 220
    detector = rasters.Bright()
    result = run(rasters.write(tmp_path / "a.tif", image, **rasters.UTM), "the ship", tmp_path / "out", detector)
    assert detector.seen < result.record["tiles"] / 2
    assert boxes_of(result) == [(100, 100, 140, 130)]


def test_scale_and_gsd_see_the_scene_coarser(tmp_path):
    image = rasters.painted(1400, 1000, [(200, 300, 280, 360)])
    path = rasters.write(tmp_path / "a.tif", image, **rasters.UTM)  # 10 m
    coarse = run(path, "the ship", tmp_path / "a", scale=2)
    assert np.abs(coarse.of(0)[0, :4] - [200, 300, 280, 360]).max() <= 2
    by_gsd = run(path, "the ship", tmp_path / "b", gsd=20)
    assert by_gsd.record["scale"] == pytest.approx((2, 2), rel=0.01)  # 10 m of UTM are 10 m on the ground within 0.1 %
    assert coarse.record["tiles"] < run(path, "the ship", tmp_path / "c").record["tiles"]


def test_nothing_found_is_said(scene, tmp_path, caplog):
    with caplog.at_level("INFO", logger="ultralytics"):
        result = run(scene, ["the ship", "the ship in the lower left"], tmp_path, conf=0.999)
    assert not len(result.found)
    assert json.loads((result.folder / "objects.geojson").read_text())["features"] == []


def test_a_image_without_georeference_has_pixels_only(tmp_path):
    path = rasters.write(tmp_path / "a.tif", rasters.painted(400, 300, [(10, 20, 60, 50)]))
    result = run(path, "the leftmost ship", tmp_path / "out")
    assert boxes_of(result) == [(10, 20, 60, 50)]
    assert not (result.folder / "objects.geojson").exists() and (result.folder / "objects.coco.json").exists()
    for words in ({"text": "the northernmost ship"}, {"text": "the ship", "gsd": 1.0}):
        with pytest.raises(ValueError, match="no georeference"):
            run(path, words.pop("text"), tmp_path / "out", **words)


def test_bundled_weights_by_command(tmp_path, capsys):
    path = rasters.write(tmp_path / "scene.tif", rasters.painted(500, 400, [(100, 100, 160, 140)]), **rasters.UTM)
    words = [
        f"source={path}",
        'text=["the ship in the north-west", "the leftmost ship"]',
        f"project={tmp_path / 'runs'}",
    ]
    assert main(["scene", *words, "conf=0.01", "map=False"]) == 0
    folder = tmp_path / "runs" / "scene"
    assert {p.name for p in folder.iterdir()} >= {*FILES, "quicklook.jpg", "scene.json"}
    assert main(["scene", *words, "conf=2"]) == 1 and "conf=2" in capsys.readouterr().err
    assert main(["scene", *words, "sacle=2"]) == 2 and "did you mean 'scale'" in capsys.readouterr().err
    assert main(["scene", "text=the ship"]) == 1


def test_asking_a_batch_equals_asking_one_by_one_and_predict():
    """The detector's short cuts change nothing: same boxes as `predict` gives for the same tile."""
    from optisar_yolo import OptiSAR
    from optisar_yolo.geo.detecting import ExpressionDetector
    from optisar_yolo.synthetic.render import draw
    from optisar_yolo.utils.options import BUNDLED_MODEL

    model = OptiSAR(BUNDLED_MODEL)
    images = [draw(0, "test", n)["img"][:224, :256] for n in range(1, 6, 2)]
    texts = ["the SAR ship", "the leftmost ship"]
    detector = ExpressionDetector(model)
    batch = np.ascontiguousarray(np.stack([p[..., ::-1].transpose(2, 0, 1) for p in images]))
    together = detector(batch, texts, 0.05)
    for i, image in enumerate(images):
        (alone,) = detector(batch[i : i + 1], texts, 0.05)
        assert np.abs(alone - together[i]).max(initial=0) < 1e-2
        plain = model.predict(image, text=texts, topk=50, conf=0.05, imgsz=256, verbose=False)[0].boxes.data.numpy()
        order = np.lexsort((-together[i][:, 4], together[i][:, 5]))
        assert len(plain) and plain == pytest.approx(together[i][order][: len(plain)], abs=0.05)


def test_an_export_is_refused(tmp_path):
    from optisar_yolo.geo.detecting import ExpressionDetector

    class Export:
        model, ckpt_path = object(), "best.onnx"

    with pytest.raises(ValueError, match="best.onnx: an exported model"):
        ExpressionDetector(Export())

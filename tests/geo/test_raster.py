"""Rasters from end to end: each object found once, resumed runs, reads by windows, the bundled weights, the command."""

import json

import numpy as np
import pytest
import rasters

from optisar_yolo.commands.main import main
from optisar_yolo.geo import RasterOptions, ground_raster
from optisar_yolo.geo.reading import Raster
from optisar_yolo.geo.run import STATE
from optisar_yolo.utils import SettingError

BOXES = [(30, 40, 70, 60), (300, 310, 345, 350), (900, 100, 960, 130), (1400, 1000, 1450, 1060), (700, 600, 1100, 640)]
FILES = ("objects.geojson", "objects-crs.geojson", "objects.coco.json", "objects.csv")


@pytest.fixture(scope="module")
def raster(tmp_path_factory):
    """A raster whose second object lies across four tiles, and whose last is longer than any overlap."""
    folder = tmp_path_factory.mktemp("scene")
    return rasters.write(folder / "scene.tif", rasters.painted(1500, 1100, BOXES), **rasters.UTM)


def run(source, texts, folder, detector=None, **options):
    options = {"imgsz": 320, "map": False, "project": str(folder), "stretch": "none"} | options
    return ground_raster(None, source, texts, detector=detector or rasters.Bright(), **options)


def boxes_of(result, j=0):
    return [tuple(b) for b in result.of(j)[:, :4].astype(int).tolist()]


@pytest.mark.parametrize("batch", [1, 7, 16])
@pytest.mark.parametrize("overlap", [0.2, 0.4])
def test_every_object_is_found_once(raster, tmp_path, batch, overlap):
    result = run(raster, "the ship", tmp_path, topk="all", batch=batch, overlap=overlap)
    assert sorted(boxes_of(result)) == sorted(BOXES)


def test_words_about_the_whole_raster(raster, tmp_path):
    texts = ["the leftmost ship", "the easternmost ship", "the second northernmost ship", "the ship in the south-east",
             "the largest ship", "the smallest ship", "the ship"]  # fmt: skip
    detector = rasters.Bright()
    result = run(raster, texts, tmp_path, detector)
    assert detector.expressions == ["a ship"]  # all expressions have one core
    first = [boxes_of(result, j)[0] for j in range(len(texts))]
    assert first == [BOXES[i] for i in (0, 3, 2, 3, 4, 0, 4)]
    queries = json.loads((result.folder / "scene.json").read_text())["questions"]
    assert queries[1]["core"] == "a ship" and queries[1]["extreme"] == "right"


def test_a_killed_run_continues_and_ends_the_same(raster, tmp_path):
    texts = ["the leftmost ship", "the ship in the north"]
    whole = run(raster, texts, tmp_path / "whole", topk="all", batch=4)
    stopped = rasters.Bright(fail_after=9)
    with pytest.raises(KeyboardInterrupt):
        run(raster, texts, tmp_path / "cut", stopped, topk="all", batch=4)
    state = next((tmp_path / "cut").glob("*/" + STATE))
    state.write_bytes(state.read_bytes() + b'{"tiles": [33, 34], "fou')  # killed while it wrote
    rest = rasters.Bright()
    resumed = run(raster, texts, tmp_path / "cut", rest, topk="all", batch=4)
    assert 0 < rest.seen < resumed.record["tiles"] and resumed.folder == state.parent
    for name in FILES:
        assert (resumed.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    again = rasters.Bright()
    assert run(raster, texts, tmp_path / "cut", again, conf=0.79).folder == state.parent
    assert again.seen == 0  # another conf needs no new detections


@pytest.mark.parametrize(
    "change",
    [{"overlap": 0.5}, {"imgsz": 256}, {"stretch": "percentile", "limits": (0.0, 255.0)}, {"resume": False}],
)
def test_a_run_with_other_settings_starts_anew(raster, tmp_path, change):
    first = run(raster, "the ship", tmp_path)
    detector = rasters.Bright()
    second = run(raster, "the ship", tmp_path, detector, **change)
    assert detector.seen and second.folder != first.folder


def test_the_file_is_read_by_windows(raster, tmp_path, monkeypatch):
    areas = []
    original = Raster.read

    def spy(self, bands, window, size, smooth=True):
        areas.append((window, size, smooth))
        return original(self, bands, window, size, smooth)

    monkeypatch.setattr(Raster, "read", spy)
    monkeypatch.setattr("optisar_yolo.geo.stretch.SIDE", 200)
    run(raster, "the ship", tmp_path, batch=4)
    whole = [a for a in areas if not a[2]]
    assert len(whole) == 1 and max(whole[0][1]) == 200  # the decimated read of the whole
    assert len(areas) > 5 and max(w * h for (_, _, w, h), _, smooth in areas if smooth) <= 4 * 320 * 320


def test_empty_tiles_are_not_encoded(tmp_path):
    image = np.zeros((1000, 1000), np.uint8)
    image[:300, :300] = rasters.ground(300, 300)
    image[100:130, 100:140] = 220
    detector = rasters.Bright()
    result = run(rasters.write(tmp_path / "a.tif", image, **rasters.UTM), "the ship", tmp_path / "out", detector)
    assert detector.seen < result.record["tiles"] / 2
    assert boxes_of(result) == [(100, 100, 140, 130)]


def test_scale_and_gsd_set_the_resolution(tmp_path):
    image = rasters.painted(1400, 1000, [(200, 300, 280, 360)])
    path = rasters.write(tmp_path / "a.tif", image, **rasters.UTM)  # 10 m
    coarse = run(path, "the ship", tmp_path / "a", scale=2)
    assert np.abs(coarse.of(0)[0, :4] - [200, 300, 280, 360]).max() <= 2
    by_gsd = run(path, "the ship", tmp_path / "b", gsd=20)
    assert by_gsd.record["scale"] == pytest.approx((2, 2), rel=0.01)  # 10 m of UTM are 10 m on the ground within 0.1 %
    assert coarse.record["tiles"] < run(path, "the ship", tmp_path / "c").record["tiles"]


def test_nothing_found_is_logged(raster, tmp_path, log):
    result = run(raster, ["the ship", "the ship in the lower left"], tmp_path, conf=0.999)
    assert not len(result.found) and "highest confidence 0.800, below conf=0.999" in log.text
    assert json.loads((result.folder / "objects.geojson").read_text())["features"] == []


def test_a_raster_without_georeference_has_pixels_only(tmp_path):
    path = rasters.write(tmp_path / "a.tif", rasters.painted(400, 300, [(10, 20, 60, 50)]))
    result = run(path, "the leftmost ship", tmp_path / "out")
    assert boxes_of(result) == [(10, 20, 60, 50)]
    with pytest.warns(FutureWarning, match="questions is now RasterResult.queries"):
        assert result.questions is result.queries
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
    assert main(["scene", *words, "conf=2"]) == 2 and "conf=2" in capsys.readouterr().err
    assert main(["scene", *words, "sacle=2"]) == 2 and "did you mean 'scale'" in capsys.readouterr().err
    assert main(["scene", *words, "scale=2", "gsd=3"]) == 2 and "give one of them" in capsys.readouterr().err
    assert main(["scene", "text=the ship"]) == 2 and "needs source=… (any raster" in capsys.readouterr().err


def test_a_batch_gives_the_boxes_of_single_tiles_and_of_predict():
    from optisar_yolo import OptiSAR
    from optisar_yolo.geo.detecting import ExpressionDetector
    from optisar_yolo.synthetic.render import render_image
    from optisar_yolo.utils.options import BUNDLED_MODEL

    model = OptiSAR(BUNDLED_MODEL)
    images = [render_image(0, "test", n)["img"][:224, :256] for n in range(1, 6, 2)]
    texts = ["the SAR ship", "the leftmost ship"]
    detector = ExpressionDetector(model)
    batch = np.ascontiguousarray(np.stack([p[..., ::-1].transpose(2, 0, 1) for p in images]))
    together = detector(batch, texts, 0.05)
    for i, image in enumerate(images):
        (alone,) = detector(batch[i : i + 1], texts, 0.05)
        assert np.abs(alone - together[i]).max(initial=0) < 1e-2
        plain = model.predict(image, text=texts, topk=50, conf=0.05, imgsz=256, reason=False, verbose=False)[
            0
        ].boxes.data.numpy()
        order = np.lexsort((-together[i][:, 4], together[i][:, 5]))
        assert len(plain) and plain == pytest.approx(together[i][order][: len(plain)], abs=0.05)


def test_an_export_is_refused(tmp_path):
    from optisar_yolo.geo.detecting import ExpressionDetector

    class Export:
        model, ckpt_path = object(), "best.onnx"

    with pytest.raises(ValueError, match="best.onnx: an exported model"):
        ExpressionDetector(Export())


def test_former_names_work_and_warn():
    from optisar_yolo import geo

    for old, new in (("ground_scene", "ground_raster"), ("SceneOptions", "RasterOptions")):
        with pytest.warns(FutureWarning, match=f"geo.{old} is now optisar_yolo.geo.{new}") as warned:
            assert getattr(geo, old) is getattr(geo, new)
        assert len(warned) == 1


def test_options_out_of_range():
    for options, message in (
        ({"topk": 0}, "at least 1, or all"), ({"percentiles": (9, 2)}, "9,2"), ({"bands": (1, 2)}, "1 or 3"),
        ({"scale": 2, "gsd": 1}, "give one of them"), ({"stretch": "gamma"}, "one of auto, none"),
    ):  # fmt: skip
        with pytest.raises(SettingError, match=message):
            RasterOptions(**options)
    assert RasterOptions(nodata=float("nan")).nodata is None and RasterOptions(device=0).device == "0"


class Halves(rasters.Bright):
    """Finds an object that a tile cuts only where the tile shows its left end, as a network may that knows bows only.

    Attributes:
        blind: True if it never finds an object as a whole.
    """

    def __init__(self, blind=False):
        super().__init__()
        self.blind = blind

    def __call__(self, images, expressions, floor):
        found = super().__call__(images, expressions, floor)
        kept = []
        for image, rows in zip(images, found, strict=True):
            left, right = rows[:, 0] > 0, rows[:, 2] < image.shape[2]
            kept.append(rows[left & (~right | (not self.blind))])
        return kept


LONG = (211, 150, 417, 170)  # longer than the overlap of tiles of 320 pixels


@pytest.mark.parametrize("box", [LONG, (150, 211, 170, 417), (500, 600, 800, 640), (1290, 900, 1490, 920)])
@pytest.mark.parametrize("overlap", [0.0, 0.25])
def test_an_object_that_no_tile_holds_is_looked_for_on_a_shifted_tile(tmp_path, box, overlap):
    path = rasters.write(tmp_path / "a.tif", rasters.painted(1500, 1100, [box, (900, 100, 930, 120)]), **rasters.UTM)
    result = run(path, "the ship", tmp_path, Halves(), topk="all", overlap=overlap)
    assert sorted(boxes_of(result)) == sorted([box, (900, 100, 930, 120)])
    assert not result.cut.any()
    again = Halves()
    other = run(path, "the ship", tmp_path, again, topk="all", overlap=overlap)
    assert again.seen == 0 and (other.found == result.found).all()  # shifted tiles are in the state too


def test_a_box_that_still_ends_at_a_border_is_marked_and_said(tmp_path, monkeypatch):
    from optisar_yolo.geo import run as running

    said = []
    monkeypatch.setattr(running.LOGGER, "warning", said.append)
    path = rasters.write(tmp_path / "a.tif", rasters.painted(1500, 1100, [LONG]), **rasters.UTM)
    result = run(path, "the ship", tmp_path, Halves(blind=True))
    assert result.cut.tolist() == [True] and any("1 of 1 boxes end at the border" in line for line in said)
    for name in ("objects.geojson", "objects-crs.geojson"):
        (feature,) = json.loads((result.folder / name).read_text())["features"]
        assert feature["properties"]["cut"] is True
    assert json.loads((result.folder / "objects.coco.json").read_text())["annotations"][0]["cut"] is True

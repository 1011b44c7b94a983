"""GeoPackage, FlatGeobuf and the QGIS style, read by geopandas and, where it is installed, by QGIS."""

import shutil
import sqlite3
import subprocess
import sys
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import rasters

from optisar_yolo.geo import RasterOptions, ground_raster
from optisar_yolo.utils import MissingExtraError

gpd = pytest.importorskip("geopandas")
BOX = (300, 100, 340, 160)
TEXTS = ["the ship", 'the "topmost" ship & <co>']
NEEDED = {"gpkg", "fgb"}


def run(path, folder, texts=TEXTS[:1], **options):
    about = {"imgsz": 320, "project": str(folder), "stretch": "none", "map": False, "topk": "all"} | options
    return ground_raster(None, path, list(texts), detector=rasters.Bright(), **about)


def make(folder, boxes=(BOX, (40, 300, 70, 330)), **profile):
    return rasters.write(folder / "scene.tif", rasters.painted(500, 400, boxes), **profile)


@pytest.mark.parametrize("kind", ["gpkg", "fgb"])
@pytest.mark.parametrize(
    "crs", ["EPSG:32633", "EPSG:4326", "+proj=laea +lat_0=50 +lon_0=12 +datum=WGS84", "IAU_2015:30100"]
)
def test_same_objects_as_in_geojson(tmp_path, kind, crs):
    if crs == "EPSG:4326":
        place = {"transform": rasters.from_origin(12.0, 55.0, 1e-4, 1e-4)}
    else:
        place = {"transform": rasters.UTM["transform"]}
    result = run(make(tmp_path, crs=crs, **place), tmp_path / "out", TEXTS, vector=kind)
    table = gpd.read_file(result.folder / f"objects.{kind}", layer="objects")
    other = gpd.read_file(result.folder / "objects-crs.geojson")
    assert len(table) == len(other) == 4 and {k for k in NEEDED if (result.folder / f"objects.{k}").exists()} == {kind}
    table = table.sort_values(["sentence", "confidence"]).reset_index(drop=True)  # FlatGeobuf orders by its index
    other = other.sort_values(["sentence", "confidence"]).reset_index(drop=True)
    assert table.sentence.tolist() == other.sentence.tolist() and np.allclose(table.confidence, other.confidence)
    assert table.geometry.normalize().geom_equals_exact(other.geometry.normalize(), 1e-9).all()
    boxes = np.array(other.pixels.tolist(), float)
    assert np.allclose(table[["x1", "y1", "x2", "y2"]], boxes) and table.cut.dtype == bool
    with rasters.rasterio.open(tmp_path / "scene.tif") as file:
        assert rasters.rasterio.CRS.from_user_input(table.crs.to_wkt()) == file.crs


@pytest.mark.parametrize("place", ["south up", "mirrored", "quarter turn", "askew"])
def test_polygons_are_anticlockwise_whatever_the_raster(tmp_path, place):
    from test_raster_outputs import PLACES

    result = run(make(tmp_path, **PLACES[place]), tmp_path / "out", vector="all")
    for kind in NEEDED:
        table = gpd.read_file(result.folder / f"objects.{kind}", layer="objects")
        assert len(table) == 2 and all(p.exterior.is_ccw and p.is_valid for p in table.geometry)


def test_a_raster_without_objects_gives_empty_layers(tmp_path):
    result = run(make(tmp_path, boxes=[], **rasters.UTM), tmp_path / "out", vector="all")
    for kind in NEEDED:
        table = gpd.read_file(result.folder / f"objects.{kind}", layer="objects")
        assert len(table) == 0 and {"sentence", "confidence", "cut"} <= set(table.columns) and table.crs == "EPSG:32633"


def test_only_geojson_and_the_style_by_default(tmp_path):
    result = run(make(tmp_path, **rasters.UTM), tmp_path / "out")
    names = {p.name for p in result.folder.iterdir()}
    assert "objects.qml" in names and not names & {"objects.gpkg", "objects.fgb"}
    pixels = run(make(tmp_path), tmp_path / "pixels")
    assert "objects.qml" not in {p.name for p in pixels.folder.iterdir()}


def test_a_raster_without_georeference_is_rejected_before_the_run(tmp_path):
    detector = rasters.Bright()
    with pytest.raises(ValueError, match="scene.tif: vector=gpkg needs a georeference.*crs= and transform="):
        ground_raster(None, make(tmp_path), "the ship", detector=detector, map=False, vector="gpkg")
    assert detector.seen == 0


def test_a_missing_package_is_named_before_the_run(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyogrio", None)
    detector = rasters.Bright()
    with pytest.raises(MissingExtraError, match=r"pyogrio.*optisar-yolo\[geo\]"):
        ground_raster(None, make(tmp_path, **rasters.UTM), "the ship", detector=detector, map=False, vector="fgb")
    assert detector.seen == 0
    run(make(tmp_path, **rasters.UTM), tmp_path / "out")  # GeoJSON needs none


def test_an_unknown_format_is_rejected():
    with pytest.raises(ValueError, match="vector=shp.*geojson, gpkg, fgb, all"):
        RasterOptions(vector="shp")


def test_the_style_has_an_entry_per_expression_and_lies_in_the_geopackage_too(tmp_path):
    result = run(make(tmp_path, **rasters.UTM), tmp_path / "out", TEXTS, vector="gpkg")
    style = (result.folder / "objects.qml").read_text("utf-8")
    renderer = ET.fromstring(style).find("renderer-v2")
    assert renderer.get("attr") == "sentence"
    assert [c.get("value") for c in renderer.iter("category")] == TEXTS
    colours = {o.get("value") for o in renderer.iter("Option") if o.get("name") == "outline_color"}
    assert len(colours) == 2
    with sqlite3.connect(result.folder / "objects.gpkg") as base:
        (row,) = base.execute("SELECT f_table_name, f_geometry_column, styleQML, useAsDefault FROM layer_styles")
        assert row == ("objects", "geom", style, 1)
        assert base.execute("SELECT column_name FROM gpkg_geometry_columns").fetchall() == [("geom",)]


QGIS = """
import sys
from qgis.core import QgsApplication, QgsVectorLayer
app = QgsApplication([], False)
app.initQgis()
for path in sys.argv[1:]:
    layer = QgsVectorLayer(path, "objects", "ogr")
    assert layer.isValid(), path
    renderer = layer.renderer()
    categories = renderer.categories()  # held: their symbols are theirs
    symbol = categories[0].symbol() if categories else None
    print(layer.featureCount(), layer.crs().authid(), renderer.type(), renderer.classAttribute(), len(categories),
          symbol and symbol.symbolLayer(0).strokeColor().name(), layer.labelsEnabled(), sep="|")
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("qgis_process") is None, reason="QGIS is not installed")
def test_qgis_draws_the_layers_in_the_style(tmp_path):
    result = run(make(tmp_path, **rasters.UTM), tmp_path / "out", TEXTS, vector="all")
    alone = tmp_path / "alone"  # without the style beside it: what is drawn comes from the file
    alone.mkdir()
    shutil.copy(result.folder / "objects.gpkg", alone)
    paths = [result.folder / f"objects.{k}" for k in ("gpkg", "fgb", "geojson")] + [alone / "objects.gpkg"]
    env = {"QT_QPA_PLATFORM": "offscreen", "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    out = subprocess.run(
        ["/usr/bin/python3", "-c", QGIS, *map(str, paths)],
        capture_output=True, text=True, env=env,
    )  # fmt: skip
    lines = out.stdout.strip().splitlines()
    assert len(lines) == 4, out.stdout + out.stderr
    first = lines[0].split("|")
    assert first[:5] == ["4", "EPSG:32633", "categorizedSymbol", "sentence", "2"] and first[6] == "True"
    assert lines[3] == lines[0] and [line.split("|")[2:] for line in lines] == [first[2:]] * 4

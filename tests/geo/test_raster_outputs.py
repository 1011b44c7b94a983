"""What is written, checked by other tools: geopandas and pyproj for coordinates, pycocotools for COCO, a browser."""

import csv
import json

import numpy as np
import pytest
import rasters
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine, from_origin

from optisar_yolo.geo import ground_raster
from optisar_yolo.geo.georeference import Georeference
from optisar_yolo.geo.placed import polygon
from optisar_yolo.geo.reading import Raster

gpd = pytest.importorskip("geopandas")
pyproj = pytest.importorskip("pyproj")

BOX = (300, 100, 340, 160)
TEXTS = ["the ship", "the northernmost ship"]
PLACES = {
    "UTM": rasters.UTM,
    "degrees": dict(crs="EPSG:4326", transform=from_origin(12.0, 55.0, 1e-4, 1e-4)),
    "south up": dict(crs="EPSG:32733", transform=Affine(10, 0, 500_000, 0, 10, 6_000_000)),
    "mirrored": dict(crs="EPSG:32633", transform=Affine(-10, 0, 510_000, 0, -10, 5_400_000)),
    "quarter turn": dict(crs="EPSG:32633", transform=Affine(0, 10, 500_000, 10, 0, 5_400_000)),
    "askew": dict(crs="EPSG:32633", transform=from_origin(500_000, 5_400_000, 10, 10) * Affine.rotation(30)),
    "polar": dict(crs="EPSG:3413", transform=from_origin(-300_000, -2_000_000, 20, 20)),
}


def run(path, folder, texts=TEXTS[:1], **options):
    about = {"imgsz": 320, "project": str(folder), "stretch": "none", "map": False, "topk": "all"} | options
    return ground_raster(None, path, list(texts), detector=rasters.Bright(), **about)


def make(folder, **profile):
    return rasters.write(folder / "scene.tif", rasters.painted(500, 400, [BOX, (40, 300, 70, 330)]), **profile)


def ring_by_hand(place, box=BOX):
    """Return the box's corners in the CRS by the affine formula, for comparison."""
    x1, y1, x2, y2 = box
    return [place["transform"] * corner for corner in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))]


@pytest.mark.parametrize("name", PLACES)
def test_coordinates_agree_with_pyproj_and_geopandas(tmp_path, name):
    place = PLACES[name]
    result = run(make(tmp_path, **place), tmp_path / "out")
    by_hand = ring_by_hand(place)
    project = pyproj.Transformer.from_crs(place["crs"], "EPSG:4326", always_xy=True)
    lonlat = [project.transform(*p) for p in by_hand]

    table = gpd.read_file(result.folder / "objects-crs.geojson")
    assert table.crs == pyproj.CRS(place["crs"]) and len(table) == 2
    row = table.iloc[(result.found[:, :4] == BOX).all(1).argmax()]
    ring = np.array(row.geometry.exterior.coords)[:-1]
    assert sorted(map(tuple, ring.round(6).tolist())) == sorted(tuple(np.round(p, 6).tolist()) for p in by_hand)

    world = gpd.read_file(result.folder / "objects.geojson")
    assert world.crs == pyproj.CRS("EPSG:4326")
    found = np.array(world.iloc[row.name].geometry.exterior.coords)[:-1]
    gaps = np.abs(np.sort(found, 0) - np.sort(np.array(lonlat), 0))
    assert gaps.max() < 1e-7  # a centimetre
    there = gpd.GeoDataFrame(geometry=table.to_crs("EPSG:4326").geometry)  # geopandas' own way from one to the other
    assert (there.geometry.hausdorff_distance(world.geometry) < 1e-7).all()


@pytest.mark.parametrize("name", PLACES)
def test_geojson_keeps_to_rfc_7946(tmp_path, name):
    result = run(make(tmp_path, **PLACES[name]), tmp_path / "out")
    content = json.loads((result.folder / "objects.geojson").read_text())
    assert set(content) == {"type", "features"}  # no "crs": it is WGS 84
    for feature in content["features"]:
        ring = np.array(feature["geometry"]["coordinates"][0])
        assert (ring[0] == ring[-1]).all() and len(ring) == 5
        assert (np.abs(ring[:, 0]) <= 180).all() and (np.abs(ring[:, 1]) <= 90).all()
        x, y = (ring[:-1] - ring[0]).T  # relative, as the shoelace formula would otherwise lose its digits
        assert (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() > 0  # anticlockwise


def test_north_is_found_in_the_geotransform(tmp_path):
    sides = {"UTM": "top", "degrees": "top", "south up": "bottom", "mirrored": "top", "quarter turn": "right"}
    for name, side in sides.items():
        with Raster(make(tmp_path, **PLACES[name])) as raster:
            compass = Georeference(raster).compass()
        assert compass["north"] == side
        assert compass["east"] == {"mirrored": "left", "quarter turn": "bottom"}.get(name, "right")
        assert {compass["north"], compass["south"]} in ({"top", "bottom"}, {"left", "right"})
    for name in ("askew", "polar"):
        with Raster(make(tmp_path, **PLACES[name])) as raster, pytest.raises(ValueError, match="gdalwarp"):
            Georeference(raster).compass()


@pytest.mark.parametrize("name", ["UTM", "south up", "quarter turn"])
def test_the_northernmost_is_the_one_of_highest_latitude(tmp_path, name):
    result = run(make(tmp_path, **PLACES[name]), tmp_path / "out", ["the northernmost ship"])
    latitude = gpd.read_file(result.folder / "objects.geojson").geometry.bounds.miny
    assert len(latitude) == 2 and latitude.iloc[0] == latitude.max()


def test_ground_control_points_locate_a_raster(tmp_path):
    by_affine = PLACES["UTM"]["transform"]
    corners = [(0, 0), (500, 0), (500, 400), (0, 400), (250, 200)]
    points = [
        GroundControlPoint(row=y, col=x, x=(by_affine * (x, y))[0], y=(by_affine * (x, y))[1]) for x, y in corners
    ]
    path = rasters.write(tmp_path / "scene.tif", rasters.painted(500, 400, [BOX]), gcps=points, crs="EPSG:32633")
    result = run(path, tmp_path / "out", ["the northernmost ship"])
    ring = np.array(gpd.read_file(result.folder / "objects-crs.geojson").geometry.iloc[0].exterior.coords)[:-1]
    assert np.abs(np.sort(ring, 0) - np.sort(np.array(ring_by_hand(PLACES["UTM"])), 0)).max() < 0.01  # metres


def test_gsd_is_measured_on_the_ground(tmp_path):
    geod = pyproj.Geod(ellps="WGS84")
    for name in ("UTM", "degrees", "askew"):
        place = PLACES[name]
        with Raster(make(tmp_path, **place)) as raster:
            metres = Georeference(raster).metres
        project = pyproj.Transformer.from_crs(place["crs"], "EPSG:4326", always_xy=True)
        a, b, c = (project.transform(*(place["transform"] * p)) for p in ((250, 200), (251, 200), (250, 201)))
        truth = np.sqrt(geod.inv(*a, *b)[2] * geod.inv(*a, *c)[2])
        assert metres == pytest.approx(truth, rel=0.005)  # a sphere in place of the ellipsoid


def test_polygons_are_cut_at_the_antimeridian():
    ring = np.array([[179.9, 10.0], [-179.9, 10.0], [-179.9, 9.0], [179.9, 9.0]])
    west, east = polygon(ring)["coordinates"]
    assert {tuple(p) for p in west[0]} == {(179.9, 10.0), (180.0, 10.0), (180.0, 9.0), (179.9, 9.0)}
    assert {tuple(p) for p in east[0]} == {(-180.0, 10.0), (-179.9, 10.0), (-179.9, 9.0), (-180.0, 9.0)}


def test_coco_and_csv(tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    result = run(make(tmp_path, **rasters.UTM), tmp_path / "out", TEXTS)
    data = coco.COCO(str(result.folder / "objects.coco.json"))
    notes = data.loadAnns(data.getAnnIds(catIds=[2]))
    assert data.loadCats([2])[0]["name"] == TEXTS[1]
    assert [n["bbox"] for n in notes] == [[300, 100, 40, 60], [40, 300, 30, 30]]
    with open(result.folder / "objects.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 and rows[2]["sentence"] == TEXTS[1]
    east, north = rasters.UTM["transform"] * (320, 130)
    lon, lat = pyproj.Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True).transform(east, north)
    assert (float(rows[2]["x_crs"]), float(rows[2]["y_crs"])) == pytest.approx((east, north))
    assert (float(rows[2]["lon"]), float(rows[2]["lat"])) == pytest.approx((lon, lat), abs=1e-7)


@pytest.mark.parametrize("name", ["UTM", "mirrored", "askew"])
def test_the_map_works_offline(tmp_path, name, page):
    pytest.importorskip("bokeh")
    result = run(make(tmp_path, **PLACES[name]), tmp_path / "out", ['the "ship" <b>', "the ship"], map=True)
    page.context.set_offline(True)
    problems, requests = [], []
    page.on("pageerror", lambda e: problems.append(str(e)))
    page.on("request", lambda r: requests.append(r.url))
    page.goto((result.folder / "map.html").as_uri())
    page.wait_for_selector(".bk-Figure, .bk-Canvas", state="attached")
    page.wait_for_function("() => Bokeh.documents.length && Bokeh.documents[0].is_idle")
    assert not problems and [u for u in requests if not u.startswith(("file:", "data:", "blob:"))] == []
    for width in (1280, 400):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function(
            """() => {
              const plot = Bokeh.documents[0].roots()[0], [x, y] = [plot.x_range, plot.y_range];
              const square = (plot.inner_width / plot.inner_height) / ((x.end - x.start) / (y.end - y.start));
              return document.documentElement.scrollWidth <= innerWidth && Math.abs(square - 1) < 0.02;
            }"""
        )

"""What may be named as a raster: STAC items, tile servers (of this machine), parts, files without a place."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import rasters
import tile_server
from rasterio.transform import Affine
from tile_server import COLUMN, OBJECTS, ROW, SIDE, ZOOM

from optisar_yolo.data import DataError
from optisar_yolo.geo import RasterOptions, ground_raster
from optisar_yolo.geo.sources import HALF, find_source
from optisar_yolo.utils import SettingError

pyproj = pytest.importorskip("pyproj")
PIL = pytest.importorskip("PIL.Image")
BOX = (300, 100, 340, 160)
CRS, TRANSFORM = "EPSG:32633", (10, 0, 500_000, 0, -10, 5_400_000)


def run(source, folder, text="the ship", **options):
    about = {"imgsz": 320, "project": str(folder), "stretch": "none", "map": False, "topk": "all"} | options
    return ground_raster(None, source, text, detector=rasters.Bright(), **about)


def boxes(result):
    return sorted(map(tuple, result.found[:, :4].round().astype(int).tolist()))


# files that lack a place


def test_crs_and_transform_place_a_file_that_has_none(tmp_path):
    image = rasters.painted(500, 400, [BOX])
    there = run(rasters.write(tmp_path / "there.tif", image, **rasters.UTM), tmp_path / "out", "the northernmost ship")
    bare = rasters.write(tmp_path / "bare.tif", image)
    given = run(bare, tmp_path / "out", "the northernmost ship", crs=CRS, transform=TRANSFORM, vector="all")
    for name in ("objects.geojson", "objects-crs.geojson"):
        assert json.loads((given.folder / name).read_text()) == json.loads((there.folder / name).read_text())


def test_a_world_file_needs_only_the_crs(tmp_path):
    PIL.fromarray(rasters.painted(500, 400, [BOX])).save(tmp_path / "a.png")
    (tmp_path / "a.pgw").write_text("10\n0\n0\n-10\n500005\n5399995\n")
    result = run(tmp_path / "a.png", tmp_path / "out", crs="32633")
    ring = json.loads((result.folder / "objects-crs.geojson").read_text())["features"][0]["geometry"]["coordinates"][0]
    assert [503_000, 5_399_000] in ring


def test_another_placement_than_the_files_is_said(tmp_path, caplog):
    path = rasters.write(tmp_path / "a.tif", rasters.painted(500, 400, [BOX]), **rasters.UTM)
    run(path, tmp_path / "out", crs=CRS, transform=TRANSFORM)
    assert "in place of" not in caplog.text
    result = run(path, tmp_path / "other", crs="EPSG:32632", transform=(20, 0, 500_000, 0, -20, 5_400_000))
    assert "crs=EPSG:32632 is used in place of the file's own CRS (EPSG:32633)" in caplog.text
    assert "transform= is used in place of the file's own (10,0,500000,0,-10,5400000)" in caplog.text
    assert result.place.crs.to_epsg() == 32632 and result.place.affine.a == 20


@pytest.mark.parametrize(
    "given, message",
    [
        ({"crs": CRS}, "bare.tif: crs=EPSG:32633 alone places no pixel.*transform="),
        ({"transform": TRANSFORM}, "bare.tif: transform= needs a CRS.*crs="),
        ({"crs": "EPSG:99999999", "transform": TRANSFORM}, "crs=EPSG:99999999.*no such CRS"),
        ({"crs": "nonsense", "transform": TRANSFORM}, "crs=nonsense.*no such CRS"),
        ({"crs": CRS, "transform": (0, 0, 1, 0, 0, 1)}, "gives pixels no area"),
        ({"crs": CRS, "transform": (10, 0, math.inf, 0, -10, 0)}, "gives pixels no area"),
    ],
)
def test_a_placement_that_places_nothing_is_an_error(tmp_path, given, message):
    bare = rasters.write(tmp_path / "bare.tif", rasters.painted(500, 400, [BOX]))
    with pytest.raises(ValueError, match=message):
        run(bare, tmp_path / "out", **given)


def test_numbers_in_the_order_of_gdal_do_not_pass_unnoticed(tmp_path, caplog):
    bare = rasters.write(tmp_path / "bare.tif", rasters.painted(500, 400, [BOX]))
    with pytest.raises(ValueError, match=r"bare.tif: crs= and transform= place .* outside .* x = a·column"):
        run(bare, tmp_path / "out", crs=CRS, transform=(500_000, 10, 0, 5_400_000, 0, -10))
    run(bare, tmp_path / "out", crs="EPSG:4326", transform=(12.0, 1e-4, 0, 55.0, 0, -1e-4))  # 12 degrees a pixel
    assert "no part of the raster can be placed in WGS 84" in caplog.text or "geometry" in caplog.text


# parts


def degrees(crs, left, bottom, right, top):
    """Return the extent in degrees of a rectangle of a CRS whose sides run north, as far as it is exact."""
    project = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    (west, south), (east, north) = project.transform(left, bottom), project.transform(right, top)
    return west, south, east, north


def test_an_extent_reads_a_part_and_places_it_rightly(tmp_path):
    place = dict(crs="EPSG:4326", transform=Affine(1e-4, 0, 12.0, 0, -1e-4, 55.0))
    image = rasters.painted(500, 400, [BOX, (40, 300, 70, 330)])
    path = rasters.write(tmp_path / "a.tif", image, **place)
    whole = run(path, tmp_path / "out")
    part = run(path, tmp_path / "out", extent=(12.02, 54.975, 12.05, 55.0))  # columns from 200, rows to 250
    assert part.size == (300, 250) and boxes(part) == [(100, 100, 140, 160)]
    assert json.loads((part.folder / "scene.json").read_text())["part"] == [200, 0, 300, 250]
    rings = [json.loads((r.folder / "objects.geojson").read_text())["features"] for r in (whole, part)]
    same = [f["geometry"] for f in rings[0] if f["properties"]["pixels"] == list(BOX)]
    assert same == [f["geometry"] for f in rings[1]]
    assert part.folder != whole.folder
    again = run(path, tmp_path / "out", extent=(12.02, 54.975, 12.05, 55.0))
    assert again.folder == part.folder and again.record["tiles_this_run"] == 0
    other = run(path, tmp_path / "out", extent=(12.01, 54.975, 12.04, 55.0))  # of the same size
    assert other.folder not in (part.folder, whole.folder) and boxes(other) == [(200, 100, 240, 160)]


def test_an_extent_in_a_projection_covers_what_it_names(tmp_path):
    path = rasters.write(tmp_path / "a.tif", rasters.painted(500, 400, [BOX]), **rasters.UTM)
    extent = degrees(CRS, 502_000, 5_397_000, 504_500, 5_399_500)
    part = run(path, tmp_path / "out", extent=extent)
    x, y, w, h = part.record["part"]
    assert x <= 200 and y <= 50 and x + w >= 450 and y + h >= 300 and w < 270 and h < 270
    assert boxes(part) == [(300 - x, 100 - y, 340 - x, 160 - y)]


@pytest.mark.parametrize(
    "extent, message",
    [
        ((5, 5, 4, 6), "west < east"),
        ((4, 6, 5, 5), "south < north"),
        ((170, 0, -170, 5), "antimeridian"),
        ((4, 50, 5, 95), "degrees"),
        ((500_000, 5_390_000, 510_000, 5_400_000), "degrees"),
    ],
)
def test_an_extent_that_is_none(extent, message):
    with pytest.raises(SettingError, match=message):
        RasterOptions(extent=extent)


def test_an_extent_beside_the_raster_and_one_without_a_place(tmp_path):
    path = rasters.write(tmp_path / "a.tif", rasters.painted(500, 400, [BOX]), **rasters.UTM)
    with pytest.raises(ValueError, match="a.tif: the raster does not reach into extent=1,2,3,4"):
        run(path, tmp_path / "out", extent=(1, 2, 3, 4))
    bare = rasters.write(tmp_path / "bare.tif", rasters.painted(500, 400, [BOX]))
    with pytest.raises(ValueError, match="bare.tif: extent= needs .* crs= and transform="):
        run(bare, tmp_path / "out", extent=(1, 2, 3, 4))


# STAC


def item(folder, name="item.json", **assets):
    content = {
        "type": "Feature", "stac_version": "1.0.0", "id": "S2-2024", "bbox": [0, 0, 1, 1], "links": [],
        "geometry": {"type": "Point", "coordinates": [0, 0]}, "properties": {"datetime": "2024-01-01T00:00:00Z"},
        "assets": assets,
    }  # fmt: skip
    (folder / name).write_text(json.dumps(content))
    return folder / name


TIF = "image/tiff; application=geotiff; profile=cloud-optimized"


def test_an_asset_of_a_stac_item(tmp_path):
    rasters.write(tmp_path / "a.tif", rasters.painted(500, 400, [BOX]), **rasters.UTM)
    rasters.write(tmp_path / "b.tif", rasters.painted(500, 400, [(10, 20, 60, 60)]), **rasters.UTM)
    about = {
        "visual": {"href": "./a.tif", "type": TIF, "roles": ["visual"]},
        "vv": {"href": str(tmp_path / "b.tif"), "type": TIF, "roles": ["data"]},
        "thumbnail": {"href": "./gone.png", "type": "image/png", "roles": ["thumbnail"]},
        "metadata": {"href": "./x.xml", "type": "application/xml"},
    }
    pytest.importorskip("pystac")
    path = item(tmp_path, **about)
    result = run(path, tmp_path / "out", asset="visual")
    assert boxes(result) == [BOX] and result.folder.name == "S2-2024-visual"
    assert result.source == str(tmp_path / "a.tif")
    assert boxes(run(path, tmp_path / "out")) == [(10, 20, 60, 60)]  # the only one whose role is "data"
    with pytest.raises(
        ValueError, match="item.json: the item has no asset 'red'; it has visual, vv, thumbnail, metadata"
    ):
        run(path, tmp_path / "out", asset="red")
    with pytest.raises(DataError, match="gone.png: no such file"):
        run(path, tmp_path / "out", asset="thumbnail")


def test_stac_items_of_which_none_can_be_chosen_or_read(tmp_path):
    pytest.importorskip("pystac")
    two = item(
        tmp_path, red={"href": "r.tif", "type": TIF}, nir={"href": "n.tif"}, info={"href": "i", "type": "text/html"}
    )
    with pytest.raises(ValueError, match="name one of the item's rasters by asset=: red, nir$"):
        run(two, tmp_path / "out")
    with pytest.raises(ValueError, match="by asset=: it has none"):
        run(item(tmp_path, "none.json"), tmp_path / "out")
    (tmp_path / "broken.json").write_text('{"stac_version": "1.0.0", "type": "Feature"')
    with pytest.raises(DataError, match="broken.json: not a STAC item"):
        run(tmp_path / "broken.json", tmp_path / "out", asset="visual")
    catalogue = {"type": "Catalog", "stac_version": "1.0.0", "id": "c", "description": "d", "links": []}
    (tmp_path / "catalog.json").write_text(json.dumps(catalogue))
    with pytest.raises(DataError, match="catalog.json: not a STAC item"):
        run(tmp_path / "catalog.json", tmp_path / "out")
    with pytest.raises(DataError, match="gone.json: not a STAC item"):
        run(tmp_path / "gone.json", tmp_path / "out", asset="visual")


# tile servers


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    command = [sys.executable, tile_server.__file__, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.terminate()


def ground_extent(column=COLUMN, row=ROW, side=SIDE):
    """Return the extent in degrees of a square of tiles."""
    metres = 2 * HALF / 2**ZOOM
    left, top = column * metres - HALF, HALF - row * metres
    return degrees("EPSG:3857", left, top - side * metres, left + side * metres, top)


@pytest.mark.parametrize(
    "address", ["/xyz/{z}/{x}/{y}.png", "/tms/{z}/{x}/{-y}.png", "/xyz/{z}/{x}/{y}.png?key=1&more=2"]
)
def test_a_tile_server_with_an_extent(tmp_path, server, address):
    result = run(server + address, tmp_path / "out", zoom=ZOOM, extent=ground_extent(), vector="gpkg")
    assert result.size == (SIDE * 256, SIDE * 256) and boxes(result) == OBJECTS
    (feature, *_) = json.loads((result.folder / "objects.geojson").read_text())["features"]
    metres = 2 * HALF / 2**ZOOM / 256
    x1, y1, *_ = feature["properties"]["pixels"]
    project = pyproj.Transformer.from_crs("EPSG:3857", "EPSG:4326", always_xy=True)
    lon, lat = project.transform((COLUMN * 256 + x1) * metres - HALF, HALF - (ROW * 256 + y1) * metres)
    ring = np.array(feature["geometry"]["coordinates"][0])
    assert np.abs(ring - [lon, lat]).sum(1).min() < 2e-8
    assert result.folder.name == f"127.0.0.1-{server.rsplit(':')[-1]}-z15"
    asked = {line.split("?")[0] for line in (tmp_path / "asked.txt").read_text().split()}
    assert len(asked) == SIDE**2, asked  # no tile outside of the extent


def test_coarser_tiles_are_asked_for_a_coarser_scale(tmp_path, server):
    run(server + "/xyz/{z}/{x}/{y}.png", tmp_path / "out", zoom=ZOOM, extent=ground_extent(side=2), scale=2)
    assert "/xyz/14/" in (tmp_path / "asked.txt").read_text()


def test_where_a_server_has_no_tiles_there_is_no_data(tmp_path, server):
    result = run(server + "/xyz/{z}/{x}/{y}.png", tmp_path / "out", zoom=ZOOM, extent=ground_extent(side=5))
    assert boxes(result) == OBJECTS
    assert (result.image[-50:, -50:] == result.image[-1, -1]).all()


def test_a_server_that_fails_or_has_nothing_is_an_error(tmp_path, server):
    address = server + "/xyz/{z}/{x}/{y}.png"
    with pytest.raises(DataError, match="at zoom 15: no valid pixel"):
        run(address, tmp_path / "out", zoom=ZOOM, extent=ground_extent(COLUMN + 100))
    with pytest.raises(DataError, match="at zoom 15"):
        run(server + "/big/{z}/{x}/{y}.png", tmp_path / "out", zoom=ZOOM, extent=ground_extent())
    with pytest.raises(DataError, match="at zoom 15"):
        run(server + "/broken/{z}/{x}/{y}.png", tmp_path / "out", zoom=ZOOM, extent=ground_extent())
    assert not list((tmp_path / "out").glob("*/objects*"))


def test_wmts_with_an_extent(tmp_path, server):
    source = f"WMTS:{server}/wmts.xml,layer=port"
    result = run(source, tmp_path / "out", extent=ground_extent())
    assert result.size == (SIDE * 256, SIDE * 256) and boxes(result) == OBJECTS


def test_a_stac_item_on_the_web(tmp_path, server):
    pytest.importorskip("pystac")
    rasters.write(tmp_path / "a.tif", rasters.painted(500, 400, [BOX]), **rasters.UTM)
    item(tmp_path, visual={"href": "./a.tif", "type": TIF})
    result = run(f"{server}/item.json", tmp_path / "out")
    assert boxes(result) == [BOX] and result.source == f"{server}/a.tif"


@pytest.mark.parametrize(
    "source, given, message",
    [
        ("https://h/{z}/{x}/{y}.png", {"extent": (1, 2, 3, 4)}, "give zoom="),
        ("https://h/{z}/{x}/{y}.png", {"zoom": 3}, "give extent="),
        ("https://h/{z}/{x}.png", {"zoom": 3, "extent": (1, 2, 3, 4)}, r"needs \{y\}"),
        ("https://{s}.h/{z}/{x}/{y}.png", {"zoom": 3, "extent": (1, 2, 3, 4)}, r"\{s\} has no meaning"),
        ("https://h/{z}/{x}/{y}.png", {"zoom": 3, "extent": (1, 2, 3, 4), "asset": "red"}, "asset= is for STAC"),
        ("a.tif", {"zoom": 3}, "zoom= is for tile servers"),
        ("WMTS:https://h/w.xml,layer=a", {}, "give extent="),
    ],
)
def test_what_a_tile_server_needs(source, given, message):
    with pytest.raises(ValueError, match=message):
        find_source(source, given.get("asset"), given.get("zoom"), given.get("extent"))

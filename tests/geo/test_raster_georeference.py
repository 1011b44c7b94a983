"""CRS that lead nowhere, longitudes beyond 180°, absurd resolutions, names of GDAL: said before the first tile."""

import json

import numpy as np
import pytest
import rasters
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.transform import from_origin

from optisar_yolo.data import DataError, tiff
from optisar_yolo.geo import ground_raster
from optisar_yolo.geo.georeference import Georeference
from optisar_yolo.geo.reading import Raster

BOX = (300, 310, 345, 350)
LOCAL = 'LOCAL_CS["site grid",UNIT["metre",1]]'
ENGINEERING = (
    'ENGCRS["site",EDATUM["site"],CS[Cartesian,2],AXIS["east",east],AXIS["north",north],LENGTHUNIT["metre",1]]'
)
MOON = "+proj=longlat +a=1737400 +b=1737400 +no_defs"
DISK = "+proj=geos +h=35785831 +lon_0=0 +sweep=y +a=6378169 +b=6356583.8 +units=m +no_defs"


class Never(rasters.Bright):
    """A detector that may not be reached."""

    def __call__(self, *_):
        raise AssertionError("a tile was read before the checks")


def run(source, folder, text="the ship", detector=None, **options):
    options = {"imgsz": 320, "map": False, "project": str(folder), "stretch": "none"} | options
    return ground_raster(None, source, text, detector=detector or rasters.Bright(), **options)


def made(path, crs=None, transform=None, **about):
    about |= {k: v for k, v in (("crs", crs), ("transform", transform)) if v is not None}
    return rasters.write(path, rasters.painted(500, 400, [BOX]), **about)


@pytest.fixture
def said(monkeypatch):
    from optisar_yolo.geo import outputs, run as running

    lines = []
    for module in (outputs, running):
        monkeypatch.setattr(module.LOGGER, "warning", lines.append)
        monkeypatch.setattr(module.LOGGER, "info", lines.append)
    monkeypatch.setattr(tiff, "_SAID", set())
    return lines


@pytest.mark.parametrize("crs", [LOCAL, ENGINEERING, MOON, "IAU_2015:30100"])
def test_a_crs_off_the_earth_keeps_what_can_be_written(tmp_path, crs, said):
    path = made(tmp_path / "a.tif", CRS.from_user_input(crs), from_origin(10, 20, 0.001, 0.001))
    result = run(path, tmp_path)
    with Raster(path) as raster:
        place = Georeference(raster)
    assert place and not place.on_earth
    names = {p.name for p in result.folder.iterdir()}
    assert "objects-crs.geojson" in names and "objects.csv" in names and "objects.geojson" not in names
    (feature,) = json.loads((result.folder / "objects-crs.geojson").read_text())["features"]
    assert feature["geometry"]["coordinates"][0][0] == pytest.approx([10.3, 20 - 0.35], abs=1e-6)
    assert (result.folder / "objects.csv").read_text().splitlines()[1].split(",")[6:8] == ["", ""]
    note = next(k for k, line in enumerate(said) if "no part of the raster can be placed in WGS 84" in line)
    assert note < next(k for k, line in enumerate(said) if "tiles of" in line)
    for more in ({"gsd": 5.0}, {"text": "the northernmost ship"}):
        with pytest.raises(ValueError, match="no georeference on the Earth"):
            run(path, tmp_path, detector=Never(), **more)


def test_a_disk_of_the_earth_seen_from_space(tmp_path, said):
    half = 5_600_000
    path = made(tmp_path / "a.tif", DISK, from_origin(-half, half, 2 * half / 500, 2 * half / 400))
    with pytest.raises(ValueError, match="outside of its projection.*say left"):
        run(path, tmp_path, "the northernmost ship", Never())
    (row,) = json.loads((run(path, tmp_path).folder / "objects.geojson").read_text())["features"]
    assert np.isfinite(row["geometry"]["coordinates"]).all()
    limb = made(tmp_path / "limb.tif", DISK, from_origin(-half + 2 * half * 0.55, half, 2 * half / 500, 2 * half / 400))
    result = run(limb, tmp_path)
    (row,) = json.loads((result.folder / "objects.geojson").read_text())["features"]
    assert row["geometry"] is None and row["properties"]["pixels"]
    assert any("1 of 1 objects reach beyond the projection" in line for line in said)
    assert "NaN" not in "".join(p.read_text() for p in result.folder.glob("*.*json"))


@pytest.mark.parametrize(
    "left, kind",
    [
        (200, "Polygon"), (359.9, "Polygon"), (180 - 0.0325, "MultiPolygon"), (-220, "Polygon"),
        (-180.0325, "MultiPolygon"), (179.5, "Polygon"),
    ],
)  # fmt: skip
def test_longitudes_are_within_180(tmp_path, left, kind):
    result = run(made(tmp_path / "a.tif", "EPSG:4326", from_origin(left, 10, 1e-4, 1e-4)), tmp_path)
    (row,) = json.loads((result.folder / "objects.geojson").read_text())["features"]
    assert row["geometry"]["type"] == kind
    parts = row["geometry"]["coordinates"]
    rings = [p[0] for p in parts] if kind == "MultiPolygon" else parts
    lons = np.concatenate([np.asarray(r)[:, 0] for r in rings])
    assert (np.abs(lons) <= 180).all()
    area = sum(np.ptp(np.asarray(r)[:, 0]) for r in rings)
    assert area == pytest.approx(45e-4, abs=1e-7)
    lon = float((result.folder / "objects.csv").read_text().splitlines()[1].split(",")[6])
    assert (lon - left - 322.5e-4 + 180) % 360 - 180 == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    "crs, transform, words",
    [
        (None, from_origin(5e5, 4e6, 10, 10), "has a geotransform and no CRS"),
        ("EPSG:32633", None, "names a CRS and has no geotransform"),
        (None, None, "has no georeference"),
    ],
)
def test_what_a_georeference_lacks_is_said_before_the_tiles(tmp_path, crs, transform, words, said):
    result = run(made(tmp_path / "a.tif", crs, transform), tmp_path)
    assert not list(result.folder.glob("*.geojson"))
    note = next(k for k, line in enumerate(said) if words in line)
    assert note < next(k for k, line in enumerate(said) if "tiles of" in line)


def test_control_points_beyond_180(tmp_path):
    points = [GroundControlPoint(y, x, 200 + x * 1e-4, 10 - y * 1e-4) for y in (0, 400) for x in (0, 500)]
    path = rasters.write(tmp_path / "a.tif", rasters.painted(500, 400, [BOX]), gcps=points, crs="EPSG:4326")
    (row,) = json.loads((run(path, tmp_path).folder / "objects.geojson").read_text())["features"]
    assert row["geometry"]["coordinates"][0][0][0] == pytest.approx(200 + 0.03 - 360, abs=1e-5)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"gsd": 0.001}, "gsd=0.001 .* tiles of 500 x 400 pixels"),
        ({"scale": 0.001, "overlap": 0.5}, "scale=0.001 .* tiles"),
        ({"scale": 0.02}, "scale=0.02 makes one pixel of the file 50 pixels wide"),
        ({"gsd": 1e9}, "shrinks 500 x 400 pixels to 1 x 1"),
        ({"scale": 20.0}, "scale=20 shrinks"),
    ],
)
def test_absurd_resolutions_are_refused_before_the_tiles(tmp_path, options, words):
    path = made(tmp_path / "a.tif", **rasters.UTM)
    with pytest.raises(ValueError, match=words):
        run(path, tmp_path, detector=Never(), **options)
    assert not [p for p in tmp_path.iterdir() if p.is_dir()]


def test_names_of_gdal_are_opened(tmp_path, monkeypatch, said):
    netcdf = pytest.importorskip("scipy.io").netcdf_file
    with netcdf(str(tmp_path / "two.nc"), "w") as file:
        file.createDimension("y", 400)
        file.createDimension("x", 500)
        for name in ("vv", "vh"):
            file.createVariable(name, "f4", ("y", "x"))[:] = rasters.painted(500, 400, [BOX]) / 255
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match='netcdf:("?)two.nc\\1:vv'):  # newer GDAL quotes the file
        Raster("two.nc")
    for name in ("netcdf:two.nc:vv", 'netcdf:"two.nc":vv'):
        with Raster(name) as raster:
            assert raster.size == (500, 400)
    made(tmp_path / "a.tif")
    for name in ("GTIFF_DIR:1:a.tif", "file:///" + str(tmp_path / "a.tif").lstrip("/")):
        with Raster(name) as raster:
            assert raster.size == (500, 400)
    for name in ("a.tif:vv", "gone.tif", "C:\\gone.tif"):
        with pytest.raises(DataError, match="gone.tif: no such file|a.tif:vv"):
            Raster(name)


def test_a_file_changed_while_it_is_read_gives_no_results(tmp_path):
    path = made(tmp_path / "a.tif", **rasters.UTM)

    class Rewriting(rasters.Bright):
        def __call__(self, images, expressions, floor):
            rasters.write(path, rasters.painted(500, 400, []), **rasters.UTM)
            return super().__call__(images, expressions, floor)

    with pytest.raises(DataError, match="a.tif: the file was changed while it was read.*run the command again"):
        run(path, tmp_path, detector=Rewriting(), batch=1)
    assert not list(tmp_path.glob("*/objects*"))

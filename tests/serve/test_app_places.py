"""GeoTIFF files in the browser app: coordinates in table, downloads and status."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.warp
from PIL import Image, TiffImagePlugin
from rasterio.transform import Affine, from_origin
from serving import LEFT, RIGHT, rendered

pytest.importorskip("gradio")

from optisar_yolo.geo import ground_raster  # noqa: E402
from optisar_yolo.serve.app import AppHandlers  # noqa: E402
from optisar_yolo.serve.outputs import PAGE_COLUMNS  # noqa: E402
from optisar_yolo.utils import BUNDLED_MODEL  # noqa: E402

UTM = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_400_000, 2, 2)}
TEXTS = f"{LEFT}\n{RIGHT}\nthe tennis court"


def write(path: Path, **place: Any) -> Path:
    """Write the rendered image as a TIFF."""
    bands = rendered()[..., ::-1].transpose(2, 0, 1)
    size = {"count": 3, "height": bands.shape[1], "width": bands.shape[2], "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", **size, **place) as file:
        file.write(bands)
    return path


def run(handlers: AppHandlers, path: Path) -> tuple[str, Any, dict[str, Path]]:
    """Ground the expressions: status, table and files by name."""
    _, status, table, _, files = handlers.ground(str(path), TEXTS, 0.05, BUNDLED_MODEL, 1)
    return status, table, {Path(f).name: Path(f) for f in files}


def test_a_geotiff_has_coordinates_in_table_and_files(handlers, tmp_path):
    path = write(tmp_path / "towers.tif", **UTM)
    _, shown = handlers.show_upload(str(path), BUNDLED_MODEL)
    assert shown.endswith("– coordinates in EPSG:32633 and WGS 84")
    status, table, files = run(handlers, path)
    assert "coordinates in EPSG:32633 and WGS 84" in status
    assert table["headers"] == [*PAGE_COLUMNS[:4], "centre, EPSG:32633", "longitude, latitude", "note"]
    rows = [row for row in table["data"] if row[1] == "found"]
    assert {row[0] for row in rows} >= {LEFT, RIGHT}
    written = json.loads(files["answers.json"].read_text())
    lines = list(csv.DictReader(files["answers.csv"].open(newline="")))
    whole, own = (json.loads(files[f].read_text())["features"] for f in ("answers.geojson", "answers-crs.geojson"))
    boxes = [box for answer in written["answers"] for box in answer["boxes"]]
    assert written["crs"] == "EPSG:32633" and len(boxes) == len(whole) == len(own) == len(rows)
    for row, box, line, feature, flat in zip(rows, boxes, lines, whole, own, strict=False):
        x1, y1, x2, y2 = box["xyxy"]
        east, north = 500_000 + x1 + x2, 5_400_000 - y1 - y2  # 2 m a pixel
        assert [float(v) for v in row[4].split()] == pytest.approx([east, north], abs=0.05)
        assert [box["centre"]["x_crs"], box["centre"]["y_crs"]] == pytest.approx([east, north], abs=0.05)
        assert [float(line["x_crs"]), float(line["y_crs"])] == pytest.approx([east, north], abs=0.05)
        lon, lat = rasterio.warp.transform("EPSG:32633", "EPSG:4326", [east], [north])
        assert [float(v) for v in row[5].split()] == pytest.approx([lon[0], lat[0]], abs=2e-6)
        assert [float(line["lon"]), float(line["lat"])] == pytest.approx([lon[0], lat[0]], abs=2e-6)
        ring = np.array(flat["geometry"]["coordinates"][0])
        assert ring[:, 0].min() == pytest.approx(500_000 + 2 * x1, abs=0.05)
        assert ring[:, 1].max() == pytest.approx(5_400_000 - 2 * y1, abs=0.05)
        assert np.array(feature["geometry"]["coordinates"][0]).mean(0) == pytest.approx([lon[0], lat[0]], abs=1e-3)
    lost = next(row for row in table["data"] if row[1] == "nothing found")
    assert lost[3:6] == ["", "", ""] and next(x for x in lines if x["answer"] == "nothing found")["lon"] == ""


def test_the_app_and_the_raster_command_place_alike(handlers, tmp_path):
    path = write(tmp_path / "towers.tif", **UTM)
    _, _, files = run(handlers, path)
    features = json.loads(files["answers.geojson"].read_text())["features"]
    found = ground_raster(grounder_model(), path, [LEFT], map=False, conf=0.05, project=str(tmp_path / "out"))
    theirs = json.loads((Path(found.folder) / "objects.geojson").read_text())["features"]
    mine = next(f for f in features if f["properties"]["sentence"] == LEFT)
    assert set(mine["properties"]) == {"sentence", "confidence", "pixels"} <= set(theirs[0]["properties"])
    assert (
        np.abs(np.array(mine["geometry"]["coordinates"]) - np.array(theirs[0]["geometry"]["coordinates"])).max() < 1e-3
    )


def grounder_model():
    from optisar_yolo import OptiSAR

    return OptiSAR(BUNDLED_MODEL)


@pytest.mark.parametrize(
    ("place", "said", "names"),
    [
        ({}, "the file has no georeference: results are in pixels, without GeoJSON", set()),
        ({"transform": UTM["transform"]}, "has a geotransform and no CRS", set()),
        (
            {**UTM, "transform": UTM["transform"] * Affine.rotation(30)},
            "north is not at the top here", {"answers.geojson", "answers-crs.geojson"},
        ),
        (
            {**UTM, "transform": Affine(2, 0, 500_000, 0, 2, 5_390_000)},  # south is up
            "north is not at the top here", {"answers.geojson", "answers-crs.geojson"},
        ),
        (
            {**UTM, "crs": 'LOCAL_CS["site",UNIT["metre",1]]'},
            "which leads to no longitude and latitude", {"answers-crs.geojson"},
        ),
    ],
)  # fmt: skip
def test_what_a_file_cannot_tell_is_said(handlers, tmp_path, place, said, names):
    status, table, files = run(handlers, write(tmp_path / "a.tif", **place))
    assert said in status, status
    assert set(files) == {"answers.png", "answers.json", "answers.csv"} | names
    header = files["answers.csv"].read_text().splitlines()[0]
    assert isinstance(table, dict) == bool(names) == ("x_crs" in header)


def test_other_files_stay_as_they_were(handlers, tmp_path):
    from serving import encoded

    path = tmp_path / "towers.png"
    path.write_bytes(encoded())
    status, table, files = run(handlers, path)
    assert status.endswith("pixels") and isinstance(table, list) and len(table[0]) == len(PAGE_COLUMNS)
    assert "crs" not in json.loads(files["answers.json"].read_text())


def test_a_file_that_its_tags_turn_is_not_placed(handlers, tmp_path):
    stored = TiffImagePlugin.TiffImageFile(write(tmp_path / "towers.tif", **UTM)).tag_v2
    for turn, said in ((1, "coordinates in EPSG:32633"), (6, "its TIFF tags turn the image")):
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        for tag in (33550, 33922, 34735, 34737):  # scale, tie point and the keys of GeoTIFF
            tags[tag], tags.tagtype[tag] = stored[tag], stored.tagtype[tag]
        tags[274] = turn
        path = tmp_path / f"turned{turn}.tif"
        Image.fromarray(rendered()[..., ::-1].copy()).save(path, tiffinfo=tags)
        status, _, files = run(handlers, path)
        assert said in status and ("answers.geojson" in files) == (turn == 1)

"""A manifest of rasters: the worker's rows are the objects of `ground_raster`, with their places in degrees."""

import cv2
import numpy as np
import pytest

from optisar_yolo import OptiSAR
from optisar_yolo.synthetic import render_image
from optisar_yolo.utils import BUNDLED_MODEL, SettingError

pytest.importorskip("ray")
rasterio = pytest.importorskip("rasterio")

import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from pyarrow import fs  # noqa: E402
from rasterio.transform import from_origin  # noqa: E402

from optisar_yolo.batch import BatchError, BatchOptions, rasters, run_batch  # noqa: E402
from optisar_yolo.batch.manifest import cut, pack  # noqa: E402
from optisar_yolo.batch.rasters import DEGREES, RasterWorker, fetched  # noqa: E402
from optisar_yolo.batch.worker import WorkerSettings  # noqa: E402
from optisar_yolo.data import DataError  # noqa: E402
from optisar_yolo.geo import ground_raster  # noqa: E402

TEXTS = ("the ship", "the airplane")
HOW = {"imgsz": 160, "conf": 0.05, "topk": 3}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A folder of a raster with a georeference, one without, and a damaged one."""
    folder = tmp_path_factory.mktemp("archive")
    made = cv2.resize(render_image(0, "test", 0)["img"], (240, 200))
    for name, where in {"a.tif": {"crs": "EPSG:32631", "transform": from_origin(5e5, 5e6, 2, 2)}, "b.tif": {}}.items():
        with rasterio.open(
            folder / name, "w", driver="GTiff", width=240, height=200, count=3, dtype="uint8", **where
        ) as file:
            file.write(made[..., ::-1].transpose(2, 0, 1))
    (folder / "c.tif").write_bytes(b"II*\0 and no more")
    return folder


def rows_of(archive, out, names=("a.tif", "b.tif", "c.tif"), **changes):
    table = pa.table({
        "id": [f"{n} {t}" for n in names for t in TEXTS],
        "image": [n for n in names for _ in TEXTS],
        "text": [t for _ in names for t in TEXTS],
        "year": [2020] * len(names) * len(TEXTS),
    })  # fmt: skip
    settings = {"model": BUNDLED_MODEL, "text_weights": None, "base": str(archive), "out": str(out), "batch": 4, **HOW}
    worker = RasterWorker(WorkerSettings(**settings | {"engine": "torch"} | changes))
    parts = cut(table, 2, 1)
    assert len(parts) == len(names), "a part is a raster, which may take hours"
    for part in parts:
        assert worker({"rows": pack(part)})["rows"] == len(TEXTS)
    return [row for file in sorted(out.glob("answers-*.parquet")) for row in pq.read_table(file).to_pylist()]


def test_rows_are_the_objects_of_the_raster(archive, tmp_path):
    rows = rows_of(archive, tmp_path / "out")
    assert {r["id"] for r in rows} == {f"{n} {t}" for n in ("a.tif", "b.tif", "c.tif") for t in TEXTS}
    assert all(r["year"] == 2020 for r in rows)
    found = ground_raster(
        OptiSAR(BUNDLED_MODEL), archive / "a.tif", list(TEXTS), project=tmp_path, map=False, engine="torch", batch=4,
        **HOW,
    )  # fmt: skip
    assert len(found.found) > 0
    for name in ("a.tif", "b.tif"):
        own = [r for r in rows if r["image"] == name and r["answered"]]
        assert all((r["width"], r["height"]) == (240, 200) for r in own)
        boxes = sorted([r["x1"], r["y1"], r["x2"], r["y2"], r["confidence"], TEXTS.index(r["text"])] for r in own)
        assert np.allclose(boxes, sorted(found.found.tolist()), atol=0.01)
        ranks = [r["rank"] for r in own if r["text"] == "the ship"]
        assert sorted(ranks) == list(range(1, len(ranks) + 1))
    for r in (r for r in rows if r["image"] == "a.tif" and r["answered"]):
        lon, lat = found.place.to_wgs84(np.array([r["x1"], r["x2"]]), np.array([r["y2"], r["y1"]]))
        assert r["west"] <= lon[0] + 1e-6 and r["east"] >= lon[1] - 1e-6 and r["south"] < r["north"]
        assert r["south"] <= lat[0] + 1e-6 and r["north"] >= lat[1] - 1e-6
    assert all(r[side] is None for r in rows if r["image"] == "b.tif" for side in DEGREES)


def test_a_damaged_raster_is_a_row_with_its_reason(archive, tmp_path):
    rows = rows_of(archive, tmp_path, ("c.tif", "missing.tif"))
    assert len(rows) == 4 and all(r["answered"] is False and r["x1"] is None for r in rows)
    assert all(r["image"] in r["error"] for r in rows)


def test_a_raster_of_object_storage_is_copied_while_it_is_searched(archive, tmp_path, monkeypatch):
    storage = fs.SubTreeFileSystem(str(archive), fs.LocalFileSystem())
    monkeypatch.setattr(rasters, "locate", lambda name, base: (storage, name))
    copied = fetched("a.tif", "", tmp_path)
    assert (
        copied == str(tmp_path / "a.tif") and (tmp_path / "a.tif").stat().st_size == (archive / "a.tif").stat().st_size
    )
    with pytest.raises(DataError, match=r"missing\.tif: raster cannot be read"):
        fetched("missing.tif", "", tmp_path)


def test_what_does_not_fit_is_refused_before_the_run(archive, tmp_path):
    with pytest.raises(SettingError, match="gsd= is for rasters"):
        BatchOptions(gsd=1.0)
    manifest = tmp_path / "asks.parquet"
    pq.write_table(pa.table({"image": ["a.tif"], "text": ["the ship"], "west": [1.0]}), manifest)
    with pytest.raises(BatchError, match="'west' has the name of a result column"):
        run_batch(str(manifest), str(tmp_path / "out"), BUNDLED_MODEL, rasters=True)

"""What a million images, and a country at half a metre, cost: processor time of each step, and what follows from it.

    python benchmarks/scale.py [--images 48] [--side 2560] [--engine onnx]

writes benchmarks/results/scale.json; docs/scale.md explains it. Everything runs in this process with one thread, and
time is that of the processor, so that other programs change it little:

1. Images: decoding JPEG files, the network with two expressions per image (`optisar batch`'s worker without Ray, minus
   decoding), and writing the results as Parquet.
2. A raster: reading and stretching tiles of a tiled, compressed GeoTIFF, the search with one expression minus reading,
   and bytes of the file per megapixel.

``projections`` are computed from these figures and the constants below, by `project`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import torch
from timing import RESULTS, about

from optisar_yolo import OptiSAR
from optisar_yolo.batch.manifest import pack
from optisar_yolo.batch.worker import Worker, WorkerSettings, read_record_image
from optisar_yolo.geo import RasterOptions, ground_raster
from optisar_yolo.geo.reading import Raster
from optisar_yolo.geo.sources import find_source
from optisar_yolo.geo.tiling import Grid
from optisar_yolo.synthetic import render_image
from optisar_yolo.utils import BUNDLED_MODEL

IMAGES = 1_000_000
COUNTRY = 41_850  # km2: the Netherlands with its inland waters
GSD = 0.5  # metres
MACHINE = 16  # cores
LINK = 125e6  # bytes a second: 1 Gbit/s of a machine to object storage
TEXTS = ("the ship in the upper left", "the largest vehicle")
SIZE = (480, 640)


def images(folder: Path, count: int, engine: str) -> dict[str, float]:
    """Measure the steps of a batch of images."""
    names = []
    for i in range(count):
        names.append(f"{i}.jpg")
        cv2.imwrite(str(folder / names[-1]), render_image(0, "test", i, SIZE)["img"])
    settings = WorkerSettings(
        BUNDLED_MODEL, None, str(folder), str(folder / "out"), conf=0.3, topk=1, imgsz=None, batch=8, engine=engine
    )
    worker = Worker(settings)
    rows = [(n, t) for n in names for t in TEXTS]
    table = pa.table({
        "id": [f"{n}{t}" for n, t in rows], "image": [n for n, _ in rows], "text": [t for _, t in rows]
    })  # fmt: skip
    worker({"rows": pack(table.slice(0, 16))})  # warm
    start = time.process_time()
    for name in names:
        read_record_image(name, str(folder))
    decode = time.process_time() - start
    writing: list[float] = []
    write = worker.folder.write

    def timed(name: str, results: pa.Table) -> None:
        begin = time.process_time()
        write(name, results)
        writing.append(time.process_time() - begin)

    worker.folder.write = timed  # type: ignore[method-assign]
    start = time.process_time()
    worker({"rows": pack(table)})
    whole = time.process_time() - start
    return {
        "decode, ms an image": 1e3 * decode / count,
        "network, ms an image": 1e3 * (whole - decode - sum(writing)) / count,
        "write, ms an image": 1e3 * sum(writing) / count,
        "bytes of an image": sum((folder / n).stat().st_size for n in names) / count,
        "bytes of results of an image": max(f.stat().st_size for f in (folder / "out").glob("*.parquet")) / count,
    }


def raster(folder: Path, side: int, engine: str) -> dict[str, float]:
    """Measure the steps of a search in a raster."""
    import rasterio

    path = folder / "scene.tif"
    tile = render_image(0, "test", 3, (640, 640))["img"][..., ::-1]
    values = np.tile(tile, (-(-side // 640), -(-side // 640), 1))[:side, :side].transpose(2, 0, 1)
    how = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "predictor": 2}
    with rasterio.open(path, "w", driver="GTiff", width=side, height=side, count=3, dtype="uint8", **how) as file:
        file.write(values)
    model = OptiSAR(BUNDLED_MODEL)
    options = RasterOptions(
        imgsz=640, topk="all", project=str(folder / "runs"), map=False, resume=False, batch=4, engine=engine,
        device="cpu",
    )  # fmt: skip
    if network := model.engine_network(engine) if engine != "torch" else None:
        with torch.inference_mode():
            network.encode(torch.rand(1, 3, 640, 640))
    megapixels = side * side / 1e6
    with Raster(find_source(path), None, None, None, None) as opened:
        grid = Grid.of(side, side, 640, RasterOptions.overlap, 1.0)
        start = time.process_time()
        for window in grid:
            opened.read([1, 2, 3], (window.x, window.y, window.width, window.height), (window.width, window.height))
        reading = time.process_time() - start
    start = time.process_time()
    ground_raster(model, path, "the ship", options)
    whole = time.process_time() - start
    return {
        "megapixels": megapixels,
        "read, s a megapixel": reading / megapixels,
        "search without reading, s a megapixel": (whole - reading) / megapixels,
        "bytes of a megapixel": path.stat().st_size / megapixels,
    }


def project(of_images: dict[str, float], of_raster: dict[str, float]) -> dict[str, Any]:
    """Return what the two large tasks cost on machines of `MACHINE` cores with a link of `LINK`."""
    steps = [of_images[f"{k}, ms an image"] / 1e3 for k in ("decode", "network", "write")]
    mp = COUNTRY * 1e6 / GSD**2 / 1e6
    country = of_raster["read, s a megapixel"], of_raster["search without reading, s a megapixel"]
    out: dict[str, Any] = {}
    many, land = f"{IMAGES:,} images, {len(TEXTS)} expressions each", f"{COUNTRY:,} km2 at {GSD} m, one expression"
    for name, cpu, size in (
        (many, IMAGES * sum(steps), IMAGES * of_images["bytes of an image"]),
        (land, mp * sum(country), mp * of_raster["bytes of a megapixel"]),
    ):
        out[name] = {
            "core hours": round(cpu / 3600, 1),
            f"hours on a machine of {MACHINE} cores": round(cpu / 3600 / MACHINE, 2),
            "GB to read": round(size / 1e9, 1),
            "hours of reading over 1 Gbit/s": round(size / LINK / 3600, 2),
            "machines that 10 Gbit/s of storage feed": round(10 * LINK / (size / (cpu / MACHINE)), 1),
        }
    out["share of the processor"] = {
        "images": dict(zip(("decode", "network", "write"), (round(s / sum(steps), 3) for s in steps), strict=True)),
        "raster": dict(zip(("read", "search"), (round(s / sum(country), 3) for s in country), strict=True)),
    }
    out["GB of results of a million images"] = round(IMAGES * of_images["bytes of results of an image"] / 1e9, 2)
    return out


def main() -> None:
    """Measure, compute and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--side", type=int, default=2560)
    parser.add_argument("--engine", default="onnx")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        of_images = images(Path(folder), options.images, options.engine)
        of_raster = raster(Path(folder), options.side, options.engine)
    record = {
        **about(1),
        "load": round(os.getloadavg()[0], 1),
        "images": {k: round(v, 3) for k, v in of_images.items()},
        "raster": {k: round(v, 4) for k, v in of_raster.items()},
        "MB at most": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "projections": project(of_images, of_raster),
    }
    (RESULTS / "scale.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()

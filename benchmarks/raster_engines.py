"""Rasters in every engine of the CPU, and merging of many candidates.

    python benchmarks/raster_engines.py [--side 2000] [--repeats 2] [--merge 20000 50000]
    python benchmarks/raster_engines.py --side 10000 --threads 2 --engines onnx torch --record raster-large.json

writes benchmarks/results/raster-engines.json:

1. A raster of smooth noise, the bundled weights, one expression: the plain loop (read a window, ``predict`` with 50
   candidates, one NMS at the end) and ``ground_raster`` with ``engine=torch``, ``onnx`` and ``openvino``, each in a
   process of its own with one thread, in turn. Time is that of the processor, start-up and the making of the graph left
   out, so that other programs on the machine change it little; wall time stands beside it. Boxes of all engines are
   compared. The confidence
   of 0.95 keeps out tiles that are searched again around cut objects, which the plain loop has none of.
2. Milliseconds of merging candidates that cluster as those of tiles do.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"
TEXT = "the ship"
ENGINES = ("loop", "torch", "onnx", "openvino")


def make_raster(path: Path, side: int) -> None:
    """Write a raster of smooth noise."""
    import cv2
    import rasterio

    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (side // 16, side // 16, 3), np.uint8)
    values = cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC).transpose(2, 0, 1)
    with rasterio.open(path, "w", driver="GTiff", width=side, height=side, count=3, dtype="uint8", tiled=True) as file:
        file.write(values)


def one(engine: str, raster: str, batch: int, threads: int) -> dict[str, Any]:
    """Search the raster in this process, once to warm up on a small part of it and once measured."""
    import rasterio
    import torch
    from rasterio.windows import Window
    from torchvision.ops import nms

    from optisar_yolo import OptiSAR
    from optisar_yolo.geo import CANDIDATES, Grid, ground_raster

    torch.set_num_threads(threads)
    model = OptiSAR("optisar++n-pocket.safetensors")
    with rasterio.open(raster) as file:
        side = file.width

    def loop(least: int = 0) -> Any:
        grid, found = Grid.of(side, side, 640, 0.25, 1.0), []
        with rasterio.open(raster) as file:
            for tile in list(grid)[: least or None]:
                window = file.read(window=Window(tile.x, tile.y, tile.width, tile.height))
                image = np.ascontiguousarray(window[::-1].transpose(1, 2, 0))
                result = model.predict(image, text=TEXT, topk=CANDIDATES, imgsz=640, verbose=False, engine="torch")[0]
                found.append(result.boxes.data + torch.tensor([tile.x, tile.y, tile.x, tile.y, 0, 0]))
        boxes = torch.cat(found)
        return boxes[nms(boxes[:, :4], boxes[:, 4], 0.5)].numpy()

    def ours(folder: str) -> Any:
        return ground_raster(
            model, raster, TEXT, imgsz=640, topk="all", conf=0.95, project=folder, resume=False, map=False, batch=batch,
            engine=engine, device="cpu",
        ).found  # fmt: skip

    with tempfile.TemporaryDirectory() as folder:
        if engine == "loop":
            loop(2)
        else:
            network = model.engine_network(engine)  # the graph is made here where it is missing
            warm = torch.rand(1, 3, 640, 640)
            with torch.inference_mode():
                [network.encode(warm) for _ in range(2)] if network else model.encode(np.zeros((640, 640, 3), np.uint8))
        start, busy = time.perf_counter(), time.process_time()
        found = loop() if engine == "loop" else ours(folder)
        spent = {"wall": time.perf_counter() - start, "processor": time.process_time() - busy}
    mp = side * side / 1e6
    return {
        "engine": engine, "seconds": {k: round(v, 2) for k, v in spent.items()},
        "megapixels_per_second": {k: round(mp / v, 3) for k, v in spent.items()}, "boxes": np.asarray(found).tolist(),
    }  # fmt: skip


def merging(count: int) -> dict[str, float]:
    """Time merging and the search for open sides, in processor time."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "geo"))
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from test_raster_merging import candidates

    from optisar_yolo.geo.merging import merge, open_sides

    given = candidates(1, count, 20_000, 640, spread=0.6)
    start = time.process_time()
    found, _ = merge(*given)
    open_sides(found, given[0], given[2])
    return {"candidates": count, "objects": len(found), "seconds": round(time.process_time() - start, 2)}


def main() -> None:
    """Measure and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--merge", type=int, nargs="*", default=[20_000, 50_000])
    parser.add_argument("--engines", nargs="*", default=list(ENGINES))
    parser.add_argument("--record", default="raster-engines.json", help="file in benchmarks/results")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--raster", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print("RESULT " + json.dumps(one(args.one, args.raster, args.batch, args.threads)))
        return
    settings = {k: v for k, v in vars(args).items() if k not in ("one", "raster")}
    record: dict[str, Any] = {"settings": settings, "load": os.getloadavg()}
    runs: dict[str, list[dict[str, Any]]] = {engine: [] for engine in args.engines}
    with tempfile.TemporaryDirectory() as folder:
        raster = Path(folder) / "raster.tif"
        make_raster(raster, args.side)
        for _ in range(args.repeats):
            for engine in args.engines:
                words = [sys.executable, __file__, "--one", engine, "--raster", str(raster)]
                words += ["--batch", str(args.batch), "--threads", str(args.threads)]
                out = subprocess.run(words, capture_output=True, text=True, check=True).stdout
                runs[engine].append(json.loads(out.rpartition("RESULT ")[2]))
                print(engine, runs[engine][-1]["seconds"], flush=True)
    boxes = {engine: np.array(found[0].pop("boxes")).reshape(-1, 6) for engine, found in runs.items()}
    for found in runs.values():
        [run.pop("boxes", None) for run in found]
    record["runs"] = runs
    record["found"] = {engine: len(b) for engine, b in boxes.items()}
    reference = boxes.get("torch")
    if reference is not None:
        record["largest_difference_pixels"] = {
            engine: round(float(np.abs(b[:, :4] - reference[:, :4]).max(initial=0)), 4)
            for engine, b in boxes.items() if engine not in ("torch", "loop") and b.shape == reference.shape
        }  # fmt: skip
    record["merging"] = [merging(count) for count in args.merge]
    (RESULTS / args.record).write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()

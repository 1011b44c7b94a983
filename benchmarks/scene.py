"""Throughput and correctness of `optisar scene`, beside a plain loop over tiles and, if installed, SAHI.

    python benchmarks/make_scene.py --out scene.tif --overviews
    python benchmarks/scene.py --scene scene.tif [--scale 2] [--expressions 1] [--repeats 3]

adds to benchmarks/results/scene.json:

1. Megapixels of the file per second and peak memory of each contestant, with the same network, tile size, overlap and
   expressions, each in its own process, in turn. The plain loop reads a window, calls `predict`, shifts the boxes, and
   applies one non-maximum suppression at the end. SAHI reads the whole image.
2. The share of the expressions whose box is right: an IoU of at least 0.5 with the true box and, by geopandas, a
   polygon on the ground that covers the centre of the true object.
3. How many objects of each category were found, and how many boxes are false.

``--with`` without a contestant measures 2 and 3 alone. A painted raster is searched without a network.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timing
import torch
from numpy.typing import NDArray
from torchvision.ops import box_iou, nms

from optisar_yolo import OptiSAR
from optisar_yolo.geo import CANDIDATES, Grid, RasterOptions, ground_raster
from optisar_yolo.language import noun_of
from optisar_yolo.utils import BUNDLED_MODEL

RIGHT = 0.5  # IoU
OVERLAP = RasterOptions.overlap  # of tiles, by default
EXPRESSIONS = ("the airplane", "the ship", "the storage tank", "the harbor", "the vehicle", "the bridge",
             "the tennis court", "the baseball diamond")  # fmt: skip


def ours(args: argparse.Namespace, source: Path, texts: list[str], folder: str) -> int:
    """Run `optisar scene`; returns the number of objects."""
    result = ground_raster(
        OptiSAR(args.model), source, texts, imgsz=args.imgsz, scale=args.scale, overlap=args.overlap, batch=args.batch,
        topk="all", project=folder, resume=False,
    )  # fmt: skip
    return len(result.found)


def loop(args: argparse.Namespace, source: Path, texts: list[str], folder: str) -> int:
    """Run a plain loop over tiles."""
    import rasterio
    from rasterio.enums import Resampling
    from rasterio.windows import Window

    model, found = OptiSAR(args.model), []
    with rasterio.open(source) as file:
        grid = Grid.of(file.width, file.height, args.imgsz, args.overlap, args.scale)
        sx, sy = grid.scale
        for t in grid:
            window = Window(t.x * sx, t.y * sy, t.width * sx, t.height * sy)
            values = file.read(window=window, out_shape=(3, t.height, t.width), resampling=Resampling.average)
            image = np.ascontiguousarray(values[::-1].transpose(1, 2, 0))
            result = model.predict(image, text=texts, topk=CANDIDATES, imgsz=args.imgsz, verbose=False)[0]
            found.append(result.boxes.data.cpu() + torch.tensor([t.x, t.y, t.x, t.y, 0, 0]))
    boxes = torch.cat(found)
    return sum(len(nms(b[:, :4], b[:, 4], RIGHT)) for j in range(len(texts)) if len(b := boxes[boxes[:, 5] == j]))


def sahi(args: argparse.Namespace, source: Path, texts: list[str], folder: str) -> int:
    """Run SAHI on the same network: the image is read as a whole at the working resolution."""
    import rasterio
    from rasterio.enums import Resampling
    from sahi.models.ultralytics import UltralyticsDetectionModel
    from sahi.predict import get_sliced_prediction

    class WithExpressions:
        """The model with fixed expressions, as SAHI calls a model of Ultralytics."""

        names = dict(enumerate(texts))
        overrides = {"task": "detect"}
        device = torch.device("cpu")

        def __init__(self) -> None:
            self.model = OptiSAR(args.model)

        def __call__(self, image: Any, **kwargs: Any) -> Any:
            batch = [np.ascontiguousarray(i) for i in (image if np.ndim(image) == 4 else [image])]
            return self.model.predict(batch, text=texts, topk=CANDIDATES, imgsz=args.imgsz, verbose=False)

    with rasterio.open(source) as file:
        size = (round(file.height / args.scale), round(file.width / args.scale))
        image = file.read(out_shape=(3, *size), resampling=Resampling.average).transpose(1, 2, 0)
    model = UltralyticsDetectionModel(model=WithExpressions(), device="cpu", confidence_threshold=0.0)
    found = get_sliced_prediction(
        np.ascontiguousarray(image), model, args.imgsz, args.imgsz, args.overlap, args.overlap,
        perform_standard_pred=False, postprocess_type="NMS", postprocess_match_metric="IOU", verbose=0,
    )  # fmt: skip
    return len(found.object_prediction_list)


class Painted:
    """Finds the objects of a painted raster by their colours: a detector (`optisar_yolo.geo.detecting`) without errors.

    Args:
        truth: What `make_scene.py --paint` wrote about the raster.
    """

    key, conf = "painted", 0.5

    def __init__(self, truth: dict[str, Any]) -> None:
        self.objects = [(noun_of(o["category"]), c) for o, c in zip(truth["objects"], truth["colours"], strict=True)]

    def __call__(
        self, images: NDArray[np.uint8], expressions: Sequence[str], floor: float
    ) -> list[NDArray[np.float32]]:
        """Find them in images uint8 [B, 3, h, w]."""
        return [self.find(image, expressions) for image in images]

    def find(self, image: NDArray[np.uint8], expressions: Sequence[str]) -> NDArray[np.float32]:
        """Find them in one image."""
        rows = []
        if (image[0] == 255).any():
            for noun, colour in self.objects:
                ys, xs = np.nonzero((image == np.reshape(colour, (3, 1, 1))).all(0))
                if len(xs):  # pixels at its border are mixed with the background
                    box = [xs.min() - 0.5, ys.min() - 0.5, xs.max() + 1.5, ys.max() + 1.5, 1.0]
                    rows += [[*box, j] for j, text in enumerate(expressions) if noun in text]
        return np.array(rows, np.float32).reshape(-1, 6)


CONTESTANTS = {"ours": ours, "loop": loop, "sahi": sahi}


def once(args: argparse.Namespace, name: str) -> dict[str, float]:
    """Run one contestant in a process of its own."""
    out = subprocess.run(
        [sys.executable, __file__, *sys.argv[1:], "--only", name], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    return dict(json.loads(out.splitlines()[-1]))


def contest(args: argparse.Namespace) -> None:
    """Run as one contestant: print seconds and peak memory as JSON."""
    texts = list(EXPRESSIONS[: args.expressions])
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        objects = CONTESTANTS[args.only](args, args.scene, texts, folder)
        seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mb": peak, "objects": objects}))


def correctness(args: argparse.Namespace, truth: dict[str, Any]) -> dict[str, Any]:
    """Ground all expressions about the raster, and count the right boxes by kind of expression."""
    import geopandas
    from shapely.geometry import Polygon

    expressions = truth["questions"]
    nouns = sorted({noun_of(o["category"]) for o in truth["objects"]})
    texts = [*(q["text"] for q in expressions), *(f"the {noun}" for noun in nouns)]
    detector = Painted(truth) if truth.get("colours") else None
    with tempfile.TemporaryDirectory() as folder:
        result = ground_raster(
            None if detector else OptiSAR(args.model), args.scene, texts, imgsz=args.imgsz, scale=args.scale,
            overlap=args.overlap, batch=args.batch, conf=args.conf, topk="all", project=folder, resume=False,
            detector=detector,
        )  # fmt: skip
        table = geopandas.read_file(result.folder / "objects.geojson")
        first = {row.sentence: row.geometry for row in table.iloc[::-1].itertuples()}
    total, right, on_ground, silent = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    cases = []
    for j, q in enumerate(expressions):
        thing = truth["objects"][q["object"]]
        mine = result.of(j)[:1]
        iou = float(box_iou(torch.tensor(mine[:, :4]), torch.tensor([thing["box"]]))[0, 0]) if len(mine) else 0.0
        covers = bool(len(mine)) and first[q["text"]].contains(Polygon(thing["corners"]).centroid)
        total[q["kind"]] += 1
        right[q["kind"]] += iou >= RIGHT
        on_ground[q["kind"]] += covers
        silent[q["kind"]] += not len(mine)
        confidence = round(float(mine[0, 4]), 3) if len(mine) else None
        cases.append({"text": q["text"], "iou": round(iou, 3), "covers": covers, "conf": confidence})
    rows = {
        k: {
            "questions": n,
            "right": right[k],
            "nothing found": silent[k],
            "covers the centre on the ground": on_ground[k],
        }
        for k, n in total.items()
    }
    found = {}
    for j, noun in enumerate(nouns, len(expressions)):
        boxes = torch.tensor([o["box"] for o in truth["objects"] if noun_of(o["category"]) == noun])
        hit = box_iou(torch.tensor(result.of(j)[:, :4]), boxes.double()) >= RIGHT
        found[noun] = {"there": len(boxes), "found": int(hit.any(0).sum()), "false": int((~hit.any(1)).sum())}
    return {"conf": result.record["conf"], **rows, "objects": found, "cases": cases}


def main() -> None:
    """Measure, print and add to the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scene", type=Path, required=True)
    parser.add_argument("--model", default=BUNDLED_MODEL)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--scale", type=float, default=2.0, help="pixels of the file in one of the network")
    parser.add_argument("--overlap", type=float, default=OVERLAP)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--expressions", "--sentences", type=int, default=1, choices=range(1, len(EXPRESSIONS) + 1))
    parser.add_argument("--conf", type=float, help="threshold of the expressions; the model's by default")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--with", dest="contestants", nargs="*", default=["ours", "loop"], choices=[*CONTESTANTS])
    parser.add_argument("--only", choices=[*CONTESTANTS], help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=timing.RESULTS / "scene.json")
    args = parser.parse_args()
    timing.pin(args.threads)
    if args.only:
        contest(args)
        return
    import rasterio

    with rasterio.open(args.scene) as file:
        megapixels = file.width * file.height / 1e6
    cells: dict[str, dict[str, Any]] = {}
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in args.contestants}
    for i in range(args.repeats):
        for name in args.contestants:
            taken[name].append(once(args, name))
            print(f"round {i + 1}, {name}: {taken[name][-1]}")
    about = {"scene": args.scene.name, "megapixels": megapixels, "imgsz": args.imgsz, "scale": args.scale,
             "overlap": args.overlap, "sentences": args.expressions, "model": args.model}  # fmt: skip
    for name, runs in taken.items():
        seconds = sorted(r["seconds"] for r in runs)
        cells[f"{name}, {args.expressions} sentences, scale {args.scale:g}, {args.scene.stem}"] = about | {
            "megapixels_per_second": round(megapixels / float(np.median(seconds)), 3),
            "seconds": [round(s, 1) for s in seconds],
            "peak_mb": round(max(r["peak_mb"] for r in runs)),
            "objects": runs[0]["objects"],
        }
    described = args.scene.with_suffix(".json")
    if described.is_file():
        right = correctness(args, json.loads(described.read_text(encoding="utf-8")))
        others = "" if args.model == BUNDLED_MODEL else f", {Path(args.model).stem}"
        tiling = f"scale {args.scale:g}" + (f", overlap {args.overlap:g}" if args.overlap != OVERLAP else "")
        cells[f"answers, {tiling}, {args.scene.stem}{others}"] = about | right
    timing.add_to_record(args.out, timing.about(args.threads), cells)
    print(json.dumps({k: {a: b for a, b in c.items() if a != "cases"} for k, c in cells.items()}, indent=1))


if __name__ == "__main__":
    main()

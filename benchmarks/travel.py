"""Do the weights travel: the same figures on images of other places, sensors and sizes, and on free English.

    python benchmarks/travel.py [--model optisar++n-pocket.safetensors] [--sizes 320 448 640 1024] [--auto]

writes benchmarks/results/travel.json and prints a table. All of these sets are for choosing weights; no test split is
looked at. They are expected under ../shared/data (see `--data`); a set that is missing is left out with a line.

Sources, each with its expressions:

- `optsar`: the val split of optsar-real, rule-generated expressions.
- `airbus`: the val scenes, two expressions per image derived from its boxes (`describe`, seed 0).
- `dota`, `skyfusion`: other sensors, expressions derived from the boxes in the same way.
- `dior`: three images with DIOR-RSVG's own expressions.
- `natural`, `natural airbus`: expressions written by a language model that looked at val images, by kind, and the share
  of expressions that are false of their image and still get a box at the stored threshold.

An expression is asked for with `conf=0`, so that its best box counts whatever its confidence.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from optisar_yolo import OptiSAR, __version__
from optisar_yolo.engine import default_conf
from optisar_yolo.language import LabelledObjects, describe
from optisar_yolo.utils import BUNDLED_MODEL, iou

HERE = Path(__file__).resolve().parent
EACH = 2  # derived expressions per image

Asked = tuple[Path, list[tuple[str, "np.ndarray | None", str]]]  # image, (expression, box xyxy or None, group)


def released(folder: Path, file: Path) -> Iterator[Asked]:
    """Read images and captions of a file in the released layout, grouped by ``kind`` or modality."""
    data = json.loads(file.read_text())
    by_image = defaultdict(list)
    for a in data["annotations"]:
        x, y, w, h = a["bbox"]
        group = a.get("kind") or a["category_name"].split()[0]
        by_image[a["image_id"]].append((a["caption"], np.array([x, y, x + w, y + h]), group))
    for image in data["images"]:
        if by_image[image["id"]]:
            yield folder / image["file_name"], by_image[image["id"]]


def false_ones(folder: Path, file: Path) -> Iterator[Asked]:
    """Read expressions that are false of their image."""
    for item in json.loads(file.read_text()):
        yield folder / item["file_name"], [(item["caption"], None, "absent")]


def derived(file: Path, boxes: np.ndarray, names: list[str], size: tuple[int, int], rng: np.random.Generator) -> Asked:
    """Describe up to `EACH` objects of an image from its boxes."""
    objects, asked = LabelledObjects(boxes, names, size), []
    for i in rng.permutation(len(boxes)):
        texts = describe(objects, int(i), rng)
        if texts and len(asked) < EACH:
            asked.append((texts[int(rng.integers(len(texts)))], boxes[i], "derived"))
    return file, asked


def yolo_boxes(folder: Path, split: str, name: str) -> Iterator[Asked]:
    """Derive expressions from YOLO labels of one category."""
    rng = np.random.default_rng(0)
    for file in sorted((folder / "images" / split).iterdir()):
        labels = folder / "labels" / split / f"{file.stem}.txt"
        rows = np.loadtxt(labels, ndmin=2)[:, 1:5] if labels.exists() and labels.stat().st_size else np.zeros((0, 4))
        h, w = cv2.imread(str(file)).shape[:2]
        corners = np.concatenate((rows[:, :2] - rows[:, 2:] / 2, rows[:, :2] + rows[:, 2:] / 2), 1) * [w, h, w, h]
        yield derived(file, corners, [name] * len(rows), (w, h), rng)


def coco_boxes(folder: Path) -> Iterator[Asked]:
    """Derive expressions from COCO boxes."""
    rng = np.random.default_rng(0)
    data = json.loads((folder / "boxes.json").read_text())
    for image in data["images"]:
        own = [a for a in data["annotations"] if a["image_id"] == image["id"]]
        boxes = np.array([a["bbox"] for a in own], float).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        names = [a["category_name"].replace("-", " ") for a in own]
        yield derived(folder / "images" / image["file_name"], boxes, names, (image["width"], image["height"]), rng)


def sources(data: Path) -> dict[str, list[Asked]]:
    """Collect all sources that are there."""
    real, airbus, other, natural = (data / n for n in ("optsar-real", "airbus", "other-sensors", "natural"))
    made = {
        "optsar": lambda: released(real / "images/val", real / "val.json"),
        "airbus": lambda: yolo_boxes(airbus, "val", "optical airplane"),
        "dota": lambda: coco_boxes(other / "dota"),
        "skyfusion": lambda: coco_boxes(other / "skyfusion"),
        "dior": lambda: released(other / "dior/images", other / "dior/test.json"),
        "natural": lambda: [
            *released(real / "images/val", natural / "val.json"),
            *false_ones(real / "images/val", natural / "absent_val.json"),
        ],
        "natural airbus": lambda: [
            *released(airbus / "images/val", natural / "airbus_val.json"),
            *false_ones(airbus / "images/val", natural / "airbus_absent_val.json"),
        ],
    }
    found = {}
    for name, make in made.items():
        try:
            found[name] = [asked for asked in make() if asked[1]]
        except FileNotFoundError as error:
            print(f"{name} is left out: {error}")
    return found


def figures(overlaps: list[float]) -> dict[str, float]:
    """Pr@0.5, Pr@0.9 and meanIoU in percent, and the number of expressions."""
    x = np.array(overlaps)
    return {
        "Pr@0.5": round(100 * float((x >= 0.5).mean()), 1),
        "Pr@0.9": round(100 * float((x >= 0.9).mean()), 1),
        "meanIoU": round(100 * float(x.mean()), 1),
        "count": len(x),
    }


def measure(
    model: OptiSAR, asked: list[Asked], imgsz: int | None, threshold: float, reason: bool = True
) -> dict[str, Any]:
    """Ask for all expressions of a source at one size of the network."""
    groups: dict[str, list[float]] = defaultdict(list)
    answered: list[bool] = []
    how: dict[str, Any] = {"reason": reason} | ({} if imgsz is None else {"imgsz": imgsz})
    for file, expressions in asked:
        texts = list(dict.fromkeys(t for t, *_ in expressions))
        result = model.predict(str(file), text=texts, conf=0.0, verbose=False, engine="torch", **how)[0]
        boxes, column = result.boxes.xyxy.cpu().numpy(), result.boxes.cls.int().tolist()
        conf = result.boxes.conf.tolist()
        for text, box, group in expressions:
            mine = [k for k, c in enumerate(column) if c == texts.index(text)]
            best = max(mine, key=lambda k: conf[k], default=None)
            if box is None:
                answered.append(best is not None and conf[best] >= threshold)
                continue
            overlap = 0.0 if best is None else float(iou(boxes[best], box))
            groups[group].append(overlap)
            groups["all"].append(overlap)
    record: dict[str, Any] = {name: figures(values) for name, values in sorted(groups.items())}
    if answered:
        record["absent"] = {"answered %": round(100 * float(np.mean(answered)), 1), "count": len(answered)}
    return record


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=BUNDLED_MODEL)
    parser.add_argument("--sizes", type=int, nargs="*", default=[320, 448, 640, 1024])
    parser.add_argument("--auto", action="store_true", help="also with the size that predict chooses by itself")
    parser.add_argument("--alone", action="store_true", help="the network alone, without a choice among what is found")
    parser.add_argument("--sources", nargs="*", help="only these sources")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared" / "data")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "travel.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = OptiSAR(args.model)
    threshold = default_conf(model.model)
    record: dict[str, Any] = {
        "command": "python " + " ".join(["benchmarks/travel.py", *sys.argv[1:]]),
        "model": args.model,
        "optisar-yolo": __version__,
        "machine": f"{platform.machine()}, {args.threads} threads, no GPU",
    }
    for name, asked in sources(args.data).items():
        if args.sources and name not in args.sources:
            continue
        record[name] = {}
        for size in [*args.sizes, *([None] if args.auto else [])]:
            found = record[name][str(size or "auto")] = measure(model, asked, size, threshold, not args.alone)
            rest = "  ".join(f"{k} {v['meanIoU']}" for k, v in found.items() if k not in ("all", "absent"))
            absent = f"  absent answered {found['absent']['answered %']} %" if "absent" in found else ""
            whole = found["all"]
            print(
                f"{name:15} {size or 'auto':>5}  meanIoU {whole['meanIoU']:5.1f}  Pr@0.5 {whole['Pr@0.5']:5.1f}  "
                f"Pr@0.9 {whole['Pr@0.9']:5.1f}  n {whole['count']}  {rest}{absent}",
                flush=True,
            )
    args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

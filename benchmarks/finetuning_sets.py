"""Three small sets as users have them, for benchmarks/finetuning.py: `make_sets` writes them into a folder.

* ``airplanes``: Airbus tiles (real, another sensor and place), expressions derived from the boxes.
* ``wordings``: real images of a kind that the bundled weights know, with expressions in free English.
* ``newkinds``: rendered images of five kinds of objects that the bundled weights never met.

The first two need ``../shared/data`` beside the checkout; their images are referred to, not copied.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from optisar_yolo.language import LabelledObjects, describe
from optisar_yolo.synthetic import paint
from optisar_yolo.synthetic.optical import Canvas

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
NEW_KINDS = ("wind turbine", "solar field", "roundabout", "container stack", "greenhouse")
SIDE = 288  # pixels of a rendered image
EXPRESSIONS = 4  # at most, per image


def make_sets(folder: Path, counts: tuple[int, int] = (40, 36)) -> dict[str, dict[str, Any]]:
    """Write the sets that can be made here.

    Args:
        folder: Where to; sets that are there are kept.
        counts: Training and validation images of a set.

    Returns:
        By name: ``data``, the dataset config, and ``imgsz``, the size that suits it.
    """
    made = {}
    for name, imgsz, build in (("airplanes", 256, _airplanes), ("wordings", 256, _wordings), ("newkinds", 256, _new)):
        if name != "newkinds" and not SHARED.is_dir():
            print(f"{name}: left out, {SHARED} does not exist")
            continue
        config = folder / name / "data.yaml"
        if not config.exists():
            (folder / name).mkdir(parents=True, exist_ok=True)
            content = build(folder / name, counts)
            config.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        made[name] = {"data": str(config), "imgsz": imgsz}
    return made


def _write(file: Path, items: list[dict[str, Any]], names: tuple[str, ...]) -> None:
    """Write an annotation file: items with file, size, and (category, box xyxy, expression) each."""
    images, annotations = [], []
    for number, item in enumerate(items):
        w, h = item["size"]
        images.append({"id": number, "file_name": item["file"], "width": w, "height": h})
        for category, (x0, y0, x1, y1), caption in item["expressions"]:
            annotations.append(
                {
                    "id": len(annotations), "image_id": number, "category_id": category,
                    "category_name": names[category], "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0), "iscrowd": 0, "caption": caption,
                }
            )  # fmt: skip
    categories = [{"id": i, "name": name} for i, name in enumerate(names)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    file.write_text(json.dumps(content), encoding="utf-8")


def _described(
    boxes: np.ndarray, names: list[str], size: tuple[int, int], rng: np.random.Generator, kinds: tuple[str, ...]
) -> list[tuple[int, list[float], str]]:
    """Return expressions that the boxes prove true, for up to `EXPRESSIONS` objects."""
    objects = LabelledObjects(boxes, names, size)
    found = []
    for i in rng.permutation(len(names)).tolist():
        texts = describe(objects, i, rng)
        if texts and len(found) < EXPRESSIONS:
            found.append((kinds.index(names[i]), boxes[i].tolist(), str(rng.choice(texts))))
    return found


def _airplanes(folder: Path, counts: tuple[int, int]) -> dict[str, Any]:
    source, names = SHARED / "airbus", ("optical airplane",)
    for split, count in zip(("train", "val"), counts, strict=True):
        files = sorted((source / "images" / split).iterdir())
        rng = np.random.default_rng(0)
        items: list[dict[str, Any]] = []
        for i in rng.permutation(len(files)).tolist():
            h, w = cv2.imread(str(files[i])).shape[:2]
            rows = np.loadtxt(source / "labels" / split / f"{files[i].stem}.txt", ndmin=2)[:, 1:5] * [w, h, w, h]
            boxes = np.concatenate((rows[:, :2] - rows[:, 2:] / 2, rows[:, :2] + rows[:, 2:] / 2), 1)
            expressions = _described(boxes, ["optical airplane"] * len(boxes), (w, h), rng, names)
            if expressions and len(items) < count:
                items.append({"file": files[i].name, "size": (w, h), "expressions": expressions})
        _write(folder / f"{split}.json", items, names)
    where = {part: str(source / part) for part in ("images", "labels")}
    return {"path": str(folder), "train": "train.json", "val": "val.json", **where, "names": list(names)}


def _wordings(folder: Path, counts: tuple[int, int]) -> dict[str, Any]:
    names: list[str] = []
    for split, count in zip(("train", "val"), counts, strict=True):
        content = json.loads((SHARED / "natural" / f"{split}.json").read_text(encoding="utf-8"))
        names = [c["name"] for c in sorted(content["categories"], key=lambda c: c["id"])]
        order = np.random.default_rng(0).permutation(len(content["images"]))[:count].tolist()
        content["images"] = [content["images"][i] for i in order]
        kept = {i["id"] for i in content["images"]}
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
        (folder / f"{split}.json").write_text(json.dumps(content), encoding="utf-8")
    where = {part: str(SHARED / "optsar-real" / part) for part in ("images", "labels")}
    return {"path": str(folder), "train": "train.json", "val": "val.json", **where, "names": names}


def _new(folder: Path, counts: tuple[int, int]) -> dict[str, Any]:
    names = tuple(f"optical {kind}" for kind in NEW_KINDS)
    for part, (split, count) in enumerate(zip(("train", "val"), counts, strict=True)):
        (folder / "images" / split).mkdir(parents=True, exist_ok=True)
        (folder / "labels" / split).mkdir(parents=True, exist_ok=True)
        items: list[dict[str, Any]] = []
        number = 0
        while len(items) < count:
            rng = np.random.default_rng([part, number])
            number += 1
            image, boxes, drawn = _drawn(rng)
            expressions = _described(boxes, drawn, (SIDE, SIDE), rng, names)
            if not expressions:
                continue
            file = f"opt_{number:06d}.jpg"
            cv2.imwrite(str(folder / "images" / split / file), image)
            rows = np.concatenate(((boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]), 1) / SIDE
            lines = [
                f"{names.index(n)} " + " ".join(f"{v:.6f}" for v in row) for n, row in zip(drawn, rows, strict=True)
            ]
            (folder / "labels" / split / f"opt_{number:06d}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
            items.append({"file": file, "size": (SIDE, SIDE), "expressions": expressions})
        _write(folder / f"{split}.json", items, names)
    return {"path": str(folder), "train": "train.json", "val": "val.json", "names": list(names)}


def _drawn(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Draw one image with two to six objects: image uint8, boxes xyxy and category names."""
    angle = float(rng.uniform(0, np.pi))
    length = float(rng.uniform(0.5, 1))
    canvas = Canvas(paint.fields(rng, SIDE, SIDE), rng, (np.cos(angle) * length, np.sin(angle) * length))
    for _ in range(int(rng.integers(2, 7))):
        kind = NEW_KINDS[int(rng.integers(len(NEW_KINDS)))]
        size = float(rng.uniform(18, 56))
        stamp = _stamp(kind, rng, size, float(rng.uniform(0, 2 * np.pi)))
        at = canvas.spot(size * 0.75 + 2, None)
        if at:
            canvas.label(f"optical {kind}", paint.paste(canvas.img, stamp, *at, sun=canvas.sun))
    canvas.houses(int(rng.integers(0, 4)), 14, 26, angle)
    canvas.trees(int(rng.integers(0, 14)))
    return canvas.img.clip(0, 255).astype(np.uint8), np.array(canvas.boxes).reshape(-1, 4), canvas.names


def _stamp(kind: str, rng: np.random.Generator, size: float, angle: float) -> paint.Stamp:
    """Draw a plan view of one of :data:`NEW_KINDS`."""
    pen, half = paint.Pen(size * 0.75, angle), size / 2
    if kind == "wind turbine":
        for turn in np.arange(3) * 2 * np.pi / 3:
            tip, side = np.array([np.cos(turn), np.sin(turn)]) * half, np.array([-np.sin(turn), np.cos(turn)]) * half
            pen.poly([tuple(side * 0.1), tuple(tip), tuple(-side * 0.1)], (235, 238, 238))
        pen.disc(0, 0, half * 0.16, (215, 218, 220))
        return pen.done(size * 0.5)
    if kind == "solar field":
        pen.box(-half, -half * 0.7, half, half * 0.7, (120, 70, 40))
        for x in np.linspace(-half, half, 7):
            pen.line([(x, -half * 0.7), (x, half * 0.7)], (170, 140, 110), 0.8)
        return pen.done(2)
    if kind == "roundabout":
        pen.disc(0, 0, half, (110, 115, 118))
        pen.disc(0, 0, half * 0.5, (70, 130, 80))
        return pen.done(0)
    if kind == "container stack":
        for row, y in enumerate(np.linspace(-half * 0.6, half * 0.4, 4)):
            colour = ((60, 60, 190), (170, 90, 40), (60, 150, 60), (40, 150, 210))[(row + int(rng.integers(4))) % 4]
            pen.box(-half, y, half, y + half * 0.22, colour)
        return pen.done(5)
    pen.box(-half, -half * 0.55, half, half * 0.55, (226, 232, 228))  # greenhouse
    for y in np.linspace(-half * 0.5, half * 0.5, 5):
        pen.line([(-half, y), (half, y)], (190, 205, 200), 1.2)
    return pen.done(4)

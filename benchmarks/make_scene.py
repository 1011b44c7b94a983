"""Builds a georeferenced raster of any size from real images, with its objects and expressions about it.

    python benchmarks/make_scene.py --out scene.tif [--side 20000] [--modality optical] [--dtype uint8] [--overviews]
                                    [--split test] [--images 24] [--categories airplane] [--paint]

writes scene.tif and scene.json.

1. Images of a split whose edges are calm are scattered on a background of calm patches without objects. Their edges
   fade into the background.
2. The JSON file holds the box of every object in pixels and its corners in WGS 84 (by pyproj).
3. It also holds expressions that mean exactly one object: the only object of a category, places, superlatives and
   ordinals ("the second leftmost ship") that lead by at least 30 pixels, and superlatives within a place. Half of the
   directions are compass words.
4. ``--paint`` fills the boxes of all objects that overlap no other with distinct colours, by which they can be found
   without a network. Errors are then not those of the network.

The raster is written in bands of rows, so memory stays small. The images are expected where benchmarks/optsar-real.yaml
says.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.enums import Resampling
from rasterio.transform import from_origin
from rasterio.windows import Window
from torchvision.ops import nms
from tqdm import tqdm

from optisar_yolo.data import ImageRecord, load_dataset_config, load_split, read_image
from optisar_yolo.language import LabelledObjects, noun_of
from optisar_yolo.language.vocabulary import CELLS

HERE = Path(__file__).resolve().parent
CRS, PIXEL, ORIGIN = "EPSG:32633", 0.5, (400_000.0, 5_800_000.0)  # UTM 33 N, metres
BLOCK = 512  # rows written at once, and the side of the file's blocks
FADE = 12  # pixels over which an image fades into the background
CELL = 800  # pixels between the places of images; larger than the long side of any image
FIELD = 4000  # side of the fields with the same background patch
BELT = 1600  # pixels over which two fields blend; a sharp corner would look like a court
PATCH = 200  # side of a patch
COARSE = 5  # side of the squares whose means measure how calm a patch is
GROUNDS = 6  # patches that are used at most
CALM = 20  # grey levels by which the squares of a patch may differ; repeated lines would look like objects
SPOT, BLEND = 128, 24  # side of a piece of a patch, and pixels over which neighbours blend
EACH = 4  # images of a category at most, so that some cells of the 3 x 3 grid hold exactly one
UNIQUE = 2  # categories with one object in the raster
IMAGES = 24
MOST = 3  # objects in an image; in a crowded raster few expressions mean one object
LEVELS = 40  # of uint16 per level of uint8: the range is then about 13 bits, as of many sensors
LEAD = 30  # pixels by which a superlative must lead
ORDINALS = ("first", "second", "third")
# Side of the image: compass word, axis, and sign of the order.
SIDES = {
    "left": ("western", 0, 1),
    "right": ("eastern", 0, -1),
    "top": ("northern", 1, 1),
    "bottom": ("southern", 1, -1),
}
_CORNERS = {"upper left": "north-west", "upper right": "north-east", "lower left": "south-west",
            "lower right": "south-east"}  # fmt: skip


@dataclass
class Placed:
    """An image in the raster: BGR values, left and top edge."""

    image: NDArray[np.uint8]
    x: int
    y: int


def select(images: list[ImageRecord], names: Sequence[str], most: int, rng: np.random.Generator) -> list[ImageRecord]:
    """Choose at most `most` images so that a few categories have one object in the raster, and none has very many."""
    order = [images[i] for i in rng.permutation(len(images)) if len(images[i].boxes) <= MOST]
    counted = [(p, Counter(names[int(c)] for c in p.categories)) for p in order]
    several = len({k for _, c in counted for k in c}) > 1  # SAR images show ships only, and all are used
    unique: dict[str, ImageRecord] = {}
    for p, c in counted:
        if several and sum(c.values()) == 1 and len(unique) < UNIQUE:
            unique.setdefault(next(iter(c)), p)
    chosen, used = list(unique.values()), Counter[str]()
    for p, c in counted:
        fits = not set(c) & set(unique) and all(used[k] < EACH for k in c)
        if len(chosen) < most and (fits or not several):
            chosen.append(p)
            used.update(set(c))
    return chosen


def patches(images: list[ImageRecord], count: int) -> list[NDArray[np.uint8]]:
    """Return the calmest squares without boxes, one per image at most, and at least one in all.

    A square is calm if no part of `COARSE` pixels differs much from the others: water, woods and fields without roads,
    roofs or unlabelled boats.
    """
    found: list[tuple[float, NDArray[np.uint8]]] = []
    for p in images:
        image = read_image(p.path)
        h, w = image.shape[:2]
        taken = np.zeros((h, w), np.int32)
        for x1, y1, x2, y2 in p.boxes.astype(int):
            taken[max(y1 - 10, 0) : y2 + 10, max(x1 - 10, 0) : x2 + 10] = 1
        grey = image.mean(2)
        spots = [(coarse(grey[y : y + PATCH, x : x + PATCH]), y, x)
                 for y in range(0, h - PATCH + 1, 40) for x in range(0, w - PATCH + 1, 40)
                 if not taken[y : y + PATCH, x : x + PATCH].any()]  # fmt: skip
        if spots:
            unlike, y, x = min(spots)
            found.append((unlike, image[y : y + PATCH, x : x + PATCH].copy()))
    found.sort(key=lambda entry: entry[0])
    return [patch for i, (unlike, patch) in enumerate(found[:count]) if unlike < CALM or not i]


def coarse(grey: NDArray[np.float64]) -> float:
    """Return how far the most different square of `COARSE` pixels is from the median one, by its mean."""
    rows, columns = (n // COARSE for n in grey.shape)
    squares = grey[: rows * COARSE, : columns * COARSE].reshape(rows, COARSE, columns, COARSE).mean((1, 3))
    return float(np.abs(squares - np.median(squares)).max())


def calmly_ended(images: list[ImageRecord]) -> list[ImageRecord]:
    """Return the half of the images whose edges are calmest.

    A quay that ends at the edge of its image would be a bright bar on dark ground, which looks like a ship.
    """
    edges = []
    for p in images:
        grey = read_image(p.path).mean(2)
        sides = grey[:FADE], grey[-FADE:], grey[:, :FADE].T, grey[:, -FADE:].T
        edges.append(coarse(np.concatenate(sides, 1)))
    middle = np.median(edges)
    return [p for p, edge in zip(images, edges, strict=True) if edge <= middle]


def background(patch: list[NDArray[np.uint8]], top: int, rows: int, side: int) -> NDArray[np.uint8]:
    """Return rows of the background: every field consists of rotated pieces of one patch that blend.

    Mirrored pieces would make rings and diamonds, which look like courts and fields.
    """
    pitch = SPOT - BLEND
    along = np.minimum(np.arange(SPOT) + 1, SPOT - np.arange(SPOT)).clip(max=BLEND).astype(np.float32)
    alpha = (along[:, None] * along)[..., None]
    total, weight = np.zeros((rows, side, 3), np.float32), np.zeros((rows, side, 1), np.float32)
    for r in range(top // pitch, -(-(top + rows + BLEND) // pitch)):
        y = r * pitch - BLEND
        first, last = max(y, top), min(y + SPOT, top + rows)
        for c in range(-(-(side + BLEND) // pitch)):
            x = c * pitch - BLEND
            left, right = max(x, 0), min(x + SPOT, side)
            rng = np.random.default_rng([r, c])
            oy, ox = rng.integers(PATCH - SPOT + 1, size=2).tolist()
            mixed = sum(patch[k][oy : oy + SPOT, ox : ox + SPOT] * w for k, w in fields(x, y, side, len(patch)))
            spot = np.rot90(np.asarray(mixed), int(rng.integers(4)))
            there, here = np.s_[first - top : last - top, left:right], np.s_[first - y : last - y, left - x : right - x]
            total[there] += spot[here] * alpha[here]
            weight[there] += alpha[here]
    return (total / weight).round().astype(np.uint8)


def fields(x: int, y: int, side: int, count: int) -> list[tuple[int, float]]:
    """Return the patches at (x, y) and their weights; several where fields meet."""
    per_side = -(-side // FIELD)
    near = []
    for start in (y, x):
        at = min(max(start + SPOT / 2, 0), side - 1) / FIELD
        border = min(max(round(at), 1), max(per_side - 1, 1))  # the nearest border of two fields
        after = min(max((at - border) * FIELD / BELT + 0.5, 0), 1) if per_side > 1 else 0.0
        near.append([(border - 1, 1 - after), (border, after)])
    rows, columns = near
    return [((r * per_side + c) % count, v * w) for r, v in rows for c, w in columns if v * w]


def paste(out: NDArray[np.uint8], top: int, placed: Placed) -> None:
    """Draw the part of an image that lies in rows of the raster from `top` on."""
    h, w = placed.image.shape[:2]
    first, last = max(top, placed.y), min(top + len(out), placed.y + h)
    if first >= last:
        return
    ys, xs = np.arange(first - placed.y, last - placed.y), np.arange(w)
    edge = np.minimum(np.minimum(ys, h - 1 - ys)[:, None], np.minimum(xs, w - 1 - xs))
    alpha = ((edge + 1) / FADE).clip(0, 1)[..., None]
    target = out[first - top : last - top, placed.x : placed.x + w]
    target[:] = (placed.image[ys] * alpha + target * (1 - alpha)).round().astype(np.uint8)


def apart(boxes: NDArray[np.float64]) -> list[int]:
    """Return the indices of boxes that overlap no earlier one, as paint would hide parts of it."""
    first_best = -torch.arange(len(boxes), dtype=torch.float64)
    return nms(torch.from_numpy(boxes), first_best, 0.0).tolist()


def painted(images: list[Placed], boxes: NDArray[np.float64]) -> list[list[int]]:
    """Fill the objects' boxes in the images. Returns their colours, RGB."""
    colours = [[255, 9 * (i // 50), 5 * (i % 50)] for i in range(len(boxes))]
    for i, box in enumerate(boxes):
        x1, y1, x2, y2 = box.round().astype(int).tolist()
        for p in images:
            h, w = p.image.shape[:2]
            if p.x <= x1 < p.x + w and p.y <= y1 < p.y + h:
                p.image[y1 - p.y : y2 - p.y, x1 - p.x : x2 - p.x] = colours[i][::-1]
    return colours


def leaders(along: NDArray[np.float64]) -> list[int | None]:
    """Return the indices of the first, second, … by `along`; None where one does not lead by `LEAD`."""
    order = np.argsort(along)
    gaps = np.diff(along[order], prepend=-np.inf, append=np.inf)
    return [int(order[k]) if min(gaps[k : k + 2]) >= LEAD else None for k in range(min(len(ORDINALS), len(order)))]


def expressions(boxes: NDArray[np.float64], names: list[str], side: int) -> list[dict[str, Any]]:
    """Return expressions that mean exactly one object each, by the centres of the true boxes."""
    cases: list[dict[str, Any]] = []
    objects = LabelledObjects(boxes, names, (side, side))
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2

    def add(kind: str, plain: str, compass: str, index: int) -> None:
        text = compass if len(cases) % 2 else plain
        cases.append({"text": text, "kind": kind, "object": index})

    for name in sorted(set(names)):
        members = [i for i, n in enumerate(names) if n == name]
        noun = noun_of(name)
        if len(members) == 1:
            cases.append({"text": f"the {noun}", "kind": "plain", "object": members[0]})
            continue
        for word, (compass_word, axis, sign) in SIDES.items():
            first = leaders(centre[members, axis] * sign)
            for rank, which in enumerate(first):
                if which is not None:
                    kind, ordinal = ("rank", f"{ORDINALS[rank]} ") if rank else ("extreme", "")
                    add(
                        kind,
                        f"the {ordinal}{word}most {noun}",
                        f"the {ordinal}{compass_word}most {noun}",
                        members[which],
                    )
        for cell, phrase in CELLS.items():
            truths = {i: objects.claims(f"the {noun} {phrase} of the image", i).get("place") for i in members}
            true = [i for i, v in truths.items() if v is True]
            if not true or None in truths.values():  # the truth is open for one in a corner
                continue
            corner = next((c for c in _CORNERS if c in phrase), None)
            lone = next((s for s in cell if s in SIDES), None) if None in cell else None
            compass = f"in the {_CORNERS[corner]}" if corner else f"in the {SIDES[lone][0][:-3]}" if lone else phrase
            if len(true) == 1:
                add("place", f"the {noun} {phrase} of the image", f"the {noun} {compass}", true[0])
                continue
            for word, (compass_word, axis, sign) in SIDES.items():
                best = leaders(centre[true, axis] * sign)[0]
                if best is not None:
                    plain = f"the {word}most {noun} {phrase} of the image"
                    add("place and extreme", plain, f"the {compass_word}most {noun} {compass}", true[best])
    return cases


def main() -> None:
    """Compose, write the raster and its truth."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--modality", choices=("optical", "sar"), default="optical")
    parser.add_argument("--split", default="test", help="of benchmarks/optsar-real.yaml; val to choose settings on")
    parser.add_argument("--images", "--pictures", type=int, default=IMAGES, help="at most")
    parser.add_argument("--categories", nargs="+", metavar="NOUN", help="images that show nothing else; by default any")
    parser.add_argument("--dtype", choices=("uint8", "uint16"), default="uint8")
    parser.add_argument("--compress", choices=("deflate", "none"), default="deflate")
    parser.add_argument("--overviews", action="store_true", help="of 1/2, 1/4, 1/8 and 1/16 of the resolution")
    parser.add_argument("--paint", action="store_true", help="objects as patches of colour")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    config = load_dataset_config(HERE / "optsar-real.yaml")
    images = [
        p for p in load_split(config, args.split) if p.modality == args.modality and p.path.is_relative_to(config.root)
    ]
    calm = calmly_ended(images)
    if args.categories:
        calm = [p for p in calm if {noun_of(config.names[int(c)]) for c in p.categories} <= set(args.categories)]
    chosen = select(calm, config.names, args.images, rng)
    if not chosen:
        parser.error(
            f"no image of {args.split} with calm edges shows so few objects of {args.categories or 'any kind'}"
        )
    per_side = args.side // CELL
    spots = rng.choice(per_side**2, size=min(len(chosen), per_side**2), replace=False)
    patch = patches(images, GROUNDS)
    placed, boxes, names = [], [], []
    for p, spot in zip(chosen, spots.tolist(), strict=False):
        image = read_image(p.path)
        room = np.array([CELL - image.shape[1], CELL - image.shape[0]])
        x, y = (np.array([spot % per_side, spot // per_side]) * CELL + rng.integers(0, room + 1)).tolist()
        placed.append(Placed(image, x, y))
        boxes += (p.boxes + [x, y, x, y]).tolist()
        names += [config.names[int(c)] for c in p.categories]
    all_boxes = np.asarray(boxes, float)
    if args.paint:
        seen = apart(all_boxes)
        all_boxes, names = all_boxes[seen], [names[i] for i in seen]
    colours = painted(placed, all_boxes) if args.paint else []
    transform = from_origin(*ORIGIN, PIXEL, PIXEL)
    about: dict[str, Any] = dict(
        driver="GTiff", width=args.side, height=args.side, count=3, dtype=args.dtype, crs=CRS, transform=transform,
        tiled=True, blockxsize=BLOCK, blockysize=BLOCK, photometric="RGB", BIGTIFF="IF_SAFER",
    )  # fmt: skip
    if args.compress == "deflate":
        about |= {"compress": "deflate", "predictor": 2, "zlevel": 1}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.Env(GDAL_CACHEMAX=128 << 20), rasterio.open(args.out, "w", **about) as file:
        for top in tqdm(range(0, args.side, BLOCK), desc="writing", unit=" bands"):
            rows = background(patch, top, min(BLOCK, args.side - top), args.side)
            for p in placed:
                paste(rows, top, p)
            bands = rows[..., ::-1].transpose(2, 0, 1)
            bands = bands.astype(np.uint16) * LEVELS if args.dtype == "uint16" else bands
            file.write(bands, window=Window(0, top, args.side, bands.shape[1]))
    if args.overviews:
        with rasterio.Env(GDAL_CACHEMAX=256 << 20), rasterio.open(args.out, "r+") as file:
            file.build_overviews([2, 4, 8, 16], Resampling.average)
    to_degrees = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    objects = []
    for name, box in zip(names, all_boxes.tolist(), strict=True):
        x1, y1, x2, y2 = box
        ring = [(ORIGIN[0] + PIXEL * x, ORIGIN[1] - PIXEL * y) for x, y in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))]
        objects.append({"category": name, "box": box, "corners": [to_degrees.transform(*c) for c in ring]})
    truth = {"scene": args.out.name, "crs": CRS, "side": args.side, "pixel": PIXEL, "origin": ORIGIN,
             "pictures": len(placed), "objects": objects, "colours": colours,
             "questions": expressions(all_boxes, names, args.side)}  # fmt: skip
    args.out.with_suffix(".json").write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
    kinds = dict(Counter(q["kind"] for q in truth["questions"]))
    print(f"{args.out}: {len(placed)} images, {len(objects)} objects, expressions {kinds}")


if __name__ == "__main__":
    main()

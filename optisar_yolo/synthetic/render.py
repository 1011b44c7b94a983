"""A procedural grounding data set: rendered optical-like and SAR-like images with expressions.

With it every part of the project runs on images that may be published, and it can add images to training. The layout
is that of the OptSAR-RSVG release. Every image has its own random state from (seed, split, number): the same seed gives
the same files, and more images do not change the earlier ones.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from ultralytics.utils import TQDM

from optisar_yolo.language import BUILT_IN, LabelledObjects, describe, parse
from optisar_yolo.synthetic.more_layouts import MORE_LAYOUTS, disturb
from optisar_yolo.synthetic.optical import LAYOUTS, render_optical
from optisar_yolo.synthetic.radar import render_sar
from optisar_yolo.synthetic.telescopes import RADIO_TELESCOPE, observatory

# The categories of OptSAR-RSVG in the order of its release.
NAMES = (
    "optical vehicle", "optical bridge", "optical crossroad", "optical T junction", "optical ground track field",
    "optical baseball diamond", "optical swimming pool", "optical tennis court", "optical parking lot",
    "optical basketball court", "optical storage tank", "optical ship", "optical airplane", "optical harbor",
    "sar transmission tower", "sar ship",
)  # fmt: skip
# The wide set: these, and what DIOR, DOTA and users' sets have besides, as far as a plan view can show it.
WIDE_NAMES = (
    *NAMES, "optical chimney", "optical golf field", "optical hangar", "optical helipad", "optical overpass",
    "optical roundabout", "optical solar panel", "optical stadium", "optical terminal", "optical train station",
    "optical truck", "optical van", "optical windmill",
)  # fmt: skip
KINDS = {"released": NAMES, "wide": WIDE_NAMES, "new": (RADIO_TELESCOPE,)}
_VOCABULARY = BUILT_IN.including((*WIDE_NAMES, RADIO_TELESCOPE))
_SPLITS = {"train": 0, "val": 1, "test": 2}
_RADAR_KINDS = (0, 1, 0, 2, 1, 0, 1, 2)  # ships in three of four SAR images
_KIND_WEIGHTS = {"position": 5.0, "extreme": 3.0, "relation": 3.0, "unique": 1.0}
_EXPRESSIONS = 5  # at most, per image
_MIN_SIDE = 5  # pixels; an image with a smaller object is rendered anew
_QUALITY = 93  # JPEG


def kind_of(caption: str) -> str:
    """Return the kind of an expression as annotation files name it: "extreme", "relation", "position" or "unique"."""
    query = parse(caption, _VOCABULARY)
    return "extreme" if query.superlative else "relation" if query.relation else "position" if query.place else "unique"


def _expressions(
    boxes: np.ndarray, names: list[str], size: tuple[int, int], rng: np.random.Generator
) -> list[tuple[int, str, str]]:
    """Return (object, expression, kind) for up to `_EXPRESSIONS` objects."""
    out: list[tuple[int, str, str]] = []
    objects = LabelledObjects(boxes, names, size, _VOCABULARY)
    for i in rng.permutation(len(names)).tolist():
        texts = describe(objects, i, rng)
        if texts and len(out) < _EXPRESSIONS:
            kinds = [kind_of(t) for t in texts]
            weights = np.array([_KIND_WEIGHTS[k] / kinds.count(k) for k in kinds])
            pick = int(np.searchsorted(np.cumsum(weights), rng.random() * weights.sum(), side="right"))
            out.append((i, texts[pick], kinds[pick]))
    return sorted(out)


def render_image(
    seed: int, split: str, number: int, size: tuple[int, int] = (320, 448), kinds: str = "released"
) -> dict[str, Any]:
    """Render one image of the set.

    Args:
        seed: Seed of the set.
        split: "train", "val" or "test".
        number: Running number of the image, from 0; even ones are optical, odd ones SAR.
        size: Range of the longer side in pixels, both ends included.
        kinds: "released" (the categories of OptSAR-RSVG), "wide" (those of `WIDE_NAMES`, and more that is no object) or
            "new" (optical images alone, of a kind of object that no weights of this package have seen).

    Returns:
        img [h, w, 3] uint8 BGR, boxes [N, 4] xyxy in pixels, names (N category names), modality ("optical" or "sar")
        and expressions (list of (object, expression, kind), at least one).
    """
    for attempt in range(100):  # an image without an expression is rendered anew
        rng = np.random.default_rng([seed, _SPLITS[split], number, attempt])
        long = int(rng.integers(size[0], size[1] + 1))
        h, w = int(long * rng.uniform(0.72, 1)), long
        if rng.random() < 0.2:
            h, w = w, h
        turn, radar = number // 2, bool(number % 2) and kinds != "new"
        if kinds == "new":
            img, boxes, names = render_optical(rng, h, w, observatory)
        elif radar:
            img, boxes, names = render_sar(rng, h, w, _RADAR_KINDS[turn % len(_RADAR_KINDS)])
        else:
            layouts = LAYOUTS if kinds == "released" else (*LAYOUTS, *MORE_LAYOUTS)
            over = None if kinds == "released" else disturb
            img, boxes, names = render_optical(rng, h, w, layouts[turn % len(layouts)], over)
        big_enough = bool((boxes[:, 2:] - boxes[:, :2] >= _MIN_SIDE).all())
        expressions = _expressions(boxes, names, (w, h), rng) if big_enough else []
        if expressions:
            modality = "sar" if radar else "optical"
            return {"img": img, "boxes": boxes, "names": names, "modality": modality, "expressions": expressions}
    raise RuntimeError(f"no layout with an expression for image {number} of {split} with seed {seed} and size {size}")


def _write_split(folder: Path, split: str, count: int, seed: int, size: tuple[int, int], kinds: str) -> None:
    """Render and write a split's images, labels and annotation file."""
    (folder / "images" / split).mkdir(parents=True)
    (folder / "labels" / split).mkdir(parents=True)
    images: list[dict[str, Any]] = []
    numbers = {"optical": 0, "sar": 0}
    annotations: list[dict[str, Any]] = []
    indices = {name: i for i, name in enumerate(KINDS[kinds])}
    for number in TQDM(range(count), desc=f"rendering {split}"):
        made = render_image(seed, split, number, size, kinds)
        h, w = made["img"].shape[:2]
        numbers[made["modality"]] += 1
        stem = f"{'opt' if made['modality'] == 'optical' else 'sar'}_{numbers[made['modality']]:06d}"
        file = folder / "images" / split / f"{stem}.jpg"
        if not cv2.imwrite(str(file), made["img"], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]):
            raise OSError(f"{file} could not be written; is the disk full?")
        boxes: np.ndarray = made["boxes"]
        xywh = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)
        relative = xywh / [w, h, w, h]
        lines = [
            f"{indices[n]} " + " ".join(f"{v:.6f}" for v in b) for n, b in zip(made["names"], relative, strict=True)
        ]
        (folder / "labels" / split / f"{stem}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        images.append({"id": number, "file_name": f"{stem}.jpg", "width": w, "height": h})
        for i, caption, kind in made["expressions"]:
            x0, y0, x1, y1 = boxes[i].tolist()
            annotations.append(
                {
                    "id": len(annotations), "image_id": number, "category_id": indices[made["names"][i]],
                    "category_name": made["names"][i], "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0), "iscrowd": 0, "caption": caption, "kind": kind,
                }
            )  # fmt: skip
    categories = [{"id": i, "name": name} for name, i in indices.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / f"{split}.json").write_text(json.dumps(content), encoding="utf-8")


def render_dataset(
    root: Path,
    seed: int = 0,
    counts: Mapping[str, int] | None = None,
    size: tuple[int, int] = (320, 448),
    kinds: str = "released",
) -> None:
    """Render the data set into a folder; nothing half-written is ever seen there.

    Args:
        root: The folder to make; parents are made too.
        seed: Same seed, same files.
        counts: Images per split; {"train": 160, "val": 40, "test": 80} when None.
        size: Range of the longer side in pixels.
        kinds: "released", "wide" or "new", as for :func:`render_image`.

    Raises:
        FileExistsError: The folder holds something already, and not this data set.
        ValueError: An unknown split, a negative count, a size that is no range of at least 96 pixels, or unknown
            kinds.
    """
    counts = {"train": 160, "val": 40, "test": 80} if counts is None else dict(counts)
    for split, count in counts.items():
        if split not in _SPLITS or count < 0:
            raise ValueError(f"render: {split}={count}; splits are {', '.join(_SPLITS)} with counts of 0 or more")
    if kinds not in KINDS:
        raise ValueError(f"render: kinds={kinds!r}; there are {', '.join(KINDS)}")
    if not 96 <= size[0] <= size[1]:
        raise ValueError(f"render: size={size} must be a range of the longer side, from 96 pixels upwards")
    root = Path(root)
    root.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent))
    try:
        for split, count in counts.items():
            _write_split(work, split, count, seed, size, kinds)
        work.chmod(0o755)  # mkdtemp's folder is private
        try:
            os.replace(work, root)  # works onto an empty folder, too
        except OSError as error:
            # Another process may have finished the same set first: its files are as good as these.
            if not all((root / f"{split}.json").is_file() for split in counts):
                raise FileExistsError(f"{root} holds something that is no complete rendered set; remove it") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)

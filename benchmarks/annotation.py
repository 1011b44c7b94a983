"""Zero-shot annotation of the real test images, scored against their labels: boxes, categories, truth of captions.

    python benchmarks/annotation.py [--model optisar++n-pocket.safetensors] [--imgsz 320] [--limit 20]

writes benchmarks/results/annotation.json. The pool consists of the distinct captions of the training split; test images
and their labels are used for scoring only. An image's modality is read from its file name, as ``optisar annotate``
does. The real images are expected where benchmarks/optsar-real.yaml says.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import about
from torchvision.ops import box_iou
from ultralytics.utils import TQDM

from optisar_yolo import OptiSAR
from optisar_yolo.annotate import AnnotateOptions, Annotation, Annotator, choose_annotations, load_pool
from optisar_yolo.data import ImageRecord, load_dataset_config, load_split, modality_by_name
from optisar_yolo.language import LabelledObjects
from optisar_yolo.utils import BUNDLED_MODEL, write_atomic

HERE = Path(__file__).resolve().parent
REAL = HERE / "optsar-real.yaml"
RIGHT = 0.5  # IoU from which a box is right
VERDICTS = {True: "true", False: "false", None: "cannot tell"}
RULE = (
    f"a written box is right if it has IoU >= {RIGHT} with a labelled object that no more confident box has; category, "
    "caption and claims are judged for right boxes, against all labelled boxes of the image; singled out: the "
    "caption is true of the object and of no other of its category"
)


class Score:
    """Counts of what was written against what is labelled."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(self, image: ImageRecord, names: Sequence[str], written: Sequence[Annotation]) -> None:
        """Add an image with its annotations, the most confident first."""
        self.counts.update(pictures=1, objects=len(image.boxes), boxes=len(written))
        labels = [names[c] for c in image.categories]
        labelled = LabelledObjects(image.boxes, labels, (image.width, image.height))
        for found, target in zip(written, pairs(written, image.boxes), strict=True):
            if target is None:
                continue
            self.counts["right"] += 1
            self.counts["category"] += found.category == labels[target]
            claims = labelled.claims(found.caption, target)
            self.counts[f"caption {VERDICTS[labelled.truth(found.caption, target)]}"] += 1
            self.counts["singled out"] += labelled.singles_out(found.caption, target)
            self.counts.update(f"{claim} {VERDICTS[verdict]}" for claim, verdict in claims.items())

    def figures(self) -> dict[str, Any]:
        """Return shares (0..1; None where there is nothing to count) and counts."""
        c = self.counts

        def share(part: str, *whole: str) -> float | None:
            total = sum(c[w] for w in whole)
            return round(c[part] / total, 4) if total else None

        def truth(what: str) -> dict[str, Any]:
            return {v: c[f"{what} {v}"] for v in VERDICTS.values()} | {
                "true of judged": share(f"{what} true", f"{what} true", f"{what} false")
            }

        return {
            **{k: c[k] for k in ("pictures", "objects", "boxes", "right")},
            "precision": share("right", "boxes"),
            "recall": share("right", "objects"),
            "right category": share("category", "right"),
            "singled out": share("singled out", "right"),
            "caption": truth("caption"),
            "claims": {claim: truth(claim) for claim in ("place", "size", "extreme", "relation", "only")},
        }


def pairs(written: Sequence[Annotation], targets: np.ndarray) -> list[int | None]:
    """Give each written box, in their order, the free labelled object that it overlaps most, if it is right."""
    if not written or not len(targets):
        return [None] * len(written)
    iou = box_iou(torch.tensor([w.box for w in written]).double(), torch.from_numpy(targets).double()).numpy()
    given: list[int | None] = []
    for row in iou:
        best = int(row.argmax())
        given.append(best if row[best] >= RIGHT else None)
        if given[-1] is not None:
            iou[:, best] = 0.0
    return given


def main() -> None:
    """Annotate, score, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=BUNDLED_MODEL)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--confs", type=float, nargs="+", default=[0.4, 0.5, 0.6, 0.7, 0.8])
    parser.add_argument("--verify", nargs="+", default=["off", "drop", "strip"])
    parser.add_argument("--topk", type=int, default=5)
    parser.add_argument("--limit", type=int, default=0, help="images at most, of both modalities; 0 for all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "annotation.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    config = load_dataset_config(REAL)
    images = load_split(config, "test")
    if args.limit:
        images = images[:: max(len(images) // args.limit, 1)][: args.limit]
    pool = load_pool(REAL, "train")
    options = AnnotateOptions(conf=min(args.confs), topk=args.topk, imgsz=args.imgsz)
    annotator = Annotator(OptiSAR(args.model), pool, options, cache=config.root)
    cells = [(verify, conf) for verify in args.verify for conf in args.confs]
    scores = {(cell, group): Score() for cell in cells for group in ("optical", "sar", "all")}
    dropped: dict[tuple[str, float], Counter[str]] = {cell: Counter() for cell in cells}
    start = time.perf_counter()
    for image in TQDM(images, desc="annotating"):
        found, size = annotator.find(image.path)
        for verify, conf in cells:
            chosen = choose_annotations(
                found.above(conf), pool, size, modality_by_name(image.path),
                verify=verify, dropped=dropped[verify, conf],
            )  # fmt: skip
            for group in (image.modality, "all"):
                scores[(verify, conf), group].add(image, config.names, chosen)
    seconds = (time.perf_counter() - start) / len(images)
    rows = [
        {"verify": v, "conf": c, "group": g, **scores[(v, c), g].figures()}
        | ({"dropped": dict(dropped[v, c].most_common())} if g == "all" else {})
        for v, c in cells
        for g in ("optical", "sar", "all")
    ]
    record = about(args.threads) | {
        "model": args.model, "imgsz": args.imgsz, "topk": args.topk, "captions": len(pool), "rule": RULE,
        "seconds per picture": round(seconds, 3), "rows": rows,
    }  # fmt: skip
    write_atomic(args.out, json.dumps(record, indent=1) + "\n")
    print(table(rows))
    print(f"{len(images)} images, {len(pool)} captions, {seconds:.2f} s per image; written to {args.out}")


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the figures as lines, in percent."""
    heads = ("precision", "recall", "category", "captions true", "places true", "extremes true", "boxes")
    lines = [f"{'':<20}" + "".join(f"{h:>15}" for h in heads)]
    for r in rows:
        shares = [r["precision"], r["recall"], r["right category"], r["caption"]["true of judged"]]
        shares += [r["claims"][claim]["true of judged"] for claim in ("place", "extreme")]
        cells = ["-" if s is None else f"{100 * s:.1f}" for s in shares] + [str(r["boxes"])]
        lines.append(f"{r['verify']:<6}{r['conf']:<6}{r['group']:<8}" + "".join(f"{c:>15}" for c in cells))
    return "\n".join(lines)


if __name__ == "__main__":
    main()

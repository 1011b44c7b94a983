"""Two witnesses for ordinals, superlatives and relations: the network's own box, and a choice among the objects found.

    python benchmarks/reasoning.py [--split test] [--model optisar++n-pocket.safetensors] [--imgsz 320]

writes benchmarks/results/reasoning-<split>.json: by kind of expression, how often the network alone, the choice alone
and both together (as `optisar predict`) find the right box. Labelled expressions are those of optsar-real.yaml here;
"made" ones are built from all labelled boxes, where these leave no doubt. On the validation split it also writes what
the rules were chosen from: every combination of `optisar_yolo.language.choice.LIKELY` and
rules for which of the two stands (`NETWORK_FIRST` and `CHOICE_FIRST` of `optisar_yolo.engine.reasoning`).
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from optisar_yolo import OptiSAR, __version__
from optisar_yolo.data import ImageRecord, load_dataset_config, load_split
from optisar_yolo.engine import Detections, best_boxes, default_conf, reasoning
from optisar_yolo.engine.grounding import candidates
from optisar_yolo.language import Found, LabelledObjects, choice, read_query, spoken
from optisar_yolo.utils import BUNDLED_MODEL, iou

HERE = Path(__file__).resolve().parent
REAL = HERE / "optsar-real.yaml"
WORDS = {1: "second ", 2: "third ", 3: "fourth "}
ROOM, FACTOR = 0.03, 1.2  # leads that leave no doubt, as in `optisar_yolo.language.verify`
LIKELY = (0.4, 0.5, 0.6, 0.7)
NEVER = math.inf
RULES = {  # from which confidence the network's box stands, and else from which probability the choice
    "the network alone": (0.0, NEVER), "the choice": (NEVER, 0.01), "the surer": (NEVER, NEVER),
    "the network from 0.3, else the surer": (0.3, NEVER), "the network from 0.5, else the surer": (0.5, NEVER),
    "the choice from 0.1, else the surer": (NEVER, 0.1), "the choice from 0.3, else the surer": (NEVER, 0.3),
}  # fmt: skip


def made(image: ImageRecord, names: list[str]) -> Iterator[tuple[str, int, str]]:
    """Build expressions from the labelled boxes: text, index of the object, kind."""
    boxes, size = np.asarray(image.boxes, float), (image.width, image.height)
    nouns = [spoken(names[c]) for c in image.categories]
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 / size
    area = np.log((boxes[:, 2:] - boxes[:, :2]).prod(1))
    for noun in sorted(set(nouns)):
        own = [i for i, n in enumerate(nouns) if n == noun]
        for word, key, room in (
            ("leftmost", centre[own, 0], ROOM), ("rightmost", -centre[own, 0], ROOM), ("topmost", centre[own, 1], ROOM),
            ("bottommost", -centre[own, 1], ROOM), ("largest", -area[own], np.log(FACTOR)),
            ("smallest", area[own], np.log(FACTOR)),
        ):  # fmt: skip
            order = np.argsort(key)
            gaps = np.concatenate(([np.inf], np.diff(key[order]), [np.inf]))
            for k in range(min(len(own), 4)):
                if len(own) > 1 and gaps[k] >= room and gaps[k + 1] >= room:
                    kind = "ordinal, made" if k else "superlative, made"
                    yield f"the {WORDS.get(k, '')}{word} {noun}", own[order[k]], kind
        for other in sorted(set(nouns) - {noun}):
            yield from _related(image, [names[c] for c in image.categories], nouns, own, other)


def _related(
    image: ImageRecord, names: list[str], nouns: list[str], own: list[int], other: str
) -> Iterator[tuple[str, int, str]]:
    """Build relations of a category's objects to the only object of another category."""
    references = [i for i, n in enumerate(nouns) if n == other]
    if len(references) != 1:
        return
    boxes, size = np.asarray(image.boxes, float), (image.width, image.height)
    objects = LabelledObjects(boxes, names, size)
    for words in ("to the left of", "to the right of", "above", "below"):
        text = f"the {nouns[own[0]]} {words} the {other}"
        right = [i for i in own if objects.singles_out(text, i)]
        if len(right) == 1:
            yield text, right[0], "side of another kind, made"
    if len(own) < 2:
        return
    a, b = boxes[own], boxes[references[0]]
    gap = np.maximum(a[:, :2] - b[2:], b[:2] - a[:, 2:]).clip(0)
    distance = np.hypot(*gap.T) / max(size)
    for words, order in (("closest to", np.argsort(distance)), ("furthest from", np.argsort(-distance))):
        if abs(distance[order[1]] - distance[order[0]]) >= ROOM:
            yield f"the {nouns[own[0]]} {words} the {other}", own[order[0]], "distance to another kind, made"


def search(model: OptiSAR, image: ImageRecord, names: list[str], imgsz: int) -> list[dict[str, Any]]:
    """Ground the expressions of an image, and the categories that they need."""
    cases = [
        (caption, obj, kind) for obj, own in enumerate(image.captions)
        for caption, kind in zip(own, image.kinds[obj], strict=True)
    ]  # fmt: skip
    cases += made(image, names)
    encoded = model.encode(str(image.path), imgsz)
    net, size = encoded.model, (image.width, image.height)
    texts = [text for text, _, _ in cases]
    queries = [read_query(text) for text in texts]
    cores = list(dict.fromkeys(core for q in queries if q.reasoned for core in q.cores))
    with torch.inference_mode():
        own = best_boxes(net, encoded.encoded, encoded.text_features(texts), encoded.canvas, [size], 1)[0]
        found: dict[str, Found] = {}
        if cores:
            features = encoded.text_features(cores)
            (made_of,) = candidates(net, encoded.encoded, features, encoded.canvas, [size], reasoning.SEARCHED)
            found = {c: reasoning._without_duplicates(*v, 0.7) for c, v in zip(cores, made_of, strict=True)}
    return [
        {"kind": kind, "query": q, "box": image.boxes[obj], "network": own.of(j), "found": found, "size": size}
        for j, ((_, obj, kind), q) in enumerate(zip(cases, queries, strict=True))
    ]


def score(cases: list[dict[str, Any]], threshold: float) -> dict[str, dict[str, float]]:
    """Return the figures of each kind."""
    rows: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for case in cases:
        query, network = case["query"], case["network"]
        both, alone = network, network
        if query.reasoned:
            both = reasoning._single(query, network, case["found"], case["size"], 1)
            weights = choice.weigh(query, case["found"], case["size"])
            best = np.argsort(-weights)[:1]
            alone = reasoning._taken(case["found"][query.core], best, weights[best])
        row = rows[case["kind"]]
        for name, found in (("network", network), ("choice", alone), ("both", both)):
            row[name].append(_iou(found, case["box"]))
        row["conf"].append(float(both.confidence[0]))
        row["network conf"].append(float(network.confidence[0]))
    out = {}
    for kind, row in rows.items():
        values = {name: np.array(v) for name, v in row.items()}
        figures: dict[str, float] = {"count": len(values["both"])}
        for name in ("network", "choice", "both"):
            figures |= {
                f"{name} right": float((values[name] >= 0.5).mean()),
                f"{name} meanIoU": float(values[name].mean()),
            }
        shown = values["conf"] >= threshold
        figures["both, above the threshold"] = float(shown.mean())
        figures["right of these"] = float((values["both"][shown] >= 0.5).mean()) if shown.any() else float("nan")
        out[kind] = {name: round(v, 4) for name, v in figures.items()}
    return out


def _iou(found: Detections, box: np.ndarray) -> float:
    return float(iou(found.boxes[:1].astype(float), np.asarray(box, float))[0]) if len(found) else 0.0


def choose(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the share of right boxes by kind of query, for each combination of the two constants."""
    out = []
    before = choice.LIKELY, reasoning.NETWORK_FIRST, reasoning.CHOICE_FIRST
    kinds = ("superlative", "relation", "ordinal")
    for choice.LIKELY in LIKELY:
        for rule, (network, chosen) in RULES.items():
            reasoning.NETWORK_FIRST, reasoning.CHOICE_FIRST = (
                dict.fromkeys(kinds, network),
                dict.fromkeys(kinds, chosen),
            )
            figures: dict[str, list[float]] = defaultdict(list)
            for case in cases:
                if case["query"].reasoned:
                    both = reasoning._single(case["query"], case["network"], case["found"], case["size"], 1)
                    figures[case["kind"]].append(_iou(both, case["box"]))
            right = {k: round(float((np.array(v) >= 0.5).mean()), 4) for k, v in sorted(figures.items())}
            mean = {k: round(float(np.mean(v)), 4) for k, v in sorted(figures.items())}
            out.append({"likely": choice.LIKELY, "rule": rule, "right": right, "meanIoU": mean})
    choice.LIKELY, reasoning.NETWORK_FIRST, reasoning.CHOICE_FIRST = before
    return out


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=BUNDLED_MODEL)
    parser.add_argument("--split", default="val", choices=("val", "test"))
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = OptiSAR(args.model)
    config = load_dataset_config(REAL)
    cases = [case for im in load_split(config, args.split) for case in search(model, im, config.names, args.imgsz)]
    threshold = default_conf(model.model)
    record: dict[str, Any] = {
        "command": f"python benchmarks/reasoning.py --split {args.split} --imgsz {args.imgsz}", "model": args.model,
        "version": __version__, "threshold": threshold, "likely": choice.LIKELY, "sharpness": choice.SHARPNESS,
        "kinds": score(cases, threshold),
    }  # fmt: skip
    if args.split == "val":
        record["chosen from"] = choose(cases)
    out = args.out or HERE / "results" / f"reasoning-{args.split}.json"
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for kind, row in record["kinds"].items():
        print(f"{kind:32s}", " ".join(f"{name} {value}" for name, value in row.items()))


if __name__ == "__main__":
    main()

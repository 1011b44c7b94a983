"""Measure on real expressions how far parser, swaps and transforms reach, and write a sample of their output.

Run from the repository root, with a folder that holds DIOR_RSVG_{train,val,test}.json and
OPT_RSVG_{train,val,test}.json (lists of {"image", "bbox_xyxy", "phrase", "category"}; the category may be missing):

    python benchmarks/language.py --captions FOLDER [--judged-wrong N --wrong-lines 3 17]

Truth is measured on DIOR-RSVG alone, whose images are all 800 x 800: places need the size of the image, which the
files of OPT-RSVG lack. The files list only objects with an expression, so a unique object may not be unique in the
image. `--judged-wrong` records how many lines of the sample a reader found wrong; without it the record says that
nobody has read it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ultralytics.utils import TQDM

from optisar_yolo.language.parser import parse
from optisar_yolo.language.swaps import KINDS, has_colour, strip_position, swap
from optisar_yolo.language.transform import flip, rotate90, rotate180
from optisar_yolo.language.verify import LabelledObjects
from optisar_yolo.language.vocabulary import NOUNS

SETS = ("DIOR_RSVG", "OPT_RSVG")
SPLITS = ("train", "val", "test")
SIDE = 800.0  # pixels, of every DIOR image
SAMPLE = 200
PROVEN = 3000  # expressions whose variants are checked against the boxes
TOP = 30  # entries of each list in the record
# How an image may be turned, and the rewriting that goes with it.
TURNS: dict[str, Callable[[str], str | None]] = {
    "flip horizontal": lambda text: flip(text, horizontal=True),
    "flip vertical": lambda text: flip(text, vertical=True),
    "rotate180": rotate180,
    "rotate90": rotate90,
}


class Expression(NamedTuple):
    """One record: its data set and split, image, box [4] xyxy in pixels, words and category (None: not said)."""

    data: str
    split: str
    image: str
    box: list[float]
    text: str
    category: str | None


def load(folder: Path) -> list[Expression]:
    """Read all six files.

    Raises:
        SystemExit: A file is missing.
    """
    found: list[Expression] = []
    for data in SETS:
        for split in SPLITS:
            path = folder / f"{data}_{split}.json"
            if not path.is_file():
                raise SystemExit(f"{path} is missing; --captions names the folder of the six expression files")
            rows = json.loads(path.read_text(encoding="utf-8"))
            found += [Expression(data, split, r["image"], r["bbox_xyxy"], r["phrase"], r.get("category")) for r in rows]
    return found


def turned(boxes: np.ndarray, turn: str) -> np.ndarray:
    """Return [N, 4] boxes of a square image of side `SIDE` after a turn named in `TURNS`."""
    x1, y1, x2, y2 = boxes.T
    if turn == "rotate90":  # np.rot90: a point (x, y) goes to (y, side - x)
        return np.stack([y1, SIDE - x2, y2, SIDE - x1], 1)
    if turn in ("flip horizontal", "rotate180"):
        x1, x2 = SIDE - x2, SIDE - x1
    if turn in ("flip vertical", "rotate180"):
        y1, y2 = SIDE - y2, SIDE - y1
    return np.stack([x1, y1, x2, y2], 1)


def _squeezed(name: str) -> str:
    """Return a name's letters alone, in lower case."""
    return re.sub(r"[^a-z]", "", name.lower())


def by_image(expressions: list[Expression]) -> dict[str, list[tuple[int, Expression]]]:
    """Group DIOR-RSVG's expressions by image, with the index of each in its image."""
    images: dict[str, list[tuple[int, Expression]]] = defaultdict(list)
    for e in expressions:
        if e.data == "DIOR_RSVG":
            images[e.image].append((len(images[e.image]), e))
    return images


def objects_of(members: list[tuple[int, Expression]]) -> dict[str, LabelledObjects]:
    """Return an image's objects as they are ("") and after each turn; names are the category or else the noun read."""
    nouns = {_squeezed(n): noun for noun, others in NOUNS.items() for n in (noun, *others)}
    names = [
        "optical " + (nouns[_squeezed(e.category)] if e.category else parse(e.text).category or "") for _, e in members
    ]
    boxes = np.array([e.box for _, e in members], dtype=np.float64)
    size = (SIDE, SIDE)
    return {
        "": LabelledObjects(boxes, names, size),
        **{t: LabelledObjects(turned(boxes, t), names, size) for t in TURNS},
    }


def truth(expressions: list[Expression], rng: np.random.Generator) -> tuple[dict, dict[int, str]]:
    """Check DIOR-RSVG's expressions against its boxes: as they are, after each turn, and a draw of their variants.

    Returns:
        The record, and the truth in words ("true", "false", "open") of each expression by its id().
    """
    images = by_image(expressions)
    total = sum(map(len, images.values()))
    drawn = set(rng.choice(total, min(PROVEN, total), replace=False).tolist())
    verdicts: Counter[str] = Counter()
    truths: dict[int, str] = {}
    reasons: Counter[str] = Counter()
    examples: Counter[tuple[str, str]] = Counter()
    differ: Counter[str] = Counter()
    variants: Counter[str] = Counter()
    at = 0
    for members in TQDM(images.values(), desc="truth"):
        views = objects_of(members)
        for i, e in members:
            truth_here = views[""].truth(e.text, i)
            truths[id(e)] = {True: "true", False: "false", None: "open"}[truth_here]
            verdicts[truths[id(e)]] += 1
            if truth_here is False:
                why = [k for k, v in views[""].claims(e.text, i).items() if v is False]
                reasons.update(why)
                examples[(why[0], e.text)] += 1
            for turn, rewrite in TURNS.items():
                text = rewrite(e.text)
                # Rounding may turn true or false into open: only true against false is a contradiction.
                if text is not None and {truth_here, views[turn].truth(text, i)} == {True, False}:
                    differ[turn] += 1
            if at in drawn:
                proven = any(views[""].false_of_all(v.text) for v in swap(e.text))
                variants["with a variant false of every labelled object"] += proven
            at += 1
    record = {
        "data": "DIOR_RSVG, 800 x 800",
        "expressions": total,
        "verdict_on_own_box": {k: round(v / total, 5) for k, v in verdicts.most_common()},
        "false_on_own_box": {
            "expressions": verdicts["false"],
            "claims": dict(reasons.most_common()),
            "most_frequent": [{"claim": c, "phrase": t, "count": n} for (c, t), n in examples.most_common(TOP)],
        },
        "verdict_differs_after": {turn: differ[turn] for turn in TURNS},
        "variants": {"expressions_drawn": len(drawn), **{k: round(n / len(drawn), 5) for k, n in variants.items()}},
    }
    return record, truths


def coverage(texts: Counter[str]) -> dict:
    """Count for which expressions, each as often as it occurs, there are swaps, transforms and parses."""
    total = sum(texts.values())
    able: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    unread: Counter[str] = Counter()
    misses: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for text, n in TQDM(texts.items(), desc="coverage"):
        found = swap(text)
        kinds.update(dict.fromkeys({v.kind for v in found}, n))
        able["swap"] += n * bool(found)
        if not found:
            misses[text] += n
        for turn, rewrite in TURNS.items():
            new = rewrite(text)
            able[turn] += n * (new is not None)
            able[f"{turn}, words changed"] += n * (new not in (None, text))
            if turn == "rotate90" and new is None:
                refused[text] += n
        bare = strip_position(text)
        able["position stripped"] += n * (bare not in (None, text))
        able["position cannot be stripped"] += n * (bare is None)
        able["colour"] += n * has_colour(text)
        query = parse(text)
        able["category read"] += n * (query.category is not None)
        able["all words read"] += n * (not query.rest)
        able["all words read, or colours alone left"] += n * all(has_colour(w) for w in query.rest)
        able["all words read and the relation can be checked"] += n * (
            not query.rest and (query.relation != "other" or query.offset is not None)
        )
        for word in query.rest:
            unread[word] += n
    return {
        "expressions": total,
        "distinct": len(texts),
        "share": {k: round(v / total, 5) for k, v in able.items()},
        "share_with_a_swap_of_kind": {k: round(kinds[k] / total, 5) for k in KINDS},
        "unread_words": dict(unread.most_common(TOP)),
        "without_swap": dict(misses.most_common(TOP)),
        "without_rotate90": dict(refused.most_common(TOP)),
    }


def draw(expressions: list[Expression], rng: np.random.Generator) -> list[Expression]:
    """Draw the sample: equally many of each file, of different words."""
    strata: dict[tuple[str, str], dict[str, Expression]] = defaultdict(dict)
    for e in expressions:
        strata[e.data, e.split].setdefault(e.text, e)
    shares = np.diff(np.linspace(0, SAMPLE, len(strata) + 1).round().astype(int))
    drawn: list[Expression] = []
    for stratum, share in zip(strata.values(), shares, strict=True):
        members = list(stratum.values())
        drawn += [members[i] for i in sorted(rng.choice(len(members), share, replace=False).tolist())]
    return drawn


def table(sample: list[Expression], truths: dict[int, str], note: str, rng: np.random.Generator) -> str:
    """Write the sample as a table."""
    rows = [
        "# Swaps, transforms and truth of real expressions",
        "",
        f"{len(sample)} expressions, drawn by `benchmarks/language.py` with a seed, as many of each of the six files.",
        "`=` the expression itself, `-` no result. Swap is one variant of all, drawn at random; truth is measured on",
        f"DIOR-RSVG only (`open`: the boxes cannot tell). {note}",
        "",
        "| line | set | caption | swap | kind | left-right | top-bottom | quarter turn | without place | own box |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for line, e in enumerate(sample, 1):
        found = swap(e.text)
        variant = found[int(rng.integers(len(found)))] if found else None
        new = [TURNS[t](e.text) for t in ("flip horizontal", "flip vertical", "rotate90")] + [strip_position(e.text)]
        cells = ["-" if t is None else "=" if t == e.text else t for t in new]
        swapped = list(variant) if variant else ["-", "-"]
        data = f"{e.data.split('_')[0]} {e.split}"
        rows.append("| " + " | ".join([str(line), data, e.text, *swapped, *cells, truths.get(id(e), "")]) + " |")
    return "\n".join(rows) + "\n"


def write(path: Path, text: str) -> None:
    """Write a whole file or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def main(argv: Iterable[str] | None = None) -> dict:
    """Measure, write `language.json` and `language-sample.md`, and return the record."""
    results = Path(__file__).parent / "results"
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--captions", type=Path, required=True, help="folder of the six files of expressions")
    parser.add_argument("--out", type=Path, default=results / "language.json", help="the record")
    parser.add_argument("--sample", type=Path, default=results / "language-sample.md", help="the sample to read")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--judged-wrong", type=int, help="number of lines of the sample that a reader found wrong")
    parser.add_argument("--wrong-lines", type=int, nargs="*", default=[], help="which ones")
    argv = list(sys.argv[1:] if argv is None else argv)
    args = parser.parse_args(argv)
    if args.wrong_lines and len(set(args.wrong_lines)) != args.judged_wrong:
        parser.error(f"--judged-wrong {args.judged_wrong} and {len(set(args.wrong_lines))} --wrong-lines do not agree")
    start = time.perf_counter()
    expressions = load(args.captions)
    facts, truths = truth(expressions, np.random.default_rng(args.seed))
    by_set = {d: coverage(Counter(e.text for e in expressions if e.data == d)) for d in SETS}
    whole = coverage(Counter(e.text for e in expressions))
    sample = draw(expressions, np.random.default_rng(args.seed))
    reading = {"lines": len(sample), "judged_wrong": args.judged_wrong, "wrong_lines": sorted(set(args.wrong_lines))}
    record = {
        "command": "python benchmarks/language.py " + " ".join(Path(a).name if "/" in a else a for a in argv),
        "seed": args.seed,
        "all": whole,
        **by_set,
        "truth": facts,
        "sample": reading,
        "seconds": round(time.perf_counter() - start, 1),
    }
    note = (
        "Nobody has read them yet."
        if args.judged_wrong is None
        else f"Read line by line; judged wrong: {args.judged_wrong} {reading['wrong_lines'] or ''}".rstrip() + "."
    )
    write(args.sample, table(sample, truths, note, np.random.default_rng(args.seed)))
    write(args.out, json.dumps(record, indent=1) + "\n")
    print(json.dumps({k: record[k] for k in ("sample", "seconds")} | {"share": whole["share"]}, indent=1))
    return record


if __name__ == "__main__":
    main()

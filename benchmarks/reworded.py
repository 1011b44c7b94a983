"""Reword a data set's test expressions with words that no training text uses.

    python benchmarks/reworded.py <data root> --split test --out <folder>

writes <folder>/<split>.json in the layout of the data set, and <folder>/reworded.yaml, a dataset config that points at
the original images, so that `optisar val model=... data=<folder>/reworded.yaml split=<split>` measures it. Each
expression gets one rewording of the same meaning, from hand-written patterns and synonyms. Their words are `RESERVED`:
neither the expressions of OptSAR-RSVG nor the paraphrases for training (`optisar_yolo.language.reword`) use them. The
program stops at an expression that uses one, or whose structure it does not know.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import numpy as np
import yaml

from optisar_yolo.language.edit import agree
from optisar_yolo.language.parser import ParsedExpression, parse
from optisar_yolo.language.vocabulary import CATEGORIES, RESERVED as _TRAINING_RESERVED, RESERVED_SIZES

# "tiniest" is no word of the paraphrases for training either.
RESERVED = re.compile(rf"{_TRAINING_RESERVED.pattern}|\btiniest\b", re.IGNORECASE)

# Categories without a reserved synonym keep their name; the rest of their expression is new all the same.
SYNONYMS = {category: noun.reserved for category, noun in CATEGORIES.items() if noun.reserved}
_VERTICAL = {"top": "uppermost", "bottom": "lowermost"}
CORNERS = (
    "situated towards the {v} {h}-hand end of the frame",
    "in the {v} {h}-hand portion of the frame",
    "situated in the {v} {h}-hand corner of the frame",
)
SIDES = (
    "situated halfway up the {h}-hand side",
    "in the mid {h}-hand portion of the frame",
    "situated mid-height on the {h}-hand side of the frame",
)
ENDS = (
    "situated in the {v} central portion",
    "in the {v} central portion of the frame",
    "situated centrally in the {v} portion of the frame",
)
MIDDLES = (
    "situated in the mid portion of the frame",
    "in the central portion of the frame",
    "situated mid frame",
)
SUPERLATIVES = {
    "left": (
        "the westernmost {n}",
        "the {n} at the extreme left-hand side",
        "the {n} lying furthest towards the left-hand side",
    ),
    "right": (
        "the easternmost {n}",
        "the {n} at the extreme right-hand side",
        "the {n} lying furthest towards the right-hand side",
    ),
    "top": (
        "the uppermost {n}",
        "the {n} situated highest in the frame",
        "the {n} lying furthest towards the upper end",
    ),
    "bottom": (
        "the lowermost {n}",
        "the {n} situated lowest in the frame",
        "the {n} lying furthest towards the lower end",
    ),
    "largest": ("the most sizeable {n}", "the {n} that fills the greatest portion of the frame"),
    "smallest": ("the tiniest {n}", "the {n} that fills the least portion of the frame"),
}
RELATIONS = {
    "left": "the {n} situated on the left-hand side of the {r}",
    "right": "the {n} situated on the right-hand side of the {r}",
    "top": "the {n} situated higher up in the frame than the {r}",
    "bottom": "the {n} situated beneath the {r}",
}
FRAMES = ("locate {}", "please locate {}", "{}", "which one is {}?", "put a frame around {}")


def _pick(rng: np.random.Generator, of: tuple[str, ...]) -> str:
    return of[int(rng.integers(len(of)))]


def _thing(query: ParsedExpression, rng: np.random.Generator) -> str:
    """Return size, modality and noun."""
    assert query.category
    noun = SYNONYMS.get(query.category, query.category)
    size = f"{RESERVED_SIZES[query.size]} " if query.size else ""
    if query.modality == "sar":
        return f"{size}radar-imaged {noun}"
    if query.modality == "optical":
        return f"{size}{_pick(rng, ('camera-imaged', 'photographed'))} {noun}"
    return size + noun


def reword(caption: str, rng: np.random.Generator) -> str:
    """Say an expression with reserved words.

    Args:
        caption: An expression in the style of OptSAR-RSVG.
        rng: Source of the choices.

    Returns:
        One expression of the same meaning.

    Raises:
        ValueError: The expression's structure is not known, or it uses a reserved word itself.
    """
    query = parse(caption)
    if query.category is None or query.rest or query.relation == "other":
        raise ValueError(
            f"expression {caption!r} has a structure without a pattern here; extend benchmarks/reworded.py"
        )
    if RESERVED.search(caption):
        raise ValueError(f"expression {caption!r} uses a word reserved for the reworded test; take it out of RESERVED")
    thing = _thing(query, rng)
    if query.superlative:
        phrase = _pick(rng, SUPERLATIVES[query.superlative]).format(n=thing)
    elif query.relation and query.reference:
        phrase = RELATIONS[query.relation].format(n=thing, r=SYNONYMS.get(query.reference, query.reference))
    else:
        phrase = f"the {thing}"
    if query.place:
        column, row = query.place
        if query.place == ("middle", "middle"):
            where = _pick(rng, MIDDLES)
        elif column and row:
            where = _pick(rng, CORNERS).format(h=column, v=_VERTICAL[row])
        elif column:
            where = _pick(rng, SIDES).format(h=column)
        else:
            where = _pick(rng, ENDS).format(v=_VERTICAL[row or ""])
        phrase = f"{phrase} {where}"
    # The claims have no reserved word here, so the frame needs one.
    plain = not (query.place or query.superlative or query.relation or query.size or query.category in SYNONYMS)
    frames = tuple(f for f in FRAMES if RESERVED.search(f)) if plain and query.modality != "sar" else FRAMES
    return agree(_pick(rng, frames).format(phrase))


def main() -> None:
    """Write the reworded annotation file and its dataset config, and show some pairs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("root", type=Path, help="folder of the data set, with images/ and <split>.json")
    parser.add_argument("--split", default="test", help="which split to reword (default: test)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same expressions")
    parser.add_argument("--show", type=int, default=30, help="how many random pairs to print")
    args = parser.parse_args()

    source = args.root / f"{args.split}.json"
    if not source.is_file():
        parser.error(f"{source} does not exist; the first argument is the data set's folder, --split one of its files")
    content = json.loads(source.read_text(encoding="utf-8"))
    rng = np.random.default_rng(args.seed)
    pairs: list[tuple[str, str]] = []
    for record in content["annotations"]:
        new = reword(record["caption"], rng)
        pairs.append((record["caption"], new))
        record["caption"] = new

    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / f"{args.split}.json").write_text(json.dumps(content), encoding="utf-8")
    root, out = args.root.resolve(), args.out.resolve()
    names = {c["id"]: c["name"] for c in content["categories"]}
    dataset_config = {
        "path": str(out), args.split: f"{args.split}.json", "images": str(root / "images"),
        "labels": str(root / "labels"), "names": names,
    }  # fmt: skip
    (args.out / "reworded.yaml").write_text(yaml.safe_dump(dataset_config, sort_keys=False), encoding="utf-8")

    for i in sorted(rng.choice(len(pairs), min(args.show, len(pairs)), replace=False).tolist()):
        print(f"{pairs[i][0]}\n    {pairs[i][1]}")
    new_words = sum(bool(RESERVED.search(new)) for _, new in pairs)
    print(
        f"{len(pairs)} expressions reworded, {len({n for _, n in pairs})} different; {new_words} hold a reserved word"
    )
    print(f"written: {args.out / f'{args.split}.json'} and {args.out / 'reworded.yaml'}")


if __name__ == "__main__":
    main()

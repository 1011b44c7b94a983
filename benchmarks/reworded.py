"""Say a data set's test expressions in words that no training text uses: does a model understand, or remember?

    python benchmarks/reworded.py <data root> --split test --out <folder>

writes <folder>/<split>.json in the layout of the data set, and <folder>/reworded.yaml, a dataset config that points at
the original images, so that `optisar val model=... data=<folder>/reworded.yaml split=<split>` measures it. Each
expression gets one rewording of the same meaning, from hand-written expression patterns and synonyms. Their words are
`RESERVED`: neither the expressions of OptSAR-RSVG nor this project's rewording for training
(`optisar_yolo.language.reword`) use them. The program stops at an expression that uses one, or whose structure it does
not know.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import numpy as np
import yaml

from optisar_yolo.language.parser import Meaning, agree, parse

RESERVED = (
    "aeroplane", "watercraft", "left-hand", "right-hand", "uppermost", "lowermost", "towards the", "portion", "frame",
    "locate", "tiny", "tiniest", "sizeable", "oil reservoir", "wharf", "racetrack", "automobile", "ball field",
    "radar-imaged", "situated", "extreme", "beneath", "westernmost", "easternmost",
)  # fmt: skip
_RESERVED = re.compile(rf"\b(?:{'|'.join(RESERVED)})\b", re.IGNORECASE)

# Categories without a reserved synonym keep their name; the rest of their expression is new all the same.
SYNONYMS = {
    "airplane": "aeroplane", "baseball diamond": "ball field", "ground track field": "racetrack", "harbor": "wharf",
    "ship": "watercraft", "storage tank": "oil reservoir", "vehicle": "automobile",
}  # fmt: skip
SIZES = {"big": "sizeable", "small": "tiny"}
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
EXTREMES = {
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


def _thing(said: Meaning, rng: np.random.Generator) -> str:
    """Say what it is: size, modality and noun."""
    assert said.category
    noun = SYNONYMS.get(said.category, said.category)
    size = f"{SIZES[said.size]} " if said.size else ""
    if said.modality == "sar":
        return f"{size}radar-imaged {noun}"
    if said.modality == "optical":
        return f"{size}{_pick(rng, ('camera-imaged', 'photographed'))} {noun}"
    return size + noun


def reword(caption: str, rng: np.random.Generator) -> str:
    """Say an expression in reserved words.

    Args:
        caption: An expression in the style of OptSAR-RSVG.
        rng: Source of the choices.

    Returns:
        One expression of the same meaning.

    Raises:
        ValueError: The expression's structure is not known, or it uses a reserved word itself.
    """
    said = parse(caption)
    if said.category is None or said.rest or said.relation == "other":
        raise ValueError(
            f"expression {caption!r} has a structure without a pattern here; extend benchmarks/reworded.py"
        )
    if _RESERVED.search(caption):
        raise ValueError(f"expression {caption!r} uses a word reserved for the reworded test; take it out of RESERVED")
    thing = _thing(said, rng)
    if said.extreme:
        phrase = _pick(rng, EXTREMES[said.extreme]).format(n=thing)
    elif said.relation and said.reference:
        phrase = RELATIONS[said.relation].format(n=thing, r=SYNONYMS.get(said.reference, said.reference))
    else:
        phrase = f"the {thing}"
    if said.place:
        column, row = said.place
        if said.place == ("middle", "middle"):
            where = _pick(rng, MIDDLES)
        elif column and row:
            where = _pick(rng, CORNERS).format(h=column, v=_VERTICAL[row])
        elif column:
            where = _pick(rng, SIDES).format(h=column)
        else:
            where = _pick(rng, ENDS).format(v=_VERTICAL[row or ""])
        phrase = f"{phrase} {where}"
    # Only the noun to go by: the expression frame has to bring the new words.
    plain = not (said.place or said.extreme or said.relation or said.size or said.category in SYNONYMS)
    frames = tuple(f for f in FRAMES if _RESERVED.search(f)) if plain and said.modality != "sar" else FRAMES
    return agree(_pick(rng, frames).format(phrase))


def main() -> None:
    """Write the reworded annotation file and its dataset config, and show some pairs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("root", type=Path, help="folder of the data set, with images/ and <split>.json")
    parser.add_argument("--split", default="test", help="which split to reword (default: test)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same sentences")
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
    new_words = sum(bool(_RESERVED.search(new)) for _, new in pairs)
    print(
        f"{len(pairs)} expressions reworded, {len({n for _, n in pairs})} different; {new_words} hold a reserved word"
    )
    print(f"written: {args.out / f'{args.split}.json'} and {args.out / 'reworded.yaml'}")


if __name__ == "__main__":
    main()

"""Expressions drawn at random, each with its reading: to be read by a person, who counts the wrong ones.

    python benchmarks/readings.py --source FILE ... [--count 100] [--seed 0] [--exclude LIST ...]

FILE is a COCO file with captions, a list of records with a "caption" or a "phrase", or a text file with one expression
per line. Printed is what `parse`, `read_query` and `read_notes` read. A reading is wrong where it holds a claim that
the expression does not make, or lost one: it is neither a claim, nor among the unread words (rest), nor behind a
relation that is not modelled (other). docs/results.md has the figures. LIST is what
an earlier draw printed: its expressions are left out.
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

from optisar_yolo.language import parse, read_notes, read_query


def expressions(path: Path) -> list[str]:
    """Return the expressions of a file, sorted and without repeats."""
    if path.suffix != ".json":
        return sorted({line.strip() for line in path.read_text(encoding="utf-8").splitlines()} - {""})
    found = json.loads(path.read_text(encoding="utf-8"))
    records: list[dict[str, Any]] = found["annotations"] if isinstance(found, dict) else found
    said = [record.get("caption") or record.get("phrase") or record.get("captions") or () for record in records]
    return sorted({text for texts in said for text in ([texts] if isinstance(texts, str) else texts)})


def reading(text: str) -> str:
    """Return the reading of an expression in one line."""
    claims = {key: value for key, value in asdict(parse(text)).items() if value not in (None, (), False)}
    rest = " ".join(claims.pop("rest", ()))
    claims.pop("definite", None)
    parts = [f"{key}={'/'.join(v or '-' for v in value) if isinstance(value, tuple) else value}"
             for key, value in claims.items()]  # fmt: skip
    query = read_query(text)
    parts += [f"rest: {rest}"] if rest else []
    parts += [f"{query.kind}: {query}"] if query.kind != "whole" else ["whole"]
    notes = read_notes(text)
    parts += [f"notes: {' '.join(notes.kinds)}{'' if notes.grounded else ' (no box)'}"] if notes.kinds else []
    return " | ".join(parts)


def main() -> None:
    """Draw and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", type=Path, nargs="+", required=True)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--exclude", type=Path, nargs="*", default=[])
    args = parser.parse_args()
    known = {line.split(". ", 1)[-1] for path in args.exclude for line in path.read_text(encoding="utf-8").splitlines()}
    texts = sorted({text for path in args.source for text in expressions(path)} - known)
    for n, text in enumerate(random.Random(args.seed).sample(texts, min(args.count, len(texts))), 1):
        print(f"{n}. {text}\n     {reading(text)}")


if __name__ == "__main__":
    main()

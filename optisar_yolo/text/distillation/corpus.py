"""Texts for training and testing a text encoder: expressions of files, generated expressions, random words."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from optisar_yolo.language import RESERVED, canonical, held_out_wording, random_claims, wording


def read_corpus(where: str | Path | Sequence[str | Path]) -> list[str]:
    """Read the unique expressions of JSON and text files.

    Args:
        where: A file, a folder (its *.json and *.txt) or several of them. JSON: a list of strings or of records with
            ``phrase`` or ``caption``, or a COCO object whose annotations have ``caption`` or ``captions``. Text: one
            expression a line.

    Returns:
        Sorted expressions with single spaces.

    Raises:
        ValueError: A file is unreadable or has no expression; the message names it.
    """
    paths = [Path(where)] if isinstance(where, (str, Path)) else [Path(w) for w in where]
    files = [f for p in paths for f in (sorted([*p.glob("*.json"), *p.glob("*.txt")]) if p.is_dir() else [p])]
    found: set[str] = set()
    for file in files:
        try:
            raw = file.read_text(encoding="utf-8")
            data = json.loads(raw) if file.suffix == ".json" else raw.splitlines()
        except (OSError, ValueError) as e:
            raise ValueError(f"{file}: cannot be read as a corpus file ({e}); give JSON or text files") from e
        records = data.get("annotations", []) if isinstance(data, dict) else data
        texts: list[str] = []
        for r in records:
            if isinstance(r, str):
                texts.append(r)
            elif isinstance(r, dict):
                texts += [v for k in ("phrase", "caption") if isinstance(v := r.get(k), str)]
                texts += [v for v in r.get("captions") or () if isinstance(v, str)]
        texts = [" ".join(t.split()) for t in texts]
        if not any(texts):
            raise ValueError(
                f"{file}: holds no expression; expected 'phrase', 'caption', 'captions' or one text a line"
            )
        found.update(t for t in texts if t)
    return sorted(found)


def allowed(text: str) -> bool:
    """Return whether a text may be used for training: without reserved words, but for "tiny", which DIOR-RSVG uses."""
    return all(m.group(0).lower() == "tiny" for m in RESERVED.finditer(text))


def generated(meanings: int, wordings: int, seed: int) -> tuple[list[str], Tensor]:
    """Generate wordings of meanings and of their variants that differ in one slot.

    Args:
        meanings: Number of meanings, each with a variant; a fifth more have objects exchanged ("the ship left of the
            bridge"), which a bag of words cannot tell apart.
        wordings: Wordings of each, beside the canonical one.
        seed: Seed of the random draws.

    Returns:
        The texts, and int64 indices into them [1.2 meanings, 2, wordings + 1]: axis 1 is (meaning, variant), and the
        last wording is the canonical one.
    """
    rng = random.Random(seed)
    texts: dict[str, int] = {}
    index: list[list[list[int]]] = []
    while len(index) < meanings + meanings // 5:
        claims = random_claims(rng)
        both = (claims, claims.swapped(rng))
        if len(index) >= meanings:
            if claims.reference in (None, claims.category) or claims.relation == "near":
                continue
            both = (claims, claims.exchanged())
        seeds = [rng.getrandbits(32) for _ in range(wordings)]
        rows = [[wording(c, random.Random(s)) for s in seeds] + [canonical(c)] for c in both]
        for row in rows:
            for text in row:
                assert not RESERVED.search(text), text
        index.append([[texts.setdefault(t, len(texts)) for t in row] for row in rows])
    return list(texts), torch.tensor(index)


def generic(words: Sequence[str], seed: int) -> list[str]:
    """Make texts of random vocabulary words, so that every row of the token table is trained.

    Args:
        words: Whole words of the vocabulary.
        seed: Seed of the random draws.

    Returns:
        About two texts a word: the word alone, and in frames with others.
    """
    rng = random.Random(seed)
    frames = (
        "the {} {} near the {}",
        "a {} {} {}",
        "the {} {} on the left of the {}",
        "there is a {} and a {} in the {}",
        "find the {} with the {} {}",
        "{} {} {}",
        "the {} {} at the top of the {}",
        "the {} below the {} {}",
    )
    texts = list(words)
    for _ in range(3):
        order = rng.sample(list(words), len(words))
        texts += [rng.choice(frames).format(*order[i : i + 3]) for i in range(0, len(order) - 2, 3)]
    return sorted({t for t in texts if allowed(t) and not RESERVED.search(t)})


def ranking_triples(count: int, seed: int) -> list[tuple[str, str, str]]:
    """Make triples for the ranking test.

    Args:
        count: Number of triples.
        seed: Seed of the random draws.

    Returns:
        (expression, its meaning in reserved words, the expression with one slot changed): expression and changed
        expression differ by a word or two.
    """
    rng = random.Random(seed)
    out: dict[tuple[str, str, str], None] = {}
    while len(out) < count:
        claims = random_claims(rng)
        other = held_out_wording(claims, rng)
        telling = any(getattr(claims, s) for s in ("place", "superlative", "relation", "modality", "size"))
        variant = claims.swapped(rng)
        if other and telling and variant.category == claims.category and not RESERVED.search(canonical(claims)):
            out[canonical(claims), other, canonical(variant)] = None
    return list(out)

"""Texts to teach and test a text encoder with: real expressions, meanings, words, ranking questions."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from optisar_yolo.language import RESERVED, canonical, held_out_wording, random_meaning, wording


def read_texts(where: str | Path | Sequence[str | Path]) -> list[str]:
    """Unique expressions of JSON and text files.

    Args:
        where: a file, a folder (its *.json and *.txt) or several of them. JSON: a list of strings or of records with
            `phrase` or `caption`, or a COCO object whose annotations have `caption` or `captions`. Text: one
            expression a line.

    Returns:
        Sorted expressions, spaces made single.

    Raises:
        ValueError: a file is unreadable or holds no expression; the message names it.
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
    """Whether a text may be used for training.

    Args:
        text: an expression.

    Returns:
        False for texts with reserved words; "tiny" is let through, because it is an ordinary word of DIOR-RSVG.
    """
    return all(m.group(0).lower() == "tiny" for m in RESERVED.finditer(text))


def generated(meanings: int, wordings: int, seed: int) -> tuple[list[str], Tensor]:
    """Said meanings and their one-slot swaps.

    Args:
        meanings: how many meanings, each with a swap.
        wordings: in how many ways each is said, beside the plain one.
        seed: source of chance.

    Returns:
        The texts, and int64 indices into them [1.2 meanings, 2, wordings + 1]: axis 1 is (meaning, swap), the last
        wording is the plain one.
    """
    rng = random.Random(seed)
    texts: dict[str, int] = {}
    index: list[list[list[int]]] = []
    while len(index) < meanings + meanings // 5:
        meaning = random_meaning(rng)
        both = (meaning, meaning.swapped(rng))
        if len(index) >= meanings:  # who stands where is what a bag of words cannot tell, so it is asked more often
            if meaning.other in (None, meaning.category) or meaning.relation == "near":
                continue
            both = (meaning, meaning.exchanged())
        seeds = [rng.getrandbits(32) for _ in range(wordings)]
        rows = [[wording(m, random.Random(s)) for s in seeds] + [canonical(m)] for m in both]
        for row in rows:
            for text in row:
                assert not RESERVED.search(text), text
        index.append([[texts.setdefault(t, len(texts)) for t in row] for row in rows])
    return list(texts), torch.tensor(index)


def generic(words: Sequence[str], seed: int) -> list[str]:
    """Texts of random vocabulary words, so that every row of the token table is used.

    Args:
        words: whole words of the vocabulary.
        seed: source of chance.

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


def rank_sets(count: int, seed: int) -> list[tuple[str, str, str]]:
    """Questions for the ranking test: (expression, its meaning in reserved words, the expression with one slot swapped).

    Args:
        count: how many.
        seed: source of chance.

    Returns:
        Triples; the swap is made within the wording of the expression, so it differs by a word or two.
    """
    rng = random.Random(seed)
    out: dict[tuple[str, str, str], None] = {}
    while len(out) < count:
        meaning = random_meaning(rng)
        other = held_out_wording(meaning, rng)
        kind = [s for s in ("side", "extreme", "relation", "modality", "size") if getattr(meaning, s)]
        swap = meaning.swapped(rng)
        if other and kind and swap.category == meaning.category and not RESERVED.search(canonical(meaning)):
            out[canonical(meaning), other, canonical(swap)] = None
    return list(out)

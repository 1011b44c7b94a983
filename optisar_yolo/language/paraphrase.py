"""Saying a referring expression in other words: text augmentation that keeps every claim.

`reword` parses the expression and builds a new one from its claims. It uses no word of `vocabulary.RESERVED`, so that
`benchmarks/reworded.py` can test a model with words that training did not hold.
"""

from __future__ import annotations

import numpy as np

from optisar_yolo.language.edit import agree
from optisar_yolo.language.nouns import BUILT_IN, Vocabulary
from optisar_yolo.language.parser import ParsedExpression, parse
from optisar_yolo.language.vocabulary import (
    IMAGE_WORDS,
    RELATIONS,
    SIZES,
    SUPERLATIVES,
    UPPER_LOWER,
    Place,
)

_CORNERS = (
    "in the {d} corner", "at the {d}", "in the {h} area", "in the {d} part", "near the {d} corner", "in the {h} corner",
    "on the {d}", "in the {d} area",
)  # fmt: skip
_SIDES = ("on the {d}", "on the {d} side", "in the {d} part", "at the {d}", "in the {d} area")
_ENDS = ("at the {d}", "near the {d}", "in the {d} part", "in the {d} area", "on the {d} side")
_MIDDLES = (
    "in the middle", "in the center", "at the center", "in the central area", "in the middle part", "in the centre",
    "in the central part",
)  # fmt: skip
_SUPERLATIVES_AFTER = {
    "left": ("furthest to the left", "closest to the left edge", "nearest to the left side", "farthest left"),
    "right": ("furthest to the right", "closest to the right edge", "nearest to the right side", "farthest right"),
    "top": ("closest to the top", "nearest to the top edge", "closest to the upper edge", "furthest to the top"),
    "bottom": (
        "closest to the bottom",
        "nearest to the bottom edge",
        "closest to the lower edge",
        "furthest to the bottom",
    ),
}
_FRAMES_THE = (
    "The {}", "the {}", "Find the {}", "find the {}", "Show me the {}", "Where is the {}", "Look for the {}", "{}",
    "I am looking for the {}", "Please point at the {}", "mark the {}",
)  # fmt: skip
_FRAMES_A = ("A {}", "There is a {}", "a {}", "there is a {}", "Find a {}", "Look for a {}")


def _pick(rng: np.random.Generator, texts: tuple[str, ...]) -> str:
    """Choose one of the texts."""
    return texts[int(rng.integers(len(texts)))]


def _place(place: Place, rng: np.random.Generator) -> str:
    """Return the words for a place, without naming the image."""
    column, row = place
    if place == ("middle", "middle"):
        return _pick(rng, _MIDDLES)
    if column and row:
        vertical = _pick(rng, (UPPER_LOWER[row], row))
        return _pick(rng, _CORNERS).format(d=f"{vertical} {column}", h=f"{vertical}-{column}")
    if column:
        return _pick(rng, _SIDES).format(d=column)
    phrase = _pick(rng, _ENDS)
    return phrase.format(d=UPPER_LOWER[row or ""] if phrase.endswith(("part", "area", "side")) else row)


def _frames(query: ParsedExpression) -> tuple[str, ...]:
    """Return the frames that fit: "the" wherever the claims single the object out."""
    if query.superlative or query.relation or (query.definite and not query.place):
        return _FRAMES_THE
    return _FRAMES_THE + _FRAMES_A if query.place else _FRAMES_A


def _where(query: ParsedExpression, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """Return the words for superlative, size and place, before and after the noun."""
    before: list[str] = []
    after: list[str] = []
    if query.superlative in ("largest", "smallest") or (query.superlative and rng.random() < 0.4):
        before.append(_pick(rng, SUPERLATIVES[query.superlative]))
    elif query.superlative:
        after.append(_pick(rng, _SUPERLATIVES_AFTER[query.superlative]))
    if query.size:
        before.append(_pick(rng, SIZES[query.size][:2]))
    if query.place:
        column, row = query.place
        if column in ("left", "right") and row and query.definite and rng.random() < 0.1:
            before.insert(0, f"{_pick(rng, (UPPER_LOWER[row], row))} {column}")
        else:
            after.append(_place(query.place, rng))
    return before, after


def reword(text: str, rng: np.random.Generator, vocabulary: Vocabulary = BUILT_IN) -> str:
    """Say an expression's claims in other words, for text augmentation.

    Args:
        text: An English expression.
        rng: Source of the choices.
        vocabulary: The nouns and their synonyms.

    Returns:
        An expression with the same claims (`parse` reads the same from both, except for the article); the expression
        unchanged where a part of it was not understood.
    """
    query = parse(text, vocabulary)
    if query.category is None or query.rest or query.relation == "other":
        return text
    if not all(map(vocabulary.words, filter(None, (query.category, query.reference)))):
        return text
    before, after = _where(query, rng)
    image = _pick(rng, (IMAGE_WORDS[0], *IMAGE_WORDS))
    modality = vocabulary.modality_words.get(query.modality or "", ())
    if query.relation and query.reference:
        reference = _pick(rng, (query.reference, *vocabulary.words(query.reference)))
        after.append(f"{_pick(rng, RELATIONS[query.relation])} the {reference}")
        image = ""  # "of the image" behind a reference would belong to the reference
    late = bool(image) and rng.random() < 0.3
    if modality and not late:
        before.append(modality[0])
    if image and modality and late:
        after.append(f"{'of' if query.place and after else 'in'} the {_pick(rng, modality)} {image}")
    elif image and after and rng.random() < 0.5:
        after.append(f"of the {image}")
    # The data sets' own noun stays the likeliest.
    noun = _pick(rng, (query.category, query.category, *vocabulary.words(query.category)))
    said = agree(_pick(rng, _frames(query)).format(" ".join([*before, noun, *after])))
    # "A large vehicle" for "a big vehicle" may be the name of another category.
    return said if vocabulary is BUILT_IN or parse(said, vocabulary).category == query.category else text

"""Saying a referring expression in other words: text augmentation that keeps every claim.

`reword` reads the caption with `parse` and builds a new expression from the claims. Some words of
English are left out on purpose, so that a test with expressions worded otherwise than in training stays possible
(`benchmarks/reworded.py` uses them).
"""

from __future__ import annotations

import numpy as np

from optisar_yolo.language.parser import NOUNS, Meaning, agree, parse

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
_MOST_BEFORE = {"left": "leftmost", "right": "rightmost", "top": "topmost", "bottom": "bottommost"}
_MOST_AFTER = {
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
_RELATIONS = {
    "left": ("to the left of", "on the left of", "left of", "on the left side of"),
    "right": ("to the right of", "on the right of", "right of", "on the right side of"),
    "top": ("above", "on the upper side of", "further up than"),
    "bottom": ("below", "on the lower side of", "further down than"),
}
_FRAMES_THE = (
    "The {}", "the {}", "Find the {}", "find the {}", "Show me the {}", "Where is the {}", "Look for the {}", "{}",
    "I am looking for the {}", "Please point at the {}", "mark the {}",
)  # fmt: skip
_FRAMES_A = ("A {}", "There is a {}", "a {}", "there is a {}", "Find a {}", "Look for a {}")


def _pick(rng: np.random.Generator, of: tuple[str, ...]) -> str:
    """Choose one of the texts."""
    return of[int(rng.integers(len(of)))]


def _say_place(place: tuple[str | None, str | None], rng: np.random.Generator) -> str:
    """Say a place, without naming the image."""
    column, row = place
    if place == ("middle", "middle"):
        return _pick(rng, _MIDDLES)
    if column and row:
        vertical = {"top": ("upper", "top"), "bottom": ("lower", "bottom")}[row][int(rng.integers(2))]
        return _pick(rng, _CORNERS).format(d=f"{vertical} {column}", h=f"{vertical}-{column}")
    if column:
        return _pick(rng, _SIDES).format(d=column)
    said = _pick(rng, _ENDS)
    if said.endswith(("part", "area", "side")):
        return said.format(d={"top": "upper", "bottom": "lower"}[row or ""])
    return said.format(d=row)


def _frames(said: Meaning) -> tuple[str, ...]:
    """Return the expression frames that fit: one object is pointed at wherever the claims single it out."""
    if said.extreme or said.relation or (said.definite and not said.place):
        return _FRAMES_THE
    return _FRAMES_THE + _FRAMES_A if said.place else _FRAMES_A


def _where(said: Meaning, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """Say extreme, size and place; return the words before and after the noun."""
    before: list[str] = []
    after: list[str] = []
    if said.extreme in ("largest", "smallest"):
        before.append(_pick(rng, ("largest", "biggest")) if said.extreme == "largest" else "smallest")
    elif said.extreme and rng.random() < 0.4:
        before.append(_MOST_BEFORE[said.extreme])
    elif said.extreme:
        after.append(_pick(rng, _MOST_AFTER[said.extreme]))
    if said.size:
        before.append(_pick(rng, ("big", "large") if said.size == "big" else ("small", "little")))
    if said.place:
        column, row = said.place
        if column in ("left", "right") and row and said.definite and rng.random() < 0.1:
            before.insert(0, f"{_pick(rng, ('upper', 'top') if row == 'top' else ('lower', 'bottom'))} {column}")
        else:
            after.append(_say_place(said.place, rng))
    return before, after


def reword(caption: str, rng: np.random.Generator) -> str:
    """Say a caption's claims in other words, for text augmentation.

    Args:
        caption: An English expression.
        rng: Source of the choices.

    Returns:
        An expression with the same claims (`parse` reads the same from both, but for the article); the caption
        unchanged where some part of it was not understood.
    """
    said = parse(caption)
    if said.category is None or not NOUNS[said.category] or said.rest or said.relation == "other":
        return caption
    if said.reference and not NOUNS[said.reference]:
        return caption
    before, after = _where(said, rng)
    image = _pick(rng, ("image", "image", "picture", "scene", "photo"))
    modality = {"sar": ("SAR", "radar"), "optical": ("optical",)}.get(said.modality or "", ())
    if said.relation and said.reference:
        reference = _pick(rng, (said.reference, *NOUNS[said.reference]))
        after.append(f"{_pick(rng, _RELATIONS[said.relation])} the {reference}")
        image = ""  # "of the image" behind a reference would belong to the reference
    late = bool(image) and rng.random() < 0.3
    if modality and not late:
        before.append(modality[0])
    if image and modality and late:
        after.append(f"{'of' if said.place and after else 'in'} the {_pick(rng, modality)} {image}")
    elif image and after and rng.random() < 0.5:
        after.append(f"of the {image}")
    # The data sets' own noun stays the likeliest.
    noun = _pick(rng, (said.category, said.category, *NOUNS[said.category]))
    return agree(_pick(rng, _frames(said)).format(" ".join([*before, noun, *after])))

"""Generated expressions that teach a text encoder what changes a meaning and what does not.

`Claims` is what an expression says (category, modality, place, superlative, relation, size, colour). `wording` says it
in one of thousands of ways, `canonical` in the data sets' own, and `Claims.swapped` changes one slot. Training texts
hold no `RESERVED` word. `held_out_wording` consists of these words, and tests whether the encoder understands words
that it was not taught.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from optisar_yolo.language.edit import agree
from optisar_yolo.language.vocabulary import (
    CATEGORIES,
    CELLS,
    CENTRE_WORDS,
    COLOURS,
    IMAGE_WORDS,
    MODALITIES,
    OPPOSITE,
    RELATIONS,
    RESERVED,
    RESERVED_SIZES,
    SIDES,
    SIZES,
    SUPERLATIVES,
    UPPER_LOWER,
    WIND,
    Place,
    cell_of,
)

MIDDLE: Place = ("middle", "middle")
_CORNERS = [(column, row) for row in UPPER_LOWER for column in ("left", "right")]


def _training(words: dict[str, tuple[str, ...]], more: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Return the words that training texts may hold: those of the vocabulary and those for the corpus alone."""
    both = {key: (*words.get(key, ()), *more.get(key, ())) for key in words | more}
    return {key: tuple(dict.fromkeys(w for w in all_ if not RESERVED.search(w))) for key, all_ in both.items()}


_NOUNS = _training(
    {c: (c, *noun.synonyms) for c, noun in CATEGORIES.items() if noun.generated},
    {c: noun.generated for c, noun in CATEGORIES.items() if noun.generated},
)
# The categories that most data sets share: 70 % of the expressions are about them.
_COMMON = (
    "airplane", "ship", "vehicle", "harbor", "bridge", "storage tank", "tennis court", "basketball court",
    "ground track field", "baseball diamond", "swimming pool", "crossroad", "T junction",
)  # fmt: skip
_PLACES: dict[Place, tuple[str, ...]] = {  # adjectives and nouns
    **{cell_of(s): (s, *([UPPER_LOWER[s]] if s in UPPER_LOWER else []), f"{WIND[s]}ern") for s in SIDES},
    **{
        (h, v): (f"{v} {h}", f"{UPPER_LOWER[v]} {h}", f"{UPPER_LOWER[v]}-{h}", f"{v}-{h}", f"{WIND[v]}{WIND[h]}",
                 f"{WIND[v]}-{WIND[h]}ern", f"{h} {UPPER_LOWER[v]}")
        for h, v in _CORNERS
    },
    MIDDLE: CENTRE_WORDS,
}  # fmt: skip
_IMAGE = (*IMAGE_WORDS, "view", "shot")
_SUPERLATIVES = _training(SUPERLATIVES, {
    "left": ("farthest left", "furthest left", "most westerly", "far left"),
    "right": ("farthest right", "furthest right", "most easterly", "far right"),
    "top": ("highest", "northernmost", "most northerly", "highest up"),
    "bottom": ("lowest", "southernmost", "most southerly", "lowest down"),
    "middle": ("most central", "innermost"),
    "largest": ("greatest", "hugest"),
    "smallest": ("littlest", "least large", "most minute"),
})  # fmt: skip
_SIZES = _training(SIZES, {"big": ("great", "bulky"), "small": ("minute", "compact")})
_COLOURS = _training({c: (c,) for c in COLOURS}, {
    "white": ("white-colored",), "gray": ("grey",), "black": ("black-coloured",), "red": ("reddish",),
    "blue": ("bluish",), "green": ("greenish",), "yellow": ("yellowish",), "brown": ("brownish",),
    "cyan": ("turquoise",),
})  # fmt: skip
_MODALITIES = _training(
    MODALITIES, {"sar": ("synthetic aperture radar",), "optical": ("visible-light", "photographic")}
)
_RELATIONS = _training(RELATIONS, {
    "left": ("west of", "to the west of"),
    "right": ("east of", "to the east of"),
    "top": ("over", "north of", "higher than", "to the north of", "on top of"),
    "bottom": ("under", "south of", "lower than", "to the south of", "underneath"),
    **{
        f"{v} {h}": (f"on the {UPPER_LOWER[v]} {h} of", f"to the {UPPER_LOWER[v]} {h} of", f"{WIND[v]}{WIND[h]} of",
                     f"{RELATIONS[v][0]} and to the {h} of", f"on the {v} {h} of")
        for h, v in _CORNERS
    },
    "near": ("next to", "near", "close to", "beside", "by"),
})  # fmt: skip
_FRAMES = (
    "the {x}", "the {x}", "the {x}", "a {x}", "there is a {x}", "where is the {x}?", "find the {x}", "show me the {x}",
    "can you see the {x}?", "I am looking for the {x}", "point at the {x}", "which one is the {x}?",
    "please mark the {x}", "give me the {x}", "the target is the {x}", "{x}",
)  # fmt: skip
_HELD_OUT_SIDES = {"left": "left-hand", "right": "right-hand", "top": "uppermost", "bottom": "lowermost"}
_HELD_OUT_SUPERLATIVES = _HELD_OUT_SIDES | {"left": "westernmost", "right": "easternmost"}
_HELD_OUT_FRAMES = ("locate the {x}", "the {x}", "the {x} in this frame", "please locate the {x} for me")
# What each value is most easily mistaken for: of a corner, the two beside it.
_CONFUSED: dict[Any, Sequence[Any]] = {
    "big": ["small"], "small": ["big"], "largest": ["smallest"], "smallest": ["largest"], "sar": ["optical"],
    "optical": ["sar"], "middle": SIDES, "near": SIDES, MIDDLE: [cell_of(s) for s in SIDES],
    **{s: [OPPOSITE[s]] for s in SIDES},
    **{cell_of(s): [cell_of(OPPOSITE[s])] for s in SIDES},
    **{f"{v} {h}": [f"{v} {OPPOSITE[h]}", f"{OPPOSITE[v]} {h}"] for h, v in _CORNERS},
    **{(h, v): [(OPPOSITE[h], v), (h, OPPOSITE[v])] for h, v in _CORNERS},
}  # fmt: skip


@dataclass(frozen=True)
class Claims:
    """What a generated expression says; None where it says nothing.

    Attributes:
        category: A canonical noun of `CATEGORIES` that has generated names.
        modality: "sar" or "optical".
        place: (column, row), a key of `CELLS`.
        superlative: left/right/top/bottom/middle/largest/smallest.
        relation: left/right/top/bottom, a diagonal such as "top left", or "near".
        reference: Category of the reference object of the relation.
        size: "big" or "small".
        colour: One of `COLOURS`.
    """

    category: str
    modality: str | None = None
    place: Place | None = None
    superlative: str | None = None
    relation: str | None = None
    reference: str | None = None
    size: str | None = None
    colour: str | None = None

    def exchanged(self) -> Claims:
        """Return the claims with target and reference exchanged; without a reference they stay as they are."""
        return replace(self, category=self.reference, reference=self.category) if self.reference else self

    def swapped(self, rng: random.Random) -> Claims:
        """Return claims that differ in one slot; a relation may exchange target and reference instead.

        Args:
            rng: Source of chance.
        """
        slots = [s for s in ("modality", "place", "superlative", "relation", "size") if getattr(self, s)]
        if self.colour and rng.random() < 0.3:
            return replace(self, colour=rng.choice([c for c in COLOURS if c != self.colour]))
        if not slots or rng.random() < 0.12:
            return replace(self, category=rng.choice([c for c in _NOUNS if c not in (self.category, self.reference)]))
        slot = rng.choice(slots)
        exchangeable = self.reference not in (None, self.category) and self.relation != "near"
        if slot == "relation" and exchangeable and rng.random() < 0.35:
            return self.exchanged()
        changed: dict[str, Any] = {slot: rng.choice(_CONFUSED[getattr(self, slot)])}
        return replace(self, **changed)


def random_claims(rng: random.Random) -> Claims:
    """Draw claims with one or two slots beside the category.

    Args:
        rng: Source of chance.
    """
    names = list(_NOUNS)
    pick = rng.choice
    category = pick(_COMMON) if rng.random() < 0.7 else pick(names)
    modality = pick((None, None, "sar", "optical"))
    kind = rng.choices(("place", "superlative", "relation", "plain"), (0.4, 0.25, 0.27, 0.08))[0]
    size = pick((*SIZES, None, None, None, None)) if kind != "superlative" else None
    colour = pick(COLOURS) if rng.random() < 0.12 else None
    relation = pick(list(_RELATIONS)) if kind == "relation" else None
    return Claims(
        category,
        modality,
        place=pick(list(_PLACES)) if kind == "place" else None,
        superlative=pick(list(_SUPERLATIVES)) if kind == "superlative" else None,
        relation=relation,
        reference=pick(names) if relation else None,
        size=size,
        colour=colour,
    )


def wording(claims: Claims, rng: random.Random) -> str:
    """Say claims in one of the training wordings.

    The same state of `rng` gives the same choices, so the wordings of claims that differ in one slot are as near as
    words allow.

    Args:
        claims: What to say.
        rng: Source of chance.

    Returns:
        An expression without `RESERVED` words.
    """
    dice = [rng.random() for _ in range(16)]  # one per choice, so that a slot's value never shifts the later choices

    def choose(options: tuple[str, ...], i: int) -> str:
        # The exponent favours the first wordings, which people and data sets use most.
        return options[int(dice[i] ** 1.5 * len(options))]

    noun = choose(_NOUNS[claims.category], 0)
    image = choose(_IMAGE, 1)
    before: list[str] = []
    after: list[str] = []
    if claims.superlative:
        words = choose(_SUPERLATIVES[claims.superlative], 2)
        if claims.superlative in SIDES and dice[3] < 0.45:
            side = choose(_PLACES[cell_of(claims.superlative)], 4)
            options = (
                f"closest to the {side} of the {image}" if side in SIDES else f"closest to the {side} edge",
                f"nearest the {side} edge",
                f"nearest to the {side} edge of the {image}",
                f"furthest to the {side}" if side in SIDES else f"furthest to the {side} side",
                f"that is closest to the {side} border",
            )
            after.append(choose(options, 5))
        elif dice[3] > 0.9 and not claims.modality:
            after.append(f"that is the {words}")
        else:
            before.append(words)
    if claims.size:
        before.append(choose(_SIZES[claims.size], 6))
    if claims.colour:
        before.append(choose(_COLOURS[claims.colour], 7))
    if claims.modality:
        name = choose(_MODALITIES[claims.modality], 8)
        if dice[9] < 0.75:
            before.append(name)
        elif dice[9] < 0.9:
            after.append(f"in the {name} {image}")
        else:
            after.append(f"seen by {'radar' if claims.modality == 'sar' else 'an optical camera'}")
    if claims.place:
        after.insert(0, choose(_place_phrases(claims.place, choose(_PLACES[claims.place], 10), image, dice[11]), 12))
    if claims.relation and claims.reference:
        other = choose(_NOUNS[claims.reference], 13)
        link = choose(_RELATIONS[claims.relation], 14)
        after.insert(0, f"{'that is ' if dice[9] > 0.85 else ''}{link} {'a' if dice[11] > 0.85 else 'the'} {other}")
    return agree(_FRAMES[int(dice[15] * len(_FRAMES))].format(x=" ".join([*before, noun, *after])))


def _place_phrases(place: Place, word: str, image: str, dice: float) -> tuple[str, ...]:
    """Return the phrases for a place, with a word for it and a word for the image."""
    corner = None not in place and place != MIDDLE
    is_noun = word in ("middle", "center", "centre", "top", "bottom", *(WIND[v] + WIND[h] for h, v in _CORNERS))
    parts = ("corner" if corner else "part", "part" if corner else "side", "area", "region")
    part = f"{word} {parts[int(dice**1.5 * len(parts))]}"
    near = f"at {word}" if corner else f"near the {word} of the {image}" if is_noun else f"near the {word} edge"
    return (
        f"at the {word} of the {image}" if is_noun and not corner else f"in the {part} of the {image}",
        f"in the {part}",
        f"on the {word}" if is_noun or corner or word in ("left", "right") else f"in the {part}",
        near,
        f"that lies in the {part} of the {image}",
    )


def held_out_wording(claims: Claims, rng: random.Random) -> str | None:
    """Say claims with at least one `RESERVED` word.

    Args:
        claims: What to say.
        rng: Source of chance.

    Returns:
        An expression, or None where no reserved word fits the claims.
    """
    noun = CATEGORIES[claims.category].reserved or _NOUNS[claims.category][0]
    reference = _NOUNS[claims.reference][0] if claims.reference else ""
    before: list[str] = []
    after: list[str] = []
    if claims.superlative:
        before.append(_HELD_OUT_SUPERLATIVES.get(claims.superlative, _SUPERLATIVES[claims.superlative][0]))
    if claims.size:
        before.append(RESERVED_SIZES[claims.size])
    if claims.colour:
        before.append(claims.colour)
    if claims.modality:
        before.append("radar-imaged" if claims.modality == "sar" else "optical")
    if claims.relation in ("left", "right"):
        after.append(f"on the {claims.relation}-hand side of the {reference}")
    elif claims.relation == "bottom":
        after.append(f"beneath the {reference}")
    elif claims.relation:
        after.append(f"situated {_RELATIONS[claims.relation][0]} the {reference}")
    if claims.place:
        column, row = claims.place
        if claims.place == MIDDLE:
            place = "central"
        elif column and row:
            place = f"{UPPER_LOWER[row]} {_HELD_OUT_SIDES[column]}"
        else:
            place = _HELD_OUT_SIDES[column or row or ""]
        phrases = (
            f"in the {place} portion of the frame",
            f"situated in the {place} part",
            f"towards the {place} side of the picture",
        )
        after.append(rng.choice(phrases))
    text = agree(rng.choice(_HELD_OUT_FRAMES).format(x=" ".join([*before, noun, *after])))
    return text if RESERVED.search(text) and claims.superlative != "middle" else None


def canonical(claims: Claims) -> str:
    """Say claims in the plainest wording, that of the data sets.

    Args:
        claims: What to say.

    Returns:
        An expression such as "the small SAR ship in the upper left corner of the image".
    """
    before = [_SUPERLATIVES[claims.superlative][0]] if claims.superlative else []
    before += [w for w in (claims.size, claims.colour) if w]
    before += [_MODALITIES[claims.modality][0]] if claims.modality else []
    after = []
    if claims.relation and claims.reference:
        after.append(f"{_RELATIONS[claims.relation][0]} the {_NOUNS[claims.reference][0]}")
    if claims.place:
        after.append(f"{CELLS[claims.place]} of the image")
    return agree(" ".join(["the", *before, _NOUNS[claims.category][0], *after]))

"""One meaning, many wordings: expressions for teaching a text encoder what changes a meaning and what does not.

A `Claims` is what a referring expression says (category, sensor, place, extreme, relation, size, colour); `wording`
says it in one of thousands of ways; `Claims.swapped` changes exactly one slot. Words in `RESERVED` are never used
for training: they are the test whether the encoder understands words that it was not taught, and `held_out_wording`
is made of them.
"""

from __future__ import annotations

import dataclasses
import random
import re
from dataclasses import dataclass

from optisar_yolo.language.lexicon import (
    CATEGORIES,
    COLOURS,
    EXTREMES,
    FRAMES,
    HELD_OUT_CATEGORIES,
    HELD_OUT_EXTREMES,
    HELD_OUT_FRAMES,
    HELD_OUT_MODALITIES,
    HELD_OUT_SIDES,
    HELD_OUT_SIZES,
    IMAGE,
    MIRROR,
    MODALITIES,
    RELATIONS,
    RESERVED,
    SIDES,
    SIZES,
)


@dataclass(frozen=True)
class Claims:
    """What a referring expression says; None where it says nothing.

    Attributes:
        category: a key of `CATEGORIES`.
        modality: a key of `MODALITIES`.
        side: a key of `SIDES`.
        extreme: a key of `EXTREMES`.
        relation: a key of `RELATIONS`, with `other` the category of the second object.
        other: category of the second object.
        size: a key of `SIZES`.
        colour: a key of `COLOURS`.
    """

    category: str
    modality: str | None = None
    side: str | None = None
    extreme: str | None = None
    relation: str | None = None
    other: str | None = None
    size: str | None = None
    colour: str | None = None

    def exchanged(self) -> Claims:
        """The meaning with its two categories in one another's place; one without a second category stays as it is."""
        return dataclasses.replace(self, category=self.other, other=self.category) if self.other else self

    def swapped(self, rng: random.Random) -> Claims:
        """Another meaning that differs in one slot (for a relation possibly in who is where).

        Args:
            rng: source of chance.

        Returns:
            The changed meaning.
        """
        slots = [s for s in ("modality", "side", "extreme", "relation", "size") if getattr(self, s)]
        if self.colour and rng.random() < 0.3:
            return dataclasses.replace(self, colour=rng.choice([c for c in COLOURS if c != self.colour]))
        if not slots or rng.random() < 0.12:
            return dataclasses.replace(
                self, category=rng.choice([c for c in CATEGORIES if c not in (self.category, self.other)])
            )
        slot = rng.choice(slots)
        if (
            slot == "relation"
            and self.other
            and self.other != self.category
            and self.relation != "near"
            and rng.random() < 0.35
        ):
            return self.exchanged()
        return dataclasses.replace(self, **{slot: rng.choice(MIRROR[getattr(self, slot)])})


def random_meaning(rng: random.Random) -> Claims:
    """Draw a meaning with one or two slots said beside the category.

    Args:
        rng: source of chance.

    Returns:
        A meaning.
    """
    names = list(CATEGORIES)
    pick = rng.choice
    category = pick(names[:13]) if rng.random() < 0.7 else pick(names)
    modality = pick((None, None, "sar", "optical"))
    kind = rng.choices(("side", "extreme", "relation", "plain"), (0.4, 0.25, 0.27, 0.08))[0]
    size = pick((*SIZES, None, None, None, None)) if kind in ("side", "relation", "plain") else None
    colour = pick(list(COLOURS)) if rng.random() < 0.12 else None
    relation = pick(list(RELATIONS)) if kind == "relation" else None
    return Claims(
        category,
        modality,
        side=pick(list(SIDES)) if kind == "side" else None,
        extreme=pick(list(EXTREMES)) if kind == "extreme" else None,
        relation=relation,
        other=pick(names) if relation else None,
        size=size,
        colour=colour,
    )


def wording(meaning: Claims, rng: random.Random) -> str:
    """Say a meaning in one of the training wordings.

    The same state of `rng` gives the same choices, so two meanings that differ in one slot come out as near as words
    allow.

    Args:
        meaning: what to say.
        rng: source of chance.

    Returns:
        An expression free of `RESERVED` words.
    """
    dice = [
        rng.random() for _ in range(16)
    ]  # one for each choice, so that a slot's value never shifts the choices after it

    def choose(options: tuple[str, ...], i: int) -> str:
        # Squaring favours the first wordings, which are the ones that people and data sets use most.
        return options[int(dice[i] ** 1.5 * len(options))]

    noun = choose(CATEGORIES[meaning.category], 0)
    after: list[str] = []
    before: list[str] = []
    image = choose(IMAGE, 1)
    if meaning.extreme:
        words = choose(EXTREMES[meaning.extreme], 2)
        edge = meaning.extreme in ("left", "right", "top", "bottom")
        if edge and dice[3] < 0.45:
            place = choose(SIDES[meaning.extreme], 4)
            after.append(
                choose(
                    (
                        f"closest to the {place} of the {image}" if place in SIDES else f"closest to the {place} edge",
                        f"nearest the {place} edge",
                        f"nearest to the {place} edge of the {image}",
                        f"furthest to the {place}" if place in SIDES else f"furthest to the {place} side",
                        f"that is closest to the {place} border",
                    ),
                    5,
                )
            )
        elif dice[3] > 0.9 and not meaning.modality:
            after.append(f"that is the {words}")
        else:
            before.append(words)
    if meaning.size:
        before.append(choose(SIZES[meaning.size], 6))
    if meaning.colour:
        before.append(choose(COLOURS[meaning.colour], 7))
    if meaning.modality:
        name = choose(MODALITIES[meaning.modality], 8)
        if dice[9] < 0.75:
            before.append(name)
        elif dice[9] < 0.9:
            after.append(f"in the {name} {image}")
        else:
            after.append(f"seen by {'radar' if meaning.modality == 'sar' else 'an optical camera'}")
    if meaning.side:
        place = choose(SIDES[meaning.side], 10)
        corner = " " in meaning.side
        part = ("corner", "part", "area", "region") if corner else ("part", "side", "area", "region")
        noun_like = place in (
            "middle",
            "center",
            "centre",
            "top",
            "bottom",
            "northwest",
            "northeast",
            "southwest",
            "southeast",
        )
        options = (
            f"at the {place} of the {image}"
            if noun_like and not corner
            else f"in the {place} {choose(part, 11)} of the {image}",
            f"in the {place} {choose(part, 11)}",
            f"on the {place}"
            if noun_like or corner or place in ("left", "right")
            else f"in the {place} {choose(part, 11)}",
            f"at {place}" if corner else f"near the {place} of the {image}" if noun_like else f"near the {place} edge",
            f"that lies in the {place} {choose(part, 11)} of the {image}",
        )
        after.insert(0, choose(options, 12))
    if meaning.relation and meaning.other:
        other = choose(CATEGORIES[meaning.other], 13)
        link = choose(RELATIONS[meaning.relation], 14)
        after.insert(0, f"{'that is ' if dice[9] > 0.85 else ''}{link} {'a' if dice[11] > 0.85 else 'the'} {other}")
    return compose(FRAMES[int(dice[15] * len(FRAMES))], [*before, noun, *after])


def held_out_wording(meaning: Claims, rng: random.Random) -> str | None:
    """Say a meaning with at least one `RESERVED` word.

    Args:
        meaning: what to say.
        rng: source of chance.

    Returns:
        An expression, or None where no reserved word fits the meaning.
    """
    noun = HELD_OUT_CATEGORIES.get(meaning.category, meaning.category)
    before: list[str] = []
    after: list[str] = []
    if meaning.extreme:
        before.append(HELD_OUT_EXTREMES.get(meaning.extreme, EXTREMES[meaning.extreme][0]))
    if meaning.size:
        before.append(HELD_OUT_SIZES[meaning.size])
    if meaning.colour:
        before.append(meaning.colour)
    if meaning.modality:
        before.append(HELD_OUT_MODALITIES.get(meaning.modality, "optical"))
    if meaning.relation:
        if meaning.relation in ("left", "right"):
            after.append(f"on the {meaning.relation}-hand side of the {meaning.other}")
        elif meaning.relation == "bottom":
            after.append(f"beneath the {meaning.other}")
        else:
            after.append(f"situated {RELATIONS[meaning.relation][0]} the {meaning.other}")
    if meaning.side:
        place = HELD_OUT_SIDES[meaning.side]
        forms = (
            f"in the {place} portion of the frame",
            f"situated in the {place} part",
            f"towards the {place} side of the picture",
        )
        after.append(rng.choice(forms))
    text = compose(rng.choice(HELD_OUT_FRAMES), [*before, noun, *after])
    return text if RESERVED.search(text) and "center" != meaning.extreme else None


def canonical(meaning: Claims) -> str:
    """The plainest wording, the one data sets use.

    Args:
        meaning: what to say.

    Returns:
        An expression such as "the small SAR ship in the upper left corner of the image".
    """
    before = [EXTREMES[meaning.extreme][0]] if meaning.extreme else []
    before += [w for w in (meaning.size, meaning.colour) if w]
    before += [MODALITIES[meaning.modality][0]] if meaning.modality else []
    after = []
    if meaning.relation:
        after.append(f"{RELATIONS[meaning.relation][0]} the {meaning.other}")
    if meaning.side == "center":
        after.append("in the middle of the image")
    elif meaning.side in ("left", "right"):
        after.append(f"on the {meaning.side} side of the image")
    elif meaning.side in ("top", "bottom"):
        after.append(f"at the {meaning.side} of the image")
    elif meaning.side:
        after.append(f"in the {SIDES[meaning.side][1]} corner of the image")
    return compose("the {x}", [*before, meaning.category, *after])


def compose(frame: str, parts: list[str]) -> str:
    """Join parts in a frame and put "a" or "an" right.

    Args:
        frame: a text with one `{x}`.
        parts: words and phrases in order.

    Returns:
        The expression.
    """
    text = frame.format(x=" ".join(parts))
    return re.sub(r"\b([Aa])(?= [aeio])", r"\1n", text)

"""Saying a referring expression in other words: text augmentation that keeps every claim.

1. The expression is parsed; one that has unread words stays as it is.
2. Its claims are said anew, with phrases of the bank (`phrases`) and the nouns of the vocabulary.
3. The result is parsed, too, and used where the parser reads the same claims. Otherwise another one is drawn.

It uses no word of `vocabulary.RESERVED`, so that `benchmarks/reworded.py` can test a model with words that training did
not hold.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from optisar_yolo.language import phrases
from optisar_yolo.language.edit import agree
from optisar_yolo.language.inflect import number_of, plural
from optisar_yolo.language.nouns import BUILT_IN, Vocabulary
from optisar_yolo.language.parser import ParsedExpression, parse
from optisar_yolo.language.vocabulary import (
    IMAGE_WORDS,
    NUMBERS,
    ORDINAL_WORDS,
    SIDES,
    SIZES,
    SUPERLATIVES,
    UPPER_LOWER,
    Place,
)

TRIES = 6  # draws until one is read with the same claims
_APART, _FRONTED, _FRAMED = 0.25, 0.08, 0.35  # shares of the frames that take an expression apart
UNREAD = 0.03  # share of the phrases that the parser does not know, in training


def reword(text: str, rng: np.random.Generator, vocabulary: Vocabulary = BUILT_IN, unread: float = 0.0) -> str:
    """Say an expression's claims in other words, for text augmentation.

    Args:
        text: An English expression.
        rng: Source of the choices.
        vocabulary: The nouns and their synonyms.
        unread: Probability of a phrase with words that the parser does not know ("smack in the middle"), where the bank
            has one.

    Returns:
        An expression with the same claims (`parse` reads the same from both, except for the article, and for `unread`
        phrases); the expression unchanged where a part of it was not understood.
    """
    query = parse(text, vocabulary)
    if query.category is None or query.rest or query.relation == "other":
        return text
    if not all(map(vocabulary.words, filter(None, (query.category, query.reference)))):
        return text
    if query.ordinal and any(number_of(word) != "one" for word in (query.category, *vocabulary.words(query.category))):
        return text  # "the second hay bales" is said by nobody
    wanted = claims(query)
    for _ in range(TRIES):
        said, read = _Wording(query, rng, vocabulary, unread).text()
        if not read or claims(parse(said, vocabulary)) == wanted:
            return said
    return text


def claims(query: ParsedExpression) -> ParsedExpression:
    """Return what an expression claims: all but whether it points at its object or mentions one."""
    return replace(query, definite=False)


class _Wording:
    """Draws one wording of a parsed expression."""

    def __init__(
        self, query: ParsedExpression, rng: np.random.Generator, vocabulary: Vocabulary, unread: float = 0.0
    ) -> None:
        self.query, self.rng, self.vocabulary, self.unread = query, rng, vocabulary, unread
        self.read = True
        # The data sets' own noun stays the likeliest.
        noun = self.pick((query.category or "", query.category or "", *vocabulary.words(query.category or "")))
        self.noun, self.nouns, self.number = noun, plural(noun), number_of(noun)
        self.reference = ""
        if query.reference:
            self.reference = self.pick((query.reference, *vocabulary.words(query.reference)))

    def pick(self, texts: tuple[str, ...]) -> str:
        """Choose one of the texts."""
        return texts[int(self.rng.integers(len(texts)))]

    def chance(self, share: float) -> bool:
        """Return True with a probability."""
        return bool(self.rng.random() < share)

    def text(self) -> tuple[str, bool]:
        """Return a wording, and whether the parser knows its phrases."""
        query = self.query
        before = self.attributes()
        after: list[str] = []
        framed: tuple[str, ...] = ()
        if query.superlative and query.ordinal:
            framed = phrases.RANKED if query.superlative in SIDES else phrases.RANKED_SIZE
        elif query.superlative in ("largest", "smallest"):
            word = self.pick(SUPERLATIVES[query.superlative])
            alone = query.number is None and self.number != "several" and not (query.place or query.relation)
            if self.chance(_FRAMED) and alone:
                return self.fill(self.pick(phrases.SIZED), before, after, w=word), True
            before.insert(0, word)
        elif query.superlative:
            side = query.superlative
            if query.number is not None or self.chance(0.4):
                before.insert(0, self.pick(SUPERLATIVES[side]))
            else:
                more = phrases.FURTHEST_ALONG if side in UPPER_LOWER else phrases.FURTHEST_ACROSS
                after.append(self.pick((*phrases.FURTHEST, *more)).format(d=side, u=UPPER_LOWER.get(side)))
        if query.relation in phrases.NEAREST:
            alone = query.number is None and self.number != "several" and not (query.place or query.superlative)
            if alone and self.chance(_FRAMED):
                framed = phrases.NEAREST_FRAMES[query.relation or ""]
            else:
                after.append(self.pick(phrases.NEAREST[query.relation or ""]).format(r=self.reference))
        elif query.relation:
            after.append(self.pick(phrases.BESIDE[query.relation]).format(r=self.reference))
        if query.place:
            after.insert(0, self.place(query.place))
        if framed:
            return self.framed(framed, before, after), self.read
        self.image(before, after)
        return (self.several if query.number is not None else self.single)(before, after), self.read

    def attributes(self) -> list[str]:
        """Return the words for the size."""
        return [self.pick(SIZES[self.query.size][:2])] if self.query.size else []

    def image(self, before: list[str], after: list[str]) -> None:
        """Say the modality, before the noun or with the word for the image."""
        modality = self.vocabulary.modality_words.get(self.query.modality or "", ())
        # "of the image" behind a reference would belong to the reference
        image = (
            "" if self.query.reference or self.query.superlative in SIDES and after == [] else self.pick(IMAGE_WORDS)
        )
        late = bool(image) and self.chance(0.3)
        if modality and not late:
            before.append(modality[0])
        if image and modality and late:
            after.append(f"{'of' if self.query.place and after else 'in'} the {self.pick(modality)} {image}")
        elif image and after and not after[-1].endswith(phrases.BARE) and self.chance(0.4):
            after.append(f"of the {image}")

    def place(self, place: Place) -> str:
        """Return the words for a place, without naming the image."""
        column, row = place
        side = column or row or ""
        if side.endswith("half"):
            side = side.removesuffix(" half")
            return self.pick(phrases.HALVES).format(d=side, u=UPPER_LOWER.get(side, side))
        corner = column is not None and row is not None and place != ("middle", "middle")
        unread = "corner" if corner else side
        if unread in phrases.UNREAD and self.chance(self.unread):
            self.read = False
            said = self.pick((UPPER_LOWER[row or "top"], row or "")) if corner else ""
            return self.pick(phrases.UNREAD[unread]).format(d=f"{said} {column}")
        if place == ("middle", "middle"):
            return self.pick(phrases.MIDDLES)
        if column and row:
            vertical = self.pick((UPPER_LOWER[row], row))
            return self.pick(phrases.CORNERS).format(d=f"{vertical} {column}", h=f"{vertical}-{column}")
        if column:
            return self.pick(phrases.SIDES).format(d=column)
        return self.pick(phrases.ENDS).format(d=row, u=UPPER_LOWER[row or ""])

    def single(self, before: list[str], after: list[str]) -> str:
        """Put a description of one object into a frame; "the" wherever the claims single the object out."""
        query = self.query
        placed = query.place is not None and not (query.superlative or query.relation)
        definite = query.superlative or query.relation or (query.definite and not query.place)
        if self.number == "several":  # "hay bales" take the frames of sets
            the = "the " if definite or self.chance(0.5) else ""
            return self.of_set(f"{the}{' '.join([*before, self.noun])}", after, phrases.SETS)
        if after and self.chance(_APART) and (query.definite or placed):
            return self.fill(self.counted(self.pick(phrases.APART)), before, after)
        if placed and self.chance(_FRONTED):
            said = self.fill(self.counted(self.pick(phrases.FRONTED)), before, after)
            return said[0].upper() + said[1:] if self.chance(0.5) else said
        if query.superlative:  # "this rightmost ship" is said by nobody
            frames = phrases.THE_ONLY
        elif definite:
            frames = phrases.THE
        else:
            frames = phrases.THE + phrases.A if query.place else phrases.A
        if frames in (phrases.THE, phrases.THE_ONLY) and self.chance(self.unread):
            self.read, frames = False, phrases.UNREAD["THE"]
        return self.fill(self.counted(self.pick(frames)), before, after)

    def counted(self, frame: str) -> str:
        """Return a frame without "a" and "one" where its noun is not counted: "there is rubble"."""
        return frame if self.number == "one" else re.sub(r"\b(?:an?|one) (?=\{[xn]\})", "", frame, flags=re.IGNORECASE)

    def several(self, before: list[str], after: list[str]) -> str:
        """Put a set into a frame."""
        number = self.query.number
        forms = phrases.ALL if number == "all" else phrases.TWO if number == 2 else phrases.EXACTLY
        if self.query.superlative:
            forms = phrases.OF_RANK  # "both largest ships" is said by nobody
        numeral = number if isinstance(number, int) else 0
        word = NUMBERS[numeral - 2] if 2 <= numeral <= len(NUMBERS) + 1 and self.chance(0.9) else str(numeral)
        noun, nouns = (" ".join([*before, n]) for n in (self.noun, self.nouns))
        if self.number != "one":
            forms = tuple(form for form in forms if "{n}" not in form)  # "every hay bales"
        first = self.pick(forms)
        if "{n}" in first:  # "every ship" is said as one
            frames = phrases.SETS[:3]
        elif first.startswith("{") and number == "all":
            frames = (*phrases.SETS[:3], "there are {s}")
        else:
            one = first.startswith("a ")  # "where is a pair of ships"
            frames = tuple(f for f in phrases.SETS if not (one and " are " in f))
        return self.of_set(first.format(k=word, p=nouns, n=noun), after, frames)

    def of_set(self, said: str, after: list[str], frames: tuple[str, ...]) -> str:
        """Put several objects into a frame; those that need words behind the noun are left out where there are none."""
        frames = tuple(frame for frame in frames if after or "{a}" not in frame)
        whole = " ".join([said, *after])
        text = self.pick(frames).format(s=whole, c=said, a=" ".join(after))
        return text[0].upper() + text[1:] if self.chance(0.4) else text

    def framed(self, frames: tuple[str, ...], before: list[str], after: list[str]) -> str:
        """Put ranks and distances into their own frames."""
        if self.query.modality:
            before.append(self.vocabulary.modality_words[self.query.modality][0])
        rank = ORDINAL_WORDS[(self.query.ordinal or 1) - 1]
        side = self.query.superlative or ""
        text = self.fill(self.pick(frames), before, [], o=rank, e=side, w=side, r=self.reference)
        return " ".join([text.rstrip("?."), *after])

    def fill(self, frame: str, before: list[str], after: list[str], **slots: str) -> str:
        """Fill the slots of a frame."""
        noun = " ".join([*before, self.noun])
        whole, behind = " ".join([noun, *after]), " ".join(after)
        return agree(frame.format(x=whole, n=noun, a=behind, p=" ".join([*before, self.nouns]), **slots))

"""Exchanges that the wording itself proves false: another rank, another side of a landmark, another shade.

`contrasts` complements `swap`, which exchanges words that boxes can judge. An object that is "the second ship from the
left" is not the third, whatever is labelled; one "to the left of the pier" is not to the right of it, though no box
says where the pier is. That holds for the object of a true expression alone: of the others nothing is known, unless the
boxes prove it. They serve to measure the sensitivity to the expression.
"""

from __future__ import annotations

import re
from functools import lru_cache

from optisar_yolo.language.edit import clean, correct, dress, put
from optisar_yolo.language.idioms import NEGATION, split_request
from optisar_yolo.language.nouns import BUILT_IN, Vocabulary
from optisar_yolo.language.parser import parse
from optisar_yolo.language.swaps import Variant
from optisar_yolo.language.vocabulary import NUMBERS, OPPOSITE, ORDINAL_WORDS, ORDINALS, RELATION, SUPERLATIVE

CONTRASTS = ("ordinal", "landmark", "shade")  # kinds of exchanges

_DIGITS = tuple(word for word in ORDINALS if word not in ORDINAL_WORDS)  # 1st, 2nd …
# A rank needs an order: "second from the left", "third plane from the top", "second largest", "counting from the left".
_ORDER = rf"(?:from (?:the )?(?:\w+[ -])?(?:left|right|top|bottom|upper|lower)\b|{SUPERLATIVE.pattern})"
_ORDER = re.sub(r"\?P<\w+>", "?:", _ORDER)
_RANK = re.compile(
    rf"\b(?P<rank>{'|'.join(ORDINALS)})(?=[ -](?:[\w'-]+ ){{0,6}}?{_ORDER})"
    rf"|(?<=\b)(?P<after>{'|'.join(ORDINALS)})\b(?=.*\bcount(?:ing|ed) {_ORDER})",
    re.IGNORECASE,
)
# One landmark: "the pier", "the large red roof". Of "a pier" or "the two piers" there are others with other sides.
_ONE = re.compile(rf" ?(?:the|this|that) (?!{'|'.join(NUMBERS)}\b|other\b|\w+most\b)", re.IGNORECASE)
_SEVERAL = re.compile(r"^(?:the|this|that) (?:[\w'-]+ ){0,3}?[a-z-]+[^suiw\W]s\b|\band\b|\bor\b", re.IGNORECASE)
_SHADES = {"dark": "bright", "bright": "dark", "pale": "dark", "darker": "brighter", "brighter": "darker"}
_SHADE = re.compile(rf"\b(?:{'|'.join(_SHADES)})\b(?!-)", re.IGNORECASE)


@lru_cache(maxsize=1 << 12)
def contrasts(text: str, vocabulary: Vocabulary = BUILT_IN) -> tuple[Variant, ...]:
    """Return the variants of an expression that are false of its object if the expression is true of it.

    Args:
        text: An English expression.
        vocabulary: The nouns, whose words are not exchanged.

    Returns:
        Variants of the kinds `CONTRASTS`, none of them the expression itself.

    Raises:
        ValueError: An empty expression.
    """
    hidden = vocabulary.hide(clean(text))
    lead, text, end = split_request(correct(hidden.text))
    if NEGATION.search(text):
        return ()
    made: list[Variant] = []
    for found in _RANK.finditer(text):
        word = (found["rank"] or found["after"]).lower()
        row = ORDINAL_WORDS if word in ORDINAL_WORDS else _DIGITS
        place = row.index(word)
        for new in row[max(place - 1, 0) : place] + row[place + 1 : place + 2]:
            made.append(Variant(put(text, *found.span(), dress(new, found[0])), "ordinal"))
    sides = list(RELATION.finditer(text))
    opposite = _other_side(sides[0]) if len(sides) == 1 else None
    if opposite:
        tail = text[sides[0].end() :]
        if _ONE.match(tail) and not _SEVERAL.search(tail.strip()):
            made.append(Variant(put(text, *sides[0].span(), opposite), "landmark"))
    for found in _SHADE.finditer(text):
        new = _SHADES[found[0].lower()]
        said = put(text, *found.span(), dress(new, found[0]))
        # The shade of a landmark is left alone: it may have a twin.
        if not re.search(rf"\b{new}\b", text, re.IGNORECASE) and parse(said).rest != parse(text).rest:
            made.append(Variant(said, "shade"))
    return tuple(Variant(hidden.restore(f"{lead}{v.text}{end}"), v.kind) for v in dict.fromkeys(made) if v.text != text)


def _other_side(found: re.Match[str]) -> str | None:
    """Return a match of `RELATION` with the opposite side; None where it names none."""
    group = next((g for g in ("h", "v", "w") if found[g]), None)
    if group is None:
        return None
    word = found[group].lower()
    opposite = {"beneath": "above", "underneath": "above", "under": None}.get(word, OPPOSITE.get(word))
    if word.startswith("further"):
        opposite = " ".join(OPPOSITE.get(w, w) for w in word.split())
    if opposite is None:
        return None  # "under the bridge" has no opposite that is surely false
    start = found.start(group) - found.start()
    return found[0][:start] + dress(opposite, found[group]) + found[0][start + len(found[group]) :]

"""Words that a training has met: is the noun of an expression among them?

1. `met_words` collects the words of a data set's expressions.
2. `head_noun` finds the noun that an expression is about: the last word before the first preposition, verb or comma,
   without commands, places, sizes and colours ("where is the big white hedgehog on the left?" gives "hedgehog").
3. `unmet_noun` returns it if it is neither among the words nor a word for one of the categories.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from optisar_yolo.language.edit import clean, correct
from optisar_yolo.language.foreign import is_foreign
from optisar_yolo.language.idioms import PREPOSITIONS, split_request
from optisar_yolo.language.inflect import plurals, singulars
from optisar_yolo.language.nouns import BUILT_IN, Vocabulary
from optisar_yolo.language.vocabulary import CENTRE_WORDS, COLOURS, FILLERS, MODALITIES, SIDE_OF, SIZES

_WORD = re.compile(r"[a-z][a-z'-]*[a-z]|[a-z]")
# What ends the group of words that a noun closes: prepositions, and verbs that describe it.
_END = re.compile(
    rf"[,;:.?!()]|\b(?:{PREPOSITIONS}|from|with|without|above|below|beneath|under|underneath|behind|between|among|beside"
    r"|besides|next|left of|right of|that|which|who|whose|where|when|is|are|was|were|has|have|having|and|or|than|not"
    r"|closest|nearest|furthest|farthest|facing|pointing|heading|surrounded|located|situated|placed|parked|moored"
    r"|docked|standing|lying|sitting|made|seen|shown|visible|alone|only)\b",
    re.IGNORECASE,
)
_LEAD = re.compile(
    r"^(?:(?:which|what|is|are|there|any|the|an?|this|that|these|those|all|every|each|some|one|two|three|of|my|our|your"
    r"|only|most|please|it|how|many|count)\b[ ,]*)+",
    re.IGNORECASE,
)
_NO_NOUN = {
    *FILLERS, *SIDE_OF, *CENTRE_WORDS, *COLOURS, *(w for words in SIZES.values() for w in words),
    *(w.lower() for words in MODALITIES.values() for w in words),
    *(
        "leftmost rightmost topmost bottommost uppermost lowermost first second third fourth fifth last largest"
        " smallest"
        " biggest tallest longest shortest widest big large small tiny huge long short wide narrow tall round square"
        " single lone other another same similar left right upper lower top bottom thing things object objects item"
        " items one ones something anything image picture scene photo photograph view frame corner side edge part area"
        " region section half quarter"
    ).split(),
}  # fmt: skip


def met_words(texts: Iterable[str], most: int) -> tuple[str, ...]:
    """Return the words of expressions, lower case and sorted.

    Args:
        texts: Expressions.
        most: Words at most; the most frequent are kept.
    """
    counts = Counter(word for text in texts for word in _WORD.findall(text.lower()))
    return tuple(sorted(word for word, _ in counts.most_common(most)))


def head_noun(text: str) -> str:
    """Return the noun that an expression is about, lower case; empty where none was found."""
    text = split_request(correct(clean(text)).lower()).body
    text = _LEAD.sub("", text.strip())
    ends = _END.search(text)
    words = [w for w in _WORD.findall(text[: ends.start()] if ends else text) if w not in _NO_NOUN]
    return words[-1] if words else ""


def unmet_noun(
    text: str, words: Collection[str], categories: Sequence[str], vocabulary: Vocabulary = BUILT_IN
) -> str | None:
    """Return the noun of an expression if a training never met it.

    Args:
        text: An expression.
        words: What `met_words` returned.
        categories: Category names of the training.
        vocabulary: Nouns and their synonyms; those of the categories are added.

    Returns:
        The noun; None where it was met, or where there is none to judge by (no English, "the leftmost one").
    """
    if is_foreign(clean(text)):
        return None
    noun = head_noun(text)
    forms = {noun, *singulars(noun)}
    if not noun or forms & set(words) or any(plural in words for plural in plurals(noun)):
        return None
    known = vocabulary.including(categories)
    nouns = {known.noun_of(name) for name in categories}
    return None if any(known.read(form) in nouns for form in forms) else noun

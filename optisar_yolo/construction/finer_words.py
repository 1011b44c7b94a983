"""Replaces a source's finer category words by the category's noun: "The Nimitz aircraft carrier" becomes "The ship".

The finer words are a source's category words that the data set does not distinguish. They are found in any letter case,
in the plural, and with or without blanks, hyphens or underscores. "Nimitz-class ship" and "ship of the Nimitz class"
are read as one name, so that the result is not "ship ship".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from optisar_yolo.language import BUILT_IN, NOUNS, Vocabulary, agree, parse, put

_GAP = r"[\s_/-]?"
_KIND = r"(?:[\s_-]+(?:class|type))"
# Without ASCII, letters such as the long s would be found as another's case and then not be looked up.
_FLAGS = re.IGNORECASE | re.ASCII
SHORTEST = 3
"""Letters; shorter category words ("AS", "DD") are too often plain English or parts of it."""


def fold(word: str) -> str:
    """Return the letters and digits of a word in lower case: "T-Junction" and "t_junction" are one word."""
    return "".join(c for c in word.lower() if c.isalnum())


_KNOWN = {fold(w): noun for noun, others in NOUNS.items() for w in (noun, *others)}


class Unifier:
    """Rewrites the captions of one source.

    Args:
        nouns: The source's category words to the nouns of their categories ("Nimitz" -> "ship"). A word stays in the
            captions if it is another spelling of the noun, adds only a size to it ("small vehicle"), or names another
            known thing ("dock").
        vocabulary: The nouns of the data set; its categories and their synonyms are known things, too.
    """

    def __init__(self, nouns: Mapping[str, str], vocabulary: Vocabulary = BUILT_IN) -> None:
        self._vocabulary = vocabulary
        listed = (n for noun in vocabulary.nouns for n in (noun, *vocabulary.synonyms.get(noun, ())))
        self._known = _KNOWN | {fold(word): vocabulary.noun_of(word) for word in listed}
        self._fine: dict[str, str] = {}  # folded finer word -> noun
        self._heads: dict[str, str] = {}  # the same for last words of finer names: "carrier" of "aircraft carrier"
        for word, noun in nouns.items():
            words = [w for w in re.split(r"[\W_]+", word) if w]
            # Where "Other warship" is a class, a warship alone is one too.
            bare = words[1:] if words and words[0].lower() in ("other", "others") else words
            for name in (words, bare) if bare else ():
                if _is_finer(" ".join(name), noun, vocabulary):
                    self._fine[fold(" ".join(name))] = noun
            if len(bare) > 1 and _is_finer(bare[-1], noun, vocabulary):
                self._heads[fold(bare[-1])] = noun

    def rewrite(self, caption: str) -> str:
        """Return the caption with each finer word replaced by its noun; the caption itself where it holds none."""
        folded = fold(caption)  # searching it is quick, and most captions hold no finer word
        fine = {w: n for w, n in self._fine.items() if _stem(w) in folded}
        if not fine:
            return caption
        targets = {self._vocabulary.noun_of(n): n for n in fine.values()}
        # All known nouns, so that the tank in "storage tank" is not taken for a word of its own.
        plain = {w: targets.get(n, n) for w, n in self._known.items() if _stem(w) in folded}
        plain |= {w: n for w, n in self._heads.items() if n in fine.values() and _stem(w) in folded}
        plain |= {fold(n): n for n in fine.values()}
        return _replace(caption, fine, {w: n for w, n in plain.items() if w not in fine})


def _stem(word: str) -> str:
    """Return what singular and plural of a word share."""
    return word.removesuffix("y")


def _is_finer(word: str, noun: str, vocabulary: Vocabulary) -> bool:
    """Tell whether captions should have the noun instead of the word."""
    bare = fold(word)
    if len(bare) < SHORTEST or not any(c.isalpha() for c in bare) or bare in (fold(noun), fold(_plural(noun))):
        return False
    known, own, parsed = vocabulary.noun_of(word), vocabulary.noun_of(noun), parse(word, vocabulary)
    if (known in NOUNS or known in vocabulary.nouns) and vocabulary.means(known, own) is False:
        return False
    return not (parsed.category == own and parsed.size and not parsed.rest)


def _replace(caption: str, fine: Mapping[str, str], plain: Mapping[str, str]) -> str:
    """Replace every name made of finer words, with the nouns beside them, by the noun.

    `fine` has the folded finer words and their nouns, `plain` the folded words that already are such a noun.
    """
    of_class, unit = _patterns(tuple(sorted(fine)), tuple(sorted(plain)))
    text = of_class.sub("", caption)
    nouns = {**plain, **fine}
    names: list[list[re.Match[str]]] = []  # words in a row that say the same noun
    for found in unit.finditer(text):
        noun = nouns[_single(found, nouns)]
        last = names[-1][-1] if names else None
        if last and nouns[_single(last, nouns)] == noun and re.fullmatch(r"[\s-]+", text[last.end() : found.start()]):
            names[-1].append(found)
        else:
            names.append([found])
    for name in reversed(names):  # from the end, so that earlier positions stay valid
        start, end = name[0].start(), name[-1].end()
        # "wasp-like" is no Wasp
        if (
            any(_single(w, nouns) in fine for w in name)
            and not text[:start].endswith("-")
            and not text[end:].startswith("-")
        ):
            last_word = _single(name[-1], nouns)
            noun = nouns[last_word]
            new = noun if fold(name[-1]["word"]) == last_word else _plural(noun)
            text = _put(text, start, end, new.upper() if text.isupper() else new)
    return text


def _single(found: re.Match[str], words: Mapping[str, str]) -> str:
    """Return which word was found, in the singular or in the plural."""
    word = fold(found["word"])
    return next(w for w in (word, word[:-1], word[:-2], word[:-3] + "y") if w in words)


def _put(text: str, start: int, end: int, new: str) -> str:
    """Replace text[start:end] and make the article in front agree, whatever it was ("An LCAC", "A ship")."""
    article = re.search(r"\ban? $", text[:start], re.IGNORECASE)
    if article:
        return text[: article.start()] + agree(article[0] + new) + text[end:]
    return put(text, start, end, new)


@lru_cache(maxsize=1 << 12)
def _patterns(fine: tuple[str, ...], plain: tuple[str, ...]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return patterns of " of the Nimitz class", and of one word, the longest first."""
    finer = "|".join(map(_spelled, sorted(fine, key=len, reverse=True)))
    any_of = "|".join(map(_spelled, sorted({*fine, *plain}, key=lambda w: (-len(w), w))))
    return (
        re.compile(rf"(?<=\w) of (?:the |an? )?(?:{finer}){_KIND}(?![\w-])", _FLAGS),
        re.compile(rf"(?<!\w)(?P<word>{any_of}){_KIND}?(?!\w)", _FLAGS),
    )


def _spelled(word: str) -> str:
    """Return a pattern of a folded word in any spelling, singular and plural."""
    last = "(?:y|ies)" if word.endswith("y") else f"{re.escape(word[-1])}(?:s|es)?"
    return _GAP.join([*map(re.escape, word[:-1]), last])


def _plural(noun: str) -> str:
    if re.search(r"[^aeiou]y$", noun):
        return noun[:-1] + "ies"
    return noun + ("es" if re.search(r"(?:s|x|z|ch|sh)$", noun) else "s")

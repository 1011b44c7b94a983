"""The nouns of a data set: which words name its categories, and which categories share a meaning.

1. A category is spoken of by its own name, without modality and underscores: "sar cargo_ship" is "cargo ship".
2. A word is read as a category's name, a declared synonym, or a built-in synonym; plurals of all of them are read.
3. `Vocabulary.means` tells whether a noun means the objects of a category: True for the category itself and for one
   that is declared to be a kind of it, None where both may mean the same object ("ship" and "boat", "vehicle" and
   "small-vehicle"), else False.
4. Names may hold words of place, size or colour ("small-vehicle"). `Vocabulary.hide` puts a placeholder in their place
   before an expression is parsed or rewritten, and `Hidden.restore` puts them back.
5. A data set may declare modalities beside optical and SAR, with the words for them. A category name begins with its
   modality, and an expression may name it by any of the words. These are hidden, too.

`BUILT_IN` holds the built-in categories alone; it is the vocabulary of every data set without other names.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from optisar_yolo.language.edit import takes_an
from optisar_yolo.language.inflect import plurals, singulars
from optisar_yolo.language.vocabulary import (
    CATEGORIES,
    CENTRE_WORDS,
    COLOURS,
    FILLERS,
    MODALITIES,
    NOUN,
    NOUN_OF,
    NOUNS,
    SIDE_OF,
    SIZES,
)

_HIDDEN = re.compile(r"\b[ax][ɴᴍ](\d+)\b", re.IGNORECASE)
_PREFIX = re.compile(r"^(?:optical|sar) ", re.IGNORECASE)
# Words that say where, how large or what colour: alone they name no category.
_GRAMMAR = FILLERS.union(
    SIDE_OF, CENTRE_WORDS, COLOURS, *SIZES.values(), (w.lower() for w in sum(MODALITIES.values(), ()))
)
_SHORTEST = 3  # letters of a noun that a longer word may end with and mean the same: "speedboat", "minivan"


@lru_cache(maxsize=1 << 14)
def _fold(word: str) -> str:
    """Return a word for comparisons: lower case, with single blanks for hyphens and underscores."""
    return re.sub(r"[ _-]+", " ", word).strip().lower()


# Built-in words by their letters alone: names are also spelled "Ground-Track-Field" and "groundtrackfield".
_BUILT_IN_WORDS = [word for canonical, others in NOUNS.items() for word in (canonical, *others)]
_SPELLED: dict[str, str] = {}
for _form in (lambda w: (w,)), plurals:
    for _word in _BUILT_IN_WORDS:
        for _one in _form(_word):
            _SPELLED.setdefault(_fold(_one).replace(" ", ""), _word)
_CORPUS = {_fold(word): canonical for canonical, noun in CATEGORIES.items() for word in noun.generated}


@lru_cache(maxsize=4096)
def spoken(name: str) -> str:
    """Return the noun that names a category in expressions: without modality, and singular where it is built in."""
    bare = _PREFIX.sub("", name)
    return _SPELLED.get(_fold(bare).replace(" ", "")) or " ".join(bare.replace("_", " ").split())


class Hidden(NamedTuple):
    """An expression with placeholders for nouns and modalities that are not built in, and these as written."""

    text: str
    nouns: tuple[str, ...] = ()

    def restore(self, text: str) -> str:
        """Return a text with the nouns in the place of their placeholders; a capital placeholder gives a capital."""

        def noun(found: re.Match[str]) -> str:
            number = int(found[1])
            word = self.nouns[number] if number < len(self.nouns) else found[0]
            return word[0].upper() + word[1:] if found[0][0].isupper() else word

        return _HIDDEN.sub(noun, text) if self.nouns else text


class Vocabulary:
    """The nouns of a data set; immutable. `Vocabulary.of` returns the same object for the same names.

    Attributes:
        nouns: The nouns of the categories and of their parents, except built-in ones that nothing else shares a
            meaning with.
        synonyms: Noun to its declared synonyms.
        parents: Noun to the noun of the wider category that it is declared to be a kind of.
        modalities: Declared modality to the words for it, the spoken one first.
    """

    def __init__(
        self,
        nouns: tuple[str, ...] = (),
        synonyms: tuple[tuple[str, tuple[str, ...]], ...] = (),
        parents: tuple[tuple[str, str], ...] = (),
        modalities: tuple[tuple[str, tuple[str, ...]], ...] = (),
    ) -> None:
        self.nouns, self.synonyms, self.parents = nouns, dict(synonyms), dict(parents)
        self.modalities = dict(modalities)
        self.modality_words = MODALITIES | self.modalities
        self._seen_by = {_fold(word): name for name, words in modalities for word in (name, *words)}
        self._read: dict[str, str] = {}
        declared = [(word, noun) for noun, words in synonyms for word in words]
        own = [(noun, noun) for noun in nouns]
        # The exact names first: a word that is one category's name is no plural or synonym of another's.
        for form in (lambda w: (w,)), plurals, singulars:
            for word, noun in (*own, *declared):
                for one in form(word):
                    self._read.setdefault(_fold(one), noun)
        base = {_fold(word) for word, _ in (*own, *declared)}
        self._plurals = frozenset(_fold(p) for word, _ in (*own, *declared) for p in plurals(word)) - base
        families = {NOUN_OF[n.lower()]: n for n in reversed(nouns) if n.lower() in NOUN_OF}
        self._of_family = {c: c if c in nouns else n for c, n in families.items()}
        self._root = self._roots()
        self._lines = {noun: self._line(noun) for noun in nouns}
        words = [w for w in self._read if not set(w.split()) <= _GRAMMAR and not NOUN.fullmatch(w)]
        spellings = sorted({*words, *(_fold(w) for w in NOUN_OF)}, key=len, reverse=True) if words else ()
        hidden = [*spellings, *sorted(self._seen_by, key=len, reverse=True)]
        patterns = (r"[ _-]".join(map(re.escape, w.split(" "))) for w in hidden)
        self._hides = re.compile(rf"(?<![\w-])(?:{'|'.join(patterns)})(?!\w|-\w)", re.IGNORECASE) if hidden else None

    @staticmethod
    def of(
        names: Iterable[str],
        synonyms: Mapping[str, Sequence[str]] | None = None,
        parents: Mapping[str, str] | None = None,
        modalities: Mapping[str, Sequence[str]] | None = None,
    ) -> Vocabulary:
        """Return the vocabulary of a data set.

        Args:
            names: Category names, with or without their modality.
            synonyms: Category to further words for it.
            parents: Category to the wider category that it is a kind of; the wider one need not be in `names`.
            modalities: Further modality to the words for it; none: its name is the word.

        Raises:
            ValueError: A synonym of two categories, a category that is its own parent over some steps, a word that
                can name nothing ("left"), or a word for two modalities.
        """
        seen_by = {" ".join(m.lower().split()): tuple(words) or (m,) for m, words in (modalities or {}).items()}
        _check_modalities(seen_by)
        spellings: dict[str, str] = {}  # "Helipad", "small_vehicle": one spelling of each, that of `names` first

        def noun_in(name: str) -> str:
            noun = spoken(_bare(name, seen_by))
            return spellings.setdefault(_fold(noun), noun)

        nouns = {noun_in(name) for name in names}
        above = {noun_in(child): noun_in(parent) for child, parent in (parents or {}).items()}
        words = {noun_in(name): tuple(dict.fromkeys(map(spoken, more))) for name, more in (synonyms or {}).items()}
        for noun in above:
            if noun not in nouns | set(above.values()):
                raise ValueError(f"'parents' names '{noun}', which is no category of 'names'; correct or remove it")
            line = [noun]
            while line[-1] in above:
                line.append(above[line[-1]])
                if line[-1] in line[:-1]:
                    raise ValueError(f"'parents' runs in a circle: {' -> '.join(line)}; remove one of them")
        if taken := {_fold(w) for m, own in seen_by.items() for w in (m, *own)} & {_fold(n) for n in nouns}:
            raise ValueError(f"'modalities': '{min(taken)}' is the name of a category, too; use another word")
        owners: dict[str, str] = {}
        for noun, more in words.items():
            if noun not in nouns | set(above.values()):
                raise ValueError(f"'synonyms' names '{noun}', which is no category of 'names'; correct or remove it")
            for word in more:
                if set(_fold(word).split()) <= _GRAMMAR:
                    raise ValueError(f"'synonyms' of '{noun}': '{word}' can name no object; remove it")
                for form in {_fold(word), *map(_fold, plurals(word))}:
                    if owners.setdefault(form, noun) != noun:
                        raise ValueError(f"'synonyms': '{word}' is claimed by '{owners[form]}' and '{noun}'; keep one")
        return _reduced(
            frozenset(nouns | set(above.values())),
            tuple(sorted(words.items())),
            tuple(sorted(above.items())),
            tuple(seen_by.items()),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Unpickle to the one vocabulary of these nouns, also in another process."""
        return _built, (
            self.nouns,
            tuple(self.synonyms.items()),
            tuple(self.parents.items()),
            tuple(self.modalities.items()),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a file's metadata: ``nouns``, ``synonyms``, ``parents`` and ``modalities``."""
        synonyms, modalities = ({k: list(v) for k, v in words.items()} for words in (self.synonyms, self.modalities))
        return {
            "nouns": list(self.nouns), "synonyms": synonyms, "parents": dict(self.parents), "modalities": modalities
        }  # fmt: skip

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Vocabulary:
        """Return the vocabulary of the result of `to_dict`; entries of later versions are ignored."""
        synonyms, modalities = (
            tuple((str(name), tuple(map(str, words))) for name, words in values.get(key, {}).items())
            for key in ("synonyms", "modalities")
        )
        parents = tuple((str(noun), str(parent)) for noun, parent in values.get("parents", {}).items())
        return _built(tuple(map(str, values.get("nouns", ()))), synonyms, parents, modalities)

    def including(self, names: Iterable[str]) -> Vocabulary:
        """Return the vocabulary with further category names; itself where they bring no new noun."""
        return _including(self, frozenset(names))

    def read(self, word: str) -> str | None:
        """Return the noun that a word of an expression means, in singular or plural; None for an unknown word."""
        if noun := self._read.get(_fold(word)):
            return noun
        built_in = _SPELLED.get(_fold(word).replace(" ", ""))
        canonical = NOUN_OF[built_in.lower()] if built_in else None
        return self._of_family.get(canonical, canonical) if canonical else None

    def is_plural(self, word: str) -> bool:
        """Tell whether a word of an expression is the plural of a noun or of a synonym, and no such word itself."""
        return _fold(word) in self._plurals

    def noun_of(self, name: str) -> str:
        """Return the noun of a category name: "optical harbour" and "port" give "harbor"; unknown names stay."""
        noun = self.spoken(name)
        return self.read(noun) or noun

    def spoken(self, name: str) -> str:
        """Return the noun of a category name as the function `spoken` does, without a declared modality either."""
        return spoken(_bare(name, self.modalities))

    def modality_of(self, name: str) -> str | None:
        """Return the modality that a category name begins with, or None."""
        first = name.split(" ", 1)[0].lower()
        return first if first in MODALITIES else _declared_in(name, self.modalities)

    def read_modality(self, word: str) -> str | None:
        """Return the declared modality that a word of an expression names, or None."""
        return self._seen_by.get(_fold(word))

    def words(self, noun: str) -> tuple[str, ...]:
        """Return the words that a paraphrase may say for a noun of `parse`; empty where it is not to be paraphrased."""
        declared = self.synonyms.get(noun, ())
        family = NOUN_OF.get(noun.lower())
        if family is None:
            return declared or (noun,)
        built_in = NOUNS[family] if noun == family else (family, *NOUNS[family]) if NOUNS[family] else ()
        shared = tuple(w for w in built_in if self.read(w) == noun and (w != noun or noun == family))
        return (*declared, *shared) or (() if noun == family and not built_in else (noun,))

    def means(self, noun: str, category: str) -> bool | None:
        """Tell whether a noun of an expression means the objects of a category, given by its noun; None: it may."""
        if not self.nouns:  # no two built-in nouns share a meaning
            return noun == category
        wider: str | None = category
        while wider is not None:
            if wider == noun:
                return True
            wider = self.parents.get(wider)
        shared = self._root_of(noun) in self._line_of(category) or self._root_of(category) in self._line_of(noun)
        return None if shared else False

    def hide(self, text: str) -> Hidden:
        """Put placeholders in the place of nouns and modalities that are not built in; a/an still agrees with them."""
        if self._hides is None:
            return Hidden(text)
        nouns: list[str] = []

        def placeholder(found: re.Match[str]) -> str:
            if NOUN.fullmatch(found[0]):
                return found[0]
            nouns.append(found[0])
            kind = "ᴍ" if self.read_modality(found[0]) else "ɴ"
            return f"{'a' if takes_an(found[0]) else 'x'}{kind}{len(nouns) - 1}"

        hidden = self._hides.sub(placeholder, text)
        return Hidden(hidden, tuple(nouns))

    def _roots(self) -> dict[str, str]:
        """Group the nouns that mean the same, by built-in or declared synonyms or as singular and plural."""
        root = {noun: NOUN_OF.get(noun.lower(), noun) for noun in self.nouns}
        own = {_fold(noun): noun for noun in self.nouns}
        for noun in self.nouns:
            alike = {_fold(w) for w in (*self.synonyms.get(noun, ()), *plurals(noun))}
            joined = {root[own[w]] for w in alike if w in own} | {NOUN_OF[w] for w in alike if w in NOUN_OF}
            if joined - {root[noun]}:
                root = {n: root[noun] if r in joined else r for n, r in root.items()}
        return root

    def _root_of(self, noun: str) -> str:
        return self._root.get(noun) or NOUN_OF.get(noun.lower(), noun)

    def _line_of(self, noun: str) -> frozenset[str]:
        return self._lines.get(noun) or frozenset((self._root_of(noun),))

    def _line(self, noun: str) -> frozenset[str]:
        """Return the groups of a noun and of all that it is a kind of, declared or by its last letters."""
        seen, todo = {noun}, [noun]
        while todo:
            word = todo.pop()
            wider = [self.parents[word]] if word in self.parents else []
            if word.lower() not in NOUN_OF:
                wider += [_CORPUS[_fold(word)]] if _fold(word) in _CORPUS else []
                folded = _fold(word)
                ends = (folded[start:] for start in range(1, len(folded) - _SHORTEST + 1))
                wider += [n for end in ends if (n := self.read(end))]
            todo += [n for n in wider if n not in seen]
            seen.update(wider)
        return frozenset(map(self._root_of, seen))


@lru_cache(maxsize=4096)
def _reduced(
    nouns: frozenset[str],
    synonyms: tuple[tuple[str, tuple[str, ...]], ...],
    parents: tuple[tuple[str, str], ...],
    modalities: tuple[tuple[str, tuple[str, ...]], ...],
) -> Vocabulary:
    """Return the one vocabulary of these nouns, without built-in nouns that would be read the same without it."""
    declared = {noun for noun, _ in synonyms} | {noun for pair in parents for noun in pair}
    claimed = {word for _, words in synonyms for word in words}
    shared = {NOUN_OF[n.lower()] for n in {*nouns, *claimed} if n not in NOUNS or n in claimed if n.lower() in NOUN_OF}
    kept = tuple(sorted(n for n in nouns if n not in NOUNS or n in shared | declared))
    return _built(kept, synonyms, parents, modalities)


@lru_cache(maxsize=4096)
def _built(
    nouns: tuple[str, ...],
    synonyms: tuple[tuple[str, tuple[str, ...]], ...],
    parents: tuple[tuple[str, str], ...],
    modalities: tuple[tuple[str, tuple[str, ...]], ...],
) -> Vocabulary:
    return Vocabulary(nouns, synonyms, parents, modalities)


BUILT_IN = _built((), (), (), ())


def _bare(name: str, modalities: Collection[str]) -> str:
    """Return a category name without a declared modality at its beginning."""
    modality = _declared_in(name, modalities)
    return name if modality is None else name.strip()[len(modality) :].lstrip(" _-")


def _declared_in(name: str, modalities: Collection[str]) -> str | None:
    """Return the declared modality that a category name begins with: of "infra" and "infra red" the longer one."""
    if not modalities:
        return None
    folded = f"{_fold(name)} "
    return max((m for m in modalities if folded.startswith(f"{_fold(m)} ")), key=len, default=None)


def _check_modalities(modalities: Mapping[str, Sequence[str]]) -> None:
    """Check the words of declared modalities.

    Raises:
        ValueError: A word that says something else, or that two modalities claim.
    """
    owners = {_fold(word): name for name, words in MODALITIES.items() for word in (name, *words)}
    for name, words in modalities.items():
        for word in {_fold(w) for w in (name, *words)}:
            if word in owners:
                raise ValueError(f"'modalities': '{word}' is claimed by '{owners[word]}' and '{name}'; keep one")
            if set(word.split()) <= _GRAMMAR or NOUN.fullmatch(word):
                raise ValueError(f"'modalities' of '{name}': '{word}' says something else; use another word")
            owners[word] = name


def noun_of(name: str) -> str:
    """Return the built-in noun of a category name; see `Vocabulary.noun_of`."""
    return BUILT_IN.noun_of(name)


@lru_cache(maxsize=4096)
def _including(vocabulary: Vocabulary, names: frozenset[str]) -> Vocabulary:
    nouns = frozenset(vocabulary.nouns) | {vocabulary.spoken(name) for name in names}
    return _reduced(
        nouns,
        tuple(sorted(vocabulary.synonyms.items())),
        tuple(sorted(vocabulary.parents.items())),
        tuple(vocabulary.modalities.items()),
    )

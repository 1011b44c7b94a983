"""Names of the dataset config for the words of the sources, in categories and in captions."""

from __future__ import annotations

from collections.abc import Iterable

from optisar_yolo.construction.cleaning.unify import Unifier, fold
from optisar_yolo.construction.recipe import ANY, Recipe
from optisar_yolo.construction.samples import Sample
from optisar_yolo.data import DataError, modality_of


class Namer:
    """Translates the words of a recipe's sources.

    Args:
        recipe: Says which category a source's word stands for. Letter case, blanks, hyphens and underscores in the
            word mean nothing where the recipe has no exact entry.
        samples: All that was imported, read once: captions may hold any category word of their source, since relations
            name neighbours.

    Raises:
        DataError: A sample's source is not in the recipe, or a source maps to categories of the other modality.
    """

    def __init__(self, recipe: Recipe, samples: Iterable[Sample]) -> None:
        self._exact = {s.name: s.categories for s in recipe.sources}
        self._folded = {s.name: {fold(w): n for w, n in s.categories.items() if w != ANY} for s in recipe.sources}
        for source in recipe.sources:
            if other := [n for n in source.categories.values() if modality_of(n) != source.modality]:
                raise DataError(f"source {source.name} is {source.modality}, and its recipe maps to '{other[0]}'")
        words: dict[str, set[str]] = {s.name: {w for w in s.categories if w != ANY} for s in recipe.sources}
        for sample in samples:
            if sample.source not in words:
                raise DataError(
                    f"{sample.name}: source '{sample.source}' is not in the recipe; import with the recipe at hand"
                )
            words[sample.source].update(i.category for i in sample.instances)
        self._unifiers = {source: self._unifier(source, found) for source, found in words.items()}

    def _unifier(self, source: str, words: set[str]) -> Unifier:
        names = {word: self.name(source, word) for word in words}
        return Unifier({_bare(w): _bare(n) for w, n in names.items() if n is not None})

    def name(self, source: str, word: str) -> str | None:
        """Return the dataset config's category for a source's word, None where the recipe has none for it."""
        exact = self._exact[source]
        return exact.get(word) or self._folded[source].get(fold(word)) or exact.get(ANY)

    def reword(self, source: str, caption: str) -> str:
        """Return a caption with the nouns of the dataset config in the place of the source's finer words."""
        return self._unifiers[source].rewrite(caption)


def _bare(name: str) -> str:
    """Return a category without its modality: "the optical ship" of a caption is no finer word for a ship."""
    return name.split(maxsplit=1)[-1] if modality_of(name) else name

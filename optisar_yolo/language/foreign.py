"""Telling expressions that are not English, from letters and from words that English does not have."""

from __future__ import annotations

import re
import unicodedata

# Frequent words of French, German, Spanish, Italian, Portuguese and Dutch that are no English words. One of the second
# kind, nouns and sides, is enough; articles may stand in a name ("Port de la Lune"), so they need another word.
_SMALL = frozenset(
    "le la les du des une dans sur au aux avec est qui et der das den dem ein eine einen im und mit auf von zum zur "
    "ist el los las del una en con por il lo gli di della nel sul um uma na da het een nave op van naar links unter "
    "über neben sous près".split()
)
_TELLING = frozenset(
    "bateau bateaux navire navires avion avions pont gauche droite haut voiture réservoir schiff schiffe flugzeug "
    "flugzeuge brücke rechts oben unten linke rechte linken rechten hafen größte größtes kleinste barco barcos "
    "avión aviones puente izquierda derecha arriba abajo buque puerto aereo aerei ponte sinistra destra "
    "navio navios avião esquerda direita schip schepen vliegtuig brug bootje auto's linksboven rechtsboven kran "
    "dónde où cherche finde trouve encuentra busca cercami mostra zeige montre muestra".split()
)
_ENGLISH = frozenset("the of with is there on at in and to that this by near from which where a".split())


def is_foreign(text: str) -> bool:
    """Tell whether an expression is written in another script than Latin, or in another language than English.

    Args:
        text: An expression. Names and single foreign words within an English expression are no reason.
    """
    letters = [c for c in text if c.isalpha()]
    latin = sum(
        unicodedata.name(c, "").startswith(("LATIN", "FULLWIDTH LATIN", "FEMININE", "MASCULINE")) for c in letters
    )
    if letters and latin < len(letters) / 2:
        return True
    words = [w.lower() for w in re.findall(r"[^\W\d_]+(?:'s)?", text)]
    if {"the", "of", "with", "is", "there", "which", "where", "near"} & set(words):
        return False
    small, telling = set(words) & _SMALL, set(words) & _TELLING
    english = set(words) & _ENGLISH - {"a", "in", "on", "at", "by"}
    return not english and bool(telling or len(small) >= 2)

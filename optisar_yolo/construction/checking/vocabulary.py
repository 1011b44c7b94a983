"""The words of expressions sorted for the figures: attributes, directions, all that say something.

Which words these are is read from the vocabulary of `optisar_yolo.language.parser`, which has it for the whole project.
"""

from __future__ import annotations

import re
from functools import lru_cache

from optisar_yolo.language import EXTREME, PLACE, RELATION, Meaning, parse

_WORD = re.compile(r"[^\W_][\w'-]*")
_NOTHING = Meaning(None)


def words_of(caption: str) -> list[str]:
    """Return the words of an expression that say something, in lower case but for SAR: no articles, no "image"."""
    return ["SAR" if word == "sar" else word for word in _WORD.findall(caption.lower()) if _says(word)]


@lru_cache(maxsize=1 << 16)
def _says(word: str) -> bool:
    return parse(word) != _NOTHING


def attributes_of(caption: str) -> list[str]:
    """Return what an expression says of its object beside category and place.

    These are its size ("tiny" counts as "small"), its modality, and what `parse` leaves unread: colours, shapes.
    """
    said = parse(caption)
    modality = {"sar": "SAR", "optical": "optical"}.get(said.modality or "")
    return [word for word in (said.size, modality, *said.rest) if word]


def directions_of(caption: str) -> list[str]:
    """Return the direction words of an expression: "upper left", "leftmost", "above"."""
    found = []
    for pattern in (EXTREME, RELATION, PLACE):
        for match in pattern.finditer(caption):
            said = match.groupdict()
            word = said.get("diagonal") or said.get("w") or said.get("m") or said.get("one")
            if said.get("v") and said.get("h"):
                word = f"{said['v']} {said['h']}"
            elif said.get("most"):
                word = match[0]
            word = word or said.get("near") or said.get("far") or said.get("h") or said.get("v")
            if word:
                found.append(word.lower().replace("-", " "))
        caption = pattern.sub("|", caption)
    return found

"""Editing text: control characters go, articles agree with the next word, letter case stays."""

from __future__ import annotations

import re
import unicodedata


def clean(text: object) -> str:
    """Return the text without control characters and surplus white space.

    Args:
        text: An expression, a string with at least one visible character.

    Raises:
        ValueError: Not a string, or nothing to read in it.
    """
    if not isinstance(text, str):
        raise ValueError(f"an expression must be a string, got {type(text).__name__}: {text!r}; e.g. text='the ship'")
    # Tabs and line ends are control characters too: they become spaces, the invisible rest goes.
    spaced = re.sub(r"\s+", " ", text)
    shown = "".join(c for c in spaced if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn"))
    shown = re.sub(r" +", " ", shown).strip()
    if not shown:
        raise ValueError(f"an expression must say something, got {text!r}; e.g. text='the ship in the upper left'")
    return shown


def takes_an(word: str) -> bool:
    """Tell whether a word takes "an"."""
    return word[:1].lower() in "aeiou" and not word.lower().startswith(("uni", "one", "eu"))


def agree(text: str) -> str:
    """Return the text with every a/an before a vowel letter, or before another one, as English wants it."""

    def fit(found: re.Match[str]) -> str:
        return dress("an" if takes_an(found[2]) else "a", found[1][0]) + f" {found[2]}"

    return re.sub(r"\b(an?)\s+([\w-]+)", fit, text, flags=re.IGNORECASE)


def dress(word: str, like: str) -> str:
    """Give a word the letter case of the one it replaces; acronyms (SAR) count as lower case, and stay as they are."""
    if like.isupper() and len(like) > 1 and like != "SAR":
        return word.upper()
    if like[0].isupper() and like != "SAR" and word != "SAR":
        return word[0].upper() + word[1:]
    return word


def put(text: str, start: int, end: int, new: str) -> str:
    """Replace text[start:end] and make the article in front of it agree when it agreed before."""
    old = text[start:end]
    head = text[:start]
    article = re.search(r"\b(an?)( )$", head, re.IGNORECASE)
    if article and takes_an(old) == (article[1].lower() == "an") and takes_an(new) != takes_an(old):
        head = head[: article.start()] + dress("an" if takes_an(new) else "a", article[1][0]) + " "
    return head + (new[0].upper() + new[1:] if start == 0 and old[0].isupper() else new) + text[end:]

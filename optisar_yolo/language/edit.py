"""Editing text: control characters go, articles agree with the next word, letter case stays."""

from __future__ import annotations

import re
import unicodedata

from optisar_yolo.utils import short

LONGEST_EXPRESSION = 2000
"""Characters of an expression. Text encoders read 64 or 77 tokens, about 300 characters. The time of some patterns that
look for places and objects grows with the square of a text's length: the worst of 390 texts of 2,000 characters that
were made for it took 0.7 s in the slowest function (on one core of a Xeon)."""
REWRITTEN = 2 * LONGEST_EXPRESSION
"""Characters of a text that may be an accepted one with other words in it, such as "right" for "left"."""

# Words that are no English words but these misspelt. "rigth" is turned round with an image as "right" is.
_SPELLINGS = {
    wrong: right
    for right, many in {
        "leftmost": "lefmost leftmst leftmots leftmos leffmost leftmoust lefttmost",
        "rightmost": "rigtmost rightmots rightmos righmost rightmst rightmoust rigthmost",
        "topmost": "topmots topmos topmst tompost",
        "bottommost": "bottomost botommost bottmmost buttommost",
        "left": "letf lfet leftt",
        "right": "rigth rihgt rigt righ rightt rgiht",
        "bottom": "botom bottm buttom bottem bototm botttom",
        "upper": "uper uppper uppr",
        "lower": "lowwer lowre",
        "middle": "midle middel mdidle",
        "corner": "cornor conrer coner cornner",
    }.items()
    for wrong in many.split()
}
_MISSPELT = re.compile(rf"\b(?:{'|'.join(_SPELLINGS)})\b", re.IGNORECASE)
# Words that begin with the sound of "you" or "won": "a uniform", "a one-way", but "an unidentified", "an unimproved".
_SAID_YOU = re.compile(r"(?i:uni(?!n|m|d)|one\b|one-|once|eu|ewe|us[ae]|usu|util|ubi)|U(?:AV|SV|UV|S|N|K|FO)\b")


def clean(text: object, longest: int = LONGEST_EXPRESSION) -> str:
    """Return the text without control characters and surplus white space.

    Args:
        text: An expression, a string with at least one visible character.
        longest: Most characters that are accepted.

    Raises:
        ValueError: Not a string, nothing to read in it, or too long.
    """
    if not isinstance(text, str):
        raise ValueError(
            f"an expression must be a string, got {type(text).__name__}: {short(text)}; e.g. text='the ship'"
        )
    if len(text) > longest:
        raise ValueError(
            f"an expression of {len(text):,} characters; at most {longest:,} are accepted: describe one object, in a "
            f"few words, not {short(text)}"
        )
    # Tabs and line ends are control characters too: they become spaces, the invisible rest goes.
    spaced = re.sub(r"\s+", " ", text)
    shown = spaced
    if not spaced.isprintable():
        shown = "".join(c for c in spaced if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn"))
    shown = re.sub(r" +", " ", shown).strip()
    if not shown:
        raise ValueError(f"an expression must say something, got {short(text)}; e.g. text='the ship in the upper left'")
    return shown


def correct(text: str) -> str:
    """Return the text with misspelt direction words corrected ("lefmost", "uper"); other words stay as they are."""
    return _MISSPELT.sub(lambda m: dress(_SPELLINGS[m[0].lower()], m[0]), text)


def takes_an(word: str) -> bool:
    """Tell whether a word takes "an", by its first sound: "an hourglass", "an L-shaped pier", "a U-shaped one"."""
    lower = word.lower()
    if re.match(r"[a-z](?:-|$)", lower):
        return lower[0] in "aefhilmnorsx"  # a letter that is said by its name
    if re.match(r"[B-DF-HJ-NP-TV-Z]{2,}(?:-|$)|SUV", word):
        return word[0] in "FHLMNRSX"  # an acronym that is spelt out: "LNG"
    if lower[:1].isdigit():
        return re.match(r"8|1[18](?!\d)", lower) is not None
    if lower.startswith(("hour", "honest", "honour", "honor", "heir")):
        return True
    return lower[:1] in "aeiou" and not _SAID_YOU.match(word)


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

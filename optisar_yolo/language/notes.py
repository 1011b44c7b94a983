"""What an expression asks for beyond one object: `read_notes` finds it and says what a model makes of it.

A network grounds one object per expression, from the words it was trained on. Where an expression asks for something
else, a box alone would mislead. Each kind of such expressions has one rule:

| kind | for instance | boxes |
|---|---|---|
| negation | "there is no airplane", "the ship without a wake" | none |
| count | "how many ships are there?", "count the tanks" | all that match; the note says their number |
| question | "is the ship white?", "why is the dock empty?" | none |
| task | "measure the runway", "describe this image" | none |
| language | another script or language than English | none |
| existence | "is there a ship?" | as usual: a box above the confidence threshold means yes |
| plural, quantifier, numeral | "the ships", "every tank", "two tanks" | all that match, or so many; silent |
| colour | "the white ship" | as usual |
| command | "draw a box around the ship" | as usual; silent for "find", "show me" and the like |

A kind is silent, and its boxes are as usual, where the training of the weights had such expressions: `wordings` finds
their kinds in the captions of a data set, and the weights keep them. Where a run gives one box per expression (an
export, ``reason=False``, a batch with ``topk=1``), a count has no box, and a plural one box and a note.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

from optisar_yolo.language.edit import REWRITTEN, clean
from optisar_yolo.language.foreign import is_foreign
from optisar_yolo.language.idioms import COMMAND, NEGATION, split_request
from optisar_yolo.language.vocabulary import COLOUR, NOUN, NUMBERS, OF_IMAGE, RELATION

# Share of a data set's captions from which on a kind counts as taught. 41 % of DIOR-RSVG's captions name a colour. Of
# expressions that people write freely, 1.3 % hold a negation, and a training set with that share hardly teaches it.
TAUGHT = 0.05
_ALONE = "one box per expression (an export, reason=False, augment=True, or a batch with topk=1)"
_ONE_BOX = f"this run gives {_ALONE}"
_NO_BOX = "no box is returned (conf=0 returns the best one for its words)"


@dataclass(frozen=True)
class ExpressionNotes:
    """What an expression asks for beyond one object.

    Attributes:
        text: The expression.
        messages: (kind, message) of each kind found, kinds as in the table of the module; the message of a silent kind
            is empty.
        grounded: False where a box would mislead: it is returned only on request.
    """

    text: str
    messages: tuple[tuple[str, str], ...] = ()
    grounded: bool = True

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds found."""
        return tuple(kind for kind, _ in self.messages)

    def message(self, conf: float | None = None) -> str:
        """Return all messages in one line, empty where there is nothing to say.

        Args:
            conf: Confidence threshold of the boxes; None: the line says nothing about boxes that are held back.
        """
        parts = [message for _, message in self.messages if message]
        if not self.grounded and conf is not None:
            parts.append(_NO_BOX if conf > 0 else "the box is the best one for its words")
        return "; ".join(parts)


_IMAGE = r"(?:this|the) (?:\w+ )?(?:image|picture|scene|photo(?:graph)?|view|frame)"
COUNT = re.compile(
    r"\bhow (?:many|much)\b|^(?:please )?count(?:ing)?(?: up)? (?!from\b)(?=\w)"
    r"|^(?:what(?: is|'s) |give me |tell me )?(?:the )?(?:total |exact )?(?:number|count) of\b",
    re.IGNORECASE,
)
_EXISTENCE = re.compile(
    r"^(?:(?:is|are) there|(?:do|can) you see (?:any|an?)\b"
    rf"|do(?:es)? {_IMAGE} (?:contain|have|show|include)|any\b(?=.*\?$))(?: any\b| an?\b)?",
    re.IGNORECASE,
)
# "which ship is the largest?", "what is the largest ship?", "how about the ship?" and "do you see the ship?" ask where
# something is, as "where is the ship?" does.
_QUESTION = re.compile(
    r"^(?:why|who|whose|when|how(?! about\b)|do(?! you see\b)|does|did|was|were|has|have|will|would|should|shall|may"
    r"|might|is(?! there)|are(?! there)|(?:can|could)(?! you)"
    r"|what(?! about\b| (?:is|are) the (?!colou?r|size|length|area|width|name|type|kind|number|reason)\w))\b",
    re.IGNORECASE,
)
_TASK = re.compile(
    r"^(?:(?:please|now),? |(?:can|could|would|will) you (?:please )?)*(?:describe|measure|delete|remove|ignore|hide"
    r"|track|move|rotate|compare|classify|caption|translate|estimate|calculate|compute|list|explain|summari[sz]e|erase"
    r"|replace|paint|crop|follow|monitor) (?=(?:the|an?|all|this|that|these|those|every|each|how|what|me|it)\b)",
    re.IGNORECASE,
)
# Commands that `paraphrase` and `generate` put into training texts.
_TRAINED = re.compile(
    r"^(?:please |(?:can|could|would|will) you (?:please )?)*"
    r"(?:find|show me|look for|mark|point at|where is|where are|where's|give me|locate|see)\b",
    re.IGNORECASE,
)
_LEAD = (
    r"^(?:there (?:are|were|is) |here are |only |just |exactly |about |around |at least |the |these |those |my |our )*"
)
_QUANTIFIER = re.compile(
    rf"{_LEAD}(?:all|every|each|both|several|multiple|many|few|some|various|numerous|most of|these|those|any)\b"
    r"(?!-| (?:other|the way)\b)",
    re.IGNORECASE,
)
_PLURAL_WORD = r"(?:[a-z-]+[^suiw\W]s|[a-z-]+ows|aircraft)\b"
_NUMERAL = re.compile(
    rf"{_LEAD}(?P<n>{'|'.join(NUMBERS)}|eleven|twelve|dozens?|hundreds?|\d+)(?![-.\d])(?: of)?"
    rf" (?:(?!of\b|in\b|on\b|at\b)[\w-]+ ){{0,3}}?{_PLURAL_WORD}",
    re.IGNORECASE,
)
_GROUP = re.compile(
    rf"{_LEAD}(?:an? )?(?:\w+ )?(?:pair|couple|group|cluster|row|fleet|handful|line|bunch|set)s? of (?:[\w-]+ ){{0,3}}?"
    rf"{_PLURAL_WORD}",
    re.IGNORECASE,
)
# "one of the ships", "the car behind the trees": one object.
_MEMBER = re.compile(r"\b(?:of|from|than|in|on|at|near|by|along|with|one)\b", re.IGNORECASE)


@lru_cache(maxsize=1 << 14)
def read_notes(
    text: str, topk: int | str = 1, taught: tuple[str, ...] | None = None, several: bool = True
) -> ExpressionNotes:
    """Read what an expression asks for beyond one object.

    Args:
        text: An expression.
        topk: Boxes per expression that the user asks for: with several, plurals need no note.
        taught: Kinds that the training of the weights had, in the order of `wordings`; None where they do not say.
        several: The run gives several boxes for an expression of several objects.

    Returns:
        The kinds found, each with a message in one line. Of an expression that is not grounded only the reasons.

    Raises:
        ValueError: The text is empty.
    """
    text = clean(text, REWRITTEN)
    known = taught or ()
    if is_foreign(text):
        if "language" in known:
            return ExpressionNotes(text)
        message = "this is not English, the language of the expressions in training"
        return ExpressionNotes(text, (("language", message),), grounded=False)
    beyond = {kind: message for kind, message in _beyond(text, several).items() if kind not in known}
    if beyond:
        return ExpressionNotes(text, tuple(beyond.items()), grounded=False)
    messages: dict[str, str] = {}
    bare = split_request(text).body
    found = _EXISTENCE.search(text)
    if found:
        bare = text[found.end() :].strip(" ?")
        messages["existence"] = "a box above the confidence threshold means yes; no box means that none was found"
    elif (command := COMMAND.search(text)) is not None:
        if not _TRAINED.search(text):
            words = command[0].strip()
            messages["command"] = f"'{words}' is no wording of the training; '{bare}' alone is the safer expression"
    if several and COUNT.search(text):
        messages["count"] = "the boxes above the confidence threshold are counted"
    elif topk == 1:
        messages |= {kind: "" if several else message for kind, message in _several(bare).items()}
    if COLOUR.search(text):
        were = "are not known to have been" if taught is None else "were not"
        messages["colour"] = f"colour words {were} in the training of these weights: check the box"
    return ExpressionNotes(text, tuple((kind, message) for kind, message in messages.items() if kind not in known))


def wordings(texts: Collection[str]) -> tuple[str, ...]:
    """Return the kinds of wording that the captions of a data set teach: those of at least 5 % of them, sorted."""
    counts = Counter(kind for text in texts for kind in read_notes(text).kinds)
    return tuple(sorted(kind for kind, n in counts.items() if n >= TAUGHT * len(texts)))


def _beyond(text: str, several: bool) -> dict[str, str]:
    """Return the reasons not to ground an expression."""
    found: dict[str, str] = {}
    negation = NEGATION.search(text) or re.search(r"\bnon-(?=\w)", text, re.IGNORECASE)
    if COUNT.search(text):
        if not several:
            found["count"] = f"a number cannot be told from {_ALONE}"
    elif _QUESTION.search(text) and not _EXISTENCE.search(text):
        found["question"] = "only questions where something is are grounded"
    elif _TASK.search(text):
        found["task"] = "only finding objects is possible"
    if negation:
        found["negation"] = f"a negation ('{negation[0]}') is beyond these weights"
    return found


def _several(text: str) -> dict[str, str]:
    """Return the message of an expression that means more than one object."""
    head = re.sub(OF_IMAGE, " ", text, flags=re.IGNORECASE)
    found = RELATION.search(head)
    head = head[: found.start()] if found else head
    numeral = _NUMERAL.search(head)
    if numeral:
        word = numeral["n"].lower()
        n = NUMBERS.index(word) + 2 if word in NUMBERS else int(word) if word.isdigit() else 0
        if n == 1:
            return {}
        return {"numeral": _ONE_BOX}
    several = _ONE_BOX
    if _QUANTIFIER.search(head):
        return {"quantifier": several}
    noun = NOUN.search(head)
    plural = noun is not None and len(noun[0]) > len(noun[1]) and not _MEMBER.search(head[: noun.start()])
    return {"plural": several} if plural or _GROUP.search(head) else {}

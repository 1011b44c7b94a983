"""The paraphrase bank: how people say places, superlatives, ranks, relations and sets, and how they begin and end.

The tables hold phrases with slots, and `paraphrase.reword` fills and combines them: one category and one place alone
give some thousands of expressions. Slots:

| slot | filled with |
|---|---|
| {x} | the whole description without its article: "small ship in the upper left corner" |
| {n}, {a} | its noun with what stands before it, "small ship", and what stands behind it, "in the upper left corner" |
| {s}, {c} | a set with its determiner, "the two ships on the left", and without what stands behind it |
| {d}, {h} | a direction, "upper left" or "left", and the same with a hyphen |
| {o}, {e}, {r}, {p}, {k} | an ordinal, the side it is counted from, a reference noun, the noun's plural, a numeral |

The parser reads every phrase with the meaning that its table says, except for those of `UNREAD`, which are true of what
they say and have words that it does not know. A test reads them all. No phrase holds a word of `vocabulary.RESERVED`.
"""

from __future__ import annotations

# One object, which the words single out.
THE: tuple[str, ...] = (
    "The {x}", "the {x}", "{x}", "The {x}.", "the {x}, please", "The {x} please", "this {x}", "that {x} there",
    "Find the {x}", "find the {x}", "find me the {x}", "Find the {x} for me", "can you find the {x}?",
    "Could you find the {x}", "please find the {x}", "let's find the {x}", "I need to find the {x}",
    "Show me the {x}", "show the {x}", "show us the {x}", "can you show me the {x}?", "please show me the {x}",
    "I want to see the {x}", "Where is the {x}", "where is the {x}?", "where's the {x}", "Where's the {x}?",
    "tell me where the {x} is", "Can you tell me where the {x} is?", "Look for the {x}", "look at the {x}",
    "I am looking for the {x}", "I'm looking for the {x}", "we are looking for the {x}", "looking for the {x}",
    "searching for the {x}", "search for the {x}", "Please point at the {x}", "point to the {x}", "point out the {x}",
    "could you point out the {x}?", "mark the {x}", "Mark the {x} for me", "please mark the {x}", "highlight the {x}",
    "Highlight the {x}, please", "select the {x}", "please select the {x}", "pick out the {x}", "pick the {x}",
    "spot the {x}", "can you spot the {x}?", "detect the {x}", "identify the {x}", "zoom in on the {x}",
    "zoom to the {x}", "focus on the {x}", "draw a box around the {x}", "put a box around the {x}", "box the {x}",
    "outline the {x}", "give me the {x}", "get me the {x}", "can you see the {x}?",
    "which one is the {x}?", "It's the {x}", "it is the {x}", "that's the {x}", "that is the {x}", "I mean the {x}",
    "I meant the {x}", "I need the {x}", "I want the {x}", "I'd like to see the {x}", "the target is the {x}",
    "target: the {x}", "the object is the {x}", "the one I mean is the {x}", "the one to find is the {x}",
    "now the {x}", "Next, the {x}", "OK, the {x}", "hey, where is the {x}?",
    "just the {x}", "only the {x}", "here is the {x}", "there is the {x}", "see the {x}?", "you can see the {x}",
    "we see the {x} here", "the {x} here", "the {x} you can see",
)  # fmt: skip
# What a superlative singles out is not pointed at: "this leftmost ship".
THE_ONLY: tuple[str, ...] = tuple(frame for frame in THE if not frame.startswith(("this ", "that {")))
# One object that is only mentioned.
A: tuple[str, ...] = (
    "A {x}", "a {x}", "There is a {x}", "there is a {x}", "there's a {x}", "There's a {x} here", "here is a {x}",
    "Find a {x}", "find me a {x}", "Look for a {x}", "look for a {x}", "I see a {x}", "I can see a {x}",
    "you can see a {x}", "we see a {x}", "it's a {x}", "It is a {x}", "this is a {x}", "that's a {x}", "show me a {x}",
    "point at a {x}", "I'm looking for a {x}", "I need a {x}", "mark a {x}", "spot a {x}", "can you see a {x}?",
    "one {x}", "a {x}.",
)  # fmt: skip
# The words behind the noun, as a predicate or in front.
APART: tuple[str, ...] = (
    "which {n} is {a}?", "Which {n} is {a}", "the {n} that is {a}", "the {n} that's {a}",
    "the {n} which is {a}", "The {n} which lies {a}", "the {n} lying {a}", "the {n} seen {a}", "the {n} located {a}",
    "the {n} you see {a}", "the {n}, the one {a}", "the one {n} {a}", "{n}, {a}", "the {n}, {a}",
    "the {n} (the one {a})", "{n} ({a})", "find the {n} that is {a}", "show me the {n} that is {a}",
    "where is the {n} that is {a}?", "I mean the {n} that is {a}", "the {n} visible {a}",
)  # fmt: skip
# Only places go before the noun.
FRONTED: tuple[str, ...] = (
    "{a}, the {n}", "{a}: the {n}", "{a}, there is a {n}", "{a} there is a {n}", "{a} is a {n}", "{a}, a {n}",
)  # fmt: skip
SETS: tuple[str, ...] = (
    "{s}", "{s}.", "find {s}", "find {s} for me", "can you find {s}?", "show me {s}", "please show me {s}",
    "where are {s}?",
    "where are {s}", "mark {s}", "highlight {s}", "select {s}", "point out {s}", "box {s}", "draw a box around {s}",
    "I'm looking for {s}", "I am looking for {s}", "looking for {s}", "I need {s}", "I mean {s}", "it's {s}",
    "the targets are {s}", "give me {s}", "look for {s}", "spot {s}", "detect {s}", "{s}, please",
    "just {s}", "only {s}", "{c} that are {a}", "{c} which are {a}", "{c} lying {a}", "{c}, those {a}",
    "find {c} that are {a}",
)  # fmt: skip
# Determiners of sets, by their number; {k} is it in words or digits.
EXACTLY: tuple[str, ...] = (
    "the {k} {p}",
    "the {k} {p}",
    "{k} {p}",
    "all {k} {p}",
    "all {k} of the {p}",
    "these {k} {p}",
    "exactly {k} {p}",
)
TWO: tuple[str, ...] = (
    "the two {p}",
    "both {p}",
    "both of the {p}",
    "the pair of {p}",
    "a pair of {p}",
    "two {p}",
    "both the {p}",
)
OF_RANK: tuple[str, ...] = ("the {k} {p}",)  # "the two largest ships"; "find two largest ships" is no English
ALL: tuple[str, ...] = (
    "all {p}",
    "all the {p}",
    "all of the {p}",
    "the {p}",
    "{p}",
    "every {n}",
    "each {n}",
    "every single {n}",
    "these {p}",
)

CORNERS: tuple[str, ...] = (
    "in the {d}", "in the {d} corner", "at the {d}", "at the {d} corner", "on the {d}", "on the {d} side",
    "in the {d} area", "in the {d} part", "in the {d} region", "in the {d} section", "in the {d} zone",
    "near the {d} corner", "near the {d}", "in the {h} corner", "in the {h} area", "in the {h} part", "at the {h}",
    "in the {h}", "within the {d} area", "within the {d} part", "in the far {d} corner", "in the far {d}",
    "in the very {d} corner", "at the very {d}",
)  # fmt: skip
SIDES: tuple[str, ...] = (
    "on the {d}", "on the {d} side", "at the {d}", "at the {d} side", "at the {d} edge", "near the {d} edge",
    "on the {d} edge", "in the {d} part", "in the {d} area", "in the {d} region", "in the {d} section",
    "in the {d} zone",
    "within the {d} part", "near the {d} side", "on the far {d}", "on the far {d} side", "at the far {d}",
    "on the very {d}",

)  # fmt: skip
# {d} is "top", {u} "upper".
ENDS: tuple[str, ...] = (
    "at the {d}", "near the {d}", "at the very {d}", "at the {d} edge", "near the {d} edge", "at the {d} end",
    "in the {u} part", "in the {u} area", "in the {u} region", "in the {u} section", "in the {u} zone",
    "on the {u} side",
    "on the {d} side", "in the {d} part", "in the {d} area", "near the {u} edge", "at the {u} edge",
    "within the {u} part", "at the {u} end",
)  # fmt: skip
MIDDLES: tuple[str, ...] = (
    "in the middle", "in the center", "at the center", "in the centre", "at the centre", "in the central area",
    "in the middle part", "in the central part", "in the central region", "in the middle area",
    "in the central section",
    "in the very middle", "at the very center", "in the very centre", "in the middle section", "near the center",
    "near the middle", "near the centre", "within the central area", "in the central zone",
)  # fmt: skip
HALVES: tuple[str, ...] = ("in the {u} half", "on the {u} half", "within the {u} half", "in the {d} half")

# Behind the noun; in front of it stand `vocabulary.SUPERLATIVES`.
FURTHEST: tuple[str, ...] = (
    "furthest to the {d}", "farthest to the {d}", "closest to the {d} edge", "nearest to the {d} edge",
    "nearest the {d} edge", "closest to the {d} side", "nearest to the {d} side", "nearest the {d} side",
    "closest to the {d} border", "nearest to the {d} border", "closest to the {d}", "nearest to the {d}",
    "nearest the {d}",
    "closest the {d} edge",
)  # fmt: skip
FURTHEST_ACROSS: tuple[str, ...] = ("furthest {d}", "farthest {d}")  # "left" and "right" alone
BARE: tuple[str, ...] = (
    "furthest left",
    "furthest right",
    "farthest left",
    "farthest right",
)  # no "of the image" behind them
FURTHEST_ALONG: tuple[str, ...] = (
    "closest to the {u} edge",
    "nearest to the {u} edge",
    "nearest the {u} border",
    "closest to the {u} side",
)
SIZED: tuple[str, ...] = (
    "the {w} of the {p}", "the {w} {n} of all", "the {w} one of the {p}",
    "which {n} is the {w}?", "which is the {w} {n}?", "which of the {p} is the {w}?", "the {n} that is the {w}",
    "the {w} {n} you can see", "what is the {w} {n} here?",
)  # fmt: skip
RANKED: tuple[str, ...] = (
    "the {o} {n} from the {e}", "{o} {n} from the {e}", "the {o} {n} counting from the {e}",
    "{o} {n} counted from the {e}",
    "counting from the {e}, the {o} {n}", "the {n} that is {o} from the {e}", "the {o} {n} from the {e} edge",
    "the {o} {n} from the {e} side", "find the {o} {n} from the {e}", "where is the {o} {n} from the {e}?",
    "show me the {o} {n} from the {e}", "which is the {o} {n} from the {e}?", "the {o} {e}most {n}", "{o} {e}most {n}",
    "the {n} {o} from the {e}",
    "the {o} {n} when you count from the {e}", "the {o} {n} if you count from the {e}", "{o} from the {e}: the {n}",
    "I mean the {o} {n} from the {e}", "the {o} {n} in line from the {e}",
)  # fmt: skip
RANKED_SIZE: tuple[str, ...] = (
    "the {o} {w} {n}", "{o} {w} {n}", "the {o}-{w} {n}", "find the {o} {w} {n}", "which is the {o} {w} {n}?",
    "the {o} {w} {n} of all", "the {o} {w} of the {p}", "where is the {o} {w} {n}?", "the {n} that is the {o} {w}",
    "which {n} is the {o} {w}?",
)  # fmt: skip
NEAREST: dict[str, tuple[str, ...]] = {
    "nearest": (
        "nearest to the {r}", "closest to the {r}", "nearest the {r}", "closest the {r}", "that is nearest to the {r}",
        "that is closest to the {r}", "lying nearest to the {r}", "which is closest to the {r}",
        "located closest to the {r}",
    ),
    "furthest": (
        "furthest from the {r}", "farthest from the {r}", "furthest away from the {r}", "farthest away from the {r}",
        "that is furthest from the {r}", "that is farthest away from the {r}", "lying furthest from the {r}",
    ),
}  # fmt: skip
NEAREST_FRAMES: dict[str, tuple[str, ...]] = {
    "nearest": ("the closest {n} to the {r}", "the nearest {n} to the {r}", "which {n} is closest to the {r}?",
                "find the nearest {n} to the {r}", "what is the closest {n} to the {r}?"),
    "furthest": ("the furthest {n} from the {r}", "the farthest {n} from the {r}",
                 "which {n} is furthest from the {r}?",
                 "find the farthest {n} from the {r}", "which {n} is farthest away from the {r}?"),
}  # fmt: skip
# Sides of another object. "above" and "below" have fewer words than left and right.
BESIDE: dict[str, tuple[str, ...]] = {
    "left": ("to the left of the {r}", "on the left of the {r}", "left of the {r}", "on the left side of the {r}",
             "that is to the left of the {r}", "located to the left of the {r}", "lying to the left of the {r}",
             "which is left of the {r}", "at the left of the {r}", "at the left side of the {r}"),
    "top": ("above the {r}", "on the upper side of the {r}", "further up than the {r}", "that is above the {r}",
            "located above the {r}", "lying above the {r}", "which is above the {r}", "seen above the {r}"),
}  # fmt: skip
BESIDE["right"] = tuple(text.replace("left", "right") for text in BESIDE["left"])
BESIDE["bottom"] = tuple(
    text.replace("above", "below").replace("upper", "lower").replace(" up ", " down ") for text in BESIDE["top"]
)
# Phrases with words that the parser does not know; what they claim is true of the same objects. Each is said instead of
# one that it reads, with a small share: they teach words that no rule has.
UNREAD: dict[str, tuple[str, ...]] = {
    "left": ("over on the left", "off to the left", "in the left third", "hugging the left edge",
             "along the left edge", "by the left edge", "way over to the left"),
    "right": ("over on the right", "off to the right", "in the right third", "hugging the right edge",
              "along the right edge", "by the right edge", "way over to the right"),
    "top": ("up at the top", "up near the top", "in the top third", "along the top edge", "by the top edge",
            "high up", "just inside the top edge"),
    "bottom": ("down at the bottom", "down near the bottom", "in the bottom third", "along the bottom edge",
               "by the bottom edge", "low down", "just inside the bottom edge"),
    "corner": ("tucked into the {d} corner", "over in the {d} corner", "out in the {d} corner",
               "all the way in the {d} corner", "where the {d} corner is", "filling the {d} corner"),
    "middle": ("smack in the middle", "dead centre", "around the middle", "about in the centre",
               "roughly in the middle", "mid-image"),
    "THE": ("the only {x} I care about", "my eye is on the {x}", "take me to the {x}", "any idea where the {x} is?",
            "let me have a look at the {x}", "the {x} is what I want", "I'd call it the {x}", "hover over the {x}"),
}  # fmt: skip

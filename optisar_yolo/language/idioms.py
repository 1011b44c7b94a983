"""Words that look like a claim and are none: *left* as a verb, a ship's port side, negated attributes, commands.

`parser`, `transform` and `swaps` read expressions with these patterns. `notes` tells the user about them.
`split_request` takes off the words that only ask: "find … for me".
"""

from __future__ import annotations

import re
from typing import NamedTuple

# Prepositions that lead to a place in the image, as in "along the left edge".
PREPOSITIONS = "in|on|at|near|nearby|within|along|by|to|toward|towards|against|around|inside|over|across|of|for|close"
# Words after "on the left" that leave it a place. Another noun makes it a landmark: "on the left bank", "in the lower
# park", "on the right runway", "in the left half".
_AFTER = (
    "of in on at is are was were and or but to near nearby next with that which whose who where while when above below "
    "beside besides between behind before after facing from by has have had as under over along inside outside around "
    "close closest nearest just away here there it its not without than please within beneath underneath opposite "
    "beyond alongside amid among amongst against toward towards across off out past through image picture scene photo "
    "photograph view frame far very left right top bottom middle center centre corner side part area region section "
    "portion edge end zone hand border margin"
)
# Participles too: "on the left parked …"; these are nouns.
CONTINUES = re.compile(
    rf"{'|'.join(_AFTER.split())}"
    r"|(?!(?:building|parking|landing|mooring|crossing|docking|wing|ring|spring|string|railing|bed|shed|field)s?$)"
    r"\w{2,}(?:ing|ed)",
    re.IGNORECASE,
)

# "a boat left in the dry dock", "cars left unattended": what was left behind. "the ship on the left in the harbor" and
# "the upper left in the image" name a side, and so does "left at the bottom" after another direction.
_DIRECTED = (
    "the upper lower top bottom far middle center centre at on to is in and or furthest farthest further farther "
    "more most slightly bit immediately straight hard nose nosed bow tail facing faces faced pointing points pointed "
    "heading headed moving turning turned turns going driving looking directed leaning tilted one ones"
)
_NO_SIDE = "".join(rf"(?<!\b{word}[ -])" for word in _DIRECTED.split())
LEFT_BEHIND = (
    rf"(?<=\w ){_NO_SIDE}left (?:in|on|at|by|near|inside|outside|under|there|here|alone|open|empty|out|parked|standing"
    r"|lying|unattended|abandoned|unfinished|overnight|from|to (?:rot|rust|decay|die))"
    r"|(?:was|were|been|being|got) left"
)
# "a little right of the middle": a distance, no size.
A_LITTLE = re.compile(
    r"\ba (?:little|tiny) (?:bit\b ?)?(?=$|(?:left|right|above|below|under|over|beyond|further|farther|lower|higher|up"
    r"|down|off|away|to|more|less|closer|nearer|smaller|bigger|larger|north|south|east|west|outside|inside|past|behind)\b)",
    re.IGNORECASE,
)
# Sides of a thing, not of the image: "the left wing of the plane", "the right bank", "the port side".
OWN_SIDES = (
    r"(?:left|right)[- ](?:wing(?:tip)?|bank|engine|flank|tail|fin|bow|rudder|arm|leg)s?|starboard|to port"
    r"|port[- ](?:side|bow|quarter|stern|wing|beam|quarter)"
)
# A noun that belongs to what follows it: "a boat ramp", "the ship's wake", "the airplane hangar".
OF_NOUN = re.compile(
    r"['\u2019]s? \w|[ -](?:pier|jetty|jetties|quay|ramp|slip(?:way)?|berth|basin|yard|hangar|shed|shelter|house|club"
    r"|shop|dealer|dealership|factory|plant|farm|terminal|building|roof|wall|fence|gate|door|apron|pad|deck|hull|mast"
    r"|wing|engine|wheel|wake|shadow|track|lane|pillar|pylon|tower|crane|carrier|trailer|truck|wash|traffic|graveyard"
    r"|wreck|canal|channel|entrance|complex|tree)s?\b",
    re.IGNORECASE,
)
# With the word before it another thing than the category: "a jet bridge" is no bridge, "a loading dock" no harbor.
OTHER_KIND = re.compile(
    r"\b(?:(?:jet|boarding|air)[ -]bridge|loading[ -]dock|(?:cable|rail|railway|train|tram|dodgem)[ -]car"
    r"|(?:fish|battle|army)[ -]tank|motor[ -]pool)s?$",
    re.IGNORECASE,
)
# Behind a noun: what is chosen among a group lies in the group's corner, not in the image's.
IN_GROUP = re.compile(
    r"(?: (?!(?:in|of|on|at|near|from|among|amongst)\b)[\w'-]+){1,3} (?:in|of|from|among|amongst)"
    r" (?:the|an?|this|that|these|those|all)(?: [\w-]+){0,2}? (?:group|row|column|line|cluster|chain|queue|block|pair"
    r"|bunch|set|trio|two|three|four|five|six|seven|eight|nine|ten)s?\b",
    re.IGNORECASE,
)
# Nouns of categories that name no object here: "port" as a direction.
NO_NOUN = re.compile(
    r"\b(?:port[- ](?:side|bow|quarter|stern|wing|beam)s?|to port|port (?:and|or|to) starboard|starboard (?:and|or|to)"
    r" port)\b",
    re.IGNORECASE,
)

# What stands behind these words is denied: it claims nothing that could be found.
NEGATION = re.compile(
    r"\b(?:not|no(?! ?\.? ?\d)|without|none|never|nor|neither|nothing|nobody|except(?: for)?|excluding|other than"
    r"|rather than|instead of|lacking|lacks|(?:is|are|was|were|does|do|did|has|have|can)n['\u2019]?t"
    r"|(?:can|could|would)not|non(?=-\w))\b",
    re.IGNORECASE,
)
# A command to find something is no part of what is to be found.
_POLITE = (
    r"(?:(?:please|kindly|now|hey|ok(?:ay)?),? )*"
    r"(?:(?:can|could|would|will) you(?: please)? |i (?:want|need) to |let us |let's )?"
)
_SEEK = (
    r"find|locate|show|detect|mark|highlight|identify|spot|select|segment|pick(?: out)?|point (?:at|to|out)"
    r"|look (?:for|at)|search for|focus on|zoom (?:in )?(?:on|to)|zoom in(?: on| to)?|give|get|ground|box|outline|see"
    r"|(?:draw|put|place)(?: me)? an? (?:bounding )?box (?:around|on|over|round)|tell me where|where(?: is| are|'s)"
)
COMMAND = re.compile(rf"^\W*{_POLITE}(?:{_SEEK})(?: (?:me|us))?(?: (?=\w))(?!court|crane)", re.IGNORECASE)
# What leads in to what is meant: "I'm looking for the ship", "the target is the ship". A determiner follows.
LEAD_IN = re.compile(
    r"^\W*(?:(?:ok(?:ay)?|hey|now|next|so|well|then|just|only),? )*"
    r"(?:(?:i|we)(?:'m| am|'re| are) (?:looking|searching) for|(?:looking|searching) for|(?:i|we|you)(?: can)? see"
    r"|(?:i|we)(?: (?:need|want|mean|meant)|'d like| would like)(?: to (?:see|find|have))?"
    r"|(?:the )?(?:targets?|objects?)(?: (?:is|are)|:)|the ones? (?:i mean|i want|to find) (?:is|are)"
    r"|(?:it|this|that)(?:'s| is)|(?:what|how) about|which one is|what is|what's|there's|here's|here (?:is|are)"
    r"|do you see|see)? ?(?=(?:the|an?|all|both|every|each|this|these|those|exactly|one|two|three|four|five|six|seven"
    r"|eight|nine|ten|\d+)\b)",
    re.IGNORECASE,
)
# What ends a request: "the ship, please", "find the ship for me", "tell me where the ship is", "the ship you can see".
_TAIL = re.compile(
    rf",? (?:please|thanks|thank you|for (?:me|us)|of all|if (?:you can|possible)|{_NO_SIDE}right now|now"
    r"|(?:over )?(?:here|there)"
    r"|(?:(?:that|which) )?(?:you|we|i)(?: can)? see|(?:can|do) (?:you|we|i) see|(?:is|are)(?: located)?)[ .?!,;]*$",
    re.IGNORECASE,
)


class Request(NamedTuple):
    """An expression in three parts, which put together are the expression: only the body says what is meant."""

    lead: str
    body: str
    tail: str


def split_request(text: str) -> Request:
    """Take the words of a request off an expression: "find me |the ship on the left|, please?".

    Everything that reads or rewrites an expression reads its body alone, so that no claim depends on how it is asked.

    Args:
        text: An expression without surplus white space.
    """
    start = 0
    for pattern in (COMMAND, LEAD_IN):
        found = pattern.search(text[start:])
        start += found.end() if found else 0
    body = text[start:].rstrip(" .?!,;")
    while found := _TAIL.search(body):
        body = body[: found.start()].rstrip(" .?!,;")
    return Request(text[:start], body, text[start + len(body) :])


# Words that claim nothing where they are left over: "the ship lying on the left", "which of these is the largest?".
IDLE = frozenset(
    "which what that's lying lies seen you can see here there's here's those these ones i we visible".split()
)

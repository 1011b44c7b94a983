from .generate import (
    canonical as canonical,
    held_out_wording as held_out_wording,
    random_meaning as random_meaning,
    wording as wording,
)
from .lexicon import RESERVED as RESERVED
from .paraphrase import reword as reword
from .parser import (
    EXTREME as EXTREME,
    NOUNS as NOUNS,
    PLACE as PLACE,
    RELATION as RELATION,
    Meaning as Meaning,
    agree as agree,
    clean as clean,
    noun_of as noun_of,
    parse as parse,
    put as put,
    read_place as read_place,
)
from .query import (
    Question as Question,
    choose as choose,
    question as question,
)
from .swaps import (
    KINDS as KINDS,
    Variant as Variant,
    has_colour as has_colour,
    strip_position as strip_position,
    swap as swap,
    verdicts_of as verdicts_of,
)
from .transform import (
    flip as flip,
    rotate90 as rotate90,
    rotate180 as rotate180,
)
from .verify import Scene as Scene

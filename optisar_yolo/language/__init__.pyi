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
    Meaning as Meaning,
    NOUNS as NOUNS,
    PLACE as PLACE,
    RELATION as RELATION,
    agree as agree,
    clean as clean,
    noun_of as noun_of,
    parse as parse,
    put as put,
    read_place as read_place,
)
from .query import (
    Query as Query,
    parse_query as parse_query,
    select as select,
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
    rotate180 as rotate180,
    rotate90 as rotate90,
)
from .verify import LabelledObjects as LabelledObjects

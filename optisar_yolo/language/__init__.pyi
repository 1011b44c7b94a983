from .choice import (
    Found as Found,
    chosen as chosen,
    order as order,
    weigh as weigh,
    without_colour as without_colour,
)
from .descriptions import (
    MODALITY_WORD as MODALITY_WORD,
    describe as describe,
    describe_sets as describe_sets,
    draw_by_kind as draw_by_kind,
)
from .edit import (
    LONGEST_EXPRESSION as LONGEST_EXPRESSION,
    agree as agree,
    clean as clean,
    put as put,
)
from .exchanges import (
    CONTRASTS as CONTRASTS,
    contrasts as contrasts,
)
from .generate import (
    canonical as canonical,
    held_out_wording as held_out_wording,
    random_claims as random_claims,
    wording as wording,
)
from .inflect import mentions as mentions
from .met import (
    met_words as met_words,
    unmet_noun as unmet_noun,
)
from .notes import (
    ExpressionNotes as ExpressionNotes,
    read_notes as read_notes,
    wordings as wordings,
)
from .nouns import (
    BUILT_IN as BUILT_IN,
    Vocabulary as Vocabulary,
    noun_of as noun_of,
    spoken as spoken,
)
from .paraphrase import (
    UNREAD as UNREAD,
    reword as reword,
)
from .parser import (
    ParsedExpression as ParsedExpression,
    parse as parse,
    read_place as read_place,
)
from .query import (
    REASONED as REASONED,
    ObjectQuery as ObjectQuery,
    in_words as in_words,
    read_query as read_query,
)
from .raster_query import parse_raster_query as parse_raster_query
from .swaps import (
    KINDS as KINDS,
    Variant as Variant,
    has_colour as has_colour,
    strip_position as strip_position,
    swap as swap,
    truths_of_variant as truths_of_variant,
)
from .transform import (
    flip as flip,
    rotate90 as rotate90,
    rotate180 as rotate180,
)
from .verify import LabelledObjects as LabelledObjects
from .vocabulary import (
    NOUNS as NOUNS,
    PLACE as PLACE,
    RELATION as RELATION,
    RESERVED as RESERVED,
    SUPERLATIVE as SUPERLATIVE,
)

from .arguments import (
    BUILD_MODEL as BUILD_MODEL,
    BUNDLED_MODEL as BUNDLED_MODEL,
    HELP_WORDS as HELP_WORDS,
    UsageError as UsageError,
    check_known as check_known,
    nearest as nearest,
    parse as parse,
    plain as plain,
    require as require,
    typed as typed,
)
from .distributed import (
    gather_objects as gather_objects,
    process_rank as process_rank,
    sum_over_processes as sum_over_processes,
    world_size as world_size,
)
from .extras import (
    MissingExtraError as MissingExtraError,
    need as need,
)
from .files import (
    PART as PART,
    appearing as appearing,
    is_part as is_part,
    write_atomic as write_atomic,
)

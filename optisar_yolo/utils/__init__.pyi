from .arguments import (
    parse as parse,
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
from .options import (
    BUILD_MODEL as BUILD_MODEL,
    BUNDLED_MODEL as BUNDLED_MODEL,
    Command as Command,
    HELP_WORDS as HELP_WORDS,
    Option as Option,
    SettingError as SettingError,
    UsageError as UsageError,
    check_known as check_known,
    nearest as nearest,
    option_lines as option_lines,
    plain as plain,
    weights_of as weights_of,
)

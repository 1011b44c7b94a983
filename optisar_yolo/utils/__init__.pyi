from .boxes import (
    BoxTree as BoxTree,
    intersection_union as intersection_union,
    iou as iou,
)
from .distributed import (
    gather_objects as gather_objects,
    process_rank as process_rank,
    sum_over_processes as sum_over_processes,
    world_size as world_size,
)
from .extras import (
    EXTRAS as EXTRAS,
    MissingExtraError as MissingExtraError,
    need as need,
)
from .files import (
    PART as PART,
    appearing as appearing,
    file_name_of as file_name_of,
    is_part as is_part,
    locked as locked,
    missing_folders as missing_folders,
    naming as naming,
    remove_empty as remove_empty,
    results_folder as results_folder,
    write_atomic as write_atomic,
)
from .journal import (
    Journal as Journal,
    file_identity as file_identity,
    file_sha256 as file_sha256,
    fingerprint as fingerprint,
)
from .network import check_address as check_address
from .options import (
    BUILD_MODEL as BUILD_MODEL,
    BUNDLED_MODEL as BUNDLED_MODEL,
    HELP_WORDS as HELP_WORDS,
    TRUE_WORDS as TRUE_WORDS,
    Command as Command,
    Option as Option,
    SettingError as SettingError,
    UsageError as UsageError,
    check_known as check_known,
    check_options as check_options,
    nearest as nearest,
    option as option,
    option_lines as option_lines,
    options_of as options_of,
    plain as plain,
    read_texts as read_texts,
    split_words as split_words,
    weights_of as weights_of,
)
from .parallel import ordered_map as ordered_map
from .reading import (
    UnreadableFileError as UnreadableFileError,
    read_json_file as read_json_file,
    read_yaml as read_yaml,
    short as short,
)
from .signals import exit_on_sigterm as exit_on_sigterm

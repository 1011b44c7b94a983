from .identify import (
    EXPORT_NOTE as EXPORT_NOTE,
    MARK as MARK,
    is_ours as is_ours,
)
from .patch import (
    TOUCHES as TOUCHES,
    config_keys as config_keys,
    keep_keys as keep_keys,
    model_of as model_of,
    with_packaged_cfg as with_packaged_cfg,
)
from .resources import (
    find_packaged as find_packaged,
    packaged_names as packaged_names,
)
from .settings import (
    OPTISAR_DEFAULTS as OPTISAR_DEFAULTS,
    SETTINGS as SETTINGS,
    STRETCHES as STRETCHES,
    keys_of_mode as keys_of_mode,
)
from .stock_keys import (
    HEEDED as HEEDED,
    meaning_of as meaning_of,
    name_ignored as name_ignored,
    refuse as refuse,
)
from .words import (
    NO_DATA as NO_DATA,
    merged as merged,
)

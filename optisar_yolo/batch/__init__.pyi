from .options import (
    BatchError as BatchError,
    BatchOptions as BatchOptions,
)
from .run import (
    BatchResult as BatchResult,
    run_batch as run_batch,
)

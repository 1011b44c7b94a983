"""Many images and expressions from a table, answered into Parquet by workers of Ray Data (``optisar batch``)."""

from optisar_yolo.utils import need

for _package in ("ray", "pyarrow"):  # of the extra ``batch``: the modules here cannot be imported without
    need(_package)

from optisar_yolo.batch.options import BatchError, BatchOptions  # noqa: E402
from optisar_yolo.batch.run import BatchResult, run_batch  # noqa: E402

__all__ = ["BatchError", "BatchOptions", "BatchResult", "run_batch"]

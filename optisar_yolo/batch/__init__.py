"""Grounding of tables of images and expressions into Parquet files, with workers of Ray Data (``optisar batch``).

`manifest` reads the table and cuts it into parts, `worker` grounds a part, `storage` holds paths, URIs and the folder
of results, and `run.run_batch` starts the workers and checks that every row has a result. `watch` ends what a killed
run leaves.
"""

from typing import Any

import lazy_loader

from optisar_yolo.utils import need

_lazy, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name in ("BatchResult", "run_batch"):  # the options need no extra
        for package in ("ray", "pyarrow"):
            need(package)
    return _lazy(name)

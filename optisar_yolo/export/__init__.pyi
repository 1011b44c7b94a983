from .benchmark import run_benchmark as run_benchmark
from .engines import (
    PACKAGE as PACKAGE,
    EngineNetwork as EngineNetwork,
    can_leave_torch as can_leave_torch,
    installed as installed,
    key_of as key_of,
    make_graph as make_graph,
    needs_torch as needs_torch,
    try_engines as try_engines,
)
from .export import (
    ExportError as ExportError,
    run_export as run_export,
)
from .exported import ExportedModel as ExportedModel
from .graph_cache import GraphCache as GraphCache
from .runtimes import is_export as is_export

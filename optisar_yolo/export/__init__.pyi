from .benchmark import run_benchmark as run_benchmark
from .export import run_export as run_export
from .exported import ExportedModel as ExportedModel
from .runtimes import is_export as is_export

"""OptiSAR-Net++ for Ultralytics: ask an optical or SAR picture for an object in plain words, get its box.

Importing this package is cheap: PyTorch and Ultralytics load with the first use of :class:`OptiSAR`.
"""

from optisar_yolo.boot import install

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is; importing typing would be the dearest part of the start-up hook
if TYPE_CHECKING:
    from optisar_yolo.api import OptiSAR, Scene

__version__ = "0.1.0"
__all__ = ["OptiSAR", "Scene", "__version__"]

install()


def __getattr__(name: str) -> object:
    """Load the public classes on first use."""
    if name in ("OptiSAR", "Scene"):
        from optisar_yolo import api

        return getattr(api, name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    """List the lazily loaded names too."""
    return sorted({*globals(), *__all__})

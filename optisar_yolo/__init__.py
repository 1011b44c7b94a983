"""OptiSAR-Net++ for Ultralytics: ask an optical or SAR image for an object in plain words, get its box.

Importing this package is cheap: PyTorch and Ultralytics load with the first use of :class:`OptiSAR`.
"""

from optisar_yolo.boot import install
from optisar_yolo.version import __version__

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is; importing typing would be the dearest part of the start-up hook
if TYPE_CHECKING:
    from optisar_yolo.api import EncodedImage, OptiSAR

__all__ = ["OptiSAR", "EncodedImage", "__version__"]

install()


def __getattr__(name: str) -> object:
    """Load the public classes on first use."""
    if name in ("OptiSAR", "EncodedImage"):
        from optisar_yolo import api

        return getattr(api, name)
    from optisar_yolo.moved import renamed

    return renamed(__name__, name)


def __dir__() -> list[str]:
    """List the lazily loaded names too."""
    return sorted({*globals(), *__all__})

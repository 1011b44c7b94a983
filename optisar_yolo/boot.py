"""Import hook: makes stock Ultralytics know OptiSAR-Net++ without loading it before somebody else does.

The start-up file ``optisar_yolo_boot.pth`` (``.start`` on Python 3.15 and later, PEP 829) brings it into every
interpreter of the environment. That costs well under a millisecond: this module uses what the interpreter has loaded
anyway, and the work (:mod:`optisar_yolo.plugin.patch`) begins only when a program imports Ultralytics.

``OPTISAR_AUTOLOAD=0`` switches the hook off. ``optisar`` and :class:`optisar_yolo.OptiSAR` work without it.
"""

import os
import sys

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is; neither typing nor __future__ is worth its cost at every start-up
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

TARGETS = ("ultralytics.cfg", "ultralytics.models.yolo.model")
"""The modules that :mod:`optisar_yolo.plugin.patch` touches."""

SWITCH = "OPTISAR_AUTOLOAD"
"""Environment variable: ``0`` leaves Ultralytics as it is."""


class Finder:
    """Meta path finder that finds nothing itself: the others find a target, it adds a step after the execution."""

    def find_spec(
        self, fullname: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        """Return the spec of a target module, told to be touched once it has run; ``None`` for every other module."""
        if fullname not in TARGETS:
            return None
        for finder in sys.meta_path:
            if finder is not self and (spec := finder.find_spec(fullname, path, target)) is not None:
                _touch_after_execution(spec)
                return spec
        return None


class Moved:
    """Meta path finder for modules of this package that have another name now; it stands last, and is seldom asked."""

    def find_spec(
        self, fullname: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        """Return the spec of a module that hands over the names of the one that took its place."""
        if not fullname.startswith("optisar_yolo."):
            return None
        from optisar_yolo import moved

        return moved.find_spec(fullname)


def install(force: bool = False) -> None:
    """Arrange for Ultralytics to be touched when it is imported, or at once where it already is. Safe to call again.

    Args:
        force: Install even where ``OPTISAR_AUTOLOAD=0``.
    """
    if not any(isinstance(finder, Moved) for finder in sys.meta_path):
        sys.meta_path.append(Moved())  # type: ignore[arg-type]  # find_spec is all that the import system asks for
    if not force and os.environ.get(SWITCH, "1").strip() == "0":
        return
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder())  # type: ignore[arg-type]  # find_spec is all that the import system asks for
    for name in TARGETS:
        module = sys.modules.get(name)
        # A module whose execution is under way, without our step, is incomplete: there is nothing to touch yet.
        if module is not None and not getattr(module.__spec__, "_initializing", False):
            _touch(module)


def start() -> None:
    """Entry point of the start-up files: install unless ``OPTISAR_AUTOLOAD=0``."""
    install()


def _touch_after_execution(spec: "ModuleSpec") -> None:
    """Make the module's loader call the plugin when it has executed the module; the loader keeps its type."""
    loader = spec.loader
    if loader is None or isinstance(loader, type):  # a class as loader (frozen modules) is shared by many modules
        return
    execute = loader.exec_module

    def exec_module(module: "ModuleType") -> None:
        execute(module)
        _touch(module)

    loader.exec_module = exec_module  # type: ignore[method-assign]  # on this instance, which loads this module alone


def _touch(module: "ModuleType") -> None:
    """Apply the plugin to one loaded module. An Ultralytics that does not fit stays as it is, with a warning."""
    try:
        from optisar_yolo.plugin import TOUCHES

        TOUCHES[module.__name__](module)
    except Exception as error:  # whatever is wrong with us, stock Ultralytics works on
        import warnings

        message = (
            f"optisar-yolo is not active in this process, it does not fit '{module.__name__}': "
            f"{type(error).__name__}: {error}. Install a supported version: pip install 'ultralytics>=8.4.140,<8.5'; "
            "where it is installed, install optisar-yolo again"
        )
        try:
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        except RuntimeWarning:  # with -W error, a warning would break the import as well
            if sys.stderr is not None:
                sys.stderr.write(f"RuntimeWarning: {message}\n")

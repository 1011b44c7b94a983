"""The one place that touches Ultralytics' globals.

1. Configuration keys. Ultralytics accepts ours only in a thread that is inside :func:`config_keys`: during our own
   training, validation and prediction. Stock runs, also later ones and those of other threads, see and save
   (``args.yaml``) exactly the stock keys. A process that is one command of ours (``yolo`` with one of our models, the
   children of a parallel training) has the keys in ``DEFAULT_CFG_DICT`` and ``DEFAULT_CFG`` as well.
2. ``YOLO(...)`` hands our YAMLs, checkpoints and exports to :class:`optisar_yolo.OptiSAR`, as Ultralytics itself does
   for its open-vocabulary models.

The hook in :mod:`optisar_yolo.boot` calls the functions in :data:`TOUCHES` when the modules they are for are loaded.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from optisar_yolo.plugin import settings, words as words_of_command
from optisar_yolo.plugin.identify import is_ours
from optisar_yolo.utils import UsageError, exit_on_sigterm, read_yaml

__all__ = ["TOUCHES", "config_keys", "is_ours", "keep_keys", "keys_active", "model_of", "with_packaged_cfg"]

_DONE = "__optisar__"  # attribute of a function that has been wrapped
_lock = threading.Lock()
_depth = 0  # command lines and `keep_keys` of this process
_added: list[str] = []


class _Here(threading.local):
    """Blocks of :func:`config_keys` that are open in this thread."""

    depth = 0


_here = _Here()


@contextmanager
def config_keys() -> Iterator[None]:
    """Let Ultralytics accept our configuration keys inside the block, in this thread; blocks nest.

    Usable as a decorator too (``@config_keys()``). A key of the same name that a later Ultralytics has itself keeps
    its own default.
    """
    _here.depth += 1
    try:
        yield
    finally:
        _here.depth -= 1


def keep_keys() -> None:
    """Let Ultralytics accept our keys from now on: for a process that does nothing but run one model of ours.

    Such are the child processes of a parallel training and of Ultralytics' own subprocess commands.
    """
    _enter()


def keys_active() -> bool:
    """Tell whether Ultralytics accepts our keys in this thread."""
    return _here.depth > 0 or _depth > 0


def _enter() -> None:
    """Add our keys to the defaults of this process, at the outermost level."""
    from ultralytics.utils import DEFAULT_CFG, DEFAULT_CFG_DICT

    global _depth
    with _lock:
        _depth += 1
        if _depth > 1:
            return
        for name, default in settings.OPTISAR_DEFAULTS.items():
            if name not in DEFAULT_CFG_DICT:
                DEFAULT_CFG_DICT[name] = default
                setattr(DEFAULT_CFG, name, default)
                _added.append(name)


def _leave() -> None:
    """Take our keys away again, at the outermost level."""
    from ultralytics.utils import DEFAULT_CFG, DEFAULT_CFG_DICT

    global _depth
    with _lock:
        _depth -= 1
        if _depth == 0:
            while _added:
                name = _added.pop()
                DEFAULT_CFG_DICT.pop(name, None)
                vars(DEFAULT_CFG).pop(name, None)


def touch_cfg(module: Any) -> None:
    """Touch ``ultralytics.cfg``: the command line knows our keys where it names our model, and values are checked.

    Three functions are wrapped. ``entrypoint`` compares every argument with the default keys before any model exists,
    so the keys have to be there before it starts. Every configuration is built by ``get_cfg``, which reads the
    defaults through ``cfg2dict`` and has the result judged by ``check_cfg``.
    """
    if getattr(module.entrypoint, _DONE, False):
        return
    stock_entrypoint, stock_check, stock_dict = module.entrypoint, module.check_cfg, module.cfg2dict

    @functools.wraps(stock_entrypoint)
    def entrypoint(debug: str = "") -> None:
        argv = debug.split(" ") if debug else list(module.ARGV)
        try:
            args = with_packaged_cfg(words_of_command.merged(argv[1:]))
            if not _names_ours(args):
                return stock_entrypoint(debug)
            args = words_of_command.checked(args)
        except Exception as error:
            if not _names_ours(argv[1:]):  # whatever is wrong with us, stock commands work on
                return stock_entrypoint(debug)
            if not isinstance(error, UsageError) or Path(sys.argv[0]).stem not in ("yolo", "ultralytics"):
                raise
            sys.exit(f"yolo: {error}")
        if Path(sys.argv[0]).stem in ("yolo", "ultralytics"):  # the process is this command
            exit_on_sigterm()
        words = [word.lstrip("-") for word in args]
        if {"export", "mode=export"} & set(words) and not any(word.startswith("format=") for word in words):
            args.append("format=onnx")  # stock's default is a format that holds images alone
        before, module.ARGV = module.ARGV, [*argv[:1], *args]
        _enter()
        try:
            return stock_entrypoint()
        finally:
            _leave()
            module.ARGV = before

    @functools.wraps(stock_check)
    def check_cfg(cfg: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        stock_check(cfg, *args, **kwargs)
        if keys_active():
            settings.check(cfg)

    @functools.wraps(stock_dict)
    def cfg2dict(cfg: Any) -> Any:
        content = stock_dict(cfg)
        # A whole configuration, also the copy that a second `predict` starts from; overrides have a few keys only.
        if keys_active() and module.DEFAULT_CFG_DICT.keys() <= content.keys():
            return {**settings.OPTISAR_DEFAULTS, **content}
        return content

    for name, function in (("entrypoint", entrypoint), ("check_cfg", check_cfg), ("cfg2dict", cfg2dict)):
        setattr(function, _DONE, True)
        setattr(module, name, function)

    # Ultralytics starts trainings of its own as `python -m ultralytics.cfg.__init__ train model=…`. That runs a second,
    # untouched copy of this module; the process is a single command, so the keys may stay.
    if f"{module.__name__}.__init__" in sys.orig_argv and _names_ours(sys.argv[1:]):
        keep_keys()


def _names_ours(words: Sequence[str]) -> bool:
    """Tell whether a command names a model of ours; not where ``cfg=`` cannot be read, which Ultralytics reports."""
    try:
        return is_ours(model_of(words))
    except Exception:  # it decides about stock commands too, which no fault of ours may break
        return False


def model_of(args: Sequence[str]) -> str | None:
    """Return the model that a ``yolo`` command names, directly or in the file given as ``cfg=``.

    Args:
        args: The words after the program's name, ``key=value`` in one piece.

    Raises:
        UnreadableFileError: That file cannot be read.
    """
    values = {k.strip(): v.strip() for k, v in (word.lstrip("-").split("=", 1) for word in args if "=" in word)}
    if "model" in values:
        return values["model"]
    cfg = Path(values.get("cfg", ""))
    if not cfg.is_file():
        return None
    content = read_yaml(cfg)
    return content.get("model") if isinstance(content, dict) else None


def with_packaged_cfg(args: Sequence[str]) -> list[str]:
    """Replace the bare name of a packaged training recipe (``cfg=quick.yaml``) by its path; local files win."""
    from optisar_yolo.plugin.resources import find_packaged, packaged_names

    out = []
    for word in args:
        key, _, value = word.partition("=")
        if key.strip().lstrip("-") == "cfg" and value.strip() and not Path(value.strip()).exists():
            recipes = {Path(name).name for name in packaged_names("cfg")}
            if value.strip() in recipes:
                word = f"cfg={find_packaged('cfg', value.strip())}"
        out.append(word)
    return out


def touch_yolo(module: Any) -> None:
    """Touch ``ultralytics.models.yolo.model``: ``YOLO(ours)`` becomes an :class:`optisar_yolo.OptiSAR`."""
    stock_init = module.YOLO.__init__
    if getattr(stock_init, _DONE, False):
        return

    @functools.wraps(stock_init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        model = args[0] if args else kwargs.get("model")
        if is_ours(model) or _is_loaded_optisar(model):
            from optisar_yolo.api import OptiSAR

            self.__class__ = OptiSAR  # as Ultralytics does for YOLOE and YOLO-World
            OptiSAR.__init__(self, *args, **kwargs)
        else:
            stock_init(self, *args, **kwargs)

    setattr(__init__, _DONE, True)
    module.YOLO.__init__ = __init__


def _is_loaded_optisar(model: object) -> bool:
    """Tell whether an object is an OptiSAR model, without importing its class for the sake of the question."""
    api = sys.modules.get("optisar_yolo.api")
    return api is not None and isinstance(model, api.OptiSAR)


TOUCHES: dict[str, Callable[[ModuleType], None]] = {
    "ultralytics.cfg": touch_cfg,
    "ultralytics.models.yolo.model": touch_yolo,
}
"""What to do with which module, once it is loaded."""

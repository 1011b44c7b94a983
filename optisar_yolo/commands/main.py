"""The ``optisar`` command: the grammar of ``yolo``, with our models as defaults and a few verbs of its own.

1. A verb of our own is a module of this folder: ``COMMAND`` declares its options, ``main(values)`` does the work. A
   verb with verbs of its own (``optisar dataset split``) has ``COMMANDS`` instead, and ``main(name, values)``.
2. Every other verb is Ultralytics' (``optisar train data=optsar.yaml`` is ``yolo train model=optisar++.yaml
   data=optsar.yaml``), with our configuration keys beside its own.
3. ``optisar VERB --help`` is written from the declarations.

The command switches the import hook on for itself, so it works where ``OPTISAR_AUTOLOAD=0``.
"""

from __future__ import annotations

import errno
import importlib
import logging
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

from optisar_yolo import boot
from optisar_yolo.plugin import SETTINGS, is_ours, keys_of_mode
from optisar_yolo.utils import (
    BUILD_MODEL,
    BUNDLED_MODEL,
    HELP_WORDS,
    Command,
    UsageError,
    exit_on_sigterm,
    nearest,
    option_lines,
    plain,
)
from optisar_yolo.version import __version__

_WEIGHTS = (".pt", ".safetensors", ".onnx", ".torchscript")
_EXPORTS = (".onnx", ".torchscript", ".engine", ".mlpackage", ".pb", ".tflite")
_WRONG_TYPE = re.compile(r"'\w+=.*' is of invalid type|'\w+' must be", re.DOTALL)
TRACEBACK = "OPTISAR_TRACEBACK"
"""Environment variable: any value shows the whole traceback of an error, for a report."""

_REMEDIES = {
    errno.ENOSPC: "make room on this disk or write elsewhere; what was saved before is still there",
    errno.EDQUOT: "make room within your quota or write elsewhere; what was saved before is still there",
    errno.EFBIG: "the file grew beyond a limit of the system (ulimit -f); raise it or write elsewhere",
    errno.EROFS: "it lies on a read-only disk; write elsewhere with project= or another folder",
    errno.EACCES: "correct its permissions or write elsewhere with project= or another folder",
    errno.EPERM: "correct its permissions or write elsewhere with project= or another folder",
}
"""What helps against errors of the file system."""

VERBS = (
    "demo", "calibrate", "annotate", "score", "zeroshot", "view", "explain", "scene", "batch", "dataset",
    "import-weights", "info", "reproduce", "app", "serve", "cache", "params", "distill",
)  # fmt: skip
"""Commands of our own, each a module of this folder."""

MODES = {
    "train": "train a model: data=optsar.yaml model=optisar++n.yaml epochs=50 (scales n, s, m, l, x; plain is m)",
    "val": "validate: model=best.pt data=optsar.yaml split=test prints the optical / SAR / all table",
    "predict": 'ground expressions: model=best.pt source=port.jpg text="the SAR ship in the upper left"',
    "export": "write the network for other programs: model=best.pt format=onnx (or openvino, torchscript)",
    "benchmark": "export to every format, validate each and time it: model=best.pt data=optsar.yaml",
    "track": "follow what the expressions mean through a video: model=best.pt source=video.mp4 text=…",
}
"""Modes of Ultralytics that have keys of ours, with what they do."""

STOCK_WORDS = ("version", "checks", "settings", "cfg", "copy-cfg", "login", "logout", "solutions")
"""Commands that Ultralytics answers itself."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line.

    Args:
        argv: The words after the program's name; by default those of this process.

    Returns:
        Exit status: 0 done, 1 the input cannot be used, 2 the command line is wrong, 130 interrupted.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    if argv is None:  # a process of our own, in which nobody else handles signals
        exit_on_sigterm()
    if not args or args[0].lower() in HELP_WORDS:
        print(help_page() if len(args) < 2 else help_of(args[1:]))
        return 0
    try:
        if args[0] in VERBS:
            return _run_verb(args[0], args[1:])
        return _run_stock(args)
    except UsageError as error:
        print(f"optisar: {error}\nRun 'optisar help' for the commands.", file=sys.stderr)
        return 2
    except (FileNotFoundError, ValueError) as error:  # input that cannot be used: the message is what helps
        if os.environ.get(TRACEBACK):
            raise
        print(f"optisar: {error}\n({TRACEBACK}=1 shows where this was noticed)", file=sys.stderr)
        return 1
    except OSError as error:
        if os.environ.get(TRACEBACK) or (error.filename is None and error.errno not in _REMEDIES):
            raise
        remedy = _REMEDIES.get(error.errno or 0, "correct the path or the file")
        where = f"{error.filename}: " if error.filename is not None else ""
        print(f"optisar: {where}{error.strerror}; {remedy}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("optisar: interrupted", file=sys.stderr)
        return 130


def module_of(verb: str) -> ModuleType:
    """Import the module of a verb of our own. What it works with is imported when it runs."""
    return importlib.import_module(f"optisar_yolo.commands.{verb.replace('-', '_')}")


def commands_of(verb: str) -> Mapping[str, Command]:
    """Return the commands that a verb of our own declares, by what follows the verb; ``""``: nothing does."""
    module = module_of(verb)
    return dict(module.COMMANDS) if hasattr(module, "COMMANDS") else {"": module.COMMAND}


def help_page() -> str:
    """Return the text of ``optisar help``."""
    own = {
        verb: module_of(verb).HELP if hasattr(module_of(verb), "HELP") else module_of(verb).COMMAND.help
        for verb in VERBS
    }
    lines = [
        f"optisar {__version__}: ground referring expressions in optical and SAR images.",
        "",
        "Modes, as in yolo",
        *(f"  optisar {mode:<14} {text}" for mode, text in MODES.items()),
        "",
        "Own commands",
        *(f"  optisar {verb:<14} {text}" for verb, text in own.items()),
        "",
        "optisar VERB --help lists every argument of VERB.",
        "optisar checks | version | settings | cfg do what they do in yolo.",
        f"Without model=, train starts from {BUILD_MODEL} and every other mode uses {BUNDLED_MODEL},",
        "which comes with the package.",
    ]
    return "\n".join(lines)


def help_of(words: Sequence[str]) -> str:
    """Return the help of a verb.

    Args:
        words: The verb, and of a verb with verbs of its own perhaps one of these.

    Raises:
        UsageError: There is no such verb.
    """
    verb = words[0]
    if verb in MODES:
        return mode_page(verb)
    if verb not in VERBS:
        raise UsageError(f"unknown command '{verb}'{nearest(verb, [*MODES, *VERBS])}")
    commands = commands_of(verb)
    if "" in commands:
        return commands[""].page()
    if len(words) > 1 and words[1] in commands:
        return commands[words[1]].page()
    return "\n".join(
        [
            f"optisar {verb}: {module_of(verb).HELP}",
            "",
            *(f"  optisar {command.name:<20} {command.help}" for command in commands.values()),
            "",
            f"optisar {verb} NAME --help lists every argument of NAME.",
        ]
    )


def mode_page(mode: str) -> str:
    """Return the help of one of Ultralytics' modes: our keys, then all of Ultralytics'."""
    from ultralytics.utils import DEFAULT_CFG_PATH

    from optisar_yolo.plugin import meaning_of

    own = option_lines(keys_of_mode(mode))
    ours = _defaults(mode)
    lines = [f"optisar {mode} key=value …", "", MODES[mode], ""]
    lines += ["Own arguments", *own, ""] if own else []
    lines.append("Arguments of Ultralytics (https://docs.ultralytics.com/usage/cfg) that have an effect")
    for line in DEFAULT_CFG_PATH.read_text(encoding="utf-8").splitlines():
        key, colon, rest = line.partition(":")
        if not colon or line.startswith(("#", " ")) or meaning_of(key, mode)[0] not in ("heeded", "unknown"):
            continue
        value, _, comment = rest.partition("#")
        value = str(ours.get(key, value.strip()))
        lines.append(f"  {key:<16} {comment.strip()}{f' (default: {value})' if value else ''}")
    return "\n".join(lines)


def _defaults(mode: str) -> dict[str, object]:
    """Return the defaults of Ultralytics' keys that are others for our models."""
    if mode == "train":
        from optisar_yolo.engine import TRAIN_DEFAULTS

        return dict(TRAIN_DEFAULTS)
    own: dict[str, object] = {"conf": "the calibrated threshold of the weights, else 0.05", "imgsz": "that of training"}
    return own | ({"format": "onnx"} if mode == "export" else {})


def _run_verb(verb: str, words: Sequence[str]) -> int:
    """Run a command of our own."""
    boot.install(force=True)
    commands = commands_of(verb)
    names = [w for w in words if w.lower() not in HELP_WORDS]
    if len(names) < len(words) or ("" not in commands and not words):
        print(help_of([verb, *names]))
        return 0
    main = module_of(verb).main
    if "" in commands:
        return int(main(commands[""].parse(words)) or 0)
    if words[0] not in commands:
        raise UsageError(f"unknown command 'optisar {verb} {words[0]}'{nearest(words[0], commands)}")
    return int(main(words[0], commands[words[0]].parse(words[1:])) or 0)


def _check_others(path: Path, words: Sequence[str]) -> None:
    """Check a weights file that is not recognised as one of ours: perhaps it is damaged.

    Raises:
        ValueError: It is damaged, or a key of ours is given, which means nothing to other models.
    """
    from optisar_yolo.engine import load_model

    if path.is_dir() or path.suffix in (".pt", ".safetensors"):
        try:
            load_model(path)
        except ValueError as error:
            if "not of an OptiSAR model" not in str(error):
                raise
    keys = [word.lstrip("-").partition("=")[0].strip() for word in words if "=" in word]
    if ours := next((key for key in keys if key in SETTINGS), None):
        raise UsageError(
            f"{path} is no OptiSAR model, or damaged: '{ours}=' means nothing to it. Give weights of 'optisar train'"
        )


def _check_weights(model: str, words: Sequence[str]) -> None:
    """Check that a weights file is there, where it is none that Ultralytics would download by its name.

    Raises:
        FileNotFoundError: It is not; Ultralytics would look for it in the network.
        ValueError: It is damaged.
    """
    from ultralytics.utils import ONLINE
    from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES

    path = Path(model).expanduser()
    if path.suffix not in _WEIGHTS or "://" in model or is_ours(path):
        return
    if path.exists():
        _check_others(path, words)
        return
    if path.suffix == ".pt" and path.name in GITHUB_ASSETS_NAMES and ONLINE:
        return
    from optisar_yolo.engine import find_weights

    find_weights(model)


def _concerns_us(record: logging.LogRecord) -> bool:
    """Tell whether a line of the log is other than Ultralytics' pointer to pages that know nothing of expressions."""
    return "https://docs.ultralytics.com/modes" not in record.getMessage()


def _run_stock(words: list[str]) -> int:
    """Hand a command line in the grammar of ``yolo`` to Ultralytics."""
    boot.install(force=True)
    from ultralytics import cfg
    from ultralytics.utils import LOGGER

    from optisar_yolo.plugin import merged, model_of, with_packaged_cfg

    args = with_packaged_cfg(merged(words))
    first = args[0].lower().lstrip("-")
    modes = [word.removeprefix("mode=") for word in args if word.removeprefix("mode=") in cfg.MODES]
    if modes and modes[0] in MODES and any(word.lower() in HELP_WORDS for word in args):
        print(mode_page(modes[0]))
        return 0
    if first in ("version", "v"):
        print(f"optisar-yolo {__version__}")
    elif first == "cfg":
        print("\n".join(f"{name}: {setting.default}  # {setting.help}" for name, setting in SETTINGS.items()) + "\n")
    elif not modes and first not in STOCK_WORDS:
        if first == "tune":
            raise UsageError('tune is a method of Python: OptiSAR("optisar++n.yaml").tune(data=…, iterations=…)')
        known = [*cfg.MODES, *VERBS, *STOCK_WORDS, "help"]
        raise UsageError(f"unknown command '{args[0]}'{nearest(first, known)}")
    elif modes and model_of(args) is None:
        model = BUILD_MODEL if modes[0] == "train" else BUNDLED_MODEL
        print(f"optisar: no model= given, using {model}")
        args.append(f"model={model}")
    elif modes:
        _check_weights(str(model_of(args)), args)

    # Ultralytics keeps the list that sys.argv was when it was imported, which may be another one by now. A program name
    # that ends with 'yolo' makes `predict` save its images.
    before = [(held, list(held)) for held in (sys.argv, cfg.ARGV)]
    sys.argv[:] = cfg.ARGV[:] = ["optisar-yolo", *args]
    stock_help, cfg.CLI_HELP_MSG = cfg.CLI_HELP_MSG, ""  # it explains `yolo`
    LOGGER.addFilter(_concerns_us)
    try:
        cfg.entrypoint()
    except SyntaxError as error:  # what Ultralytics raises for arguments that it does not know
        raise UsageError(plain(error)) from error
    except Exception as error:
        if isinstance(error, TypeError) and _WRONG_TYPE.match(plain(error)):  # a value of another type
            raise UsageError(plain(error)) from error
        named = Path(str(model_of(args) or ""))
        if not named.exists() or is_ours(named) or not (named.is_dir() or named.suffix in _EXPORTS):
            raise
        # Damaged, or of a program that nobody knows: each runtime has errors of its own for that.
        if isinstance(error, UsageError | OSError) or (isinstance(error, ValueError) and str(named) in str(error)):
            raise
        reason = next(iter(plain(error).strip().splitlines()), "") or type(error).__name__
        raise ValueError(
            f"{named}: no OptiSAR model, and it cannot be run as a model of Ultralytics ({reason}); copy it again or "
            "export it again"
        ) from error
    finally:
        for held, content in before:
            held[:] = content
        cfg.CLI_HELP_MSG = stock_help
        LOGGER.removeFilter(_concerns_us)
    return 0

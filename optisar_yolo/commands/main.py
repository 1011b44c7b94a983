"""The ``optisar`` command: the grammar of ``yolo``, with our models as defaults and a few verbs of its own.

``optisar train data=optsar.yaml`` is ``yolo train model=optisar++.yaml data=optsar.yaml``. The command switches the
import hook on for itself, so it works where ``OPTISAR_AUTOLOAD=0``.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from optisar_yolo import boot
from optisar_yolo.plugin import SETTINGS
from optisar_yolo.utils import BUILD_MODEL, BUNDLED_MODEL, HELP_WORDS, UsageError, check_known, nearest, parse, plain
from optisar_yolo.version import __version__

TRACEBACK = "OPTISAR_TRACEBACK"
"""Environment variable: any value shows the whole traceback of an error, for a report."""


@dataclass(frozen=True)
class Verb:
    """A command of our own.

    Attributes:
        module: Module that does the work, imported when the verb is used.
        function: Its function; it takes the ``key=value`` arguments as one dictionary of strings, and may
            return an exit status.
        help: One line for the help page.
        nested: It has verbs of its own, and takes the words as they are.
        first: Key of a first word without ``=``, where the command takes one.
    """

    module: str
    function: str
    help: str
    nested: bool = False
    first: str = ""


VERBS: dict[str, Verb] = {
    "demo": Verb("optisar_yolo.commands.demo", "main", "see it work on rendered scenes: validate, ask, train a little"),
    "calibrate": Verb(
        "optisar_yolo.commands.calibrate",
        "main",
        "make confidences probabilities: model=best.pt data=… save=…",
    ),
    "annotate": Verb(
        "optisar_yolo.annotate.annotate",
        "main",
        "boxes and captions for pictures without any: source=folder pool=captions.txt conf=0.6",
    ),
    "score": Verb(
        "optisar_yolo.evaluation.score",
        "main",
        "the table of val for any model's boxes: predictions.json data=… split=test",
        first="predictions",
    ),
    "zeroshot": Verb(
        "optisar_yolo.evaluation.zeroshot",
        "main",
        "ask Grounding DINO or OWLv2 a split, for score: model=<folder or hub name> data=… save=predictions.json",
        first="model",
    ),
    "view": Verb("optisar_yolo.engine.view", "main", "look at augmented pictures and their sentences: data=… mosaic=1"),
    "explain": Verb(
        "optisar_yolo.explain.command",
        "main",
        'see where a sentence scores and which experts work: source=… text="…", or data=… split=test',
    ),
    "scene": Verb(
        "optisar_yolo.geo.command", "main", 'ask a GeoTIFF of any size: source=scene.tif text="the leftmost ship"'
    ),
    "batch": Verb(
        "optisar_yolo.batch.command",
        "main",
        "ask a table of pictures and sentences with several workers: manifest=asks.parquet out=answers",
    ),
    "dataset": Verb(
        "optisar_yolo.construction.commands", "main", "build a grounding data set (optisar dataset help)", nested=True
    ),
    "import-weights": Verb(
        "optisar_yolo.paper.release",
        "main",
        "take over the authors' published weights: official.pt save=… late=True fixed_patch=True",
        first="model",
    ),
    "reproduce": Verb(
        "optisar_yolo.paper.commands",
        "main",
        "the paper's tables, run again (optisar reproduce lists them): table2 data=… dry_run=True",
        nested=True,
    ),
    "app": Verb("optisar_yolo.serve.run_app", "main", "browser app: drop a picture, type sentences: port=7860 model=…"),
    "serve": Verb("optisar_yolo.serve.run_service", "main", "HTTP service with batching and limits: port=8000 model=…"),
    "params": Verb("optisar_yolo.commands.main", "params", "parameter counts of the five scales"),
    "distill": Verb("optisar_yolo.text.distillation.distill", "main", "make the small text encoder from a larger one"),
}

HELP = """\
optisar {version}: ask an optical or SAR picture for an object in plain words, get its box.

  optisar train    data=optsar.yaml model=optisar++n.yaml epochs=50     scales: optisar++n … optisar++x; plain = m
  optisar val      model=best.pt data=optsar.yaml split=test            the optical / SAR / all table
  optisar predict  model=best.pt source=port.jpg text="the SAR ship in the upper left"
  optisar export   model=best.pt format=onnx                            or openvino, torchscript

Own commands
{verbs}

Own arguments, beside those of Ultralytics (optisar cfg lists them)
{keys}

optisar checks | version | settings | cfg | help do what they do in yolo. Without model=, train starts from
{build} and every other mode uses {bundled}, which comes with the package."""

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
    if not args or args[0].lower() in HELP_WORDS:
        print(help_page())
        return 0
    try:
        if args[0] in VERBS:
            return _run_verb(VERBS[args[0]], args[1:])
        return _run_stock(args)
    except UsageError as error:
        print(f"optisar: {error}\nRun 'optisar help' for the commands.", file=sys.stderr)
        return 2
    except (FileNotFoundError, ValueError) as error:  # input that cannot be used: the message is what helps
        if os.environ.get(TRACEBACK):
            raise
        print(f"optisar: {error}\n({TRACEBACK}=1 shows where this was noticed)", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("optisar: interrupted", file=sys.stderr)
        return 130


def help_page() -> str:
    """Return the text of ``optisar help``."""
    return HELP.format(
        version=__version__,
        build=BUILD_MODEL,
        bundled=BUNDLED_MODEL,
        verbs="\n".join(f"  optisar {name:<14} {verb.help}" for name, verb in VERBS.items()),
        keys="\n".join(
            f"  {name:<13}{setting.help} (default: {setting.default})" for name, setting in SETTINGS.items()
        ),
    )


def params(options: dict[str, str]) -> None:
    """Print the parameter counts of the five scales.

    Args:
        options: Must be empty; the command has no arguments.
    """
    if options:
        raise UsageError(f"'optisar params' takes no arguments, got '{next(iter(options))}'")
    from optisar_yolo.nn import count_table

    print(count_table())


def _run_verb(verb: Verb, words: Sequence[str]) -> int:
    """Run a command of our own; keys are checked where the module says which it knows (``DEFAULTS``)."""
    boot.install(force=True)
    module = importlib.import_module(verb.module)
    if verb.nested:
        return int(getattr(module, verb.function)(list(words)))
    if verb.first and words and "=" not in words[0]:
        words = [f"{verb.first}={words[0]}", *words[1:]]
    options = parse(words)
    known = getattr(module, "DEFAULTS", None)
    if known is not None:
        for key in options:
            check_known(key, known)
    return int(getattr(module, verb.function)(options) or 0)


def _run_stock(words: list[str]) -> int:
    """Hand a command line in the grammar of ``yolo`` to Ultralytics."""
    boot.install(force=True)
    from ultralytics import cfg

    from optisar_yolo.plugin import model_of, with_packaged_cfg

    args = with_packaged_cfg(cfg.merge_equals_args(words))
    first = args[0].lower().lstrip("-")
    modes = [word.removeprefix("mode=") for word in args if word.removeprefix("mode=") in cfg.MODES]
    if first in ("version", "v"):
        print(f"optisar-yolo {__version__}")
    elif first == "cfg":
        print("\n".join(f"{name}: {setting.default}  # {setting.help}" for name, setting in SETTINGS.items()) + "\n")
    elif not modes and first not in STOCK_WORDS:
        known = [*cfg.MODES, *VERBS, *STOCK_WORDS, "help"]
        raise UsageError(f"unknown command '{args[0]}'{nearest(first, known)}")
    elif modes and model_of(args) is None:
        model = BUILD_MODEL if modes[0] == "train" else BUNDLED_MODEL
        print(f"optisar: no model= given, using {model}")
        args.append(f"model={model}")

    # Ultralytics keeps this very list. A program name that ends with 'yolo' makes `predict` save its pictures.
    before, sys.argv[:] = list(sys.argv), ["optisar-yolo", *args]
    stock_help, cfg.CLI_HELP_MSG = cfg.CLI_HELP_MSG, ""  # it explains `yolo`
    try:
        cfg.entrypoint()
    except SyntaxError as error:  # what Ultralytics raises for arguments that it does not know
        raise UsageError(plain(error)) from error
    finally:
        sys.argv[:] = before
        cfg.CLI_HELP_MSG = stock_help
    return 0

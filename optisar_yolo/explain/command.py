"""``optisar explain``: images with expressions, or a data split, explained by figures, arrays and a page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from ultralytics.cfg import get_save_dir, smart_value
from ultralytics.utils import LOGGER, colorstr
from ultralytics.utils.torch_utils import select_device

from optisar_yolo.engine import ImageFiles, checked_expressions, opened
from optisar_yolo.explain.explanation import Explanation
from optisar_yolo.explain.look import NO_EXPERTS, Explainer, checked_network
from optisar_yolo.explain.record import write_explanation
from optisar_yolo.explain.split import routing_sheets
from optisar_yolo.utils import BUNDLED_MODEL, UsageError, typed
from optisar_yolo.visualize import Section, write_index

DEFAULTS: dict[str, Any] = {
    "source": None, "text": None, "data": None, "split": "test", "model": BUNDLED_MODEL, "project": None,
    "name": "explain", "exist_ok": False, "imgsz": 0, "batch": 16, "conf": -1.0, "device": None, "fraction": 1.0,
    "text_weights": None, "n": 4,
}  # fmt: skip
IMAGE, SPLIT = ("source", "text", "conf"), ("data", "split", "batch", "fraction", "n")
"""Arguments of either form alone."""
FIGURES = {
    "scores": "Where each expression scores",
    "activations": "How strong the features are, and how the text weighs them where it reaches the pyramid",
    "experts": "Experts of the patches",
}


def main(options: dict[str, str]) -> None:
    """Run ``optisar explain source=port.jpg text="…"`` or ``optisar explain data=optsar.yaml split=test``.

    Args:
        options: ``model``, ``imgsz``, ``device``, ``text_weights``, ``project``, ``name`` and ``exist_ok``; for
            images ``source``, ``text`` and ``conf`` as in ``predict``; for a data set ``data``, ``split``,
            ``batch`` and ``fraction`` as in ``val``, and ``n``, the images of each modality whose routing is drawn.

    Raises:
        UsageError: Neither a source nor a data set, both, or arguments of the other form.
        ExplainError: A model that cannot be looked into.
    """
    from optisar_yolo.api import OptiSAR

    args = SimpleNamespace(**typed(options, DEFAULTS), task="detect", mode="explain", save_dir=None)
    if (args.source is None) == (args.data is None):
        raise UsageError('explain needs source=<image> text="…", or data=<dataset config> split=test')
    other, form = (SPLIT, "source") if args.data is None else (IMAGE, "data")
    for key in other:
        if key in options:
            raise UsageError(f"'{key}=' does not go with '{form}='")
    if args.data is None and args.text is None:
        raise UsageError('explain needs an expression: text="the ship in the upper left"')
    texts = checked_expressions(smart_value(args.text)) if args.data is None else []
    for key, least in (("n", 1), ("batch", 1), ("imgsz", 32)):
        if key in options and getattr(args, key) < least:
            raise UsageError(f"{key}={options[key]}: expected a whole number of at least {least}")
    model = OptiSAR(args.model)
    checked_network(model.model)
    folder = get_save_dir(args)
    page = _images(model, args, texts, folder) if args.data is None else _split(model, args, folder)
    LOGGER.info(f"Results saved to {colorstr('bold', folder)}; open {page}")


def explain(
    model: Any, source: Any, text: Any, imgsz: int | None = None, conf: float | None = None, **where: Any
) -> list[Explanation]:
    """Look into a model while it is asked expressions.

    Args:
        model: An open :class:`~optisar_yolo.api.OptiSAR`; it is not changed.
        source: File, folder, pattern, array (BGR) or PIL image, or a list of them.
        text: An expression or several.
        imgsz: Long side in the network; that of training by default.
        conf: Least confidence of an answer; that of ``predict`` by default.
        **where: ``text_weights`` and ``device`` of :class:`~optisar_yolo.explain.look.Explainer`.

    Returns:
        One explanation per image (:func:`~optisar_yolo.explain.record.write_explanation` makes files of it).

    Raises:
        ExplainError: An export, or a fused model.
        ValueError: No expression or no image.

    Example:
        >>> from optisar_yolo import OptiSAR
        >>> from optisar_yolo.explain import explain
        >>> seen = explain(OptiSAR("optisar++n-pocket.safetensors"), "port.jpg", "the ship at the top")[0]
        >>> seen.score_maps.shape
    """
    texts = checked_expressions(text)
    look = Explainer(model, imgsz, conf, **where)
    return [look(image, texts, name) for image, name in _opened(source)]


def _opened(source: Any) -> Iterator[tuple[Any, str]]:
    """Yield the images of a source, uint8 [h, w, 3] BGR, and their names."""
    source, names = opened(source)
    if names:
        yield from zip(source, names, strict=True)
        return
    loader = ImageFiles(source)
    if any(loader.video_flag):
        raise ValueError(f"{loader.files[-1]}: a video; explain takes images, so give single frames")
    for paths, images, _ in loader:
        yield from zip(images, paths, strict=True)


def _images(model: Any, args: SimpleNamespace, texts: list[str], folder: Path) -> Path:
    """Explain images, and return the page that shows the figures."""
    look = Explainer(
        model,
        args.imgsz or None,
        args.conf if args.conf >= 0 else None,
        args.text_weights,
        _device(args),
    )
    for note in look.notes:
        LOGGER.info(note)
    sections: list[Section] = []
    stems: set[str] = set()
    for image, name in _opened(args.source):
        seen = look(image, texts, name)
        stem = _unused(Path(name).stem or "picture", stems)
        files = write_explanation(seen, folder, stem)
        sections.append(Section(Path(name).name, " ".join(seen.notes), _answers(seen), _captioned(files, stem)))
    return write_index(folder, "Explained images", sections)


def _split(model: Any, args: SimpleNamespace, folder: Path) -> Path:
    """Validate a split with all plots, draw routing maps of both modalities, and return the page that shows them."""
    keys = ("data", "split", "batch", "fraction", "device", "text_weights")
    given = {k: getattr(args, k) for k in keys if getattr(args, k) is not None}
    given |= {"imgsz": args.imgsz} if args.imgsz else {}
    metrics = model.val(**given, plots=True, project=str(folder.parent), name=folder.name, exist_ok=True)
    look = Explainer(model, args.imgsz or None, text_weights=args.text_weights, device=_device(args))
    maps = routing_sheets(look, args.data, args.split, args.n, folder)
    if not maps:
        LOGGER.info(NO_EXPERTS)
    shown = [(folder / f"{name}.png", text) for name, text in (
        ("right", "right answers, the surest first"), ("failures", "wrong answers, the surest first"),
        ("expert_use", "use of the experts by modality and category, with the number of images or objects"),
    ) if (folder / f"{name}.png").is_file()]  # fmt: skip
    shown += [(path, "expert of the largest weight in each patch") for path in maps]
    text = "" if maps else NO_EXPERTS
    section = Section("Answers and experts", text, metrics.table(), shown)
    return write_index(folder, f"{args.data}, {args.split}", [section])


def _device(args: SimpleNamespace) -> torch.device | None:
    """Return the device that was asked for, or None: where the model is."""
    return None if args.device is None else select_device(args.device, verbose=False)


def _answers(seen: Explanation) -> str:
    """Tell the answers in a table."""
    lines = []
    for text, answer in zip(seen.texts, seen.answers, strict=True):
        box = ", ".join(f"{v:.0f}" for v in answer.box)
        below = "" if answer.found else " (below conf)"
        lines.append(f"{answer.conf:.3f}  {seen.levels[answer.level]}  [{box}]{below}  {text}")
    return "\n".join(lines)


def _captioned(files: list[Path], stem: str) -> list[tuple[Path, str]]:
    """Pick the figures among an image's files, with what they show."""
    figures = [file for file in files if file.suffix == ".png"]
    return [(file, FIGURES[file.stem[len(stem) + 1 :].split("-")[0]]) for file in figures]


def _unused(stem: str, used: set[str]) -> str:
    """Return a name for an image's files that no other image of the run has."""
    name, number = stem, 1
    while name in used:
        number += 1
        name = f"{stem}-{number}"
    used.add(name)
    return name

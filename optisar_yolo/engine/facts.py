"""What weights know: categories, words, sizes and data of their training, kept in the weights themselves.

The facts are a dictionary of plain values, under :data:`FACTS` in a shared file's metadata and an attribute of that
name of the network in a checkpoint:

| key | value |
|---|---|
| ``categories`` | category names of all data sets |
| ``modalities`` | of them: ``optical``, ``sar`` |
| ``sizes`` | smallest and largest long side of images in training, pixels |
| ``words`` | words of the expressions, lower case, the most frequent :data:`MOST_WORDS` |
| ``training`` | one entry per training, the last one last: ``data``, ``images``, ``expressions``, ``epochs``, … |
| ``licence`` | of the data, as the dataset configs state it |
| ``figures`` | by data set and split: modality to figure to value, 0..1 |

A training writes them (:func:`facts_of_training`); one that goes on from weights adds its own to theirs.
``optisar info`` prints and writes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from optisar_yolo.data import DatasetConfig, ImageRecord, load_dataset_config, load_split
from optisar_yolo.language import ExpressionNotes, met_words, unmet_noun

FACTS = "facts"
MOST_WORDS = 4000  # DIOR-RSVG's 27,000 training expressions have fewer
SHOWN = ("Pr@0.5", "Pr@0.9", "meanIoU")  # figures that are kept
NOT_STATED = "not stated"


def facts_of(model: Any) -> dict[str, Any]:
    """Return what the weights of a network or an export say about themselves; empty where they say nothing."""
    found = getattr(model, FACTS, None)
    return dict(found) if isinstance(found, Mapping) else {}


def facts_of_training(
    configs: Sequence[DatasetConfig],
    images: Sequence[ImageRecord],
    sizes: tuple[int, int],
    epochs: int,
    before: Mapping[str, Any] | None = None,
    start: str = "",
) -> dict[str, Any]:
    """Describe what a training teaches.

    Args:
        configs: The dataset config and those that it includes.
        images: The training images of all.
        sizes: Smallest and largest long side of images in the network, pixels.
        epochs: Length of the training.
        before: Facts of the weights that it goes on from.
        start: Their name.
    """
    before = before or {}
    texts = [c for image in images for own in image.captions for c in own]
    names = [*configs[0].names, *before.get("categories", ())]
    for config in configs:
        names += config.names
    categories = list(dict.fromkeys(names))
    met = met_words(texts, MOST_WORDS)
    stage = {
        "data": [config.path.name for config in configs],
        "images": len(images),
        "expressions": len(texts),
        "epochs": epochs,
        "imgsz": list(sizes),
    }
    earlier = list(before.get("training", ()))
    if start and not earlier:
        earlier = [{"data": [f"what {start} was trained on, which it does not say"]}]
    known = before.get("sizes") or sizes
    licences = [config.licence or f"{NOT_STATED} ({config.path.name})" for config in configs]
    return {
        "categories": categories,
        "modalities": _modalities(configs, categories, before),
        "sizes": [min(sizes[0], known[0]), max(sizes[1], known[1])],
        "words": sorted({*met, *before.get("words", ())}),
        "training": [*earlier, stage],
        "licence": "; ".join(dict.fromkeys([*([before["licence"]] if before.get("licence") else []), *licences])),
        "figures": {},
    }


def with_unmet_noun(notes: ExpressionNotes, facts: Mapping[str, Any]) -> ExpressionNotes:
    """Add to the notes of an expression that the weights never met its noun, where they say which words they met."""
    if not facts.get("words"):
        return notes
    noun = unmet_noun(notes.text, _set_of(tuple(facts["words"])), tuple(facts["categories"]))
    if noun is None:
        return notes
    message = f"these weights never met the word '{noun}' in training: a box may show something else"
    return replace(notes, messages=(*notes.messages, ("noun", message)))


@lru_cache(maxsize=8)
def _set_of(words: tuple[str, ...]) -> frozenset[str]:
    return frozenset(words)


def _modalities(configs: Sequence[DatasetConfig], categories: Sequence[str], before: Mapping[str, Any]) -> list[str]:
    """Return the modalities that categories name; those without one may be of any that the dataset configs declare."""
    known = list(dict.fromkeys(m for config in configs for m in config.modalities))
    named = {next((m for m in known if name.lower().startswith(f"{m.lower()} ")), None) for name in categories}
    return list(dict.fromkeys([*before.get("modalities", ()), *(m for m in known if {m, None} & named)]))


def facts_of_data(
    data: str | Path, sizes: tuple[int, int], epochs: int | None = None, before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Describe what a dataset config, with those that it includes, teaches; for weights that do not say it themselves.

    Args:
        data: The dataset config.
        sizes: Smallest and largest long side of images in training, pixels.
        epochs: Length of the training, where it is known.
        before: Facts of an earlier training that are kept.

    Raises:
        DataError: It cannot be read.
    """
    first = load_dataset_config(data)
    configs = [first, *(load_dataset_config(name) for name in first.include)]
    images = [image for config in configs for image in load_split(config, "train")]
    return facts_of_training(configs, images, (min(sizes), max(sizes)), epochs or 0, before)


def figures_of_rows(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the figures that are kept: modality to figure to value.

    Args:
        rows: As of :meth:`~optisar_yolo.engine.GroundingMetrics.rows`.
    """
    return {
        row["group"]: {name: round(float(row[name]), 4) for name in SHOWN} | {"count": int(row["count"])}
        for row in rows
        if row.get("section") == "modality" and row.get("count")
    }


def facts_lines(model: Any, path: str | Path = "") -> list[str]:
    """Return what is known of a network's weights, as lines for people."""
    facts = facts_of(model)
    yaml = getattr(model, "yaml", None) or {}
    lines = [str(path)] if path else []
    if yaml.get("channels", 3) != 3:
        lines.append(f"bands        {yaml['channels']}: images of other numbers are refused")
    if yaml:
        lines.append(f"network      {yaml.get('yaml_file', 'optisar++')}, scale {yaml.get('scale', '?')}")
    lines.append(f"text encoder {getattr(model, 'text_model', '') or 'none yet: not trained'}")
    if not facts:
        names = [str(n) for n in (getattr(model, "names", None) or {}).values()]
        lines.append(f"categories   {', '.join(names)}")
        lines.append("nothing else is stored in these weights; 'optisar info model=… data=… save=…' writes it")
        return lines
    words = facts.get("words", ())
    low, high = facts["sizes"]
    lines += [
        f"categories   {', '.join(facts['categories'])}",
        f"modalities   {', '.join(facts['modalities'])}",
        f"sizes        {f'{low} to {high}' if low != high else low} pixels (long side in the network)",
        f"words        {len(words)}: {', '.join(words[:12])}{', …' if len(words) > 12 else ''}",
        f"wordings     {_wordings(model)}",
    ]
    for stage in facts["training"]:
        numbers = [f"{stage[k]} {k}" for k in ("images", "expressions", "epochs") if stage.get(k)]
        lines.append(f"trained on   {' + '.join(stage['data'])}{': ' if numbers else ''}{', '.join(numbers)}")
    lines.append(f"licence      {facts['licence']}")
    for where, groups in facts.get("figures", {}).items():
        for group, values in groups.items():
            shown = ", ".join(f"{name} {100 * values[name]:.1f}" for name in SHOWN if name in values)
            lines.append(f"figures      {where}, {group}: {shown} ({values.get('count', '?')} expressions)")
    return lines


def _wordings(model: Any) -> str:
    """Return the kinds of expressions beyond one plain object that the training had."""
    kinds = getattr(model, "wordings", None)
    return NOT_STATED if kinds is None else ", ".join(kinds) or "plain expressions of one object"

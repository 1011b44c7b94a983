"""A model card made of what a weights file says about itself: nothing in it is measured or guessed here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

NOTE = "<!-- written by optisar-yolo from the weights; take this line out to keep changes of yours -->"
"""First line of a card's text. A card without it is somebody's own, and is not replaced."""

TAGS = ("remote-sensing", "sar", "visual-grounding", "referring-expression", "ultralytics")
_SHOWN = (
    "format",
    "version",
    "yaml",
    "names",
    "text_model",
    "text_fingerprint",
    "imgsz",
    "calibration",
    "wordings",
    "facts",
)


def model_card(meta: Mapping[str, Any], repo: str, license: str | None = None) -> str:
    """Return the card as Markdown with its YAML head.

    Args:
        meta: The metadata of a shared weights file.
        repo: Name of the repository, ``user/name``.
        license: Identifier of the licence, as the Hub knows it; left out where it is not given.
    """
    from huggingface_hub import ModelCardData

    head = ModelCardData(
        license=license,
        library_name="optisar-yolo",
        pipeline_tag="zero-shot-object-detection",
        tags=list(TAGS),
        language="en",
    )
    facts = meta.get("facts") or {}
    lines = [
        "---", head.to_yaml().strip(), "---", NOTE, "", f"# {repo.split('/')[-1]}", "",
        "An OptiSAR-Net++ model: it finds what a referring expression means in an optical or SAR image.", "",
        "```python", "from optisar_yolo import OptiSAR  # pip install 'optisar-yolo[hub]'", "",
        f'model = OptiSAR.from_pretrained("{repo}")',
        'model.predict("port.jpg", text="the ship in the upper left")', "```",
        "", "## What the weights say about themselves", "", "| | |", "|---|---|",
    ]  # fmt: skip
    rows = [*_network(meta), *_calibration(meta), *_training(facts)]
    lines += [f"| {key} | {_cell(value)} |" for key, value in rows if value not in (None, "", [])]
    lines += ["", "What is not listed is not recorded in the weights.", *_figures(facts)]
    more = {k: v for k, v in meta.items() if k not in _SHOWN}
    if more:
        lines += ["", "## Further entries", "", "```json", json.dumps(more, indent=1, ensure_ascii=False), "```"]
    return "\n".join(lines) + "\n"


def _network(meta: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return what is known of the network."""
    yaml, wordings = meta.get("yaml") or {}, meta.get("wordings")
    return [
        ("network", f"{yaml.get('yaml_file') or 'optisar++'}, scale {yaml.get('scale') or 'not recorded'}"),
        ("image size in training", f"{meta['imgsz']} pixels" if meta.get("imgsz") else None),
        ("text encoder", meta.get("text_model")),
        ("categories", ", ".join(map(str, (meta.get("names") or {}).values()))),
        ("wordings", ", ".join(map(str, wordings)) if wordings else None),
        ("written by", f"optisar-yolo {meta.get('version')}, format {meta.get('format')}"),
    ]


def _calibration(meta: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return what is known of the confidences."""
    c = meta.get("calibration")
    if not isinstance(c, Mapping):
        return [("confidence", "not calibrated: a confidence is no probability")]
    where = f"on {c.get('data')} {c.get('split')}: {c.get('true')} true and {c.get('false')} false expressions"
    parts = [f"calibrated {where}"]
    if c.get("threshold") is not None:
        parts.append(f"threshold {c['threshold']:.3g}")
    if c.get("ece_after") is not None:
        parts.append(f"calibration error {c.get('ece_before', float('nan')):.3f} before, {c['ece_after']:.3f} after")
    return [("confidence", "; ".join(parts))]


def _training(facts: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return what is known of the training."""
    rows: list[tuple[str, Any]] = [
        ("modalities", ", ".join(map(str, facts.get("modalities") or ()))),
        ("image sizes", " to ".join(map(str, facts.get("sizes") or ()))),
        ("words met in training", len(facts.get("words") or ()) or None),
    ]
    for stage in facts.get("training") or ():
        numbers = ", ".join(f"{stage[k]} {k}" for k in ("images", "expressions", "epochs") if stage.get(k))
        rows.append(
            ("trained on", f"{' + '.join(map(str, stage.get('data') or ()))}{': ' if numbers else ''}{numbers}")
        )
    return [*rows, ("licence of the data", facts.get("licence"))]


def _figures(facts: Mapping[str, Any]) -> list[str]:
    """Return the figures as a table."""
    rows = [
        (where, group, name, value)
        for where, groups in (facts.get("figures") or {}).items()
        for group, values in groups.items()
        for name, value in values.items()
    ]
    if not rows:
        return []
    head = ["", "## Figures", "", "| data | group | figure | value |", "|---|---|---|---|"]
    return head + ["| " + " | ".join(_cell(v) for v in row) + " |" for row in rows]


def _cell(value: Any) -> str:
    """Return a value as it may stand in a table of Markdown."""
    return " ".join(str(value).replace("|", "\\|").split())

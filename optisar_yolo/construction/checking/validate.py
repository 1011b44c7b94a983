"""Checks a written data set from end to end (``optisar dataset validate``)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ultralytics.utils import LOGGER, TQDM

from optisar_yolo.construction.checking.findings import Findings
from optisar_yolo.construction.checking.inspecting import InspectedSplit, inspect
from optisar_yolo.construction.checking.leaks import find_leaks
from optisar_yolo.construction.recipe import load_recipe
from optisar_yolo.data import DataError, DatasetConfig, load_dataset_config
from optisar_yolo.utils import write_atomic

DEFAULTS: dict[str, Any] = {"data": "", "strict": False, "recipe": "", "hash": True}


def main(options: dict[str, Any]) -> int:
    """Check a data set, print what is found, and write it to ``validation.json`` in the work folder.

    Args:
        options: ``data``: a dataset config, or the folder of one. ``recipe``: whose released counts are compared.
            ``strict``: warnings, and counts that differ from the released ones, are errors. ``hash``: compare the
            content of images.

    Returns:
        1 if there are errors, else 0.

    Raises:
        DataError: The dataset config or the recipe cannot be read.
    """
    config = load_dataset_config(config_in(options["data"]))
    released = load_recipe(options["recipe"]).released if options["recipe"] else {}
    findings = Findings(options["strict"])
    result = validate(config, findings, released, options["hash"], options["jobs"])
    for line in [*table(result), *findings.lines()]:
        LOGGER.info(line)
    LOGGER.info(f"{config.path}: {'not valid' if findings.failed else 'valid'}")
    if not options["dry_run"]:
        target = Path(options["work"]) / "validate" / "validation.json"
        try:
            write_atomic(target, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
        except OSError as error:
            raise DataError(f"{target}: cannot be written ({error.strerror or error})") from error
    return int(findings.failed)


def config_in(data: str) -> str:
    """Return the dataset config that an option names: itself, or the only YAML file in the folder that it names.

    Raises:
        DataError: Nothing named, or no or several dataset configs in the folder.
    """
    if not data:
        raise DataError("data= must name a dataset config or the folder that 'optisar dataset write' wrote")
    folder = Path(data).expanduser()
    if not folder.is_dir():
        return data
    configs = sorted(p for p in folder.iterdir() if p.suffix in (".yaml", ".yml"))
    if len(configs) != 1:
        raise DataError(f"{folder}: holds {len(configs)} YAML files; name the dataset config itself")
    return str(configs[0])


def validate(
    config: DatasetConfig,
    findings: Findings,
    released: Mapping[str, Mapping[str, int]] | None = None,
    content: bool = True,
    jobs: int = 1,
) -> dict[str, Any]:
    """Check all splits, what they share, and their counts.

    Args:
        config: The dataset config.
        findings: Gets what is found.
        released: Split or "all" to the numbers of images and expressions that there should be.
        content: Compare images by their content too.
        jobs: Threads that read files.

    Returns:
        The counts and rates, and all findings, as JSON can say them.
    """
    seen = {
        split: inspect(config, split, findings) for split in TQDM(list(config.splits), desc="validate", unit=" split")
    }
    find_leaks(config, seen, findings, content, jobs)
    counts = _counts(seen)
    for split, wanted in (released or {}).items():
        for key, number in wanted.items():
            if (has := counts.get(split, {}).get(key, 0)) != number:
                findings.warning("count that is not the released one", f"{split}: {has} {key}, released {number}")
    checked = sum(part.checked for part in seen.values())
    contradicted = sum(part.contradicted for part in seen.values())
    return {
        "data": str(config.path),
        "valid": not findings.failed,
        "strict": findings.strict,
        "counts": counts,
        "expressions": {
            "checked against boxes": checked,
            "contradicted": contradicted,
            "contradicted, share of the checked": round(contradicted / checked, 4) if checked else 0.0,
        },
        "findings": findings.rows(),
    }


def table(result: Mapping[str, Any]) -> list[str]:
    """Return the counts as lines to print."""
    lines = [f"{'split':<8}{'pictures':>10}{'expressions':>13}"]
    lines += [f"{s:<8}{c['pictures']:>10}{c['expressions']:>13}" for s, c in result["counts"].items()]
    said = result["expressions"]
    share = said["contradicted, share of the checked"]
    lines.append(
        f"{said['checked against boxes']} expressions can be checked against the boxes, {said['contradicted']} of them "
        f"({share:.2%}) are contradicted"
    )
    return lines


def _counts(seen: Mapping[str, InspectedSplit]) -> dict[str, dict[str, int]]:
    """Return images and expressions of every split and of all."""
    counts = {s: {"pictures": part.images, "expressions": part.expressions} for s, part in seen.items()}
    total = {key: sum(c[key] for c in counts.values()) for key in ("pictures", "expressions")}
    return counts | {"all": total}

"""The step ``validate``: checks a written data set from end to end.

1. Every split by itself: records, images, boxes, labels, XML, expressions (`split_checks.inspect`).
2. Images that are in more than one split, by name, by content and by origin (:func:`find_leaks`).
3. Counts against the released ones of a recipe.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ultralytics.utils import LOGGER, TQDM

from optisar_yolo.construction.recipe import load_recipe
from optisar_yolo.construction.split_checks import Findings, InspectedSplit, image_path, inspect
from optisar_yolo.construction.steps import WorkFolder, sha256, unwritable, write_json
from optisar_yolo.construction.writing import NOTE, SHARED, TABLE
from optisar_yolo.data import DataError, DatasetConfig, load_dataset_config
from optisar_yolo.utils import ordered_map, read_json_file

Place = tuple[str, str]
"""Split and file name of an image."""


def find_leaks(
    config: DatasetConfig, seen: Mapping[str, InspectedSplit], findings: Findings, content: bool = True, jobs: int = 1
) -> None:
    """Look for images that are in several splits.

    Where the data set's manifest says that its splits are of objects (as in DIOR-RSVG), such images are intended and
    counted as notes. Everywhere else they are errors.

    Args:
        config: The dataset config.
        seen: Results of the checks of the single splits.
        findings: Collects the findings.
        content: Compare the bytes of files that are of equal size.
        jobs: Threads that read files.
    """
    found = findings.note if _intended(config.root) else findings.error
    for name, places in _shared({(s, name): name for s, part in seen.items() for name in part.sizes}):
        if len({seen[s].sizes[name] for s, _ in places}) == 1:
            found("image name in several splits", f"{name}: {_splits(places)}")
        else:  # splits that number their images from one
            findings.warning("name of different images in several splits", f"{name}: {_splits(places)}")
    for origin, places in _shared(_origins(config.root)):
        if len({name for _, name in places}) > 1:  # one name: reported above
            found("images of one origin in several splits", f"{origin}: {_splits(places)}")
    if content:
        _same_content(config, seen, findings, found is findings.note, jobs)


def _intended(root: Path) -> bool:
    """Tell whether a data set's manifest says that images are in several splits on purpose."""
    try:
        return bool(read_json_file(root / NOTE)[SHARED])
    except (ValueError, KeyError, TypeError):
        return False


def _origins(root: Path) -> dict[Place, str]:
    """Return every image's origin as the table of names gives it; nothing where there is no such table."""
    try:
        with open(root / TABLE, encoding="utf-8", newline="") as file:
            return {(row["split"], row["file_name"]): row["origin"] for row in csv.DictReader(file)}
    except (OSError, KeyError, ValueError, csv.Error):
        return {}


def _shared(keys: Mapping[Place, str]) -> Iterator[tuple[str, list[Place]]]:
    """Yield the keys that stand in more than one split, with their places."""
    places: dict[str, list[Place]] = defaultdict(list)
    for place, key in keys.items():
        places[key].append(place)
    yield from ((key, group) for key, group in places.items() if len({split for split, _ in group}) > 1)


def _splits(places: list[Place]) -> str:
    return ", ".join(f"{split} {name}" for split, name in places)


def _same_content(
    config: DatasetConfig, seen: Mapping[str, InspectedSplit], findings: Findings, intended: bool, jobs: int
) -> None:
    """Compare the files that have another of their size."""
    sizes: dict[int, list[Place]] = defaultdict(list)
    for split, part in seen.items():
        for name, size in part.sizes.items():
            sizes[size].append((split, name))
    alike = [place for group in sizes.values() if len(group) > 1 for place in group]
    digests = ordered_map(lambda place: sha256(image_path(config, *place)), alike, jobs)
    groups: dict[str, list[Place]] = defaultdict(list)
    for place, digest in zip(alike, digests, strict=True):
        groups[digest].append(place)
    for places in groups.values():
        if len({name for _, name in places}) == 1:
            continue  # alone, or one name in several splits: reported by name
        if len({split for split, _ in places}) == 1:
            findings.warning("identical images in one split", _splits(places[:3]))
        elif intended:
            findings.note("identical images in several splits", _splits(places[:3]))
        else:
            findings.error("identical images in several splits", _splits(places[:3]))


def validate_step(work: WorkFolder, data: str, strict: bool, recipe: str | None, hash: bool) -> int:
    """Check a data set, print the findings, and write them to ``validation.json`` in the work folder.

    The arguments are the command's options.

    Returns:
        1 if there are errors, else 0.

    Raises:
        DataError: The dataset config or the recipe cannot be read.
    """
    config = load_dataset_config(config_in(data))
    released = load_recipe(recipe).released if recipe else {}
    findings = Findings(strict)
    result = validate(config, findings, released, hash, work.jobs)
    for line in [*table(result), *findings.lines()]:
        LOGGER.info(line)
    LOGGER.info(f"{config.path}: {'not valid' if findings.failed else 'valid'}")
    if not work.dry_run:
        target = work.path / "validate" / "validation.json"
        with unwritable("cannot be written", target):
            write_json(target, result)
    return int(findings.failed)


def config_in(data: str) -> str:
    """Return the dataset config that an option names: itself, or the only YAML file in the folder that it names.

    Raises:
        DataError: No or several dataset configs in the folder.
    """
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
        findings: Collects the findings.
        released: Split or "all" to the expected numbers of "images" and "expressions".
        content: Compare images by their content too.
        jobs: Threads that read files.

    Returns:
        The content of ``validation.json``.
    """
    seen = {
        split: inspect(config, split, findings) for split in TQDM(list(config.splits), desc="validate", unit=" split")
    }
    find_leaks(config, seen, findings, content, jobs)
    counts = _counts(seen)
    for split, wanted in (released or {}).items():
        for key, number in wanted.items():
            found = counts.get(split, {}).get("pictures" if key == "images" else key, 0)
            if found != number:
                findings.warning("count that is not the released one", f"{split}: {found} {key}, released {number}")
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
    lines = [f"{'split':<8}{'images':>10}{'expressions':>13}"]
    lines += [f"{s:<8}{c['pictures']:>10}{c['expressions']:>13}" for s, c in result["counts"].items()]
    truth = result["expressions"]
    share = truth["contradicted, share of the checked"]
    lines.append(
        f"{truth['checked against boxes']} expressions can be checked against the boxes, {truth['contradicted']} of "
        f"them ({share:.2%}) are contradicted"
    )
    return lines


def _counts(seen: Mapping[str, InspectedSplit]) -> dict[str, dict[str, int]]:
    """Return images and expressions of every split and of all."""
    counts = {s: {"pictures": part.images, "expressions": part.expressions} for s, part in seen.items()}
    total = {key: sum(c[key] for c in counts.values()) for key in ("pictures", "expressions")}
    return counts | {"all": total}

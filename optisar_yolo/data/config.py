"""Dataset configs: a YAML file with the path of a data set, its splits and the names of its categories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from ultralytics.cfg import TASK2DATA
from ultralytics.utils import LOGGER, SETTINGS

from optisar_yolo.language import BUILT_IN, Vocabulary, parse
from optisar_yolo.plugin import find_packaged

SPLITS = ("train", "val", "test")
MODALITIES = ("optical", "sar")
_KEYS = {"path", *SPLITS, "images", "labels", "names", "synonyms", "parents", "render", "download", "include"}
_IGNORED = {"nc", "channels"}  # keys of Ultralytics' dataset configs without meaning here


class DataError(ValueError):
    """A data set that cannot be read; the message names the file, the record and the remedy."""


@dataclass(frozen=True)
class DatasetConfig:
    """A dataset config with all paths resolved.

    Attributes:
        path: The YAML file; the working folder where the content was given as a mapping.
        root: The data set's folder.
        names: Category names by index; a name begins with its modality ("optical airplane", "sar ship").
        splits: Split name to annotation file (COCO JSON).
        images: Split name to the folder of its images.
        labels: Split name to the folder of its YOLO label files; the folder may be absent.
        download: How to get the data set, shown when its folder does not exist; may be empty.
        include: Other dataset configs whose training images are added when a model is trained on this one.
        vocabulary: The nouns of the categories, with the config's synonyms and parents.
    """

    path: Path
    root: Path
    names: tuple[str, ...]
    splits: dict[str, Path]
    images: dict[str, Path]
    labels: dict[str, Path] = field(default_factory=dict)
    download: str = ""
    include: tuple[str, ...] = ()
    vocabulary: Vocabulary = BUILT_IN


def modality_of(name: str) -> str | None:
    """Return the modality a category name begins with ("optical" or "sar"), or None."""
    first = name.split(maxsplit=1)[0].lower() if name.strip() else ""
    return first if first in MODALITIES else None


def load_dataset_config(data: str | Path | Mapping[str, Any] | DatasetConfig) -> DatasetConfig:
    """Read a dataset config.

    Args:
        data: A YAML file's path; the name of a packaged dataset config (``"optsar.yaml"``); or the content of a dataset
            config as a mapping. A `DatasetConfig` is returned as it is.

    Returns:
        The dataset config. If it has a ``render`` entry and images are missing, they have been rendered.

    Raises:
        DataError: The file is not found, is no valid YAML or lacks a key, or the data set is not at its path.
    """
    if isinstance(data, DatasetConfig):
        return data
    if isinstance(data, Mapping):
        file, content = Path.cwd(), dict(data)
        base, where = file, "the dataset config given as a mapping"
    else:
        file = _locate(data)
        content = _read_yaml(file)
        base, where = file.parent, str(file)

    if unknown := sorted(str(key) for key in content if key not in _KEYS | _IGNORED):
        LOGGER.warning(f"{where}: unknown key(s) {', '.join(unknown)} ignored; known keys: {', '.join(sorted(_KEYS))}")
    names = _names(content.get("names"), where)
    files = {split: content[split] for split in SPLITS if content.get(split) is not None}
    if not files:
        raise DataError(f"{where}: none of the keys {', '.join(SPLITS)}; name at least one annotation file (COCO JSON)")
    if isinstance(content.get("path", ""), str):
        files = {
            split: _annotations_of(name, _root(content.get("path", ""), base), split, where)
            for split, name in files.items()
        }
    texts = {key: content.get(key, "") for key in ("path", "images", "labels", "download")}
    for key, value in (texts | files).items():
        if not isinstance(value, str):
            raise DataError(f"{where}: '{key}' must be text, not {type(value).__name__}")

    root = _root(content.get("path", ""), base)
    splits = {split: root / name for split, name in files.items()}
    if content.get("render") is not None:
        _render(content["render"], root, splits, where)
    hint = content.get("download", "").strip()
    if not root.is_dir():
        raise DataError(f"{where}: the data set's folder {root} does not exist. {hint or 'Correct `path:` in it.'}")
    return DatasetConfig(
        path=file,
        root=root,
        names=names,
        splits=splits,
        images={s: _part(root / content.get("images", "images"), s, splits[s]) for s in splits},
        labels={s: _part(root / content.get("labels", "labels"), s, splits[s]) for s in splits},
        download=hint,
        include=_include(content.get("include"), where),
        vocabulary=vocabulary_of(names, content.get("synonyms"), content.get("parents"), where),
    )


def dataset_names(data: str | Path) -> tuple[str, ...]:
    """Read the category names of a dataset config; its data set need not exist.

    Args:
        data: A YAML file's path, or the name of a packaged dataset config.

    Raises:
        DataError: The file is not found, is no valid YAML, or names no categories.
    """
    file = _locate(data)
    return _names(_read_yaml(file).get("names"), str(file))


def dataset_vocabulary(data: str | Path) -> Vocabulary:
    """Read the vocabulary of a dataset config; its data set need not exist.

    Args:
        data: A YAML file's path, or the name of a packaged dataset config.

    Raises:
        DataError: As for `dataset_names`, or synonyms and parents that contradict each other.
    """
    file = _locate(data)
    content = _read_yaml(file)
    return vocabulary_of(
        _names(content.get("names"), str(file)), content.get("synonyms"), content.get("parents"), str(file)
    )


def _locate(data: str | Path) -> Path:
    """Find the file of a dataset config: a path from the working folder first, then the packaged ones."""
    path = Path(data).expanduser()
    if path.is_file():
        return path.resolve()
    if str(data) == TASK2DATA["detect"]:  # what Ultralytics puts where none is given
        raise DataError(
            "no data= is given: name a dataset config, a YAML file of images with expressions, such as data=demo.yaml "
            "(rendered images)"
        )
    if path.is_dir():
        raise DataError(f"{path}: a folder, not a dataset config; give the YAML file that describes the data set")
    try:
        return find_packaged("datasets", str(data))
    except FileNotFoundError as error:
        raise DataError(f"dataset config '{data}' not found: no such file from {Path.cwd()}, and {error}") from error


def _read_yaml(file: Path) -> dict[Any, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except yaml.YAMLError as error:
        raise DataError(f"{file}: not valid YAML ({' '.join(str(error).split())}); correct the file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read as UTF-8 text ({error})") from error
    if not isinstance(content, dict):
        raise DataError(
            f"{file}: a dataset config is a mapping of keys (path, train, names, ...), found {type(content).__name__}"
        )
    return content


def _names(names: object, where: str) -> tuple[str, ...]:
    """Check the category names; they may be a list, or a mapping from 0..n-1."""
    if isinstance(names, Mapping):
        if set(names) != set(range(len(names))):
            raise DataError(
                f"{where}: the keys of 'names' must be 0 to {len(names) - 1} without gaps, found {list(names)}"
            )
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list | tuple) or not names:
        raise DataError(
            f"{where}: 'names' is missing or empty; list the category names, such as 'optical ship' and 'sar ship'"
        )
    if bad := [n for n in names if not isinstance(n, str) or not n.strip()]:
        raise DataError(f"{where}: 'names' holds {bad[0]!r}, which is no name; quote it if YAML misreads it")
    cleaned = tuple(" ".join(n.split()) for n in names)
    if twice := [n for i, n in enumerate(cleaned) if n in cleaned[:i]]:
        raise DataError(f"{where}: 'names' lists '{twice[0]}' twice; every category needs a name of its own")
    return cleaned


def vocabulary_of(names: tuple[str, ...], synonyms: object, parents: object, where: str) -> Vocabulary:
    """Check the values of `synonyms:` and `parents:` in a YAML file, and return the vocabulary of all.

    Args:
        names: Category names.
        synonyms: Category to one word or a list of words; None for none.
        parents: Category to a word; None for none.
        where: How messages name the file.

    Raises:
        DataError: Values of another kind, or that contradict each other.
    """
    for key, value in (("synonyms", synonyms), ("parents", parents)):
        if not isinstance(value, Mapping | None) or not all(isinstance(k, str) and k.strip() for k in value or ()):
            raise DataError(f"{where}: '{key}' must map category names to words, such as {{ship: boat}}; not {value!r}")
    listed = {k: [v] if isinstance(v, str) else v for k, v in dict(synonyms or {}).items()}  # type: ignore[call-overload]
    above: dict[str, str] = dict(parents or {})  # type: ignore[call-overload]
    for name, words in (*listed.items(), *((k, [v]) for k, v in above.items())):
        if not isinstance(words, list | tuple) or not all(isinstance(w, str) and w.strip() for w in words):
            raise DataError(
                f"{where}: '{name}' has {words!r} as its synonyms or parent; give words, quoted where needed"
            )
    try:
        vocabulary = Vocabulary.of(names, listed, above)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error
    if unread := [n for n in names if parse(f"the {vocabulary.noun_of(n)}", vocabulary).category is None]:
        LOGGER.warning(
            f"{where}: no expression can name the category '{unread[0]}', which is a word for a place, a size or a "
            "colour; its captions cannot be checked. Give it another name"
        )
    return vocabulary


def _include(configs: object, where: str) -> tuple[str, ...]:
    """Check the names of further dataset configs: one, or a list."""
    listed = [configs] if isinstance(configs, str) else configs or []
    if not isinstance(listed, list) or not all(isinstance(c, str) for c in listed):
        raise DataError(f"{where}: 'include' must name another dataset config or a list of them, not {configs!r}")
    return tuple(listed)


def _annotations_of(given: Any, root: Path, split: str, where: str) -> Any:
    """Return a split's annotation file, found beside the folder of images that an Ultralytics dataset config names.

    Raises:
        DataError: There is none: such a data set has boxes and no expressions.
    """
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        return given
    if any(name.lower().endswith(".json") for name in names):
        return given
    if isinstance(given, str) and not ((root / given).is_dir() or given.lower().endswith(".txt")):
        return given
    for name in (f"{split}.json", f"annotations/{split}.json", f"annotations/instances_{split}.json"):
        if (root / name).is_file():
            LOGGER.warning(f"{where}: '{split}: {given}' holds images; reading the expressions of {root / name}")
            return name
    raise DataError(
        f"{where}: '{split}: {given}' names images, as for a detector, and there is no {root / split}.json with their "
        "expressions. Name a COCO JSON with captions there; from boxes alone, 'optisar dataset import', 'clean', "
        "'describe', 'split' and 'write' make one (recipe own-boxes.yaml)"
    )


def _root(path: str, base: Path) -> Path:
    """Resolve `path:`: absolute, else beside the dataset config if it exists, else under Ultralytics' datasets_dir."""
    given = Path(path).expanduser()
    if given.is_absolute() or not path:
        return given if path else base
    beside = base / given
    return beside.resolve() if beside.is_dir() else Path(SETTINGS["datasets_dir"]) / given


def _part(folder: Path, split: str, file: Path) -> Path:
    """Return the split's own subfolder (named as the split or as its annotation file) where there is one."""
    return next((folder / name for name in (split, file.stem) if (folder / name).is_dir()), folder)


def _render(recipe: object, root: Path, splits: Mapping[str, Path], where: str) -> None:
    """Render the data set's images if its folder or an annotation file is missing."""
    if not isinstance(recipe, Mapping):
        raise DataError(
            f"{where}: 'render' must hold seed and the number of images per split, such as {{seed: 0, train: 400}}"
        )
    for key in ("seed", *splits):
        value = recipe.get(key, 0 if key == "seed" else None)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise DataError(f"{where}: 'render' needs '{key}' as a whole number >= 0, found {value!r}")
    kinds = recipe.get("kinds", "released")
    size = recipe.get("size", [320, 448])
    if unknown := sorted(set(recipe) - {"seed", "kinds", "size", "train", "val", "test"}):
        raise DataError(f"{where}: 'render' has no '{unknown[0]}'; it holds seed, kinds, size, train, val and test")
    if not (isinstance(size, list) and len(size) == 2 and all(type(s) is int for s in size)):
        raise DataError(f"{where}: 'render' needs 'size' as [shortest, longest] long side in pixels, found {size!r}")
    if all(file.is_file() for file in splits.values()):
        return
    from optisar_yolo.synthetic import render_dataset  # only rendered data sets need it

    LOGGER.info(f"{where}: rendering its images to {root}")
    try:
        counts = {split: recipe[split] for split in splits}
        render_dataset(root, recipe.get("seed", 0), counts, (size[0], size[1]), kinds)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error
    except OSError as error:
        raise DataError(
            f"{where}: images cannot be rendered to {root} ({error}); set `path:` to another folder"
        ) from error

"""Dataset configs: a YAML file with the path of a data set, its splits and the names of its categories."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ultralytics.utils import LOGGER, ROOT, SETTINGS

from optisar_yolo.data.layouts import annotation_file, beside_images, names_images
from optisar_yolo.language import BUILT_IN, Vocabulary, parse
from optisar_yolo.plugin import NO_DATA, find_packaged
from optisar_yolo.utils import UnreadableFileError, read_json_file, read_yaml, short

SPLITS = ("train", "val", "test")
MODALITIES = ("optical", "sar")
_KEYS = {
    "path", *SPLITS, "images", "labels", "names", "synonyms", "parents", "modalities", "render", "download", "include",
    "expressions", "licence", "channels",
}  # fmt: skip
MOST_NAMES, LONGEST_NAME = 30_000, 200  # LVIS has 1,203 categories, ImageNet-21k 21,841 of at most 150 characters
MOST_CHANNELS = 64
_IGNORED = {"nc"}  # keys of Ultralytics' dataset configs without meaning here


class DataError(ValueError):
    """A data set that cannot be read; the message names the file, the record and the remedy."""


@dataclass(frozen=True)
class ExpressionSource:
    """Further expression files of a dataset config (see :mod:`optisar_yolo.data.sources`), with all paths resolved.

    Attributes:
        name: How tables call it.
        splits: Split name to annotation file (COCO JSON with captions).
        absent: Split name to a list of expressions that are false of their images.
        images: Split name to the folder of its images; empty: those of the data set.
    """

    name: str
    splits: dict[str, Path]
    absent: dict[str, Path]
    images: dict[str, Path]


@dataclass(frozen=True)
class DatasetConfig:
    """A dataset config with all paths resolved.

    Attributes:
        path: The YAML file; the working folder where the content was given as a mapping.
        root: The data set's folder.
        names: Category names by index; a name may begin with its modality ("optical airplane", "sar ship").
        splits: Split name to annotation file (COCO JSON).
        images: Split name to the folder of its images.
        labels: Split name to the folder of its YOLO label files; the folder may be absent.
        download: How to get the data set, shown when its folder does not exist; may be empty.
        include: Other dataset configs whose training images are added when a model is trained on this one.
        vocabulary: The nouns of the categories, with the config's synonyms and parents.
        licence: Of the data, kept in weights that are trained on it; may be empty.
        sources: Further expressions, which validation grounds apart.
        channels: Bands of the images, which are those that the network takes; 3: red, green and blue.
        modalities: Each modality to the one that it is augmented as: "sar" gets speckle, "optical" colour jitter.
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
    licence: str = ""
    channels: int = 3
    sources: tuple[ExpressionSource, ...] = ()
    modalities: Mapping[str, str] = field(default_factory=lambda: {m: m for m in MODALITIES})


def modality_of(name: str) -> str | None:
    """Return the modality a category name begins with ("optical" or "sar"), or None.

    For modalities that a dataset config declares see `Vocabulary.modality_of`.
    """
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
    channels = content.get("channels", 3)
    if not isinstance(channels, int) or isinstance(channels, bool) or not 1 <= channels <= MOST_CHANNELS:
        raise DataError(f"{where}: 'channels: {short(channels)}' must be a whole number from 1 to {MOST_CHANNELS}")
    if content.get("names") is not None:
        checked_names(content["names"], where)  # an error comes before anything is rendered
    files = {split: content[split] for split in SPLITS if content.get(split) is not None}
    if not files:
        raise DataError(f"{where}: none of the keys {', '.join(SPLITS)}; name at least one annotation file (COCO JSON)")
    folders: dict[str, Path] = {}  # of images, where the config names them in the place of annotations
    if isinstance(content.get("path", ""), str):
        root = _root(content.get("path", ""), base)
        for split, given in files.items():
            files[split], folder = _annotations_of(given, root, split, where)
            folders |= {} if folder is None else {split: folder}
    texts = {key: content.get(key, "") for key in ("path", "images", "labels", "download", "licence")}
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
    names = _names_of(content, splits, where)
    images = {s: _part(root / content.get("images", "images"), s, splits[s]) for s in splits}
    words, alike = _modalities(content.get("modalities"), where)
    labels = {s: _part(root / content.get("labels", "labels"), s, splits[s]) for s in splits}
    return DatasetConfig(
        path=file,
        root=root,
        names=names,
        splits=splits,
        images=images | ({} if "images" in content else folders),
        labels=labels | {s: beside_images(f) for s, f in folders.items() if "labels" not in content},
        download=hint,
        include=_include(content.get("include"), where),
        vocabulary=vocabulary_of(names, content.get("synonyms"), content.get("parents"), where, words),
        sources=_sources(content.get("expressions"), root, alike, where),
        modalities=alike,
        licence=" ".join(content.get("licence", "").split()),
        channels=3 if channels == 1 else channels,  # of one band, images are read as grey
    )


def dataset_names(data: str | Path) -> tuple[str, ...]:
    """Read the category names of a dataset config; its data set need not exist.

    Args:
        data: A YAML file's path, or the name of a packaged dataset config.

    Raises:
        DataError: The file is not found, is no valid YAML, or names no categories.
    """
    file = _locate(data)
    content = _read_yaml(file)
    return _names_of(content, _files_of(content, file), str(file))


def dataset_vocabulary(data: str | Path) -> Vocabulary:
    """Read the vocabulary of a dataset config; its data set need not exist.

    Args:
        data: A YAML file's path, or the name of a packaged dataset config.

    Raises:
        DataError: As for `dataset_names`, or synonyms and parents that contradict each other.
    """
    file = _locate(data)
    content = _read_yaml(file)
    names = _names_of(content, _files_of(content, file), str(file))
    words, _ = _modalities(content.get("modalities"), str(file))
    return vocabulary_of(names, content.get("synonyms"), content.get("parents"), str(file), words)


def _files_of(content: Mapping[Any, Any], file: Path) -> dict[str, Path]:
    """Return the annotation files that a dataset config names, where they can be told."""
    root = root_of(content, file)
    return {split: root / content[split] for split in SPLITS if isinstance(content.get(split), str)}


def _locate(data: str | Path | None) -> Path:
    """Find the file of a dataset config: a path from the working folder first, then the packaged ones."""
    if data is None:
        raise DataError(NO_DATA)
    path = Path(data).expanduser()
    if path.is_file():
        return path.resolve()
    if (ROOT / "cfg" / "datasets" / path.name).is_file() and str(data) == path.name:
        raise DataError(
            f"data={data}: a data set of Ultralytics, whose boxes have no expressions; 'optisar dataset build' writes "
            "some for boxes (recipe own-boxes.yaml), and data=demo.yaml is a small set of rendered images"
        )
    if path.is_dir():
        raise DataError(
            f"{path}: a folder, not a dataset config; give the YAML file that describes the data set. From a folder of "
            "labelled images, 'optisar dataset build' makes one (recipe own-boxes.yaml)"
        )
    try:
        return find_packaged("datasets", str(data))
    except FileNotFoundError as error:
        raise DataError(f"dataset config '{data}' not found: no such file from {Path.cwd()}, and {error}") from error


def _read_yaml(file: Path) -> dict[Any, Any]:
    try:
        content = read_yaml(file)
    except UnreadableFileError as error:
        raise DataError(f"{error}; data= names a dataset config, a YAML file") from error
    if not isinstance(content, dict):
        raise DataError(
            f"{file}: a dataset config is a mapping of keys (path, train, names, ...), found {type(content).__name__}"
        )
    return content


def checked_names(names: object, where: str) -> tuple[str, ...]:
    """Check the category names; they may be a list, or a mapping from 0..n-1."""
    if isinstance(names, Mapping):
        if set(names) != set(range(len(names))):
            raise DataError(
                f"{where}: the keys of 'names' must be 0 to {len(names) - 1} without gaps, found {short(list(names))}"
            )
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list | tuple) or not names:
        raise DataError(
            f"{where}: 'names' is missing or empty; list the category names, such as 'optical ship' and 'sar ship'"
        )
    if bad := [n for n in names if not isinstance(n, str) or not n.strip()]:
        raise DataError(f"{where}: 'names' holds {short(bad[0])}, which is no name; quote it if YAML misreads it")
    if len(names) > MOST_NAMES or any(len(n) > LONGEST_NAME for n in names):
        raise DataError(
            f"{where}: 'names' lists {len(names):,} names, the longest of {max(map(len, names)):,} characters; at most "
            f"{MOST_NAMES:,} of {LONGEST_NAME} are read: are they the names of categories?"
        )
    cleaned = tuple(" ".join(n.split()) for n in names)
    if twice := [n for i, n in enumerate(cleaned) if n in cleaned[:i]]:
        raise DataError(f"{where}: 'names' lists '{twice[0]}' twice; every category needs a name of its own")
    return cleaned


def vocabulary_of(
    names: tuple[str, ...],
    synonyms: object,
    parents: object,
    where: str,
    modalities: Mapping[str, tuple[str, ...]] | None = None,
) -> Vocabulary:
    """Check the values of `synonyms:` and `parents:` in a YAML file, and return the vocabulary of all.

    Args:
        names: Category names.
        synonyms: Category to one word or a list of words; None for none.
        parents: Category to a word; None for none.
        where: How messages name the file.
        modalities: Declared modalities and their words.

    Raises:
        DataError: Values of another kind, or that contradict each other.
    """
    for key, value in (("synonyms", synonyms), ("parents", parents)):
        if not isinstance(value, Mapping | None) or not all(isinstance(k, str) and k.strip() for k in value or ()):
            raise DataError(
                f"{where}: '{key}' must map category names to words, such as {{ship: boat}}; not {short(value)}"
            )
    listed = {k: [v] if isinstance(v, str) else v for k, v in dict(synonyms or {}).items()}  # type: ignore[call-overload]
    above: dict[str, str] = dict(parents or {})  # type: ignore[call-overload]
    for name, words in (*listed.items(), *((k, [v]) for k, v in above.items())):
        if not isinstance(words, list | tuple) or not all(isinstance(w, str) and w.strip() for w in words):
            raise DataError(
                f"{where}: '{name}' has {short(words)} as its synonyms or parent; give words, quoted where needed"
            )
    try:
        vocabulary = Vocabulary.of(names, listed, above, modalities)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error
    if unread := [n for n in names if parse(f"the {vocabulary.noun_of(n)}", vocabulary).category is None]:
        LOGGER.warning(
            f"{where}: no expression can name the category '{unread[0]}', which is a word for a place, a size or a "
            "colour; its captions cannot be checked. Give it another name"
        )
    return vocabulary


def _modalities(given: object, where: str) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """Check the value of `modalities:`.

    Returns:
        Each declared modality with its words, the spoken one first; and all modalities, the built-in ones first, with
        the built-in one that augmentation treats each as.
    """
    form = f"{where}: 'modalities' must map names to words, such as {{infrared: [infrared, thermal]}}"
    if not isinstance(given, Mapping | None):
        raise DataError(f"{form}; not {given!r}")
    words, alike = {}, {m: m for m in MODALITIES}
    for name, entry in (given or {}).items():
        if not isinstance(name, str) or not name.strip() or name.lower() in ("all", *MODALITIES):
            raise DataError(f"{form}; '{name}' is no name for a further one")
        options = dict(entry) if isinstance(entry, Mapping) else {"words": entry}
        if unknown := sorted(str(k) for k in options if k not in ("words", "like")):
            raise DataError(f"{where}: modality '{name}' has the unknown key '{unknown[0]}'; known are words and like")
        listed = [options["words"]] if isinstance(options.get("words"), str) else options.get("words") or []
        if not isinstance(listed, list | tuple) or not all(isinstance(w, str) and w.strip() for w in listed):
            raise DataError(f"{form}; '{name}' has {listed!r}")
        if (like := options.get("like", "optical")) not in MODALITIES:
            raise DataError(f"{where}: modality '{name}' is like '{like}'; choose optical or sar, for its augmentation")
        key = " ".join(name.lower().split())
        words[key], alike[key] = tuple(" ".join(w.split()) for w in listed), like
    return words, alike


def _include(configs: object, where: str) -> tuple[str, ...]:
    """Check the names of further dataset configs: one, or a list."""
    listed = [configs] if isinstance(configs, str) else configs or []
    if not isinstance(listed, list) or not all(isinstance(c, str) for c in listed):
        raise DataError(f"{where}: 'include' must name another dataset config or a list of them, not {short(configs)}")
    return tuple(listed)


def _sources(given: object, root: Path, modalities: Mapping[str, str], where: str) -> tuple[ExpressionSource, ...]:
    """Check the value of `expressions:`, and return its sources."""
    if given is None:
        return ()
    form = f"{where}: 'expressions' must map names to files, such as {{natural: {{val: natural/val.json}}}}"
    if not isinstance(given, Mapping) or not all(isinstance(v, Mapping) for v in given.values()):
        raise DataError(f"{form}; not {given!r}")
    sources: list[ExpressionSource] = []
    for name, entry in given.items():
        absent = entry.get("absent") or {}
        if str(name) in ("all", *modalities):
            raise DataError(f"{where}: 'expressions' holds '{name}', which is a row of every table; use another name")
        if unknown := sorted(str(k) for k in entry if k not in (*SPLITS, "absent", "images")):
            raise DataError(
                f"{where}: '{unknown[0]}' of expressions '{name}' is none of train, val, test, absent, images"
            )
        if not isinstance(absent, Mapping) or not set(absent) <= set(SPLITS):
            raise DataError(f"{where}: 'absent' of expressions '{name}' must map splits to files, not {absent!r}")
        files = {split: entry[split] for split in SPLITS if entry.get(split) is not None}
        texts = [*files.values(), *absent.values(), entry.get("images") or ""]
        if not all(isinstance(text, str) for text in texts):
            raise DataError(f"{form}; '{name}' holds {next(t for t in texts if not isinstance(t, str))!r}")
        folder = entry.get("images")
        splits = {split: (root / file).resolve() for split, file in files.items()}
        named = {split: (root / file).resolve() for split, file in absent.items()}
        images = {s: _part((root / folder).resolve(), s, f) for s, f in (named | splits).items()} if folder else {}
        sources.append(ExpressionSource(str(name), splits, named, images))
    return tuple(sources)


def _annotations_of(given: Any, root: Path, split: str, where: str) -> tuple[Any, Path | None]:
    """Find a split's annotation file where an Ultralytics dataset config names a folder of images.

    Returns:
        What the config names, or the file found, as a path from `root`; and the folder of images, if it names one.

    Raises:
        DataError: There is no such file: such a data set has boxes and no expressions.
    """
    if not names_images(given, root):
        return given, None
    folder = (root / given).resolve() if isinstance(given, str) and (root / given).is_dir() else None
    if (file := annotation_file(root, split, folder)) is not None:
        LOGGER.warning(f"{where}: '{split}: {given}' holds images; reading the expressions of {file}")
        return str(file.relative_to(root) if file.is_relative_to(root) else file), folder
    raise DataError(
        f"{where}: '{split}: {given}' names images, as for a detector, and there is no {root / split}.json with their "
        "expressions. Name a COCO JSON with captions there; from boxes alone, 'optisar dataset import', 'clean', "
        "'describe', 'split' and 'write' make one (recipe own-boxes.yaml)"
    )


def _names_of(content: Mapping[Any, Any], splits: Mapping[str, Path], where: str) -> tuple[str, ...]:
    """Return the category names: those of `names:`, else those that the annotation files list.

    Raises:
        DataError: There are none, or unusable ones.
    """
    if content.get("names") is not None:
        return checked_names(content["names"], where)
    listed: dict[str, None] = {}
    for file in splits.values():
        try:
            found = read_json_file(file)["categories"]
            entries = sorted((c["id"], " ".join(c["name"].split())) for c in found)
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            continue  # what is wrong with the file is said where its annotations are read
        listed |= dict.fromkeys(name for _, name in entries if name)
    if not listed:
        return checked_names(None, where)
    LOGGER.warning(
        f"{where}: no key 'names'; taking the {len(listed)} categories of the annotation files, in the order of their "
        f"ids: {', '.join(listed)}"
    )
    return checked_names(list(listed), where)


def root_of(content: Mapping[Any, Any], file: Path) -> Path:
    """Return the data set's folder that a dataset config names, whether it exists or not."""
    path = content.get("path") or ""
    return _root(path, file.parent) if isinstance(path, str) else file.parent


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


def find_file(folder: Path, name: str | Path, root: Path | None = None) -> Path | None:
    """Find an image or label file in its split's folder, or beside that folder.

    Args:
        folder: The split's folder.
        name: As the annotations name it: relative to either folder, or absolute.
        root: The data set's folder. A file must lie in one of the three, as its name is written: annotations of others
            must not choose files anywhere on this machine. Links are followed. None: a file may lie anywhere.
    """
    places = [os.path.normpath(f) for f in (folder, folder.parent, root) if f is not None]
    for base in (folder, folder.parent):
        path = os.path.normpath(base / name)
        # os.path.isfile is False, where Path.is_file raises, for names no file system takes.
        if os.path.isfile(path) and (root is None or any(path.startswith(os.path.join(p, "")) for p in places)):
            return base / name
    return None


def _render(recipe: object, root: Path, splits: Mapping[str, Path], where: str) -> None:
    """Render the data set's images if its folder or an annotation file is missing."""
    if not isinstance(recipe, Mapping):
        raise DataError(
            f"{where}: 'render' must hold seed and the number of images per split, such as {{seed: 0, train: 400}}"
        )
    for key in ("seed", *splits):
        value = recipe.get(key, 0 if key == "seed" else None)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise DataError(f"{where}: 'render' needs '{key}' as a whole number >= 0, found {short(value)}")
    kinds = recipe.get("kinds", "released")
    size = recipe.get("size", [320, 448])
    if unknown := sorted(map(str, set(recipe) - {"seed", "kinds", "size", "train", "val", "test"})):
        raise DataError(
            f"{where}: 'render' has no {short(unknown[0])}; it holds seed, kinds, size, train, val and test"
        )
    if not (isinstance(size, list) and len(size) == 2 and all(type(s) is int for s in size)):
        raise DataError(
            f"{where}: 'render' needs 'size' as [shortest, longest] long side in pixels, found {short(size)}"
        )
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

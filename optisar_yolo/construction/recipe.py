"""Recipes: a YAML file that declares the sources of a data set and the steps that build it from them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from ultralytics.utils import LOGGER

from optisar_yolo.construction.steps import CHAIN
from optisar_yolo.data import (
    MODALITIES,
    SPLITS,
    DataError,
    dataset_names,
    dataset_vocabulary,
    modality_of,
    vocabulary_of,
)
from optisar_yolo.language import BUILT_IN, Vocabulary
from optisar_yolo.plugin import find_packaged
from optisar_yolo.utils import UnreadableFileError, read_json_file, read_yaml

FORMATS = ("voc", "list", "coco", "yolo")
ANY = "*"
"""Key of a source's categories that stands for every word not listed."""
STEPS = (*CHAIN[1:], "write", "validate", "stats")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")  # a prefix of file names: no slash, so that no two sources' names can meet
_EXPECTED = ("images", "objects", *SPLITS)


@dataclass(frozen=True)
class Source:
    """Where one source lies and how it is read.

    Attributes:
        name: Prefix of its images' names.
        format: One of `FORMATS`: VOC XML with descriptions, a pickled or JSON list, COCO JSON with captions,
            YOLO labels.
        path: Its folder, under the root given to `import`.
        modality: "optical" or "sar".
        licence: Licence or terms, as its authors state them.
        images: Folders of its images under `path`; the first in which an image lies counts. Folders "train", "val"
            and "test" in them are looked into by themselves.
        annotations: Folder of its XML or label files, under `path`.
        files: Split to the list or COCO file that holds it, or to several ("" for files without splits), under `path`.
        index: Split to the file of running object numbers (voc), under `path`.
        boxes: "xyxy" or "xywh"; "" for what is usual: "xywh" in COCO, "xyxy" in VOC and lists.
        names: Words of its class numbers (yolo), in their order.
        categories: Its words to category names of the result; `ANY` stands for all other words.
        expect: Numbers that the import must find: "images", "objects" in the annotations, and "train", "val" and
            "test", the objects of a split.
    """

    name: str
    format: str
    path: str
    modality: str
    licence: str = ""
    images: tuple[str, ...] = ("JPEGImages", "images")
    annotations: str = "Annotations"
    files: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    index: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    boxes: str = ""
    names: tuple[str, ...] = ()
    categories: Mapping[str, str] = field(default_factory=dict)
    expect: Mapping[str, int] = field(default_factory=dict)

    def annotation_files(self, folder: Path) -> list[tuple[str, Path]]:
        """Return split and path of every list or COCO file, the source's folder given."""
        return _paths(self.files, folder)

    def index_files(self, folder: Path) -> list[tuple[str, Path]]:
        """Return split and path of every file of running numbers, the source's folder given."""
        return _paths(self.index, folder)


@dataclass(frozen=True)
class Recipe:
    """A data set to build.

    Attributes:
        name: Its name.
        names: Category names in their order, each with its modality first.
        sources: Its sources.
        build: Steps after `import` with their options, in the order of `STEPS`.
        released: What `validate strict=True` asserts: split or "all" to {"images": n, "expressions": n}.
        synonyms: As in a dataset config: category to further words for it.
        parents: As in a dataset config: category to the wider category that it is a kind of.
    """

    name: str
    names: tuple[str, ...]
    sources: tuple[Source, ...]
    build: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    released: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    synonyms: Mapping[str, Any] = field(default_factory=dict)
    parents: Mapping[str, Any] = field(default_factory=dict)

    @property
    def vocabulary(self) -> Vocabulary:
        """The nouns of the categories."""
        return vocabulary_of(self.names, self.synonyms, self.parents, self.name)

    @property
    def declared(self) -> dict[str, dict[str, Any]]:
        """`synonyms` and `parents` where they are not empty."""
        return {k: dict(v) for k, v in (("synonyms", self.synonyms), ("parents", self.parents)) if v}

    @property
    def by_source(self) -> bool:
        """Whether objects keep the splits that their sources assign (``build: split: {by: source}``)."""
        return (self.build.get("split") or {}).get("by") == "source"

    def as_dict(self) -> dict[str, Any]:
        """Return the content as JSON gives it back: lists, no tuples, so that a manifest's copy equals it."""
        content = dict(json.loads(json.dumps(asdict(self))))
        # Left out where empty, so that manifests from before these keys stay up to date.
        return {k: v for k, v in content.items() if v or k not in ("synonyms", "parents")}


def load_recipe(recipe: str | Path) -> Recipe:
    """Read a recipe.

    Args:
        recipe: A YAML file, or the bare name of a packaged one ("optsar-rsvg.yaml").

    Raises:
        DataError: Not found, not valid YAML, or content that means nothing; the message names the key.
    """
    path = Path(recipe).expanduser()
    if not path.is_file():
        try:
            path = find_packaged("datasets", f"recipes/{recipe}")
        except FileNotFoundError as error:
            raise DataError(f"recipe '{recipe}' not found: no such file from {Path.cwd()}, and {error}") from error
    try:
        content, old = renamed_keys(read_yaml(path))
    except UnreadableFileError as error:
        raise DataError(str(error)) from error
    if not isinstance(content, dict) or not isinstance(content.get("sources"), list) or not content["sources"]:
        raise DataError(f"{path}: a recipe needs a list 'sources', each with name, format, path and modality")
    if old:
        _warn_once(f"{path}: " + ", ".join(f"the key '{key}' is now '{RENAMED[key]}'" for key in old))
    return recipe_of(content, str(path))


RENAMED = {"card": "data", "pictures": "images"}
"""Former keys of recipes to the present ones."""


def renamed_keys(content: Any) -> tuple[Any, list[str]]:
    """Return a recipe's content with the present keys, and the former ones that it has.

    The keys are `card`, `pictures` of a source (its folders) and of its `expect`, and `pictures` in `released`.
    """
    found: dict[str, None] = {}

    def rename(mapping: Any, key: str) -> Any:
        if not isinstance(mapping, dict) or key not in mapping:
            return mapping
        found[key] = None
        return {RENAMED[key] if k == key else k: v for k, v in mapping.items()}

    content = rename(content, "card")
    if isinstance(content, dict) and isinstance(content.get("sources"), list):
        sources = [rename(source, "pictures") for source in content["sources"]]
        for source in sources:
            if isinstance(source, dict) and "expect" in source:
                source["expect"] = rename(source["expect"], "pictures")
        content = content | {"sources": sources}
    if isinstance(content, dict) and isinstance(content.get("released"), dict):
        content = content | {"released": {k: rename(v, "pictures") for k, v in content["released"].items()}}
    return content, list(found)


@lru_cache
def _warn_once(text: str) -> None:
    LOGGER.warning(text)


def recipe_of(content: Mapping[str, Any], where: str) -> Recipe:
    """Check a recipe's content, with the present keys; `where` is how messages name it.

    Raises:
        DataError: Content that means nothing.
    """
    content = dict(content)
    if "data" in content:  # the categories of a dataset config, with their synonyms and parents
        data = str(content.pop("data"))
        words = dataset_vocabulary(data)
        content["names"] = dataset_names(data)
        content.setdefault("synonyms", words.synonyms)
        content.setdefault("parents", words.parents)
    for key in ("build", "released"):
        steps = content[key] = content.get(key) or {}
        if not isinstance(steps, Mapping) or not all(v is None or isinstance(v, Mapping) for v in steps.values()):
            raise DataError(f"{where}: '{key}' must map names to options, such as {{clean: {{}}}}; found {steps!r}")
    if not isinstance(content.get("name"), str):
        raise DataError(f"{where}: 'name' must be a text, found {content.get('name')!r}")
    try:
        sources = tuple(_source(s, where) for s in content.pop("sources"))
        recipe = Recipe(sources=sources, **{**content, "names": tuple(content.get("names", ()))})
    except TypeError as error:
        raise DataError(
            f"{where}: {error}; known keys are name, names or data, sources, build, released, synonyms, parents"
        ) from error
    if unnamed := [n for n in recipe.names if not isinstance(n, str) or modality_of(n) is None]:
        raise DataError(f"{where}: category '{unnamed[0]}' must begin with {' or '.join(MODALITIES)}")
    vocabulary_of(recipe.names, recipe.synonyms, recipe.parents, where)
    if len({s.name for s in sources}) < len(sources):
        raise DataError(f"{where}: two sources have the same name; names keep the images apart")
    for source in sources:
        for word, name in source.categories.items():
            if name not in recipe.names:
                raise DataError(f"{where}: source {source.name} maps '{word}' to '{name}', which is no category")
    if unknown := [s for s in recipe.build if s not in STEPS]:
        raise DataError(f"{where}: unknown step '{unknown[0]}'; known are {', '.join(STEPS)}")
    return recipe


def declared_in(work: Path) -> tuple[Vocabulary, dict[str, dict[str, Any]]]:
    """Return the vocabulary of a work folder's recipe and what declares it; the built-in one where it has no recipe."""
    recipe = recipe_in(work) if (work / "import" / "manifest.json").is_file() else None
    return (recipe.vocabulary, recipe.declared) if recipe else (BUILT_IN, {})


def recipe_in(work: Path) -> Recipe:
    """Return the recipe that a work folder was begun with.

    Raises:
        DataError: Nothing was imported there.
    """
    manifest = work / "import" / "manifest.json"
    try:
        content = read_json_file(manifest)["options"]["recipe"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{work}: nothing has been imported here; run 'optisar dataset import recipe=… work={work}'"
        ) from error
    return recipe_of(renamed_keys(content)[0], str(manifest))


def _source(content: object, where: str) -> Source:
    if not isinstance(content, Mapping):
        raise DataError(f"{where}: a source is a mapping with name, format, path and modality, not {content!r}")
    name = content.get("name", "?")
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
    if isinstance(given.get("images"), str):
        given["images"] = (given["images"],)
    try:
        source = Source(**given)
    except TypeError as error:
        raise DataError(f"{where}: source {name}: {error}") from error
    for key in ("name", "path", "licence", "annotations"):
        if not isinstance(value := getattr(source, key), str):
            raise DataError(f"{where}: source {name}: '{key}' must be text, not {value!r}; quote it")
    for key in ("images", "names"):
        if not isinstance(value := getattr(source, key), tuple) or not all(isinstance(v, str) for v in value):
            raise DataError(f"{where}: source {name}: '{key}' must be a list of texts, not {value!r}")
    if not _NAME.fullmatch(source.name):
        raise DataError(f"{where}: source name '{name}' must be of letters, digits and . _ -")
    for key, value, known in (
        ("format", source.format, FORMATS),
        ("modality", source.modality, MODALITIES),
        ("boxes", source.boxes, ("", "xyxy", "xywh")),
    ):
        if value not in known:
            raise DataError(
                f"{where}: source {name}: {key} is '{value}'; choose from {', '.join(k for k in known if k)}"
            )
    for key, kind in (("files", str), ("index", str), ("categories", str), ("expect", int)):
        _check_mapping(getattr(source, key), kind, f"{where}: source {name}: '{key}'")
    for key in (*source.files, *source.index):
        if key not in (*SPLITS, ""):
            raise DataError(f"{where}: source {name}: '{key}' is no split; splits are {', '.join(SPLITS)}")
    if unknown := [key for key in source.expect if key not in _EXPECTED]:
        raise DataError(f"{where}: source {name}: expect has no '{unknown[0]}'; it knows {', '.join(_EXPECTED)}")
    if source.format in ("list", "coco") and not source.files:
        raise DataError(f"{where}: source {name}: format {source.format} needs 'files', such as {{train: train.json}}")
    return source


def _check_mapping(content: object, kind: type, where: str) -> None:
    """Check that texts are mapped to values of one type; texts may be lists of texts."""
    values = content.items() if isinstance(content, Mapping) else [(None, None)]
    for key, value in values:
        listed = value if kind is str and isinstance(value, list | tuple) else [value]
        if not isinstance(key, str) or not all(isinstance(v, kind) and not isinstance(v, bool) for v in listed):
            meant = "whole numbers" if kind is int else "texts"
            raise DataError(f"{where} must map texts to {meant}; found {content!r}. Quote words that YAML misreads")


def _paths(files: Mapping[str, str | Sequence[str]], folder: Path) -> list[tuple[str, Path]]:
    listed = ((split, [names] if isinstance(names, str) else names) for split, names in files.items())
    return [(split, folder / name) for split, names in listed for name in names]

"""Recipes: one YAML file that declares the sources of a data set and the steps that make it of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from optisar_yolo import resources
from optisar_yolo.build.steps import CHAIN
from optisar_yolo.data.cards import MODALITIES, SPLITS, DataError, card_names, modality_of

FORMATS = ("voc", "list", "coco", "yolo")
ANY = "*"
"""Key of a source's categories that stands for every word not listed."""
STEPS = (*CHAIN[1:], "write", "validate", "stats")


@dataclass(frozen=True)
class Source:
    """Where one source lies and how it is read.

    Attributes:
        name: Prefix of its pictures' names.
        format: One of `FORMATS`: VOC XML with descriptions, a pickled or JSON list, COCO JSON with captions,
            YOLO labels.
        path: Its folder, under the root given to `import`.
        modality: "optical" or "sar".
        licence: Under what it may be used, as its authors say.
        images: Folders of its pictures under `path`; the first in which a picture lies counts.
        annotations: Folder of its XML or label files, under `path`.
        files: Split to the list or COCO file that holds it ("" for one file without splits), under `path`.
        index: Split to the file of running object numbers (voc), under `path`.
        boxes: "xyxy" or "xywh", for lists.
        names: Words of its class numbers (yolo), in their order.
        categories: Its words to names of the data card; `ANY` for all others. A word that is in neither is dropped.
        expect: Numbers that must be met: "pictures", "objects", "train", "val", "test" (objects of a split).
    """

    name: str
    format: str
    path: str
    modality: str
    licence: str = ""
    images: tuple[str, ...] = ("JPEGImages", "images")
    annotations: str = "Annotations"
    files: Mapping[str, str] = field(default_factory=dict)
    index: Mapping[str, str] = field(default_factory=dict)
    boxes: str = "xyxy"
    names: tuple[str, ...] = ()
    categories: Mapping[str, str] = field(default_factory=dict)
    expect: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """A data set to build.

    Attributes:
        name: Its name.
        names: Category names in their order, each with its modality first.
        sources: Its sources.
        build: Steps after `import` with their options, in the order of `STEPS`.
        released: What `validate strict=True` asserts: split or "all" to {"pictures": n, "expressions": n}.
    """

    name: str
    names: tuple[str, ...]
    sources: tuple[Source, ...]
    build: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    released: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the content as JSON can say it."""
        return asdict(self)


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
            path = resources.find("datasets", f"recipes/{recipe}")
        except FileNotFoundError as error:
            raise DataError(f"recipe '{recipe}' not found: no such file from {Path.cwd()}, and {error}") from error
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a YAML file that can be read ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict) or not isinstance(content.get("sources"), list) or not content["sources"]:
        raise DataError(f"{path}: a recipe needs a list 'sources', each with name, format, path and modality")
    return recipe_of(content, str(path))


def recipe_of(content: Mapping[str, Any], where: str) -> Recipe:
    """Check a recipe's content.

    Args:
        content: As in the YAML file, or as `Recipe.as_dict` gave it.
        where: How messages name it.

    Raises:
        DataError: Content that means nothing.
    """
    content = dict(content)
    if "card" in content:  # the categories of a data card
        content["names"] = card_names(content.pop("card"))
    try:
        sources = tuple(_source(dict(s), where) for s in content.pop("sources"))
        recipe = Recipe(sources=sources, **{**content, "names": tuple(content.get("names", ()))})
    except TypeError as error:
        raise DataError(f"{where}: {error}; known keys are name, names or card, sources, build, released") from error
    if unnamed := [n for n in recipe.names if modality_of(n) is None]:
        raise DataError(f"{where}: category '{unnamed[0]}' must begin with {' or '.join(MODALITIES)}")
    if len({s.name for s in sources}) < len(sources):
        raise DataError(f"{where}: two sources have the same name; names keep the pictures apart")
    for source in sources:
        for word, name in source.categories.items():
            if name not in recipe.names:
                raise DataError(f"{where}: source {source.name} maps '{word}' to '{name}', which is no category")
    if unknown := [s for s in recipe.build if s not in STEPS]:
        raise DataError(f"{where}: unknown step '{unknown[0]}'; known are {', '.join(STEPS)}")
    return recipe


def recipe_in(work: Path) -> Recipe:
    """Return the recipe that a work folder was begun with.

    Raises:
        DataError: Nothing was imported there.
    """
    manifest = work / "import" / "manifest.json"
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))["options"]["recipe"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{work}: nothing has been imported here; run 'optisar dataset import recipe=… work={work}'"
        ) from error
    return recipe_of(content, str(manifest))


def _source(content: dict[str, Any], where: str) -> Source:
    content = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
    if isinstance(content.get("images"), str):
        content["images"] = (content["images"],)
    try:
        source = Source(**content)
    except TypeError as error:
        raise DataError(f"{where}: source {content.get('name', '?')}: {error}") from error
    for key, value, known in (
        ("format", source.format, FORMATS),
        ("modality", source.modality, MODALITIES),
        ("boxes", source.boxes, ("xyxy", "xywh")),
    ):
        if value not in known:
            raise DataError(f"{where}: source {source.name}: {key} is '{value}'; choose from {', '.join(known)}")
    for key in (*source.files, *source.index):
        if key not in (*SPLITS, ""):
            raise DataError(f"{where}: source {source.name}: '{key}' is no split; splits are {', '.join(SPLITS)}")
    return source

"""Recipes: what the packaged ones say, and what content that means nothing gets."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hand_samples import run

from optisar_yolo.construction.recipe import load_recipe, recipe_in, recipe_of
from optisar_yolo.construction.writing import _config
from optisar_yolo.data.config import DataError, dataset_names, modality_of
from optisar_yolo.plugin import resources

PACKAGED = [n for n in resources.packaged_names("datasets") if n.startswith("recipes/")]
GOOD: dict[str, Any] = {
    "name": "mine",
    "names": ["optical ship", "sar ship"],
    "sources": [
        {
            "name": "a",
            "format": "list",
            "path": "a",
            "modality": "optical",
            "files": {"train": ["one.json", "two.pth"]},
            "categories": {"*": "optical ship"},
        }
    ],
    "build": {"clean": {}, "split": {"ratio": "8:1:1"}},
}


def test_packaged_recipes_cover_the_issue() -> None:
    assert {Path(n).stem for n in PACKAGED} == {"optsar-rsvg", "dior-rsvg", "opt-rsvg", "own-boxes"}
    optsar = load_recipe("optsar-rsvg.yaml")
    assert optsar.names == dataset_names("optsar.yaml")
    assert optsar.released["all"] == {"images": 46825, "expressions": 90148}
    for key, total in optsar.released["all"].items():
        assert sum(optsar.released[s][key] for s in ("train", "val", "test")) == total
    reached = {name for source in optsar.sources for name in source.categories.values()}
    assert reached == set(optsar.names)


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_recipes_are_consistent(name: str) -> None:
    recipe = load_recipe(Path(name).name)
    assert recipe_of(recipe.as_dict(), "copy") == recipe
    assert json.loads(json.dumps(recipe.as_dict())) == recipe.as_dict()
    for source in recipe.sources:
        assert source.licence
        assert {modality_of(n) for n in source.categories.values()} == {source.modality}


def test_dior_card_and_recipe_name_the_same_categories() -> None:
    recipe = load_recipe("dior-rsvg.yaml")
    assert recipe.names == dataset_names("dior-rsvg.yaml")
    assert sorted(recipe.sources[0].categories.values()) == sorted(recipe.names)
    assert recipe.sources[0].expect == {"objects": 38320, "train": 26991, "val": 3829, "test": 7500}


def test_files_are_listed_by_split(tmp_path: Path) -> None:
    source = recipe_of(GOOD, "test").sources[0]
    assert source.annotation_files(tmp_path) == [("train", tmp_path / "one.json"), ("train", tmp_path / "two.pth")]
    assert source.index_files(tmp_path) == []


def change(**entries: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content.update(entries)


def change_source(**entries: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content["sources"][0].update(entries)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (change(title="x"), "title.*known keys are"),
        (change(name=5), "'name' must be a text"),
        (change(names=["ship"]), "'ship' must begin with optical or sar"),
        (change(names=[7]), "'7' must begin"),
        (change(names=None), "known keys"),
        (change(data="nowhere.yaml"), "'nowhere.yaml' not found"),
        (change(data=3), "'3' not found"),
        (change(build=["clean"]), "'build' must map"),
        (change(build={"clean": 3}), "'build' must map"),
        (change(build={"bake": {}}), "unknown step 'bake'"),
        (change(released=[1]), "'released' must map"),
        (change(sources=["a"]), "a source is a mapping"),
        (change(sources=[*GOOD["sources"], *GOOD["sources"]]), "same name"),
        (change_source(colour="red"), "source a: .*colour"),
        (change_source(format="json"), "format is 'json'; choose from voc, list, coco, yolo"),
        (change_source(modality="radar"), "modality is 'radar'"),
        (change_source(boxes="cxcywh"), "choose from xyxy, xywh"),
        (change_source(name="a/b"), "letters, digits"),
        (change_source(name=".."), "letters, digits"),
        (change_source(path=5), "'path' must be text"),
        (change_source(images={"a": 1}), "'images' must be a list"),
        (change_source(names=[True]), "'names' must be a list of texts"),
        (change_source(files=["a.json"]), "'files' must map"),
        (change_source(files={}), "needs 'files'"),
        (change_source(files={"dev": "a.json"}), "'dev' is no split"),
        (change_source(categories={False: "optical ship"}), "'categories' must map texts .* Quote words"),
        (change_source(categories={"x": "optical plane"}), "maps 'x' to 'optical plane', which is no category"),
        (change_source(expect={"objects": "many"}), "whole numbers"),
        (change_source(expect={"boxes": 3}), "expect has no 'boxes'"),
    ],
)
def test_content_that_means_nothing(edit: Callable[[dict[str, Any]], Any], message: str) -> None:
    content = copy.deepcopy(GOOD)
    edit(content)
    with pytest.raises(DataError, match=f"test: .*{message}|{message}"):
        recipe_of(content, "test")


@pytest.mark.parametrize("text", ["", "a: [", "sources: []", "- 1", "sources: 3", "\x00"])
def test_files_that_are_no_recipe(text: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(DataError, match=r"r\.yaml"):
        load_recipe(tmp_path / "r.yaml")
    with pytest.raises(DataError, match="not found"):
        load_recipe("no-such-recipe.yaml")


def test_former_keys_work_and_are_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = GOOD["sources"][0] | {"expect": {"images": 3}, "images": ["a"], "categories": {"*": "optical ship"}}
    new = GOOD | {"sources": [source], "data": "optsar.yaml", "released": {"all": {"images": 5}}}
    old = new | {
        "sources": [source | {"expect": {"pictures": 3}, "pictures": ["a"]}],
        "released": {"all": {"pictures": 5}},
        "card": "optsar.yaml",
    }
    del old["data"], old["names"], old["sources"][0]["images"]
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(old))
    for _ in range(2):
        assert load_recipe(tmp_path / "old.yaml") == recipe_of(new, "new")
    (record,) = caplog.records
    assert record.message.endswith("old.yaml: the key 'card' is now 'data', the key 'pictures' is now 'images'")


def test_work_folder_keeps_its_recipe(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing has been imported"):
        recipe_in(tmp_path)
    (tmp_path / "a" / "images").mkdir(parents=True)
    (tmp_path / "a" / "images" / "1.jpg").write_bytes(b"")
    (tmp_path / "a" / "one.json").write_text('[["1.jpg", [1, 2, 3, 4], "x"]]')
    (tmp_path / "a" / "two.pth").write_bytes(b"\x80\x02].")
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(GOOD))
    options = {"recipe": tmp_path / "r.yaml", "root": tmp_path}
    with pytest.raises(DataError, match="size cannot be read"):
        run("import", tmp_path / "work", **options)
    with pytest.raises(DataError, match="nothing has been imported"):
        recipe_in(tmp_path / "work")
    content = GOOD["sources"][0] | {"name": "b", "files": {"": "one.json"}, "expect": {"objects": 1}}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(GOOD | {"sources": [content]}))
    import cv2
    import numpy as np

    assert cv2.imwrite(str(tmp_path / "a" / "images" / "1.jpg"), np.zeros((9, 9), np.uint8))
    run("import", tmp_path / "work", **options)
    assert recipe_in(tmp_path / "work") == load_recipe(tmp_path / "r.yaml")


def test_synonyms_and_parents_of_a_recipe_reach_the_dataset_config() -> None:
    words = {"synonyms": {"ship": ["lighter"]}, "parents": {"ship": "craft"}}
    recipe = recipe_of(GOOD | words, "r.yaml")
    assert recipe.vocabulary.read("lighters") == "ship" and recipe.declared == words
    assert recipe_of(recipe.as_dict(), "r.yaml") == recipe
    assert yaml.safe_load(_config(recipe, ["train"], {})).items() >= words.items()
    assert not {"synonyms", "parents"} & recipe_of(GOOD, "r.yaml").as_dict().keys()
    with pytest.raises(DataError, match=r"r\.yaml: 'parents' runs in a circle"):
        recipe_of(GOOD | {"parents": {"ship": "craft", "craft": "ship"}}, "r.yaml")

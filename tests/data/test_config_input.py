"""Dataset configs as other programs write them, and words that contradict each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from make_tiny import NAMES, make
from ultralytics.utils import LOGGER

from optisar_yolo.data.config import DataError, dataset_names, dataset_vocabulary, load_dataset_config
from optisar_yolo.data.records import load_split
from optisar_yolo.language.nouns import Vocabulary
from optisar_yolo.language.parser import parse


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return make(tmp_path / "tiny")


def rewrite(data: Path, drop: tuple[str, ...] = (), **keys: Any) -> None:
    content = yaml.safe_load(data.read_text())
    data.write_text(yaml.safe_dump({k: v for k, v in (content | keys).items() if k not in drop}, sort_keys=False))


# without names


def test_names_of_the_annotation_files(tiny: Path, caplog: pytest.LogCaptureFixture) -> None:
    with_names = load_dataset_config(tiny)
    rewrite(tiny, drop=("names",))
    LOGGER.addHandler(caplog.handler)
    try:
        config = load_dataset_config(tiny)
    finally:
        LOGGER.removeHandler(caplog.handler)
    assert config.names == NAMES and dataset_names(tiny) == NAMES
    assert "no key 'names'; taking the 3 categories" in caplog.text
    assert config.vocabulary is with_names.vocabulary is dataset_vocabulary(tiny)
    for split in ("train", "val", "test"):
        assert [p.captions for p in load_split(config, split)] == [p.captions for p in load_split(with_names, split)]


def test_names_are_those_of_all_splits_in_the_order_of_their_ids(tiny: Path) -> None:
    rewrite(tiny, drop=("names",))
    for split, categories in (("train", [(7, "optical ship"), (2, "optical airplane")]), ("test", [(1, "sar  ship")])):
        file = tiny.parent / f"{split}.json"
        content = json.loads(file.read_text())
        file.write_text(json.dumps(content | {"categories": [{"id": i, "name": n} for i, n in categories]}))
    assert load_dataset_config(tiny).names == ("optical airplane", "optical ship", "sar ship")


@pytest.mark.parametrize("broken", ["{", "[]", '{"categories": [{"id": 1}]}', '{"categories": 3}'])
def test_no_names_anywhere(tiny: Path, broken: str) -> None:
    rewrite(tiny, drop=("names",))
    for split in ("train", "val", "test"):
        (tiny.parent / f"{split}.json").write_text(broken)
    with pytest.raises(DataError, match="'names' is missing or empty"):
        load_dataset_config(tiny)


def test_bad_names_are_said_before_anything_is_rendered(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("path: new\ntrain: train.json\nnames: [3]\nrender: {seed: 0, train: 2}\n")
    with pytest.raises(DataError, match="'names' holds 3"):
        load_dataset_config(file)
    assert not (tmp_path / "new").exists()


# Ultralytics' data.yaml


def moved(data: Path, where: str) -> None:
    """Put the annotation files elsewhere, and name folders of images as Ultralytics does."""
    root = data.parent
    for split in ("train", "val", "test"):
        target = root / where.format(split=split)
        target.parent.mkdir(parents=True, exist_ok=True)
        (root / f"{split}.json").rename(target)
    rewrite(data, **{split: f"images/{split}" for split in ("train", "val", "test")})


@pytest.mark.parametrize(
    "where",
    [
        "{split}.json", "annotations/{split}.json", "annotations/instances_{split}.json", "images/{split}.json",
        "images/{split}/_annotations.coco.json", "images/{split}/annotations.json",
    ],
)  # fmt: skip
def test_folders_of_images_with_a_json_beside_them(tiny: Path, where: str, caplog: pytest.LogCaptureFixture) -> None:
    before = {s: load_split(load_dataset_config(tiny), s) for s in ("train", "test")}
    moved(tiny, where)
    LOGGER.addHandler(caplog.handler)
    try:
        config = load_dataset_config(tiny)
    finally:
        LOGGER.removeHandler(caplog.handler)
    assert "'train: images/train' holds images; reading the expressions of" in caplog.text
    for split, images in before.items():
        after = load_split(config, split)
        assert [p.captions for p in after] == [p.captions for p in images]
        assert [p.boxes.tolist() for p in after] == [p.boxes.tolist() for p in images]  # with label files


def test_images_and_labels_where_the_config_says(tiny: Path) -> None:
    """As Roboflow lays data sets out: train/images, train/labels and a JSON beside them."""
    root = tiny.parent
    before = load_split(load_dataset_config(tiny), "train")
    for kind in ("images", "labels"):
        (root / "train").mkdir(exist_ok=True)
        (root / kind / "train").rename(root / "train" / kind)
    (root / "train.json").rename(root / "train" / "_annotations.coco.json")
    rewrite(tiny, drop=("val", "test"), train="train/images")
    config = load_dataset_config(tiny)
    after = load_split(config, "train")
    assert [p.boxes.tolist() for p in after] == [p.boxes.tolist() for p in before]
    assert after[0].path.parent == (root / "train" / "images").resolve()


@pytest.mark.parametrize("train", ["images/train", ["images/train", "images/val"], "train.txt"])
def test_images_without_expressions(tiny: Path, train: Any) -> None:
    for split in ("train", "val", "test"):
        (tiny.parent / f"{split}.json").unlink()
    (tiny.parent / "train.txt").write_text("images/train/opt_000000.jpg\n")
    rewrite(tiny, train=train)
    with pytest.raises(DataError, match=r"as for a detector, and there is no .*train\.json .*own-boxes\.yaml"):
        load_dataset_config(tiny)


# words that contradict each other


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"synonyms": {"ship": "craft", "airplane": "craft"}}, "'craft' is claimed by 'ship' and 'airplane'; keep one"),
        ({"synonyms": {"ship": "craft", "airplane": "crafts"}}, "is claimed by 'ship' and 'airplane'; keep one"),
        ({"synonyms": {"ship": ["Sea craft"], "airplane": "sea-craft"}}, "is claimed by 'ship' and 'airplane'"),
        ({"synonyms": {"boat": "dinghy"}}, "'synonyms' names 'boat', which is no category"),
        ({"synonyms": {"ship": "left"}}, "'left' can name no object"),
        ({"synonyms": {"ship": 3}}, "'ship' has 3 as its synonyms"),
        ({"parents": {"ship": "airplane", "airplane": "ship"}}, "'parents' runs in a circle: ship -> airplane -> ship"),
        ({"parents": {"ship": "ship"}}, "'parents' runs in a circle: ship -> ship"),
        ({"parents": {"ship": "craft", "craft": "thing", "thing": "craft"}}, "'parents' runs in a circle"),
        ({"parents": {"ship": "Craft", "craft": "ship"}}, "'parents' runs in a circle"),
        ({"parents": {"boat": "ship"}}, "'parents' names 'boat', which is no category"),
        ({"parents": {"ship": ["craft"]}}, "'ship' has"),
    ],
)
def test_words_that_contradict_each_other(tiny: Path, keys: dict[str, Any], says: str) -> None:
    rewrite(tiny, **keys)
    with pytest.raises(DataError, match=says):
        load_dataset_config(tiny)


def test_a_category_is_one_word_in_any_spelling(tiny: Path) -> None:
    rewrite(tiny, names=["optical Helipad", "sar small-craft"], synonyms={"helipad": "landing pad"}, parents={
        "small_craft": "Craft", "craft": "Thing"
    })  # fmt: skip
    vocabulary = load_dataset_config(tiny).vocabulary
    assert vocabulary.read("landing pads") == "Helipad"
    assert vocabulary.means("Craft", "small-craft") and vocabulary.means("Thing", "small-craft")


@pytest.mark.parametrize("name", ["aircraft", "spacecraft", "sheep", "glass", "bus", "barracks", "gas works", "series"])
def test_a_name_that_is_its_own_plural(name: str) -> None:
    vocabulary = Vocabulary.of([f"optical {name}", "optical ship"])
    noun = vocabulary.noun_of(f"optical {name}")
    for text in (f"the {name} on the left", f"the two {name} on the left", f"all {name}"):
        assert parse(text, vocabulary).category == noun, text
    assert vocabulary.means(noun, "ship") is False


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a" * 201], "at most 30,000 of 200"),
        ([f"n{i}" for i in range(30_001)], "lists 30,001 names"),
    ],
)
def test_names_that_are_none_are_refused_before_they_are_parsed(names: list[str], words: str, tiny: Path) -> None:
    rewrite(tiny, names=names)
    with pytest.raises(DataError, match=words):
        load_dataset_config(tiny)


def test_a_huge_yaml_file_is_refused_before_it_is_parsed(tiny: Path) -> None:
    tiny.write_text(tiny.read_text() + "# " + "x" * 2_000_000 + "\n")
    with pytest.raises(DataError, match="a YAML file has at most 2,000,000 here"):
        load_dataset_config(tiny)


def test_a_key_that_stands_twice_is_named(tiny: Path) -> None:
    tiny.write_text(tiny.read_text() + "\nnames: [sar ship]\n")
    with pytest.raises(DataError, match="the key 'names' stands twice"):
        load_dataset_config(tiny)

"""Dataset configs and annotations: what good input gives, and what every kind of bad input gets."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from make_tiny import COUNTS, NAMES, SIZE
from ultralytics.utils import LOGGER, SETTINGS

from optisar_yolo import synthetic
from optisar_yolo.data import config as config_module
from optisar_yolo.data.config import DataError, load_dataset_config
from optisar_yolo.data.records import ImageRecord, Skips, load_split
from optisar_yolo.language import BUILT_IN
from optisar_yolo.plugin import resources

NO_BOX = "box that is not four finite numbers of positive area"
UNKNOWN = "unknown category (add it to the dataset config's names)"
Edit = Callable[[dict[str, Any]], object]


class _Messages(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """Collect ultralytics' warnings: its logger does not propagate, so caplog cannot see it."""
    handler = _Messages()
    LOGGER.addHandler(handler)
    yield handler.texts
    LOGGER.removeHandler(handler)


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    """Return the dataset config of a copy of the tiny data set that may be damaged."""
    shutil.copytree(tiny.parent, tmp_path / "copy")
    return tmp_path / "copy" / tiny.name


def edit(config: Path, change: Edit, split: str = "train") -> None:
    file = config.parent / f"{split}.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def edit_config(config: Path, **changes: object) -> Path:
    content = {k: v for k, v in (yaml.safe_load(config.read_text()) | changes).items() if v is not ...}
    config.write_text(yaml.safe_dump(content))
    return config


def expressions(images: list[ImageRecord]) -> int:
    return sum(len(c) for p in images for c in p.captions)


# ---- good input


def test_tiny_is_read_whole(tiny: Path) -> None:
    config = load_dataset_config(tiny)
    assert config.names == NAMES and set(config.splits) == set(COUNTS)
    for split, count in COUNTS.items():
        skips = Skips()
        images = load_split(config, split, skips=skips)
        assert not skips.counts
        assert len(images) == count and expressions(images) == 2 * count
        for image in images:
            n = len(image.boxes)
            assert image.boxes.dtype == np.float32 and image.boxes.shape == (n, 4)
            assert image.categories.dtype == np.int64 and len(image.categories) == n
            assert len(image.captions) == len(image.kinds) == n
            assert image.modality == {"opt_": "optical", "sar_": "sar"}[image.path.name[:4]]
            assert (image.width, image.height) == SIZE
            assert cv2.imread(str(image.path)).shape == (SIZE[1], SIZE[0], 3)
            # the label file repeats the annotated objects: merged, they are no more than its lines
            assert n == len((tiny.parent / "labels" / split / f"{image.path.stem}.txt").read_text().splitlines())


def test_boxes_are_where_the_annotation_says(tiny: Path) -> None:
    note = json.loads((tiny.parent / "train.json").read_text())["annotations"][0]
    x, y, w, h = note["bbox"]
    first = load_split(load_dataset_config(tiny), "train")[0]
    assert first.boxes[0].tolist() == [x, y, x + w, y + h]
    assert first.captions[0] == (note["caption"],) and first.kinds[0] == ("position",)


def test_label_boxes_without_annotation_are_added_without_caption(copy: Path) -> None:
    edit(copy, lambda d: d["annotations"].pop(0))
    whole = load_split(load_dataset_config(copy), "train")
    shutil.rmtree(copy.parent / "labels")
    bare = load_split(load_dataset_config(copy), "train")
    assert expressions(whole) == expressions(bare) == 2 * COUNTS["train"] - 1
    assert len(whole[0].boxes) == 2 and whole[0].captions[1] == ()
    assert len(bare[0].boxes) == 1


def test_same_box_and_category_become_one_object(copy: Path) -> None:
    def change(d: dict[str, Any]) -> None:
        d["annotations"].append(d["annotations"][0] | {"id": 900, "caption": "Another   wording", "kind": "unique"})
        d["annotations"].append(d["annotations"][0] | {"id": 901})

    edit(copy, change)
    skips = Skips()
    first = load_split(load_dataset_config(copy), "train", skips=skips)[0]
    assert len(first.boxes) == 2
    assert first.captions[0][1] == "Another wording" and first.kinds[0] == ("position", "unique")
    assert skips.counts == {"expression repeated for the same object": 1}


def test_category_ids_follow_names_not_numbers(copy: Path) -> None:
    def change(d: dict[str, Any]) -> None:
        for record in d["categories"]:
            record["id"] += 100
        for record in d["annotations"]:
            record["category_id"] += 100

    before = load_split(load_dataset_config(copy), "train")
    edit(copy, change)
    after = load_split(load_dataset_config(copy), "train")
    assert [p.categories.tolist() for p in before] == [p.categories.tolist() for p in after]


@pytest.mark.parametrize("drop", ["width", "height"])
def test_missing_size_is_read_from_the_image(copy: Path, drop: str) -> None:
    edit(copy, lambda d: [i.pop(drop) for i in d["images"]])
    assert {(p.width, p.height) for p in load_split(load_dataset_config(copy), "train")} == {SIZE}


def test_images_may_lie_without_split_folder(copy: Path) -> None:
    for kind in ("images", "labels"):
        for file in (copy.parent / kind / "test").iterdir():
            file.rename(copy.parent / kind / file.name)
        (copy.parent / kind / "test").rmdir()
    images = load_split(load_dataset_config(copy), "test")
    assert len(images) == COUNTS["test"] and sum(len(p.boxes) for p in images) > expressions(images)


def test_fraction_is_seeded_nested_and_keeps_both_modalities(tiny: Path) -> None:
    config = load_dataset_config(tiny)

    def chosen(fraction: float, seed: int = 0) -> list[str]:
        return [p.path.name for p in load_split(config, "train", fraction, seed)]

    previous: set[str] = set()
    everything = chosen(1.0)
    for fraction, count in ((0.05, 2), (1 / 3, 2), (0.5, 4), (2 / 3, 4), (0.9, 6), (1.0, 6)):
        names = chosen(fraction)
        assert names == chosen(fraction) and len(names) == count and previous <= set(names)
        assert names == [n for n in everything if n in names], "the file's order is kept"
        assert {n[:3] for n in names} == {"opt", "sar"}
        previous = set(names)
    assert len({tuple(chosen(0.3, seed)) for seed in range(8)}) > 1


@pytest.mark.parametrize("fraction", [0, -0.1, 1.01, float("nan")])
def test_fraction_out_of_range(tiny: Path, fraction: float) -> None:
    with pytest.raises(DataError, match="fraction"):
        load_split(load_dataset_config(tiny), "train", fraction)


def test_real_set(optsar_real: Path) -> None:
    names = yaml.safe_load(resources.find_packaged("datasets", "optsar").read_text())["names"]
    config = load_dataset_config(
        {"path": str(optsar_real), "train": "train.json", "val": "val.json", "test": "test.json", "names": names}
    )
    for split, count, captions in (("train", 1250, 2623), ("val", 187, 381), ("test", 358, 730)):
        skips = Skips()
        images = load_split(config, split, skips=skips)
        assert (len(images), expressions(images), skips.counts) == (count, captions, {})
    assert [p.modality for p in images].count("sar") == 232  # the standard test part of SSDD
    assert sum(len(p.boxes) for p in images) == 1206


# ---- dataset configs


def test_path_under_datasets_dir_and_mapping(copy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(SETTINGS, "datasets_dir", str(copy.parent.parent))
    content = yaml.safe_load(copy.read_text()) | {"path": copy.parent.name}
    monkeypatch.chdir(copy.parent)
    config = load_dataset_config(content)
    assert config.root == copy.parent and load_dataset_config(config) is config
    assert len(load_split(config, "val")) == COUNTS["val"]


def test_unknown_key_is_warned_about(copy: Path, warnings: list[str]) -> None:
    load_dataset_config(edit_config(copy, trian="x.json", nc=3))
    assert len(warnings) == 1 and "trian" in warnings[0] and "nc" not in warnings[0].split(";")[0]


def test_render_is_called_only_for_what_is_missing(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Path, int, dict[str, int]]] = []

    def render(root: Path, seed: int, counts: dict[str, int], size: tuple[int, int], kinds: str) -> None:
        calls.append((root, seed, counts))
        shutil.copytree(copy.parent, root, dirs_exist_ok=True)

    monkeypatch.setattr(synthetic, "render_dataset", render)
    content = yaml.safe_load(copy.read_text())
    content |= {"path": str(tmp_path / "drawn"), "render": {"seed": 5, "train": 6, "val": 2, "test": 4}}
    config = load_dataset_config(content)
    assert calls == [(tmp_path / "drawn", 5, COUNTS)] and len(load_split(config, "train")) == COUNTS["train"]
    load_dataset_config(content)
    assert len(calls) == 1
    (tmp_path / "drawn" / "val.json").unlink()
    load_dataset_config(content)
    assert len(calls) == 2


def test_render_that_fails_names_the_folder(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def render(root: Path, seed: int, counts: dict[str, int], size: tuple[int, int], kinds: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(synthetic, "render_dataset", render)
    content = yaml.safe_load(copy.read_text())
    content |= {"path": str(tmp_path / "drawn"), "render": {"train": 6, "val": 2, "test": 4}}
    with pytest.raises(DataError, match=r"cannot be rendered to .*drawn \(.*Permission denied\); set `path:`"):
        load_dataset_config(content)


# ---- annotations that cannot be used at all


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [', "not valid JSON"),
        ("[]", "no list 'images'"),
        ('{"images": []}', "no list 'annotations'"),
        ('{"images": {}, "annotations": []}', "no list 'images'"),
        ('{"images": [], "annotations": []}', "no usable expression"),
    ],
)
def test_broken_json(copy: Path, content: str, message: str) -> None:
    (copy.parent / "train.json").write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        load_split(load_dataset_config(copy), "train")
    assert "train.json" in str(caught.value)


def test_missing_annotation_file_says_where_to_get_it(copy: Path) -> None:
    (copy.parent / "val.json").unlink()
    config = load_dataset_config(edit_config(copy, download="Ask the authors."))
    with pytest.raises(DataError, match=r"val\.json: annotation file missing. Ask the authors\."):
        load_split(config, "val")


def test_unknown_split(copy: Path) -> None:
    config = load_dataset_config(edit_config(copy, val=...))
    with pytest.raises(DataError, match="no split 'val'; the dataset config has train, test"):
        load_split(config, "val")


def test_no_usable_expression_names_the_reasons(copy: Path) -> None:
    edit(copy, lambda d: [a.update(caption=" ") for a in d["annotations"]])
    with pytest.raises(DataError, match=r"no usable expression.*12 x empty caption \(annotation id 0; .*\.\.\.\)"):
        load_split(load_dataset_config(copy), "train")


def test_image_id_of_two_images_is_an_error(copy: Path) -> None:
    edit(copy, lambda d: d["images"][1].update(id=0))
    with pytest.raises(DataError, match=r"image id 0 stands for both opt_000000.jpg and sar_000001.jpg"):
        load_split(load_dataset_config(copy), "train")


# ---- single bad records: skipped and counted, the rest is read


def _all(**values: object) -> Edit:
    return lambda d: d["annotations"][0].update(values)


@pytest.mark.parametrize(
    ("change", "problem", "lost_captions", "lost_images"),
    [
        (_all(bbox=[float("nan"), 1, 5, 5]), NO_BOX, 1, 0),
        (_all(bbox=[1, 1, 10**400, 5]), NO_BOX, 1, 0),
        (_all(bbox=[20, 20, 0, 5]), NO_BOX, 1, 0),
        (_all(bbox=[20, 20, 5]), NO_BOX, 1, 0),
        (_all(bbox=None), NO_BOX, 1, 0),
        (_all(bbox=["1", 1, 5, 5]), NO_BOX, 1, 0),
        (_all(bbox=[True, 1, 5, 5]), NO_BOX, 1, 0),
        (_all(bbox=[-30, 5, 10, 10]), "box outside its image", 1, 0),
        (_all(bbox=[5, 5, 1e-7, 10]), "box outside its image", 1, 0),
        (_all(bbox=[-4, 5, 20, 20]), "box partly outside its image, clipped", 0, 0),
        (_all(caption=" \t\n"), "empty caption", 1, 0),
        (_all(caption="\u200b"), "empty caption", 1, 0),
        (_all(caption="\ufeff\u00ad \x07"), "empty caption", 1, 0),
        (_all(caption="..."), "caption without a word", 1, 0),
        (_all(caption="\u0301"), "caption without a word", 1, 0),
        (_all(caption=None), "caption that is not text", 1, 0),
        (_all(caption=["The ship"]), "caption that is not text", 1, 0),
        (lambda d: d["annotations"][0].pop("caption"), None, 1, 0),
        (_all(image_id=999), "annotation without an image", 1, 0),
        (_all(image_id=[0]), "annotation without an image", 1, 0),
        (_all(category_id=55, category_name="optical moon"), UNKNOWN, 1, 0),
        (_all(category_id=None, category_name=None), UNKNOWN, 1, 0),
        (_all(id=1), "annotation id used before (renumber the annotations)", 1, 0),
        (lambda d: d["annotations"].append("text"), "annotation that is no record", 0, 0),
        (lambda d: d["images"].append({"id": 77}), "image record without id and file_name", 0, 0),
        (lambda d: d["images"].append(dict(d["images"][0])), "image listed twice", 0, 0),
        (lambda d: d["images"][0].update(file_name="gone.jpg"), "image file missing", 2, 1),
        (lambda d: d["images"][0].update(file_name="x" * 5000), "image file missing", 2, 1),
        (lambda d: d["images"][0].update(file_name="a\0b.jpg"), "image file missing", 2, 1),
        (lambda d: d["images"][0].update(file_name=""), "image file missing", 2, 1),
    ],
)
def test_bad_record_is_skipped_and_counted(
    copy: Path, warnings: list[str], change: Edit, problem: str | None, lost_captions: int, lost_images: int
) -> None:
    edit(copy, change)
    skips = Skips()
    images = load_split(load_dataset_config(copy), "train", skips=skips)
    assert skips.counts == ({problem: 1} if problem else {})
    assert expressions(images) == 2 * COUNTS["train"] - lost_captions
    assert len(images) == COUNTS["train"] - lost_images
    for image in images:
        x1, y1, x2, y2 = image.boxes.T
        assert (x1 >= 0).all() and (y1 >= 0).all() and (x1 < x2).all() and (y1 < y2).all()
        assert (x2 <= SIZE[0]).all() and (y2 <= SIZE[1]).all()
    if problem:
        assert len(warnings) == 1 and problem in warnings[0] and "train.json" in warnings[0]


def test_empty_and_unreadable_image_files(copy: Path) -> None:
    folder = copy.parent / "images" / "train"
    (folder / "opt_000000.jpg").write_bytes(b"")
    (folder / "sar_000001.jpg").write_bytes(b"no image")
    edit(copy, lambda d: d["images"][1].pop("width"))
    skips = Skips()
    assert len(load_split(load_dataset_config(copy), "train", skips=skips)) == COUNTS["train"] - 2
    assert set(skips.counts) == {
        "image file of zero bytes",
        "image of unknown size (no width and height, file unreadable)",
    }


def test_modality_from_the_file_name_where_names_have_none(copy: Path) -> None:
    def change(d: dict[str, Any]) -> None:
        for category, name in zip(d["categories"], ("airplane", "boat", "ship"), strict=True):
            category["name"] = name
        shutil.move(copy.parent / "images/train/opt_000000.jpg", copy.parent / "images/train/photo.jpg")
        d["images"][0]["file_name"] = "photo.jpg"

    edit(copy, change)
    skips = Skips()
    images = load_split(
        load_dataset_config(edit_config(copy, names=["airplane", "boat", "ship"])), "train", skips=skips
    )
    assert skips.counts == {"image of unknown modality (neither category nor file name says optical or SAR)": 1}
    assert [(p.path.name[:3], p.modality) for p in images] == [("sar", "sar"), ("opt", "optical")] * 2 + [
        ("sar", "sar")
    ]


def test_category_of_the_other_modality_is_skipped(copy: Path) -> None:
    edit(
        copy, lambda d: d["annotations"][0].update(category_id=2)
    )  # "sar ship"; its fellow is optical, as is the file name
    skips = Skips()
    first = load_split(load_dataset_config(copy), "train", skips=skips)[0]
    assert skips.counts == {"category of the other modality in an image": 1}
    assert first.modality == "optical" and sum(map(len, first.captions)) == 1


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("0 0.5 0.5", "label line that is not five finite numbers"),
        ("ship 0.5 0.5 0.1 0.1", "label line that is not five finite numbers"),
        ("0 nan 0.5 0.1 0.1", "label line that is not five finite numbers"),
        ("9 0.5 0.5 0.1 0.1", "label line of unknown category"),
        ("0.5 0.5 0.5 0.1 0.1", "label line of unknown category"),
        ("-1 0.5 0.5 0.1 0.1", "label line of unknown category"),
        ("0 0.5 0.5 0 0.1", NO_BOX),
        ("0 1.5 0.5 0.1 0.1", "box outside its image"),
    ],
)
def test_bad_label_line_is_skipped_and_counted(copy: Path, line: str, problem: str) -> None:
    file = copy.parent / "labels" / "train" / "opt_000000.txt"
    before = len(load_split(load_dataset_config(copy), "train")[0].boxes)
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines, "", lines[-1], line]))  # a repeated line is no second object
    skips = Skips()
    assert len(load_split(load_dataset_config(copy), "train", skips=skips)[0].boxes) == before
    assert skips.counts == {problem: 1}


# ---- resources


def test_config_names_match_the_release(optsar_real: Path) -> None:
    released = json.loads((optsar_real / "train.json").read_text())["categories"]
    names = yaml.safe_load(resources.find_packaged("datasets", "optsar").read_text())["names"]
    assert names == {c["id"]: c["name"] for c in released}
    assert all(config_module.modality_of(name) for name in names.values())


# ---- nouns


def test_synonyms_and_parents_of_a_dataset_config(tiny: Path) -> None:
    content = yaml.safe_load(tiny.read_text()) | {"path": str(tiny.parent)}
    config = load_dataset_config(
        content | {"synonyms": {"ship": "lighter", "optical airplane": ["quay", "jetty"]}, "parents": {"ship": "craft"}}
    )
    words = config.vocabulary
    assert [words.read(w) for w in ("lighters", "Quay", "jetty", "vessel")] == ["ship", "airplane", "airplane", "ship"]
    assert words.means("craft", "ship") is True
    assert load_dataset_config(content).vocabulary is BUILT_IN


def test_a_category_that_no_expression_can_name_is_said(tiny: Path, warnings: list[str]) -> None:
    content = yaml.safe_load(tiny.read_text()) | {"path": str(tiny.parent)}
    load_dataset_config(content | {"names": ["optical A220", "optical small vehicle", "sar top hat"]})
    assert warnings == []
    load_dataset_config(content | {"names": ["optical top", "optical ship", "sar ship"]})
    assert len(warnings) == 1 and "name the category 'optical top'" in warnings[0]


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"synonyms": ["barge"]}, "'synonyms' must map"),
        ({"synonyms": {3: "barge"}}, "'synonyms' must map"),
        ({"synonyms": {"ship": [7]}}, r"'ship' has \[7\]"),
        ({"synonyms": {"ship": None}}, r"'ship' has None"),
        ({"parents": {"ship": ["craft"]}}, r"'ship' has \[\['craft'\]\]"),
        ({"parents": "vehicle"}, "'parents' must map"),
        ({"parents": {"ship": "craft", "craft": "ship"}}, "runs in a circle"),
        ({"synonyms": {"ship": "quay", "airplane": "quays"}}, "claimed by"),
        ({"synonyms": {"shp": "barge"}}, "'shp', which is no category"),
    ],
)
def test_synonyms_and_parents_that_mean_nothing(tiny: Path, tmp_path: Path, declared: dict, message: str) -> None:
    file = tmp_path / "data.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(tiny.read_text()) | {"path": str(tiny.parent)} | declared))
    with pytest.raises(DataError, match=message) as error:
        load_dataset_config(file)
    assert str(error.value).startswith(str(file)) and "\n" not in str(error.value)


def test_a_caption_of_several_objects_is_a_set_where_it_says_so(copy: Path) -> None:
    def share(text: str) -> Callable[[dict[str, Any]], None]:
        def change(content: dict[str, Any]) -> None:
            first = content["annotations"][0]
            x, y, w, h = first["bbox"]
            more = {**first, "id": 99_999, "bbox": [x / 2, y / 2, w / 2, h / 2]}
            content["annotations"] = [{**first, "caption": text}, {**more, "caption": text}]

        return change

    for text, expected in (("The two {}", True), ("All {}", True), ("A {}", False)):
        noun = json.loads((copy.parent / "train.json").read_text())["annotations"][0]["category_name"].split(" ", 1)[1]
        said = text.format(noun + "s" if expected else noun)
        edit(copy, share(said))
        (image,) = [i for i in load_split(load_dataset_config(copy), "train") if any(i.captions)]
        assert [said in texts for texts in image.captions[:2]] == [True, True] and (said in image.sets) == expected


def test_file_in_working_folder_comes_before_packaged(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy.rename(copy.with_name("optsar.yaml"))
    monkeypatch.chdir(copy.parent)
    assert load_dataset_config("optsar.yaml").names == NAMES

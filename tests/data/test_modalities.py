"""Modalities that a dataset config declares: read, spoken, exchanged, sampled, augmented, measured."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from make_tiny import make
from ultralytics.utils import DEFAULT_CFG_DICT, LOGGER

from optisar_yolo import OptiSAR
from optisar_yolo.data import augment
from optisar_yolo.data.config import DataError, load_dataset_config
from optisar_yolo.data.dataset import GroundingDataset
from optisar_yolo.data.prompts import category_phrase
from optisar_yolo.data.records import load_split
from optisar_yolo.data.sampler import EpochSampler, choose_images, modality_groups
from optisar_yolo.engine.checkpoint import model_vocabulary
from optisar_yolo.engine.metrics import GroundingMetrics
from optisar_yolo.engine.view import view_samples
from optisar_yolo.language.descriptions import describe
from optisar_yolo.language.nouns import BUILT_IN, Vocabulary
from optisar_yolo.language.paraphrase import reword
from optisar_yolo.language.parser import parse
from optisar_yolo.language.swaps import strip_position, swap
from optisar_yolo.language.transform import flip
from optisar_yolo.language.verify import LabelledObjects
from optisar_yolo.plugin.settings import OPTISAR_DEFAULTS

DECLARED = {
    "infrared": ["thermal", "IR"],
    "near infrared": {"words": "NIR", "like": "optical"},
    "lidar": {"like": "sar"},
}
NAMES = ("optical airplane", "infrared ship", "sar ship")
WORDS = Vocabulary.of(
    ("optical ship", "infrared ship", "near infrared ship", "sar ship", "infrared heat source"),
    modalities={"infrared": ("thermal", "IR"), "near infrared": ("NIR",)},
)


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """The tiny data set, its optical ships taken for infrared ones: 6 images are 2 optical, 1 infrared and 3 SAR."""
    data = make(tmp_path / "tiny")
    root = tmp_path / "tiny"
    for split in ("train", "val", "test"):
        text = (root / f"{split}.json").read_text()
        for old, new in (("optical ship", "infrared ship"), ("The infrared", "The thermal")):
            text = text.replace(old, new)
        (root / f"{split}.json").write_text(text)
    change(data, names=list(NAMES), modalities=DECLARED)
    return data


def change(data: Path, **keys: Any) -> None:
    data.write_text(yaml.safe_dump(yaml.safe_load(data.read_text()) | keys, sort_keys=False))


def logged(caplog: pytest.LogCaptureFixture, call: Any) -> Any:
    LOGGER.addHandler(caplog.handler)
    try:
        return call()
    finally:
        LOGGER.removeHandler(caplog.handler)


# words


@pytest.mark.parametrize(
    ("text", "modality", "place", "superlative"),
    [
        ("the thermal ship on the left", "infrared", ("left", None), None),
        ("The infrared ship in the upper left corner of the image", "infrared", ("left", "top"), None),
        ("an IR ship at the top of the thermal image", "infrared", (None, "top"), None),
        ("the leftmost ship in the near-infrared image", "near infrared", None, "left"),
        ("the ship on the left of the infrared image", "infrared", ("left", None), None),
        ("NIR ship on the right", "near infrared", ("right", None), None),
        ("the SAR ship on the left", "sar", ("left", None), None),
        ("the optical ship on the left", "optical", ("left", None), None),
        ("the infrared heat source on the left", "infrared", ("left", None), None),
    ],
)
def test_words_are_read(text: str, modality: str, place: Any, superlative: str | None) -> None:
    query = parse(text, WORDS)
    assert (query.modality, query.place, query.superlative) == (modality, place, superlative)
    assert query.rest == () and query.category == ("heat source" if "heat" in text else "ship")
    assert parse(text).rest or "SAR" in text or "optical" in text or query.rest == ()  # the built-in words alone


def test_truth_names_and_sentences() -> None:
    boxes = np.array([[0, 0, 10, 10], [80, 80, 99, 99]], np.float32)
    objects = LabelledObjects(boxes, ["infrared ship"] * 2, (100, 100), WORDS)
    assert objects.truths("the thermal ship in the upper left corner") == [True, False]
    assert objects.truths("the optical ship on the left") == [False, False]
    assert objects.truths("the near infrared ship on the left") == [False, False]
    texts = [t for seed in range(20) for t in describe(objects, 0, np.random.default_rng(seed))]
    assert any("thermal ship" in t for t in texts) and not any("infrared" in t or "optical" in t for t in texts)
    assert all(objects.truth(t, 0) is True for t in texts)
    assert WORDS.noun_of("near infrared ship") == "ship" and WORDS.modality_of("near infrared ship") == "near infrared"
    assert WORDS.modality_of("infrared ship") == "infrared" and WORDS.modality_of("ship") is None
    assert category_phrase("infrared ship", WORDS) == "thermal ship" and category_phrase("sar ship") == "SAR ship"


def test_swaps_flips_and_paraphrases() -> None:
    made = {v.text for v in swap("A thermal ship on the left", ["modality"], WORDS)}
    assert made == {"A SAR ship on the left", "An optical ship on the left", "A NIR ship on the left"}
    made = {v.text for v in swap("the SAR ship on the left", ["modality"], WORDS)}
    assert made == {"the optical ship on the left", "the thermal ship on the left", "the NIR ship on the left"}
    assert {v.text for v in swap("the SAR ship", ["modality"])} == {"the optical ship"}  # as without
    assert flip("the thermal ship on the left of the IR image", True, False, WORDS) == (
        "the thermal ship on the right of the IR image"
    )
    assert strip_position("The IR ship at the top of the image", vocabulary=WORDS) == "The IR ship"
    for seed in range(30):
        said = reword("The thermal ship on the left of the image", np.random.default_rng(seed), WORDS)
        query = parse(said, WORDS)
        assert (query.category, query.modality, query.place, query.rest) == ("ship", "infrared", ("left", None), ())


def test_the_vocabulary_travels() -> None:
    import pickle

    assert pickle.loads(pickle.dumps(WORDS)) is WORDS is Vocabulary.from_dict(json.loads(json.dumps(WORDS.to_dict())))
    assert WORDS.including(["infrared ship", "lidar"]).modality_of("infrared ship") == "infrared"
    assert Vocabulary.of(("optical ship", "sar ship")) is BUILT_IN


# data


def test_images_have_them(three: Path) -> None:
    config = load_dataset_config(three)
    assert dict(config.modalities) == {
        "optical": "optical", "sar": "sar", "infrared": "optical", "near infrared": "optical", "lidar": "sar"
    }  # fmt: skip
    images = load_split(config, "train")
    assert [p.modality for p in images] == ["optical", "sar", "infrared", "sar", "optical", "sar"]
    assert {p.modality for p in load_split(config, "train", fraction=0.4)} == {"optical", "sar", "infrared"}


def test_the_images_own_key_and_file_name(three: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = three.parent
    change(three, names=["airplane", "ship", "sar ship"])
    content = json.loads((root / "train.json").read_text())
    for note in content["annotations"]:
        note["category_name"] = note["category_name"].replace("optical ", "").replace("infrared ", "")
    content["categories"] = [{"id": i, "name": n} for i, n in enumerate(["airplane", "ship", "sar ship"])]
    content["images"][0] |= {"modality": "Near infrared"}
    content["images"][4] |= {"modality": "multispectral"}
    name = content["images"][2]["file_name"]
    content["images"][2]["file_name"] = name.replace("opt_", "infrared_")
    for kind, ending in (("images", ".jpg"), ("labels", ".txt")):
        file = (root / kind / "train" / name).with_suffix(ending)
        file.rename(file.with_name(file.name.replace("opt_", "infrared_")))
    (root / "train.json").write_text(json.dumps(content))
    images = logged(caplog, lambda: load_split(load_dataset_config(three), "train"))
    assert [p.modality for p in images] == ["near infrared", "sar", "infrared", "sar", "sar"]
    assert "image of a modality that the dataset config does not declare (modalities:)" in caplog.text
    assert "'multispectral'" in caplog.text


def test_a_stated_modality_without_declared_ones_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = make(tmp_path / "tiny")
    content = json.loads((data.parent / "train.json").read_text())
    content["images"][0] |= {"modality": "RGB"}
    content["images"][2] |= {"modality": "optical"}
    (data.parent / "train.json").write_text(json.dumps(content))
    images = logged(caplog, lambda: load_split(load_dataset_config(data), "train"))
    assert [p.modality for p in images] == ["optical", "sar"] * 3
    assert "1 x image of a modality that the dataset config does not declare (modalities:), judged by" in caplog.text


def test_an_image_that_says_nothing(three: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = three.parent
    change(three, names=["thing", "infrared ship", "sar ship"])
    text = (root / "train.json").read_text().replace("optical airplane", "thing").replace("opt_000000", "x_000000")
    (root / "train.json").write_text(text)
    (root / "images" / "train" / "opt_000000.jpg").rename(root / "images" / "train" / "x_000000.jpg")
    logged(caplog, lambda: load_split(load_dataset_config(three), "train"))
    assert "neither category nor file name says optical, infrared, near infrared, lidar or SAR" in caplog.text


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["infrared"], "'modalities' must map names to words"),
        ({"sar": "radar"}, "'sar' is no name for a further one"),
        ({"all": "x"}, "'all' is no name for a further one"),
        ({"infrared": 3}, "'infrared' has"),
        ({"infrared": {"word": "IR"}}, "unknown key 'word'; known are words and like"),
        ({"infrared": {"like": "radar"}}, "is like 'radar'; choose optical or sar"),
        ({"infrared": "IR", "thermal": ["ir"]}, "'ir' is claimed by 'infrared' and 'thermal'; keep one"),
        ({"infrared": "radar"}, "'radar' is claimed by 'sar' and 'infrared'"),
        ({"infrared": "left"}, "'left' says something else"),
        ({"infrared": "ship"}, "'ship' says something else"),
        ({"infrared": "helipad"}, "'helipad' is the name of a category, too"),
    ],
)
def test_bad_values(three: Path, given: Any, says: str) -> None:
    change(three, modalities=given, names=["optical airplane", "sar ship", "optical helipad"])
    with pytest.raises(DataError, match=says):
        load_dataset_config(three)


def test_balanced_draws_take_all_in_turn(three: Path) -> None:
    images = load_split(load_dataset_config(three), "train")
    groups = modality_groups(images)
    assert groups == [[0, 4], [1, 3, 5], [2]]
    drawn = [images[i].modality for _, i in EpochSampler(6, 0, groups=groups)]
    assert sorted(drawn) == ["infrared"] * 2 + ["optical"] * 2 + ["sar"] * 2
    assert {images[i].modality for i in choose_images(images, 3, 0)} == {"optical", "sar", "infrared"}


def settings(**more: Any) -> SimpleNamespace:
    return SimpleNamespace(**DEFAULT_CFG_DICT | OPTISAR_DEFAULTS | {"imgsz": 64, "epochs": 1, "mosaic": 0.0} | more)


def test_jitter_and_speckle_follow(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str]] = []
    for name in ("add_speckle", "jitter_colour"):
        monkeypatch.setattr(augment, name, lambda img, *_, name=name: (seen.append((current, name)), img)[1])
    for like, expected in (("optical", "jitter_colour"), ("sar", "add_speckle")):
        change(three, modalities={"infrared": {"like": like}})
        config = load_dataset_config(three)
        images = load_split(config, "train")
        dataset = GroundingDataset(
            images, config.names, settings(), vocabulary=config.vocabulary, modalities=config.modalities
        )
        for i, image in enumerate(images):
            current = image.modality
            sample = dataset[0, i]
            assert list(config.modalities)[sample["modality"]] == image.modality
        assert {name for m, name in seen if m == "infrared"} == {expected}
        assert {name for m, name in seen if m == "sar"} == {"add_speckle"}
        assert {name for m, name in seen if m == "optical"} == {"jitter_colour"}
        seen.clear()


def test_prompts_never_call_another_modality_true(three: Path) -> None:
    config = load_dataset_config(three)
    images = load_split(config, "train")
    dataset = GroundingDataset(
        images, config.names, settings(categories=1.0), vocabulary=config.vocabulary, modalities=config.modalities
    )
    said: set[str | None] = set()
    for epoch in range(6):
        sample = dataset[epoch, 2]  # an infrared image
        for t, text in enumerate(sample["texts"]):
            modality = parse(text, config.vocabulary).modality
            said.add(modality)
            if (sample["targets"][:, t] == 1).any():
                assert modality in (None, "infrared"), text
    assert said >= {"infrared", "optical", "sar", "near infrared", "lidar", None}


# figures


def test_rows_per_modality() -> None:
    metrics = GroundingMetrics(modalities=("optical", "sar", "infrared"))
    for modality in ("optical", "infrared"):
        metrics.update([[0, 0, 9, 9]], np.array([[0, 0, 9, 9]]), (10, 10), modality, "x")
    assert [r["group"] for r in metrics.rows() if r["section"] == "modality"] == ["optical", "SAR", "infrared", "all"]
    assert metrics.results_dict["metrics/meanIoU(infrared)"] == 1
    with pytest.raises(ValueError, match="unknown modality 'lidar'; expected 'optical', 'sar' or 'infrared'"):
        metrics.update([[0, 0, 9, 9]], np.array([[0, 0, 9, 9]]), (10, 10), "lidar", "x")


def test_training_validation_and_figures(three: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = OptiSAR("optisar++n.yaml")
    args = {"imgsz": 64, "project": str(tmp_path), "plots": True, "device": "cpu"}
    model.train(data=three, epochs=1, batch=4, workers=0, balance=True, prompts=6, **args)
    best = OptiSAR(tmp_path / "train" / "weights" / "best.pt")
    assert model_vocabulary(best.model) is load_dataset_config(three).vocabulary
    head = (tmp_path / "train" / "results.csv").read_text().splitlines()[0]
    assert "metrics/meanIoU(infrared)" in head
    metrics = best.val(data=three, split="test", matches=True, sensitivity=True, **args)
    row = next(r for r in metrics.rows() if (r["section"], r["group"]) == ("modality", "infrared"))
    assert row["count"] == 2
    assert "infrared" in [r["group"] for r in metrics.sections["matches"]["rows"]]
    view_samples(settings(data=str(three), split="train", fraction=1.0, seed=0), 3, 0, tmp_path / "v.jpg")
    from optisar_yolo.construction.figures import distributions
    from optisar_yolo.construction.statistics import tally_of

    tally = tally_of(load_dataset_config(three))
    assert tally.images["infrared"] == 1 + 1  # train and test; val has none
    assert tally.clouds["attributes"]["thermal"]
    distributions(tally)

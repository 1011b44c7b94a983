"""Every key of Ultralytics is heeded, refused, or named as without effect, in every mode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from tiny_net import settle
from ultralytics.utils import DEFAULT_CFG_DICT

from optisar_yolo import OptiSAR
from optisar_yolo.plugin.settings import SETTINGS
from optisar_yolo.plugin.stock_keys import HEEDED, NO_EFFECT, REFUSED, meaning_of, name_ignored, set_keys

MODES = ("train", "val", "predict", "track", "export", "benchmark")
KEYS = [key for key in DEFAULT_CFG_DICT if key not in SETTINGS]
TEXTS = ["the ship in the upper left", "the airplane at the bottom"]


@pytest.mark.parametrize("mode", MODES)
def test_every_key_has_one_meaning_in_every_mode(mode: str) -> None:
    of = "predict" if mode == "track" else mode
    for key in KEYS:
        places = [key in HEEDED[mode], key in NO_EFFECT[of], key in REFUSED[of]]
        assert sum(places) <= 1, f"{key} has two meanings in {mode}"
        kind, reason = meaning_of(key, mode)
        assert kind in ("heeded", "no effect", "refused", "elsewhere"), f"{key} has no meaning in {mode}"
        assert (kind == "heeded") == (not reason)
    known = {*HEEDED[mode], *NO_EFFECT[of], *REFUSED[of]}
    assert known <= {*KEYS}, f"no keys of Ultralytics: {known - {*KEYS}}"


def other(key: str) -> Any:
    """Return a value of a key that is not its default."""
    default = DEFAULT_CFG_DICT[key]
    if isinstance(default, bool):
        return not default
    return default + 1 if isinstance(default, int | float) else 5 if default is None else f"{default}x"


@pytest.mark.parametrize("mode", MODES)
def test_every_key_that_is_not_heeded_is_named(mode: str, log: pytest.LogCaptureFixture) -> None:
    for key in KEYS:
        kind, _ = meaning_of(key, mode)
        log.clear()
        if kind == "refused":
            with pytest.raises(ValueError, match=f"{key}=.* is not supported: "):
                name_ignored(mode, {key: other(key)})
        elif kind != "heeded":
            name_ignored(mode, {key: other(key)})
            assert f"{key}={other(key)}" in log.text and "no effect" in log.text
        log.clear()
        name_ignored(mode, {key: DEFAULT_CFG_DICT[key]})
        assert not log.text, "a default says nothing"


def test_an_unknown_key_of_a_newer_version_is_named(monkeypatch, log: pytest.LogCaptureFixture) -> None:
    monkeypatch.setitem(DEFAULT_CFG_DICT, "brand_new", 0)
    name_ignored("train", {"brand_new": 1})
    assert "'brand_new=1' may have no effect" in log.text


def test_keys_of_other_modes_are_named_in_one_line(log: pytest.LogCaptureFixture) -> None:
    name_ignored("predict", {"lr0": 0.1, "epochs": 3, "source": "a.jpg", "conf": 0.3, "workers": 2})
    assert log.text.count("no effect in predict") == 2
    assert "lr0=0.1, epochs=3 (for train)" in log.text and "workers=2 (for train, val)" in log.text


def test_former_names_and_values_without_effect(log: pytest.LogCaptureFixture) -> None:
    assert set_keys({"half": False, "int8": False, "quantize": 32}) == []
    name_ignored("predict", {"half": True, "device": "cpu"})
    assert "'half=True' has no effect: half precision is for GPUs" in log.text
    name_ignored("val", {"int8": True})
    assert "'int8=True' has no effect: 8 bits are those of an export" in log.text
    log.clear()
    name_ignored("val", {"conf": 0.4, "sensitivity": True})
    assert not log.text
    name_ignored("val", {"conf": 0.4})
    assert "'conf=0.4' has no effect" in log.text
    with pytest.raises(ValueError, match="task=segment is not available"):
        name_ignored("predict", {"task": "segment"})
    with pytest.raises(ValueError, match="quantize=8 is not supported"):
        name_ignored("train", {"quantize": 8})


@pytest.fixture(scope="module")
def model() -> OptiSAR:
    torch.manual_seed(0)
    model = OptiSAR("optisar++n.yaml")
    settle(model.model)
    model.overrides |= {"imgsz": 64, "verbose": False}
    return model


@pytest.fixture
def image(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    pixels = cv2.resize(rng.integers(0, 256, (6, 10, 3), np.uint8), (400, 300), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    return tmp_path / "a.png"


def test_what_is_drawn_follows_its_keys(model: OptiSAR, image: Path, tmp_path: Path) -> None:
    def drawn(**keys: Any) -> np.ndarray:
        folder = tmp_path / "-".join(["run", *keys])
        model.predict(image, text=TEXTS, conf=0.0, save=True, project=folder, name="x", **keys)
        return cv2.imread(str(folder / "x" / "a.jpg")).astype(int)

    whole, pixels = drawn(), cv2.imread(str(image)).astype(int)
    assert whole.shape[0] > pixels.shape[0], "the legend"
    bare = drawn(show_labels=False)
    assert bare.shape == pixels.shape and np.abs(bare - pixels).max() > 100, "boxes without numbers and legend"
    unboxed = drawn(show_boxes=False)
    assert unboxed.shape == whole.shape
    assert np.abs(unboxed[:300] - pixels).mean() < np.abs(whole[:300] - pixels).mean() / 2
    unsure = drawn(show_conf=False)
    assert unsure.shape == whole.shape and np.abs(unsure[:300] - whole[:300]).max() == 0
    assert np.abs(unsure[300:] - whole[300:]).max() > 100, "confidences stand in the legend"
    wide = drawn(line_width=15)
    assert np.abs(wide[:300] - pixels).mean() > 1.5 * np.abs(whole[:300] - pixels).mean()


def test_text_files_follow_their_keys(model: OptiSAR, image: Path, tmp_path: Path) -> None:
    columns = {}
    for name, keys in (("plain", {}), ("sure", {"save_conf": True})):
        model.predict(image, text=TEXTS, conf=0.0, save_txt=True, project=tmp_path, name=name, **keys)
        columns[name] = {len(line.split()) for line in (tmp_path / name / "labels/a.txt").read_text().splitlines()}
    assert columns == {"plain": {5}, "sure": {6}}


def test_keys_are_named_by_the_methods_of_a_model(
    model: OptiSAR, image: Path, tiny: Path, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    model.predict(image, text=TEXTS, rect=True, lr0=0.5, save=False)
    assert "'rect=True' has no effect" in log.text and "no effect in predict: lr0=0.5 (for train)" in log.text
    log.clear()
    model.val(data=tiny, agnostic_nms=True, verbose=False, plots=False, project=tmp_path)
    assert "'agnostic_nms=True' has no effect" in log.text and "optical ship" not in log.text
    with pytest.raises(ValueError, match="distill_model=x.pt is not supported"):
        model.train(data=tiny, distill_model="x.pt", project=tmp_path / "runs")
    with pytest.raises(ValueError, match="nms=True is not supported"):
        model.export(nms=True)
    with pytest.raises(ValueError, match=r"fraction must be above 0 and at most 1, not \[0.5, 1.0, 1.0\]"):
        model.train(data=tiny, fraction=[0.5, 1.0, 1.0], project=tmp_path / "runs")
    log.clear()
    with pytest.raises(ValueError, match="above 0"):
        model.train(data=tiny, fraction=7, degrees=20, mixup=0.5, erasing=0.0, project=tmp_path / "runs")
    assert "'degrees=20' has no effect: captions would no longer be true" in log.text and "'mixup=0.5'" in log.text
    assert not (tmp_path / "runs").exists()

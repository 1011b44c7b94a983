"""What users of Ultralytics' open-vocabulary models do, and commands that lack a part."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_net import settle

from optisar_yolo import OptiSAR
from optisar_yolo.commands.main import main

IMAGE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)


@pytest.fixture(scope="module")
def model() -> OptiSAR:
    model = OptiSAR("optisar++n.yaml")
    settle(model.model)
    model.overrides |= {"imgsz": 64, "verbose": False, "save": False}
    return model


def test_set_classes_gives_the_expressions_of_calls_without_text(model: OptiSAR) -> None:
    model.set_classes(["ship", " the  tank "])
    assert model.predict(IMAGE, conf=0)[0].names == {0: "ship", 1: "the tank"} == model(IMAGE, conf=0)[0].names
    assert model.predict(IMAGE, text="a harbor", conf=0)[0].names == {0: "a harbor"}
    for wrong in ([], [""], {"ship", "tank"}, {0: "ship"}, 5, [["ship"]]):
        with pytest.raises(ValueError, match="text|expression"):
            model.set_classes(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="embeddings="):
        model.set_classes(["ship"], embeddings=[0])
    assert model.predict(IMAGE, conf=0)[0].names == {0: "ship", 1: "the tank"}
    model._expressions = None
    with pytest.raises(ValueError, match="predict needs an expression"):
        model.predict(IMAGE)


def test_expressions_that_are_no_list(model: OptiSAR) -> None:
    for text, said in (
        ({"a": "the ship"}, r"list\(text\.values\(\)\)"),
        ({"the ship"}, "got set"),
        (b"the ship", "got bytes"),
        ([["the ship"], ["a"]], "all images of a call get the same expressions"),
        ("x" * 3000, "at most 2,000 are accepted"),
    ):
        with pytest.raises(ValueError, match=said):
            model.predict(IMAGE, text=text)


def test_no_source(model: OptiSAR, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for call in (model.predict, model):
        with pytest.raises(ValueError, match="predict needs a source"):
            call(text="the ship")
    for words in (["predict"], ["track"], ["mode=predict"]):
        assert main([*words, "text=the ship", f"project={tmp_path}"]) == 2
        assert "no source= is given" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_track_installs_nothing(model: OptiSAR, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "lap":
            raise ModuleNotFoundError("no lap", name="lap")
        return real(name, *rest)

    monkeypatch.setitem(sys.modules, "lap", None)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=r"package lap, which is not installed: pip install 'optisar-yolo\[track\]'"):
        model.track(IMAGE, text="the ship")


def test_an_unknown_scale() -> None:
    for name in ("optisar++q.yaml", "optisar++xl-late.yaml", "optisar++Q.yaml"):
        with pytest.raises(FileNotFoundError, match=r"there is no scale .*the scales are n, s, m, l and x"):
            OptiSAR(name)

"""The nouns of a training: kept in all weights files, and used where expressions are read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_net import network

from optisar_yolo import OptiSAR
from optisar_yolo.engine.checkpoint import load_model, model_vocabulary, save_shared
from optisar_yolo.export.exported import ExportedModel
from optisar_yolo.language import parse_raster_query
from optisar_yolo.language.nouns import BUILT_IN, Vocabulary

OWN = Vocabulary.of(
    ("optical helipad", "sar radar station", "optical small-vehicle"),
    {"helipad": ["landing pad"]},
    {"small-vehicle": "vehicle"},
)


def trained(own: bool = True) -> torch.nn.Module:
    model = network().eval()
    model.names = {0: "optical helipad", 1: "sar radar station"}
    if own:
        model.nouns = OWN.to_dict()
    return model


def test_files_keep_it(tmp_path: Path) -> None:
    shared = save_shared(trained(), tmp_path / "a.safetensors")
    assert model_vocabulary(load_model(shared)) is OWN is model_vocabulary(OptiSAR(shared).model)
    assert model_vocabulary(load_model(save_shared(load_model(shared), tmp_path / "b.safetensors"))) is OWN
    torch.save({"model": trained(), "ema": None, "train_args": {}, "epoch": -1}, tmp_path / "best.pt")
    assert model_vocabulary(load_model(tmp_path / "best.pt")) is OWN


def test_older_weights_have_their_names_alone(tmp_path: Path) -> None:
    older = trained(own=False)
    del older.nouns
    assert model_vocabulary(older) is Vocabulary.of(("optical helipad", "sar radar station"))
    assert model_vocabulary(network()) is BUILT_IN  # untrained: its one category is no name
    bundled = model_vocabulary(OptiSAR("optisar++n-pocket.safetensors").model)
    assert [bundled.read(word) for word in ("windmill", "solar panel", "truck")] == ["windmill", "solar panel", "truck"]
    assert OWN.from_dict({**OWN.to_dict(), "later": 1}) is OWN


def test_an_export_keeps_it(tmp_path: Path) -> None:
    pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    model = OptiSAR("optisar++n.yaml").model
    model.nouns = OWN.to_dict()
    export = OptiSAR(save_shared(model, tmp_path / "a.safetensors")).export(imgsz=64, text=["the ship"])
    assert model_vocabulary(ExportedModel(export)) is OWN  # not the expressions, which are its names


def test_rasters_read_the_words_of_the_weights() -> None:
    assert parse_raster_query("the leftmost helipad", dict, OWN).superlative == "left"
    assert parse_raster_query("the helipad at the top", dict, OWN).core == "a helipad"
    # words within a name say no place, and no direction
    south = Vocabulary.of(("optical south pier", "optical left-turn lane"))
    read = parse_raster_query("the leftmost south pier", dict, south)
    assert (read.core, read.superlative) == ("a south pier", "left") or read.core == "the leftmost south pier"
    assert parse_raster_query("the left-turn lane", dict, south).superlative is None

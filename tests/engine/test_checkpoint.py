"""Weights files: what is written comes back, and what cannot be used is refused by name."""

from __future__ import annotations

import json
import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_net import network, unit
from ultralytics.nn.tasks import DetectionModel

from optisar_yolo import OptiSAR, __version__
from optisar_yolo.engine import checkpoint
from optisar_yolo.engine.checkpoint import CheckpointError, find_weights, load_model, load_shared, save_shared
from optisar_yolo.engine.val import text_features_for
from optisar_yolo.nn.model import GroundingModel
from optisar_yolo.plugin.identify import MARK, is_ours


@pytest.fixture(scope="module")
def model():
    """A network whose weights half precision holds exactly, so that the round trip can be compared to the bit."""
    model = network().eval()
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.half())
    model.text_model, model.text_fingerprint = "pocket", "0123456789abcdef"
    model.names = {0: "object"}
    return model


@pytest.fixture(scope="module")
def shared(model, tmp_path_factory):
    """The model's weights as they are shared; tests change copies."""
    return save_shared(model, tmp_path_factory.mktemp("weights") / "optisar++n-test.safetensors", {"data": "tiny"})


def changed(shared, path, tensors=None, **meta):
    """Copy a shared file with other tensors or metadata."""
    with safe_open(shared, framework="pt") as f:
        known = json.loads(f.metadata()[MARK])
    save_file(tensors or load_file(shared), path, metadata={MARK: json.dumps(known | meta)})
    return path


def answers(model):
    torch.manual_seed(0)
    with torch.inference_mode():
        return model.predict(torch.rand(2, 3, 64, 96), unit(2, 2, model.text_dim))


def test_shared_weights_come_back(model, shared):
    loaded = load_model(shared)
    assert isinstance(loaded, GroundingModel) and not loaded.training
    assert all(p.dtype == torch.float32 for p in loaded.parameters())
    before, after = answers(model), answers(loaded)
    assert torch.equal(before["scores"], after["scores"]) and torch.equal(before["boxes"], after["boxes"])
    assert (loaded.text_model, loaded.text_fingerprint, loaded.names) == ("pocket", "0123456789abcdef", {0: "object"})
    assert loaded.yaml == model.yaml and loaded.args["imgsz"] == 640


def test_shared_file_tells_what_it_is(model, shared):
    assert is_ours(shared)
    with safe_open(shared, framework="pt") as f:
        meta = json.loads(f.metadata()[MARK])
    assert meta["format"] == checkpoint.FORMAT and meta["version"] == __version__ and meta["data"] == "tiny"
    assert str(shared.parent) not in json.dumps(meta)
    tensors = load_file(shared)
    assert all(t.dtype == torch.float16 for t in tensors.values() if t.is_floating_point())
    assert tensors.keys() == model.state_dict().keys()
    assert [p.name for p in shared.parent.iterdir()] == [shared.name]  # no partial file stays


def test_shared_file_is_replaced_as_a_whole(model, shared, tmp_path, monkeypatch):
    path = tmp_path / "mine.safetensors"
    path.write_bytes(shared.read_bytes())

    def full(descriptor):
        os.ftruncate(descriptor, 4)  # as much as there was room for
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("optisar_yolo.utils.files.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_shared(model, path)
    assert path.read_bytes() == shared.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("kept", [0, 4, 200, 0.5, -1])
def test_truncated_file(shared, tmp_path, kept):
    content = shared.read_bytes()
    path = tmp_path / "cut.safetensors"
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors: damaged or incomplete .*copy or download it again"):
        load_model(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_foreign_safetensors(tmp_path, metadata):
    path = tmp_path / "bert.safetensors"
    save_file({"weight": torch.zeros(2)}, path, metadata=metadata)
    with pytest.raises(CheckpointError, match=r"bert\.safetensors: a safetensors file without OptiSAR metadata"):
        load_model(path)


def test_metadata_that_is_no_json(tmp_path):
    path = tmp_path / "odd.safetensors"
    save_file({"weight": torch.zeros(2)}, path, metadata={MARK: "{"})
    with pytest.raises(CheckpointError, match=r"odd\.safetensors: damaged"):
        load_model(path)


def test_other_format(shared, tmp_path):
    path = changed(shared, tmp_path / "later.safetensors", format=checkpoint.FORMAT + 1, version="9.9")
    with pytest.raises(
        CheckpointError, match=r"later\.safetensors: written in format 3 by version 9\.9.*update optisar"
    ):
        load_model(path)


def test_tensors_of_another_network(shared, tmp_path):
    tensors = load_file(shared)
    fewer = {k: v for k, v in tensors.items() if k != "model.0.conv.weight"}
    path = changed(shared, tmp_path / "fewer.safetensors", fewer)
    with pytest.raises(CheckpointError, match=r"(?s)fewer\.safetensors: tensors do not fit.*model\.0\.conv\.weight"):
        load_model(path)
    path = changed(shared, tmp_path / "wider.safetensors", tensors | {"model.0.conv.weight": torch.zeros(1, 3, 3, 3)})
    with pytest.raises(CheckpointError, match=r"(?s)wider\.safetensors: tensors do not fit.*model\.0\.conv\.weight"):
        load_model(path)


@pytest.mark.parametrize("lacking", ["yaml", "names", "text_model", "text_fingerprint", "imgsz"])
def test_metadata_without_an_entry(shared, tmp_path, lacking):
    with safe_open(shared, framework="pt") as f:
        meta = json.loads(f.metadata()[MARK])
    del meta[lacking]
    path = tmp_path / "gap.safetensors"
    save_file(load_file(shared), path, metadata={MARK: json.dumps(meta)})
    with pytest.raises(CheckpointError, match=rf"gap\.safetensors: .*{lacking}"):
        load_model(path)


def test_missing_file_lists_the_packaged_ones(shared, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "BUNDLED", shared.parent)
    with pytest.raises(FileNotFoundError, match=r"'absent\.safetensors' not found.*optisar\+\+n-test\.safetensors"):
        load_model("absent.safetensors")
    assert find_weights(shared.name) == shared  # by bare name from anywhere
    with pytest.raises(FileNotFoundError, match="packaged ones"):
        find_weights(f"elsewhere/{shared.name}")
    monkeypatch.setattr(checkpoint, "BUNDLED", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"\(none\)"):
        load_model("absent.pt")


def test_checkpoint_of_ultralytics_form(model, tmp_path):
    path = tmp_path / "best.pt"
    torch.save({"model": model, "ema": None, "train_args": {"imgsz": 96}, "epoch": 3}, path)
    assert is_ours(path)
    loaded = load_model(path)
    assert torch.equal(answers(loaded)["scores"], answers(model)["scores"])
    assert loaded.args["imgsz"] == 96 and loaded.text_fingerprint == model.text_fingerprint
    opened = OptiSAR(str(path))
    assert torch.equal(answers(opened.model.eval())["scores"], answers(model)["scores"])


def test_stock_checkpoint_is_refused(tmp_path):
    path = tmp_path / "yolo11n.pt"
    stock = DetectionModel("yolo11n.yaml", verbose=False)
    torch.save({"model": stock, "ema": None, "train_args": {}, "epoch": -1}, path)
    assert not is_ours(path)
    with pytest.raises(CheckpointError, match=r"yolo11n\.pt: a checkpoint of DetectionModel, not of an OptiSAR model"):
        load_model(path)
    with pytest.raises(CheckpointError, match=r"yolo11n\.pt: not a checkpoint of an OptiSAR model"):
        OptiSAR(path)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"\x80\x04\x95" + b"\xff" * 8, None])
def test_damaged_checkpoint(model, tmp_path, content):
    path = tmp_path / "last.pt"
    torch.save({"model": model}, path)
    path.write_bytes(path.read_bytes()[:5000] if content is None else content)
    for opening in (load_model, OptiSAR):
        with pytest.raises(CheckpointError, match=r"last\.pt: damaged or incomplete"):
            opening(path)


def test_shared_weights_through_the_api(model, shared, tmp_path):
    opened = OptiSAR(shared)
    assert torch.equal(answers(opened.model)["scores"], answers(model)["scores"])
    again = opened.save_shared(tmp_path / "again.safetensors", note="copied")
    assert torch.equal(answers(load_shared(again))["scores"], answers(model)["scores"])


def test_other_text_encoder_is_refused(model):
    with pytest.raises(ValueError, match=r"trained with the text encoder pocket 0123456789ab, .*text_weights="):
        text_features_for(model, None, None)


def test_right_text_encoder_is_accepted():
    model = network(alive=False)
    bank = text_features_for(model, None, None)  # a model that names no encoder takes the packaged one
    model.text_model, model.text_fingerprint = "pocket", bank.encoder.fingerprint
    assert text_features_for(model, None, None).encoder.width == bank.encoder.width

"""Networks for images of other than three bands, from the dataset config to weights, predictions and rasters."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasters
import torch
import yaml
from ultralytics.utils import LOGGER

from optisar_yolo import OptiSAR
from optisar_yolo.data.config import DataError, load_dataset_config
from optisar_yolo.data.dataset import EvaluationDataset
from optisar_yolo.data.images import read_image
from optisar_yolo.data.records import load_split
from optisar_yolo.data.stretch import ImageRendering
from optisar_yolo.engine.facts import facts_lines
from optisar_yolo.geo import ground_raster
from optisar_yolo.nn.model import GroundingModel

BANDS = 6


def bands(seed: int, count: int = BANDS) -> np.ndarray:
    """Return uint16 [count, 64, 96] with one bright object."""
    values = np.random.default_rng(seed).integers(300, 900, (count, 64, 96)).astype(np.uint16)
    values[:, 20:40, 30:60] += 3000
    return values


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of four images of six bands."""
    folder = tmp_path_factory.mktemp("six")
    (folder / "images").mkdir()
    images, notes = [], []
    for i in range(4):
        rasters.write(folder / "images" / f"sar_{i}.tif", bands(i), **rasters.UTM)
        images.append({"id": i, "file_name": f"sar_{i}.tif", "width": 96, "height": 64})
        note = {"id": i, "image_id": i, "category_id": 1, "bbox": [30, 20, 30, 20], "caption": "the ship"}
        notes.append(note)
    content = {"images": images, "annotations": notes, "categories": [{"id": 1, "name": "sar ship"}]}
    (folder / "all.json").write_text(json.dumps(content))
    config = {"path": str(folder), "images": "images", "train": "all.json", "val": "all.json", "names": ["sar ship"]}
    (folder / "six.yaml").write_text(yaml.safe_dump(config | {"channels": BANDS}))
    return folder


@pytest.fixture(scope="module")
def model() -> OptiSAR:
    torch.manual_seed(0)
    model = OptiSAR("optisar++n.yaml")
    model.model = GroundingModel("optisar++n.yaml", BANDS, verbose=False)
    model.overrides |= {"imgsz": 96, "save": False, "verbose": False}
    return model


def test_records_and_samples_have_all_bands(data: Path) -> None:
    images = load_split(load_dataset_config(data / "six.yaml"), "train")
    assert {image.channels for image in images} == {BANDS}
    _, canvas, _ = EvaluationDataset(images, 96)[0]
    shown = read_image(images[0].path, ImageRendering(channels=BANDS))
    assert canvas.shape == (BANDS, 64, 96) and (canvas.numpy().transpose(1, 2, 0) == shown).all()


@pytest.mark.parametrize("channels", [0, -1, 65, "6", 2.5, True, [6]])
def test_numbers_of_channels_that_are_none(data: Path, channels: object, tmp_path: Path) -> None:
    content = yaml.safe_load((data / "six.yaml").read_text()) | {"channels": channels}
    with pytest.raises(DataError, match="'channels: .*' must be a whole number from 1 to 64"):
        load_dataset_config(content)


def test_images_of_another_number_of_bands_are_refused(model: OptiSAR, data: Path, tmp_path: Path) -> None:
    rasters.write(tmp_path / "four.tif", bands(0, 4))
    for call in (
        lambda: model.predict(tmp_path / "four.tif", text="the ship"),
        lambda: model.encode(tmp_path / "four.tif"),
        lambda: model.encode(np.zeros((64, 96, 3), np.uint8)),
        lambda: ground_raster(model, tmp_path / "four.tif", "the ship", map=False, project=str(tmp_path)),
    ):
        with pytest.raises(DataError, match=rf"an image of [34] bands, and the network takes {BANDS}"):
            call()
    with pytest.raises(ValueError, match=f"images of 3 bands, and the network takes {BANDS}"):
        model.model.encode(torch.zeros(1, 3, 64, 64))


def test_predictions_encoding_and_rasters_agree(model: OptiSAR, data: Path, tmp_path: Path) -> None:
    path = data / "images" / "sar_0.tif"
    found = model.predict(path, text="the ship", conf=0.0, imgsz=96)[0]
    same = model.encode(path, imgsz=96).ground("the ship", conf=0.0)
    assert torch.allclose(found.boxes.data, same.boxes.data) and found.orig_img.shape == (64, 96, 3)
    array = bands(0).transpose(1, 2, 0)
    assert torch.allclose(model.predict(array, text="the ship", conf=0.0, imgsz=96)[0].boxes.data, found.boxes.data)
    made = ground_raster(model, path, "the ship", conf=0.0, imgsz=96, map=False, project=str(tmp_path / "r"))
    assert "all 6 bands" in made.record["chosen"]


def test_weights_keep_the_number(model: OptiSAR, tmp_path: Path) -> None:
    model.model.args = {"imgsz": 96}
    model.save_shared(tmp_path / "six.safetensors")
    again = OptiSAR(tmp_path / "six.safetensors")
    assert again.model.channels == BANDS
    assert any(line.startswith("bands        6") for line in facts_lines(again.model))


def test_training_validation_and_transfer(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = OptiSAR("optisar++n-pocket.safetensors")  # of three bands: its first convolution does not fit
    LOGGER.addHandler(caplog.handler)
    metrics = model.train(
        data=str(data / "six.yaml"), epochs=1, imgsz=96, batch=2, workers=0, device="cpu", plots=False,
        project=str(tmp_path), name="r", hsv_v=0.4, mosaic=0.5, degrade=0.5,
    )  # fmt: skip
    LOGGER.removeHandler(caplog.handler)
    assert metrics is not None and "row 0 (images of 3 bands there, of 6 here)" in caplog.text
    best = OptiSAR(tmp_path / "r" / "weights" / "best.pt")
    assert best.model.channels == BANDS and best.model.model[0].conv.in_channels == BANDS
    best.val(data=str(data / "six.yaml"), imgsz=96, workers=0, device="cpu", plots=False, project=str(tmp_path))
    assert len(best.predict(data / "images" / "sar_0.tif", text="the ship", conf=0.0, imgsz=96, verbose=False)) == 1


def test_an_export_takes_as_many_bands(model: OptiSAR, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime"), pytest.importorskip("onnx")
    model.model.args = {"imgsz": 96}
    model.save_shared(tmp_path / "six.safetensors")
    weights = OptiSAR(tmp_path / "six.safetensors")
    weights.model.text_model = "pocket"
    exported = OptiSAR(weights.export(format="onnx", imgsz=96))
    assert exported.model.channels == BANDS
    path = data / "images" / "sar_0.tif"
    there, here = (m.predict(path, text="the ship", conf=0.0, imgsz=96, verbose=False)[0] for m in (exported, weights))
    assert torch.allclose(there.boxes.data, here.boxes.data, atol=0.05)
    rasters.write(tmp_path / "four.tif", bands(0, 4))
    with pytest.raises(DataError, match="an image of 4 bands, and the network takes 6"):
        exported.predict(tmp_path / "four.tif", text="the ship")

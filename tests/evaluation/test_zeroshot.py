"""Zero-shot grounders of transformers asked over a split, with small random networks of both kinds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_grounders import grounding_dino, owlv2

from optisar_yolo.commands import main as cli
from optisar_yolo.data.config import load_dataset_config
from optisar_yolo.data.images import read_image
from optisar_yolo.data.records import load_split
from optisar_yolo.evaluation.score import score_predictions
from optisar_yolo.evaluation.zeroshot import ZeroShotError, ZeroShotGrounder, ground_split

pytest.importorskip("transformers", reason="transformers is not installed (extra 'peers')")
pytest.importorskip("PIL")

TEXTS = ["The SAR ship in the upper left corner", "the optical airplane", "the ship of the right image."]


@pytest.fixture(scope="module", params=[grounding_dino, owlv2], ids=["dino", "owl"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    make: Callable[[Path], Path] = request.param
    return make(tmp_path_factory.mktemp(make.__name__))


@pytest.fixture(scope="module")
def grounder(folder: Path) -> ZeroShotGrounder:
    return ZeroShotGrounder(folder, "cpu", batch=2)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """Not square, so that shares of the padded square and of the image differ."""
    return np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8)


def by_library(grounder: ZeroShotGrounder, pixels: np.ndarray, text: str) -> tuple[np.ndarray, float]:
    """The library's own way: processor in front, processor behind, one text."""
    from PIL import Image

    image = Image.fromarray(pixels[..., ::-1].copy())
    dino = "dino" in type(grounder.net).__name__.lower()
    asked = text.lower().rstrip(".") + "." if dino else [[text]]
    inputs = grounder.processor(images=image, text=asked, return_tensors="pt")
    with torch.inference_mode():
        outputs = grounder.net(**inputs)
    ids = (inputs["input_ids"],) if dino else ()
    found = grounder.processor.post_process_grounded_object_detection(
        outputs, *ids, threshold=-1.0, target_sizes=[image.shape[:2]]
    )[0]
    best = int(found["scores"].argmax())
    return found["boxes"][best].numpy(), float(found["scores"][best])


def test_answers_are_those_of_the_library(grounder: ZeroShotGrounder, image: np.ndarray) -> None:
    boxes, conf = grounder(image, TEXTS)
    assert boxes.shape == (3, 4) and len({round(float(c), 6) for c in conf}) > 1
    for text, box, one in zip(TEXTS, boxes, conf, strict=True):
        expected, sure = by_library(grounder, image, text)
        assert one == pytest.approx(sure, abs=1e-5)
        assert box == pytest.approx(expected.clip(0, [90, 60, 90, 60]), abs=1e-2)


def test_answers_do_not_depend_on_the_other_texts(grounder: ZeroShotGrounder, image: np.ndarray) -> None:
    boxes, conf = grounder(image, TEXTS)
    for i, text in enumerate(TEXTS):
        box, score = grounder(image, [text])
        assert score[0] == pytest.approx(conf[i], abs=1e-5) and box[0] == pytest.approx(boxes[i], abs=1e-2)


def test_long_expressions_are_cut_and_counted(folder: Path, image: np.ndarray) -> None:
    grounder = ZeroShotGrounder(folder, "cpu")
    boxes, conf = grounder(image, ["the ship " * 40, "the ship"])
    assert np.isfinite(boxes).all() and np.isfinite(conf).all()
    assert (grounder.cut, grounder.read) == (1, 2)


def test_the_written_answers_score_as_they_were_judged(folder: Path, tiny: Path, tmp_path: Path) -> None:
    save = tmp_path / "new" / "out.json"
    assert cli.main(["zeroshot", str(folder), f"data={tiny}", "split=test", f"save={save}", "device=cpu"]) == 0
    read = score_predictions(save, tiny, "test")
    assert read.problems == [] and read.absent == 0
    dataset_config = load_dataset_config(tiny)
    metrics, cases = ground_split(ZeroShotGrounder(folder, "cpu"), load_split(dataset_config, "test"), dataset_config)
    assert len(cases) == len(read.cases) == 8
    for a, b in zip(cases, read.cases, strict=True):
        assert (a.path, a.caption) == (b.path, b.caption)
        assert b.pred == pytest.approx(a.pred, abs=1e-3) and b.conf == pytest.approx(a.conf, abs=1e-5)
    assert read.metrics.table() == metrics.table()


def test_each_expression_is_asked_once_of_its_image(tiny: Path) -> None:
    dataset_config = load_dataset_config(tiny)
    first = load_split(dataset_config, "test")[0]
    own = first.captions[0][0]
    # two objects share their words, a third has none; the image is annotated at twice its size
    image = replace(
        first, width=2 * first.width, height=2 * first.height, boxes=np.float32([[2, 2, 22, 22], [40, 2, 60, 22]]),
        categories=first.categories[:2], captions=((own,), (own, "another")), kinds=(("",), ("", "")),
    )  # fmt: skip
    seen: list[list[str]] = []

    def answer(pixels: np.ndarray, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        assert np.array_equal(pixels, read_image(first.path))
        seen.append(texts)
        return np.float32([[1, 1, 11, 11], [20, 1, 30, 11]]), np.float32([0.5, 0.25])

    metrics, cases = ground_split(answer, [image, replace(first, captions=((),) * 2, kinds=((),) * 2)], dataset_config)
    assert seen == [[own, "another"]]
    assert [c.iou for c in cases] == pytest.approx([1.0, 0.0, 1.0]) and len(metrics) == 3


@pytest.mark.parametrize("lost", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(folder: Path, tmp_path: Path, lost: str) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / lost).unlink()
    with pytest.raises(ZeroShotError, match=lost):
        ZeroShotGrounder(copy, "cpu")


def test_a_broken_file_is_said_to_be_broken(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "model.safetensors").write_bytes(b"nothing of use")
    with pytest.raises(ZeroShotError, match="copy them again"):
        ZeroShotGrounder(copy, "cpu")


def test_other_models_are_refused(tmp_path: Path) -> None:
    for name in ("model.safetensors", "preprocessor_config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ZeroShotError, match="'bert'.*grounding-dino"):
        ZeroShotGrounder(tmp_path, "cpu")


def test_without_a_network_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ZeroShotError, match=r"nobody/no-grounder.*YOLO_OFFLINE.*hf download.*config\.json"):
        ZeroShotGrounder("nobody/no-grounder", "cpu")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "needs model="),
        (["data=d"], "needs model="),
        (["m"], "needs data="),
        (["m", "data=d", "batch=many"], "batch=many"),
        (["m", "dta=x"], "did you mean 'data'"),
    ],
)
def test_bad_commands_are_refused(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["zeroshot", *words]) == 2
    assert message in capsys.readouterr().err

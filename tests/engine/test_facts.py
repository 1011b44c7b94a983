"""What weights know: written by training and by `optisar info`, kept in every form, said where a noun is unknown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from optisar_yolo import OptiSAR
from optisar_yolo.commands.main import main
from optisar_yolo.data.config import load_dataset_config
from optisar_yolo.engine.checkpoint import load_model, store_facts
from optisar_yolo.engine.facts import facts_lines, facts_of, facts_of_data, facts_of_training
from optisar_yolo.engine.grounding import notes_of

BUNDLED = "optisar++n-pocket.safetensors"
FACTS = {
    "categories": ["optical ship", "sar ship"],
    "modalities": ["optical", "sar"],
    "sizes": [256, 512],
    "words": ["corner", "image", "ship", "the"],
    "training": [{"data": ["port.yaml"], "images": 3, "expressions": 5, "epochs": 2, "imgsz": [256, 512]}],
    "licence": "CC BY 4.0",
    "figures": {"port.yaml val, 320 px": {"all": {"Pr@0.5": 0.5, "Pr@0.9": 0.25, "meanIoU": 0.41, "count": 7}}},
}


def tensors_of(path: Path) -> dict[str, bytes]:
    with safe_open(path, framework="pt") as f:
        return {k: f.get_tensor(k).numpy().tobytes() for k in f.keys()}  # noqa: SIM118 - not a dict


@pytest.mark.parametrize("form", ["shared", "checkpoint"])
def test_facts_are_stored_and_nothing_else_changes(tmp_path: Path, form: str) -> None:
    source = Path(load_model(BUNDLED).pt_path)
    if form == "checkpoint":
        source = tmp_path / "a.pt"
        OptiSAR(BUNDLED).save(source)
    target = store_facts(source, tmp_path / f"b{source.suffix}", FACTS)
    before, after = load_model(source), load_model(target)
    assert facts_of(after) == FACTS
    assert all(torch.equal(v, after.state_dict()[k]) for k, v in before.state_dict().items())
    assert after.calibration == before.calibration and after.names == before.names
    if form == "shared":
        assert tensors_of(source) == tensors_of(target)
    again = OptiSAR(target).save_shared(tmp_path / "c.safetensors")  # they travel with the weights
    assert facts_of(load_model(again)) == FACTS


def test_a_training_writes_what_it_taught(tiny: Path, tmp_path: Path) -> None:
    config = tiny.with_name("licensed.yaml")
    config.write_text(tiny.read_text(encoding="utf-8") + "licence: CC BY 4.0\n", encoding="utf-8")
    settings = {"imgsz": 64, "batch": 2, "epochs": 1, "prompts": 8, "plots": False, "verbose": False, "device": "cpu"}
    model = OptiSAR("optisar++n-late.yaml")
    model.train(data=str(config), project=str(tmp_path), multi_scale=0.5, **settings)
    for file in (model.trainer.best, model.trainer.last):
        facts = facts_of(load_model(file))
        assert facts["categories"] == ["optical airplane", "optical ship", "sar ship"]
        assert facts["modalities"] == ["optical", "sar"] and facts["sizes"] == [32, 96]
        assert facts["training"] == [
            {"data": ["licensed.yaml"], "images": 6, "expressions": 12, "epochs": 1, "imgsz": [32, 96]}
        ]
        assert facts["licence"] == "CC BY 4.0" and "airplane" in facts["words"]
    measured = facts_of(load_model(model.trainer.best))["figures"]["licensed.yaml val, 64 px"]
    assert measured["all"]["meanIoU"] == pytest.approx(model.metrics.figures()["meanIoU"], abs=1e-4)
    assert measured["all"]["count"] == 4 and set(measured) == {"optical", "SAR", "all"}


def test_facts_of_a_training_that_goes_on_are_added(tiny: Path) -> None:
    config = load_dataset_config(tiny)
    facts = facts_of_training([config], [], (64, 640), 3, FACTS, "port.pt")
    assert facts["categories"] == ["optical airplane", "optical ship", "sar ship"]
    assert facts["sizes"] == [64, 640] and facts["words"] == FACTS["words"]
    assert [stage["data"] for stage in facts["training"]] == [["port.yaml"], ["tiny.yaml"]]
    assert facts["licence"] == "CC BY 4.0; not stated (tiny.yaml)" and facts["figures"] == {}
    unsaid = facts_of_training([config], [], (64, 64), 3, {"categories": ["optical dam"]}, "port.pt")
    assert "port.pt" in unsaid["training"][0]["data"][0] and "optical dam" in unsaid["categories"]


def test_modalities_are_those_of_the_categories(tiny: Path) -> None:
    content = {"path": str(tiny.parent), "train": "train.json", "val": "val.json"}
    for names, expected in ((["sar ship"], ["sar"]), (["optical ship"], ["optical"]), (["ship"], ["optical", "sar"])):
        config = load_dataset_config(content | {"names": names})
        assert facts_of_training([config], [], (64, 64), 1)["modalities"] == expected


def test_info_prints_and_writes(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", f"model={BUNDLED}"]) == 0
    assert "text encoder pocket" in capsys.readouterr().out
    save = tmp_path / "told.safetensors"
    words = [f"data={tiny}", f"save={save}", "sizes=128,640", "epochs=7", "licence=CC0"]
    assert main(["info", BUNDLED, *words]) == 0
    said = capsys.readouterr().out
    for part in (
        "128 to 640 pixels",
        "tiny.yaml: 6 images, 12 expressions, 7 epochs",
        "licence      CC0",
        "optical ship",
    ):
        assert part in said, part
    assert tensors_of(save) == tensors_of(Path(load_model(BUNDLED).pt_path))
    metrics = tmp_path / "metrics.json"
    OptiSAR(save).val(data=str(tiny), imgsz=64, plots=False, verbose=False).to_json(metrics)
    assert main(["info", str(save), f"data={tiny}", f"figures={metrics}"]) == 0
    assert "(4 expressions)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["save=a.pt"], "save= needs model="),
        ([f"model={BUNDLED}", "epochs=3"], "epochs= needs data="),
        (["data=demo.yaml"], "data= needs model="),
        (["model=missing.pt"], "missing.pt"),
    ],
)
def test_info_refuses_what_means_nothing(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", *words]) in (1, 2)
    assert message in capsys.readouterr().err


def test_figures_that_are_none_are_refused(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("{}", "[1]", "no json", '{"a": 1}'):
        (tmp_path / "m.json").write_text(text, encoding="utf-8")
        words = [f"data={tiny}", f"save={tmp_path / 'w.safetensors'}", f"figures={tmp_path / 'm.json'}"]
        assert main(["info", BUNDLED, *words]) == 1
        assert "m.json" in capsys.readouterr().err
    assert not (tmp_path / "w.safetensors").exists()


def test_info_alone_tells_what_is_installed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    said = capsys.readouterr().out
    for part in ("ultralytics 8.", "torch", "extra        export", "devices      cpu", BUNDLED, "datasets_dir"):
        assert part in said, part


def test_a_noun_that_the_weights_never_met_is_noted(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    model = OptiSAR(store_facts(BUNDLED, tmp_path / "w.safetensors", FACTS))
    image = np.full((64, 96, 3), 90, np.uint8)
    texts = ["the hedgehog on the left", "the ship in the corner"]
    result = model.predict(image, text=texts, conf=1.0, imgsz=64)[0]
    assert set(result.notes) == {texts[0]}
    assert "never met the word 'hedgehog'" in result.notes[texts[0]]
    assert "never met the word 'hedgehog'" in log.text and f'nothing found for "{texts[0]}"' in log.text
    assert len(model.predict(image, text=texts[:1], conf=0, imgsz=64)[0].boxes) == 1  # the box is as usual
    assert set(model.encode(image, 64).ground(texts).notes) == {texts[0]}
    both = notes_of(model.model, ["all white hedgehogs"])["all white hedgehogs"]
    assert {"quantifier", "noun"} <= set(both.kinds)
    model.model.facts = None
    assert notes_of(model.model, texts) == {}  # nothing is said where the weights do not tell


def test_lines_of_weights_that_say_nothing() -> None:
    model = load_model(BUNDLED)
    model.facts = None
    assert "nothing else is stored" in facts_lines(model)[-1]
    assert "not trained" in "\n".join(facts_lines(OptiSAR("optisar++n.yaml").model))


def test_facts_of_data_count_what_it_includes(tiny: Path) -> None:
    content = {
        "path": str(tiny.parent),
        "train": "train.json",
        "names": ["optical airplane", "optical ship", "sar ship"],
    }
    facts = facts_of_data(content | {"include": str(tiny)}, (320, 64))
    assert facts["training"][0]["images"] == 12 and facts["sizes"] == [64, 320]

"""The command `optisar`: its help, its defaults, and what it answers to slips."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
from processes import run_python
from ultralytics import cfg

from optisar_yolo import OptiSAR, __version__
from optisar_yolo.commands import main as cli
from optisar_yolo.plugin.settings import SETTINGS, keys_of_mode
from optisar_yolo.utils import Command, Option


@pytest.fixture
def verb(monkeypatch):
    """Add a command of our own that records its arguments."""
    module = ModuleType("optisar_yolo.commands.record")
    module.COMMAND = Command(
        "record",
        "for this test",
        (
            Option("epochs", "int", 1, "rounds", low=1),
            Option("corpus", "file", None, "texts", example="a.json", required=True),
            Option("plots", "bool", False, "draw", old=("figures",)),
        ),
        first="corpus",
    )
    module.seen = []
    module.main = module.seen.append
    monkeypatch.setitem(sys.modules, "optisar_yolo.commands.record", module)
    monkeypatch.setattr(cli, "VERBS", (*cli.VERBS, "record"))
    return module


@pytest.fixture
def entered(monkeypatch):
    """Stand in for Ultralytics' entry point; keep the command lines that reach it."""
    lines = []
    monkeypatch.setattr(cfg, "entrypoint", lambda debug="": lines.append(list(sys.argv)))
    return lines


@pytest.mark.parametrize("words", [[], ["help"], ["--help"], ["-h"]])
def test_help_names_every_command_and_key(capsys, words):
    assert cli.main(words) == 0
    page = capsys.readouterr().out
    assert __version__ in page and "text=" in page
    assert all(f"optisar {name}" in page for name in ("train", "val", "predict", "export", *cli.VERBS))


@pytest.mark.parametrize("word", ["--help", "-h", "help"])
@pytest.mark.parametrize("name", [*cli.MODES, *cli.VERBS])
def test_every_verb_lists_all_its_arguments(capsys, name, word):
    assert cli.main([name, word]) == 0
    page = capsys.readouterr().out
    if name in cli.MODES:
        assert all(f"\n  {key} " in page for key in ("imgsz", "device", *(k.name for k in keys_of_mode(name))))
    else:
        for sub, command in cli.commands_of(name).items():
            shown = page if not sub else cli.help_of([name, sub])
            assert command.help in shown and all(f"\n  {o.name} " in shown and o.help in shown for o in command.options)
    assert cli.main(["help", name]) == 0
    assert capsys.readouterr().out == page


def test_help_of_one_step(capsys):
    assert cli.main(["dataset", "split", "--help"]) == 0
    assert "optisar dataset split key=value" in capsys.readouterr().out


def test_every_key_of_ours_is_listed_by_the_mode_that_reads_it():
    assert {key.name for mode in cli.MODES for key in keys_of_mode(mode)} == set(SETTINGS)


def test_modules_of_commands_load_nothing_heavy():
    code = (
        "import sys; from optisar_yolo.commands.main import help_page; help_page();"
        "print([m for m in ('torch', 'ultralytics', 'cv2', 'ray', 'rasterio', 'gradio') if m in sys.modules])"
    )
    assert run_python(code).strip() == "[]"


def test_own_command_gets_its_arguments(verb):
    assert cli.main(["record", "corpus=a.json,b.json", "--epochs=3"]) == 0
    assert cli.main(["record", "a.json", "figures=yes"]) == 0
    assert verb.seen == [
        {"corpus": "a.json,b.json", "epochs": 3, "plots": False},
        {"corpus": "a.json", "epochs": 1, "plots": True},
    ]


def test_old_names_of_options_work_and_say_the_new_one(capsys, verb):
    assert cli.main(["record", "a.json", "figures=1"]) == 0
    assert "'figures=' is now 'plots='" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian", "data=x.yaml"], "unknown command 'trian'; did you mean 'train'?"),
        (["qqq"], "unknown command 'qqq'; known are train"),
        (["tune", "data=x.yaml"], "tune is a method of Python: OptiSAR"),
        (["record", "a", "epoch=3"], "unknown argument 'epoch'; did you mean 'epochs'?"),
        (["record", "a", "quick"], 'a value with spaces needs quotes: corpus="a quick"'),
        (["record", "a", "epochs"], "expected key=value, got 'epochs', for example epochs=1"),
        (["record", "a", "epochs="], "expected key=value, got 'epochs='"),
        (["record", "a", "epochs=many"], "epochs=many: it must be a whole number of at least 1, for example epochs=1"),
        (["record", "a", "epochs=0"], "'epochs=0' is not valid: it must be a whole number of at least 1"),
        (["record"], "optisar record needs corpus=… (texts), such as corpus=a.json"),
        (["params", "x=1"], "unknown argument 'x'"),
        (["dataset", "splt"], "unknown command 'optisar dataset splt'; did you mean 'split'?"),
        (["predict", "model=optisar++n.yaml", "topc=2"], "'topc' is not a valid YOLO argument. Similar"),
        (["predict", "model=optisar++n.yaml", "text"], "'text' is a valid YOLO argument but is missing an '='"),
    ],
)
def test_slips_are_answered_with_the_nearest_word(capsys, verb, words, message):
    assert cli.main(words) == 2
    assert message in capsys.readouterr().err
    assert verb.seen == []


def test_unusable_input_is_a_message_not_a_traceback(capsys, monkeypatch, verb):
    def fail(options):
        raise FileNotFoundError("no file 'x'")

    verb.main = fail
    assert cli.main(["record", "a"]) == 1
    assert "no file 'x'" in capsys.readouterr().err
    monkeypatch.setenv(cli.TRACEBACK, "1")
    with pytest.raises(FileNotFoundError):
        cli.main(["record", "a"])


@pytest.mark.parametrize(
    ("words", "model"),
    [
        (["train", "data=d.yaml"], cli.BUILD_MODEL),
        (["predict", "source=x.png", "text=the ship"], cli.BUNDLED_MODEL),
        (["mode=val", "data=d.yaml"], cli.BUNDLED_MODEL),
        (["detect", "val", "model = best.pt"], "best.pt"),
    ],
)
def test_model_where_none_is_named(entered, words, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "best.pt" in model:  # weights that are missing or damaged are refused before
        OptiSAR("optisar++n.yaml").save(tmp_path / "best.pt")
    before = list(sys.argv)
    assert cli.main(words) == 0
    (line,) = entered
    assert line[0].endswith("yolo")  # by this, Ultralytics' predict knows that it serves a command line and saves
    assert [word for word in line if word.replace(" ", "").startswith("model=")][-1].replace(
        " ", ""
    ) == f"model={model}"
    assert sys.argv == before


def test_recipe_may_name_the_model(entered, tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("model: optisar++s.yaml\n")
    assert cli.main(["train", f"cfg={recipe}"]) == 0
    assert not any(word.startswith("model=") for word in entered[0])
    recipe.write_text("model:\nepochs: 1\n")
    assert cli.main(["train", f"cfg={recipe}"]) == 0
    assert f"model={cli.BUILD_MODEL}" in entered[1]


@pytest.mark.parametrize("word", ["version", "checks", "settings", "cfg"])
def test_commands_of_ultralytics_pass_through(entered, capsys, word):
    assert cli.main([word]) == 0
    assert entered[0][1:] == [word]
    out = capsys.readouterr().out
    assert (__version__ in out) == (word == "version") and ("text_model: pocket" in out) == (word == "cfg")


@pytest.mark.parametrize(
    "words", [("val", "model=nope.pt"), ("predict", "model=nope.onnx"), ("val", "model=yolo26n.pt")]
)
def test_missing_weights_are_not_looked_for_in_the_network(words, capsys, tmp_path, monkeypatch):
    from ultralytics.utils import downloads

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ultralytics.utils.ONLINE", False)
    monkeypatch.setattr(downloads, "safe_download", lambda *_, **__: pytest.fail("a download"))
    monkeypatch.setattr(downloads, "get_github_assets", lambda *_, **__: pytest.fail("a look into the network"))
    assert cli.main(list(words)) == 1
    assert f"weights '{words[1][6:]}' not found" in capsys.readouterr().err


@pytest.mark.parametrize("opset", [9, 12, 99])
def test_an_opset_that_cannot_be_written_is_refused_at_once(opset, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["export", "format=onnx", f"opset={opset}"]) == 1
    said = capsys.readouterr()
    assert f"opset={opset} is not possible: the network needs operators of opset 13" in said.err
    assert "graph(" not in said.out + said.err and not list(tmp_path.iterdir())


def test_values_of_another_type_and_files_that_cannot_be_written_take_one_line(capsys, monkeypatch):
    assert (
        cli.main(["predict", "model=optisar++n-pocket.safetensors", "source=x.png", "text=the ship", "conf=abc"]) == 2
    )
    assert "'conf=abc' is of invalid type str" in capsys.readouterr().err

    def full(_):
        raise OSError(28, "No space left on device", "runs/last.pt")

    monkeypatch.setattr(cli, "_run_stock", full)
    assert cli.main(["train", "data=demo.yaml"]) == 1
    assert "runs/last.pt: No space left on device; make room on this disk" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"<html>", bytes(range(256)) * 9])
def test_a_damaged_export_of_others_is_named_in_one_line(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "a.onnx").write_bytes(content)
    (tmp_path / "b_openvino_model").mkdir()
    for model in ("a.onnx", "b_openvino_model"):
        assert cli.main(["val", f"model={tmp_path / model}", "data=coco8.yaml", f"project={tmp_path}"]) == 1
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("optisar: ")]
        assert len(said) == 1 and model in said[0]

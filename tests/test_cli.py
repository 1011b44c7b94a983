"""The command `optisar`: its help, its defaults, and what it answers to slips."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from ultralytics import cfg

from optisar_yolo import __version__
from optisar_yolo.commands import main as cli
from optisar_yolo.plugin.settings import SETTINGS


@pytest.fixture
def verb(monkeypatch):
    """Add a command of our own that records its arguments."""
    module = ModuleType("recording_verb")
    module.DEFAULTS = {"epochs": 1, "corpus": None}
    module.seen = []
    module.main = module.seen.append
    monkeypatch.setitem(sys.modules, "recording_verb", module)
    monkeypatch.setitem(cli.VERBS, "record", cli.Verb("recording_verb", "main", "for this test"))
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
    assert all(f"\n  {name} " in page for name in SETTINGS)


def test_own_command_gets_its_arguments(verb):
    assert cli.main(["record", "corpus=a.json,b.json", "--epochs=3"]) == 0
    assert verb.seen == [{"corpus": "a.json,b.json", "epochs": "3"}]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian", "data=x.yaml"], "unknown command 'trian'; did you mean 'train'?"),
        (["qqq"], "unknown command 'qqq'; known are train"),
        (["record", "epoch=3"], "unknown argument 'epoch'; did you mean 'epochs'?"),
        (["record", "quick"], "expected key=value, got 'quick'"),
        (["record", "epochs="], "expected key=value, got 'epochs='"),
        (["params", "x=1"], "takes no arguments"),
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
    assert cli.main(["record"]) == 1
    assert "no file 'x'" in capsys.readouterr().err
    monkeypatch.setenv(cli.TRACEBACK, "1")
    with pytest.raises(FileNotFoundError):
        cli.main(["record"])


@pytest.mark.parametrize(
    ("words", "model"),
    [
        (["train", "data=d.yaml"], cli.BUILD_MODEL),
        (["predict", "source=x.png", "text=the ship"], cli.BUNDLED_MODEL),
        (["mode=val", "data=d.yaml"], cli.BUNDLED_MODEL),
        (["detect", "val", "model = best.pt"], "best.pt"),
    ],
)
def test_model_where_none_is_named(entered, words, model):
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

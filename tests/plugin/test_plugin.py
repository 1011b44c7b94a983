"""The import hook, the touches of Ultralytics, and that stock models do not notice them."""

from __future__ import annotations

import json
import os
import re
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from processes import run_python
from safetensors.torch import save_file
from ultralytics import YOLO, cfg as ultralytics_cfg
from ultralytics.engine.model import Model
from ultralytics.utils import DEFAULT_CFG, DEFAULT_CFG_DICT, DEFAULT_CFG_PATH, YAML

from optisar_yolo import boot
from optisar_yolo.nn.head import GroundingDetect
from optisar_yolo.plugin import identify, patch as plugin, settings
from optisar_yolo.plugin.words import checked as checked_words
from optisar_yolo.utils.options import Option, SettingError, UsageError

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def stub_api(monkeypatch):
    """Put a recording class in the place of OptiSAR: these tests are about who is called, not about the network."""
    calls = []

    class OptiSAR(Model):
        def __init__(self, model="optisar++.yaml", task=None, verbose=False):
            torch.nn.Module.__init__(self)
            self.task = task or "detect"
            calls.append(("init", str(model)))

        def predict(self, **kwargs):
            calls.append(("predict", kwargs))
            calls.append(("args", vars(ultralytics_cfg.get_cfg(overrides=kwargs))))

    module = ModuleType("optisar_yolo.api")
    module.OptiSAR = OptiSAR
    module.calls = calls
    monkeypatch.setitem(sys.modules, "optisar_yolo.api", module)
    return module


# the hook


def test_boot_loads_next_to_nothing():
    """What costs time at every start of Python is what the hook loads; `-S` leaves out what other packages bring."""
    list_modules = "import sys, json, os; {}; print(json.dumps(sorted(sys.modules)))"
    bare = set(json.loads(run_python(list_modules.format("pass"), "-S")))
    hooked = set(json.loads(run_python(list_modules.format("import optisar_yolo.boot"), "-S")))
    assert hooked - bare == {"optisar_yolo", "optisar_yolo.boot", "optisar_yolo.version"}


def test_hook_touches_on_import_unless_switched_off():
    code = (
        "import optisar_yolo.boot, sys; assert 'ultralytics' not in sys.modules; import ultralytics.cfg as c;"
        "print(hasattr(c.entrypoint, '__optisar__'), type(c.__spec__.loader).__name__)"
    )
    assert run_python(code).split() == ["True", "SourceFileLoader"]
    assert run_python(code, OPTISAR_AUTOLOAD="0").split()[0] == "False"


def test_hook_applies_at_once_where_ultralytics_came_first_and_only_once():
    # The switch holds back a start-up file that this environment may have installed.
    code = (
        "import os, sys, ultralytics.cfg as c; stock = c.entrypoint; del os.environ['OPTISAR_AUTOLOAD'];"
        "from optisar_yolo import boot; boot.install(); first = c.entrypoint;"
        "boot.install(); boot.start(); boot.install(force=True);"
        "print(first is c.entrypoint, getattr(first, '__wrapped__', None) is stock,"
        " sum(isinstance(f, boot.Finder) for f in sys.meta_path))"
    )
    assert run_python(code, OPTISAR_AUTOLOAD="0").split() == ["True", "True", "1"]


def test_start_up_line_survives_a_missing_or_broken_package(tmp_path):
    line = (REPOSITORY / "packaging" / "optisar_yolo_boot.pth").read_text()
    assert line.startswith("import ") and line.count("\n") == 1
    assert run_python(line + "print('alive')", "-S", PYTHONPATH=str(tmp_path)).strip() == "alive"
    entry = (REPOSITORY / "packaging" / "optisar_yolo_boot.start").read_text().strip()
    assert entry == "optisar_yolo.boot:start" and callable(boot.start)


def test_unfitting_ultralytics_is_left_alone_with_a_warning(tmp_path):
    (tmp_path / "ultralytics").mkdir()
    (tmp_path / "ultralytics" / "__init__.py").touch()
    (tmp_path / "ultralytics" / "cfg.py").write_text("x = 1\n")
    code = (
        "import warnings, optisar_yolo.boot\n"
        "with warnings.catch_warnings(record=True) as seen:\n"
        "    warnings.simplefilter('always')\n"
        "    import ultralytics.cfg\n"
        "print(ultralytics.cfg.x, len(seen), 'ultralytics>=' in str(seen[0].message))"
    )
    env = os.pathsep.join([str(tmp_path), str(REPOSITORY)])
    assert run_python(code, PYTHONPATH=env).split() == ["1", "1", "True"]


def test_a_warning_that_is_an_error_breaks_no_import(tmp_path):
    """Python's ``-W error`` raises what we warn of."""
    code = (
        "import sys, optisar_yolo.boot\n"
        "sys.modules['optisar_yolo.plugin'] = None\n"
        "from ultralytics import YOLO\n"
        "print(YOLO.__name__)"
    )
    assert run_python(code, "-W", "error::RuntimeWarning") == "YOLO"


@pytest.mark.parametrize("fault", ["RuntimeError", "ValueError", "SyntaxError", "ImportError"])
def test_no_fault_of_ours_breaks_stock_ultralytics(tmp_path, fault):
    code = (
        "import warnings, sys, optisar_yolo.boot\n"
        "class Broken:\n"
        "    def __getattr__(self, name):\n"
        f"        raise {fault}('ours')\n"
        "sys.modules['optisar_yolo.plugin'] = Broken()\n"
        "with warnings.catch_warnings(record=True) as seen:\n"
        "    warnings.simplefilter('always')\n"
        "    from ultralytics import YOLO\n"
        "print(YOLO.__name__, any('not active' in str(w.message) for w in seen))"
    )
    assert run_python(code).split() == ["YOLO", "True"]


# configuration keys


def test_keys_exist_only_inside_the_block():
    stock = set(YAML.load(DEFAULT_CFG_PATH))
    ours = set(settings.OPTISAR_DEFAULTS)
    assert not stock & ours and set(DEFAULT_CFG_DICT) == stock
    with plugin.config_keys():
        with plugin.config_keys():
            for default in (DEFAULT_CFG_DICT, DEFAULT_CFG):
                assert set(vars(ultralytics_cfg.get_cfg(default))) == stock | ours
        args = ultralytics_cfg.get_cfg(overrides={"prompts": 8.0})
        assert (args.prompts, args.text_model) == (8, "pocket")
        with ThreadPoolExecutor(1) as pool:  # a stock run in another thread, meanwhile
            assert set(vars(pool.submit(ultralytics_cfg.get_cfg).result())) == stock
            with pytest.raises(SyntaxError, match="prompts"):
                pool.submit(ultralytics_cfg.get_cfg, overrides={"prompts": 8}).result()
    assert list(DEFAULT_CFG_DICT) == list(vars(DEFAULT_CFG)) == list(YAML.load(DEFAULT_CFG_PATH))
    with pytest.raises(SyntaxError, match="prompts"):
        ultralytics_cfg.get_cfg(overrides={"prompts": 8})


def test_keys_leave_when_the_block_fails():
    @plugin.config_keys()
    def fail():
        assert ultralytics_cfg.get_cfg(overrides={"topk": 3}).topk == 3
        raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert "topk" not in DEFAULT_CFG_DICT and not plugin.keys_active()


def test_keys_can_be_kept_for_a_whole_process():
    code = (
        "import gc; from optisar_yolo import plugin; plugin.keep_keys(); gc.collect()\n"
        "with plugin.config_keys(): pass\n"
        "from ultralytics.cfg import get_cfg; print(get_cfg(overrides={'topk': 3}).topk)"
    )
    assert run_python(code).strip() == "3"


def test_a_stock_key_of_the_same_name_stays_stock(monkeypatch):
    monkeypatch.setitem(DEFAULT_CFG_DICT, "topk", 7)
    with plugin.config_keys():
        assert ultralytics_cfg.get_cfg().topk == 7
    assert DEFAULT_CFG_DICT["topk"] == 7


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompts", 0),
        ("prompts", 2.5),
        ("prompts", True),
        ("neg_ratio", -0.1),
        ("neg_ratio", float("nan")),
        ("reword", 1.5),
        ("moe", "high"),
        ("text", 5),
        ("text", ["a ship", 5]),
        ("topk", None),
        ("text_model", " "),
        ("text_weights", 3),
    ],
)
def test_bad_values_are_named(name, value):
    with plugin.config_keys(), pytest.raises(SettingError, match=f"'{name}=.*for example {name}="):
        ultralytics_cfg.get_cfg(overrides={name: value})


def test_every_default_is_valid():
    values = dict(settings.OPTISAR_DEFAULTS)
    settings.check(values)
    assert values == settings.OPTISAR_DEFAULTS


# whose model is it


def test_packaged_networks_are_ours():
    files = sorted((REPOSITORY / "cfg" / "models").glob("*.yaml"))
    assert files and all(identify.is_ours(file) for file in files)
    assert identify.HEAD == GroundingDetect.__name__


@pytest.mark.parametrize(
    "name", ["optisar++.yaml", "optisar++n.yaml", "optisar++x.pt", "optisar++n", "a/optisar++s.onnx"]
)
def test_names_of_ours(name):
    assert identify.is_ours(name)


@pytest.mark.parametrize(
    "name",
    [
        "yolo11n.yaml",
        "yolo11n.pt",
        "best.pt",
        "",
        None,
        3,
        "yoloe-11s.yaml",
        "optisar++n.engine",
        "http://x/optisar++.pt",
    ],
)
def test_names_of_others(name):
    assert not identify.is_ours(name)


def test_yaml_is_judged_by_content(tmp_path):
    ours, theirs = tmp_path / "mine.yaml", tmp_path / "optisar++n.yaml"
    ours.write_text((REPOSITORY / "cfg" / "models" / "optisar++.yaml").read_text())
    theirs.write_text("# not GroundingDetect\nhead:\n  - [[16], 1, Detect, [nc]]\n")
    assert identify.is_ours(ours) and not identify.is_ours(theirs)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_checkpoint_is_judged_by_its_classes(tmp_path, protocol):
    ours, theirs = tmp_path / "best.pt", tmp_path / "optisar_yolo.pt"
    torch.save({"a": "optisar_yolo.x", "model": Option("a", "int", 1, "")}, ours, pickle_protocol=protocol)
    torch.save({"project": "optisar_yolo.runs", "w": torch.zeros(3)}, theirs, pickle_protocol=protocol)
    assert identify.is_ours(ours) and not identify.is_ours(theirs)


def test_checkpoint_is_not_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    torch.save({"b": Bomb(), "s": Option("a", "int", 1, "")}, tmp_path / "best.pt")
    assert identify.is_ours(tmp_path / "best.pt") and not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_string_that_mentions_a_class_is_no_class(tmp_path, protocol):
    text = "from optisar_yolo.nn.model\nGroundingModel\n"
    content = {"optisar_yolo.nn.model": "GroundingModel", "note": text, "w": torch.zeros(3)}
    torch.save(content, tmp_path / "theirs.pt", pickle_protocol=protocol)
    assert not identify.is_ours(tmp_path / "theirs.pt")


def test_exports_are_judged_by_their_metadata(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "optisar",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    for name, key in (("ours", "optisar"), ("theirs", "head")):
        save_file({"w": torch.zeros(2)}, tmp_path / f"{name}.safetensors", metadata={key: "1", "note": "by optisar"})
        model = helper.make_model(graph, doc_string="optisar")
        helper.set_model_props(model, {"note": "by optisar", key: '{"format": 2, "x": "' + "1" * 300 + '"}'})
        onnx.save(model, tmp_path / f"{name}.onnx")
    for suffix in ("safetensors", "onnx"):
        assert identify.is_ours(tmp_path / f"ours.{suffix}") and not identify.is_ours(tmp_path / f"theirs.{suffix}")


@pytest.mark.parametrize("suffix", ["pt", "safetensors", "onnx", "yaml"])
def test_damaged_files_are_left_to_ultralytics(tmp_path, suffix):
    for content in (b"", b"\xff" * 40, b"PK\x03\x04optisar_yolo", b"\x7a" + b"optisar" * 9):
        file = tmp_path / f"optisar.{suffix}"
        file.write_bytes(content)
        assert not identify.is_ours(file)


def test_names_and_files_that_nothing_can_open_are_left_to_ultralytics(tmp_path, monkeypatch):
    for name in ("optisar" * 1000, "weights\0.pt", "optisar/" * 2000 + "x.onnx", "\udcff.yaml"):
        assert not identify.is_ours(name)
    locked = tmp_path / "encrypted.pt"
    with zipfile.ZipFile(locked, "w") as archive:
        archive.writestr("x/data.pkl", b"\x80")
    data = bytearray(locked.read_bytes())
    data[6] |= 1  # the flag of encryption, in the entry and in the list of entries
    data[data.index(b"PK\x01\x02") + 8] |= 1
    locked.write_bytes(data)
    deep = tmp_path / "deep.safetensors"
    header = b"[" * 200_000
    deep.write_bytes(len(header).to_bytes(8, "little") + header)
    assert not identify.is_ours(locked) and not identify.is_ours(deep)

    def fail(*_):
        raise RuntimeError("ours")

    monkeypatch.setattr(plugin.words_of_command, "merged", fail)
    monkeypatch.setattr(ultralytics_cfg, "ARGV", ["yolo", "version"])
    ultralytics_cfg.entrypoint()
    with pytest.raises(RuntimeError, match="ours"):
        ultralytics_cfg.entrypoint("yolo predict model=optisar++n.yaml")


# YOLO(...) and yolo


def test_yolo_hands_over_ours_and_keeps_stock(stub_api):
    assert isinstance(YOLO("optisar++n.yaml", verbose=False), stub_api.OptiSAR)
    first = YOLO(model="optisar++n.yaml")
    assert isinstance(YOLO(first), stub_api.OptiSAR)
    assert type(YOLO("yolo11n.yaml")) is YOLO
    assert [c for c in stub_api.calls if c[0] == "init"][:2] == [("init", "optisar++n.yaml")] * 2


def test_touching_twice_wraps_once():
    before = YOLO.__init__, ultralytics_cfg.entrypoint, ultralytics_cfg.check_cfg
    boot.install(force=True)
    assert (YOLO.__init__, ultralytics_cfg.entrypoint, ultralytics_cfg.check_cfg) == before
    assert not hasattr(before[0].__wrapped__, "__wrapped__")


def test_yolo_command_accepts_our_keys_with_our_model(stub_api):
    ultralytics_cfg.entrypoint("yolo predict model=optisar++n.yaml source=x.png text=ship topk=2")
    calls = dict(stub_api.calls)
    assert calls["init"] == "optisar++n.yaml"
    assert calls["predict"] == {
        "model": "optisar++n.yaml",
        "mode": "predict",
        "source": "x.png",
        "text": "ship",
        "topk": 2,
    }
    assert calls["args"]["text_model"] == "pocket"
    assert "text" not in DEFAULT_CFG_DICT


def test_yolo_command_takes_the_model_from_a_recipe(stub_api, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: optisar++s.yaml\nmode: predict\nsource: x.png\ntopk: 3\n")
    ultralytics_cfg.entrypoint(f"yolo cfg={recipe}")
    assert dict(stub_api.calls)["predict"]["topk"] == 3


@pytest.mark.parametrize("command", ["model=yolo11n.yaml topk=2", "model=optisar++n.yaml topc=2", "topk=2"])
def test_yolo_command_refuses_keys_that_do_not_belong(stub_api, command):
    with pytest.raises(SyntaxError, match="top[kc]"):
        ultralytics_cfg.entrypoint(f"yolo predict source=x.png {command}")
    assert not plugin.keys_active()


def test_command_of_a_subprocess_of_ultralytics_has_the_keys():
    """`python -m ultralytics.cfg.__init__`, by which Ultralytics starts runs, executes an untouched second copy."""
    code = (
        "import sys; sys.orig_argv = [sys.executable, '-m', 'ultralytics.cfg.__init__', 'train'];"
        "sys.argv = ['-m', 'train', 'model={}']; import optisar_yolo, ultralytics.cfg, ultralytics.utils as u;"
        "print('topk' in u.DEFAULT_CFG_DICT)"
    )
    assert run_python(code.format("optisar++n.yaml")).strip() == "True"
    assert run_python(code.format("yolo11n.yaml")).strip() == "False"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["text=[the ship, the tower]"], "list of quoted texts"),
        (["text=[the", "ship,", "the", "tower]"], "list of quoted texts"),
        (["text=['the ship'"], "list of quoted texts"),
        (["text=the", "leftmost", "plane", "topk=2"], 'needs quotes: text="the leftmost plane"'),
        (["text=the", "train"], 'needs quotes: text="the train"'),
        (["text=the ship", "conf=0,5"], "decimal point here: conf=0.5"),
        (["text=the ship", "imgsz=[320"], "unmatched"),
    ],
)
def test_words_that_would_be_misread_are_refused_in_one_line(stub_api, words, message, monkeypatch, capsys):
    from optisar_yolo.utils import UsageError

    monkeypatch.setattr(ultralytics_cfg, "ARGV", ["x", "predict", "model=optisar++n.yaml", "source=x.png", *words])
    monkeypatch.setattr(sys, "argv", ["x"])
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        ultralytics_cfg.entrypoint()
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(sys, "argv", ["/usr/bin/yolo"])
    with pytest.raises(SystemExit, match=f"^yolo: .*{re.escape(message)}"):
        ultralytics_cfg.entrypoint()
    assert not stub_api.calls and not plugin.keys_active()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["text=the ship"], "the ship"),
        (["text", "=", "the ship"], "the ship"),
        (["text='the ship'"], "the ship"),
        (["text=5"], "5"),
        (["text=the [big] ship"], "the [big] ship"),
        (["text=the ship [near"], "the ship [near"),
        (["text=['the ship',", "'the [big tower']"], ["the ship", "the [big tower"]),
        (["text=['the ship']", "show"], ["the ship"]),
    ],
)
def test_text_arrives_as_it_was_written(stub_api, words, text, monkeypatch):
    monkeypatch.setattr(ultralytics_cfg, "ARGV", ["x", "predict", "model=optisar++n.yaml", "source=x.png", *words])
    ultralytics_cfg.entrypoint()
    assert dict(stub_api.calls)["predict"]["text"] == text


def test_words_for_true_are_the_same_for_our_keys_everywhere() -> None:
    words = checked_words(["predict", "model=x", "source=a", "reason=no", "matches=on"])
    assert words[-2:] == ["reason=False", "matches=True"]
    with pytest.raises(UsageError, match="conf=True: a number is expected"):
        checked_words(["predict", "model=x", "source=a", "conf=True"])

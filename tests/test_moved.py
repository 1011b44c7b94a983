"""Old names of modules and classes work, and say what to write instead."""

import importlib
import pickle
import subprocess
import sys
import warnings

import pytest

import optisar_yolo
from optisar_yolo import moved


@pytest.mark.parametrize("old", sorted(moved.MODULES))
def test_every_module_that_moved_is_found_under_its_old_name(old: str) -> None:
    assert importlib.util.find_spec(moved.new_module(f"optisar_yolo.{old}")) is not None  # type: ignore[arg-type]


def test_an_old_module_says_where_it_went_and_hands_over_its_names() -> None:
    code = (
        "import warnings; warnings.simplefilter('error', DeprecationWarning)\n"
        "from optisar_yolo.scene import ground_scene\n"
        "from optisar_yolo.scene.tiling import Grid\n"
        "from optisar_yolo.data.render import draw\n"
        "import optisar_yolo.geo.tiling, optisar_yolo.synthetic\n"
        "assert Grid is optisar_yolo.geo.tiling.Grid and draw is optisar_yolo.synthetic.render_image\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    warned = [line for line in done.stderr.splitlines() if "FutureWarning" in line]
    assert "<string>:2: FutureWarning: optisar_yolo.scene is now optisar_yolo.geo" in warned[0]
    assert sum(f"{old} is now" in line for line in warned for old in (".scene", ".scene.tiling", ".data.render")) == 3
    assert all(any(f".{old} is now" in line for line in warned) for old in ("ground_scene", "draw"))


def test_a_pickle_of_an_old_class_opens() -> None:
    from optisar_yolo.paper import FittedPLMoE

    old = b"coptisar_yolo.nn.plmoe_fitted\nFittedPLMoE\n."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        assert pickle.loads(old) is FittedPLMoE


def test_old_names_of_classes_work_and_warn() -> None:
    with pytest.warns(FutureWarning, match=r"optisar_yolo.Scene is now optisar_yolo.EncodedImage"):
        assert optisar_yolo.Scene is optisar_yolo.EncodedImage  # type: ignore[attr-defined]
    with pytest.warns(FutureWarning, match=r"records.load_card is now optisar_yolo.data.config.load_dataset_config"):
        exec("from optisar_yolo.data.records import load_card")


def test_what_never_was_is_missing_as_usual() -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("optisar_yolo.nonsense")
    with pytest.raises(ImportError, match="nonsense"), pytest.warns(FutureWarning):
        exec("from optisar_yolo.wording import nonsense")
    with pytest.raises(AttributeError, match="nonsense"):
        _ = optisar_yolo.nonsense  # type: ignore[attr-defined]

"""Named arguments of a model's methods: completed by editors, checked, and handed on as they were given."""

from __future__ import annotations

import inspect
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import Any, get_type_hints

import cv2
import numpy as np
import pytest
from ultralytics.engine.model import Model
from ultralytics.utils import DEFAULT_CFG_DICT

from optisar_yolo import EncodedImage, OptiSAR
from optisar_yolo.commands.main import main as optisar
from optisar_yolo.engine import GroundingMetrics
from optisar_yolo.plugin.settings import SETTINGS
from optisar_yolo.synthetic import render_image
from optisar_yolo.utils import BUNDLED_MODEL, results_folder
from optisar_yolo.visualize import GroundingResults

MODES = ("train", "val", "predict", "track", "export")
OWN = {"self", "trainer", "validator", "predictor", "source", "stream", "persist", "kwargs"}


@pytest.fixture(scope="module")
def model() -> OptiSAR:
    return OptiSAR(BUNDLED_MODEL)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with an image."""
    cv2.imwrite(str(tmp_path / "port.jpg"), render_image(0, "test", 9, (96, 120))["img"])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("mode", MODES)
def test_every_named_argument_is_a_key_and_described(mode: str) -> None:
    method = getattr(OptiSAR, mode)
    named = [name for name in inspect.signature(method).parameters if name not in OWN]
    assert len(named) >= 8 and set(named) <= {*DEFAULT_CFG_DICT, *SETTINGS, "int8"}
    assert all(f"            {name}: " in method.__doc__ for name in named)
    positional = [p for p in inspect.signature(getattr(Model, mode)).parameters if p not in ("kwargs", "self")]
    assert [p for p in inspect.signature(method).parameters if p not in ("self", *named, "kwargs")] == positional


def test_what_comes_back_is_declared() -> None:
    assert get_type_hints(OptiSAR.val)["return"] is GroundingMetrics is get_type_hints(OptiSAR.train)["return"]
    assert get_type_hints(OptiSAR.export)["return"] is str
    assert "GroundingResults" in str(inspect.signature(OptiSAR.predict).return_annotation)
    assert get_type_hints(EncodedImage.ground)["return"] is GroundingResults


@pytest.mark.parametrize("mode", MODES)
def test_arguments_arrive_as_given_and_none_stands_for_the_default(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arrived: dict[str, Any] = {}
    model = object.__new__(OptiSAR)
    model.__dict__["overrides"] = {"data": "of-the-weights.yaml"}
    monkeypatch.setattr(OptiSAR, f"_{mode}", lambda self, *args: arrived.update(args[-1]))
    named = [name for name in inspect.signature(getattr(OptiSAR, mode)).parameters if name not in OWN]
    given = {name: f"<{name}>" for name in (*named, "cos_lr") if name != "project"}
    given |= {"batch": 3} if "batch" in named else {}  # the one that is checked at once
    getattr(model, mode)(**given)
    project = arrived.pop("project", None)
    assert arrived == given
    assert (project is None) == (mode == "export")
    arrived.clear()
    getattr(model, mode)(**dict.fromkeys(named))
    assert arrived.pop("data", None) == ("of-the-weights.yaml" if mode in ("train", "val") else None)
    assert set(arrived) <= {"project"}


def test_results_go_where_the_user_stands(here: Path, model: OptiSAR, monkeypatch: pytest.MonkeyPatch) -> None:
    model.predict("port.jpg", text="the ship", save=True, imgsz=96)
    assert (here / "runs" / "detect" / "predict" / "port.jpg").is_file()
    model.predict("port.jpg", text="the ship", save=True, imgsz=96)
    assert sorted(p.name for p in (here / "runs" / "detect").iterdir()) == ["predict"]  # a loop fills one folder
    model.predict("port.jpg", text="the ship", save=True, imgsz=96, project="mine", name="one")
    assert (here / "mine" / "one" / "port.jpg").is_file()
    other = here / "elsewhere"
    other.mkdir()
    monkeypatch.chdir(other)
    assert results_folder("scene") == other / "runs" / "scene"
    assert results_folder("scene", "out") == other / "out" and results_folder("scene", here / "x") == here / "x"
    model.predict(here / "port.jpg", text="the ship", save=True, imgsz=96)
    assert (other / "runs" / "detect" / "predict" / "port.jpg").is_file()


def test_the_command_writes_there_too(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert optisar(["predict", "source=port.jpg", "text=the ship", "imgsz=96", "save=True"]) == 0
    assert (here / "runs" / "detect" / "predict" / "port.jpg").is_file()


def test_repr_is_short_and_says_what_a_caller_needs(model: OptiSAR) -> None:
    said = repr(model)
    assert said == str(model) and len(said.splitlines()) <= 8
    for part in (BUNDLED_MODEL, "optisar++n-late", "pocket", "320 px", "calibrated", "encoded once", "cpu"):
        assert part in said
    fresh = repr(OptiSAR("optisar++n.yaml"))
    assert "once per expression" in fresh and "not calibrated" in fresh and "chosen when training starts" in fresh


def test_an_encoded_image_gives_the_same_table(model: OptiSAR) -> None:
    image = render_image(0, "test", 9)["img"]
    result = model.encode(image).ground(["the largest ship", "the tennis court"])
    table = result.to_df()
    assert table["text"].to_list() == ["the largest ship", "the tennis court"]
    assert table["answered"].to_list() == [True, False]
    x1, y1, x2, y2 = np.array(result.boxes.xyxy[0])
    assert table.row(0)[3:7] == pytest.approx((x1, y1, x2, y2), abs=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_type_checkers_find_the_arguments(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "user.py").write_text(
        "from optisar_yolo import OptiSAR\n"
        'model = OptiSAR("best.pt")\n'
        'reveal_type(model.predict("a.jpg", text="the ship"))\n'
        'reveal_type(model.predict("a.jpg", stream=True, text=["the ship"]))\n'
        'reveal_type(model.val(data="x.yaml"))\n'
        'model.predict("a.jpg", conf="high")\n'
    )
    others = (
        "torch.* torchvision.* ultralytics.* numpy.* cv2.* PIL.* matplotlib.* rasterio.* safetensors.* tokenizers.*"
    )
    skipped = "".join(
        f"[mypy-{name}]\nfollow_imports = skip\nignore_missing_imports = True\n" for name in others.split()
    )
    (tmp_path / "mypy.ini").write_text("[mypy]\nfollow_imports = silent\nignore_missing_imports = True\n" + skipped)
    root = Path(__file__).resolve().parents[2]
    build = f"import os; os.chdir({str(root)!r}); from hatchling.build import build_editable as b; b({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", build], check=True, capture_output=True)
    venv.create(tmp_path / "venv", with_pip=False)  # an environment with an editable install of this package alone
    python = next(p for p in (tmp_path / "venv").rglob("python*") if p.stem == "python")
    site = next((tmp_path / "venv").rglob("site-packages"))
    zipfile.ZipFile(next(tmp_path.glob("*.whl"))).extractall(site)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--python-executable", python, "user.py"], cwd=tmp_path, capture_output=True,
        text=True, check=False, env={"PATH": ""}, timeout=580,
    )  # fmt: skip
    assert "list[optisar_yolo.visualize.draw.GroundingResults]" in done.stdout
    assert "Iterator[optisar_yolo.visualize.draw.GroundingResults]" in done.stdout
    assert "GroundingMetrics" in done.stdout
    assert 'No overload variant of "predict"' in done.stdout

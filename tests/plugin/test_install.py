"""Wheel and editable installs, used as a user would: from another folder, in an environment of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
CONSOLE_SCRIPT_YOLO = "import sys; from ultralytics.cfg import entrypoint; sys.exit(entrypoint())"
"""What pip writes into the `yolo` script of Ultralytics."""


def run(command: list[str | Path], folder: Path, **env: str) -> str:
    """Run a command without inherited Python paths; return its output."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "OPTISAR", "PYTEST"))}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env={**clean, "OMP_NUM_THREADS": "1", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """Build the wheel, without a network."""
    out = tmp_path_factory.mktemp("wheel")
    code = f"import hatchling.build as b; print(b.build_wheel({str(out)!r}))"
    return out / run([sys.executable, "-c", code], REPOSITORY).strip().splitlines()[-1]


@pytest.fixture(scope="session", params=["wheel", "editable"])
def python(request, tmp_path_factory) -> Path:
    """Return the interpreter of a new environment: our package installed into it, all else borrowed from this one."""
    folder = tmp_path_factory.mktemp(request.param)
    venv.create(folder, with_pip=False)
    interpreter = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    site = Path(run([interpreter, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], folder).strip())
    # A path line reaches the packages but not the start-up files in there: what works here works by our own install.
    # Start-up files run in the order of their names, and those of editable installs begin with one underscore.
    (site / "__borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", interpreter, "install", "--quiet", "--no-deps", "--no-index"]
    if request.param == "wheel":
        run([*pip, request.getfixturevalue("wheel")], folder)
    else:
        run([*pip, "--no-build-isolation", "--editable", REPOSITORY], folder)
    return interpreter


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> Path:
    """Return the dataset config of two small images with YOLO labels."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        (root / "images" / split).mkdir(parents=True)
        (root / "labels" / split).mkdir(parents=True)
        for i in range(2):
            cv2.imwrite(str(root / "images" / split / f"{i}.png"), rng.integers(0, 255, (32, 32, 3), dtype=np.uint8))
            (root / "labels" / split / f"{i}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    dataset_config = root / "card.yaml"
    dataset_config.write_text(
        yaml.safe_dump({"path": str(root), "train": "images/train", "val": "images/val", "names": ["ship"]})
    )
    return dataset_config


def test_wheel_holds_what_it_promises(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("cfg", "datasets"):
        files = {p.relative_to(REPOSITORY).as_posix() for p in (REPOSITORY / folder).rglob("*.yaml")}
        assert files and {f"optisar_yolo/{file}" for file in files} <= names
    weights = {
        p.relative_to(REPOSITORY).as_posix()
        for p in (REPOSITORY / "optisar_yolo" / "weights").rglob("*")
        if p.is_file() and not p.name.startswith(".")
    }
    assert weights and weights <= names
    assert {"optisar_yolo_boot.pth", "optisar_yolo_boot.start", "optisar_yolo/py.typed"} <= names
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {
        "optisar_yolo",
        "optisar_yolo_boot.pth",
        "optisar_yolo_boot.start",
    }
    assert not any("__pycache__" in name or name.endswith(".pyc") for name in names)


def test_wheel_has_one_script_and_it_is_not_yolo(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (entry,) = (n for n in archive.namelist() if n.endswith("entry_points.txt"))
        assert archive.read(entry).decode().split() == [
            "[console_scripts]",
            "optisar",
            "=",
            "optisar_yolo.commands.main:main",
        ]
        assert not any(".data/scripts/" in name for name in archive.namelist())
        (licence,) = (n for n in archive.namelist() if n.endswith("licenses/LICENSE"))
        assert b"AFFERO" in archive.read(licence)


def test_start_up_stays_light_and_silent(python, tmp_path):
    code = "import sys; print('optisar_yolo.boot' in sys.modules, 'torch' in sys.modules, 'ultralytics' in sys.modules)"
    assert run([python, "-c", code], tmp_path).split() == ["True", "False", "False"]


def test_yolo_class_and_own_class_give_the_same_from_another_folder(python, tmp_path):
    code = (
        "from ultralytics import YOLO; a = YOLO('optisar++n.yaml')\n"
        "from optisar_yolo import OptiSAR, resources; b = OptiSAR('optisar++n.yaml')\n"
        "from optisar_yolo.nn.model import GroundingModel\n"
        "assert type(a) is type(b) is OptiSAR and type(a.model) is type(b.model) is GroundingModel\n"
        "assert type(YOLO('yolo11n.yaml')) is YOLO\n"
        "print(resources.find_packaged('datasets', 'demo.yaml'), resources.find_packaged('cfg', 'optisar++.yaml'))"
    )
    assert "demo.yaml" in run([python, "-c", code], tmp_path)


@pytest.mark.parametrize("command", ["yolo", "optisar"])
def test_commands_answer_a_expression_from_another_folder(python, command, tmp_path):
    cv2.imwrite(str(tmp_path / "port.png"), np.full((64, 64, 3), 90, np.uint8))
    words = [
        "predict",
        "model=optisar++n.yaml",
        "source=port.png",
        "text=the ship at the top",
        "imgsz=64",
        "device=cpu",
    ]
    if command == "yolo":  # Ultralytics is borrowed, its script is not; the script's name is what `predict` goes by
        (tmp_path / "yolo").write_text(CONSOLE_SCRIPT_YOLO)
    start = [python, tmp_path / "yolo"] if command == "yolo" else [python.parent / "optisar"]
    run(
        [*start, *words, f"project={tmp_path}", "name=out"],
        tmp_path,
        OPTISAR_AUTOLOAD="1" if command == "yolo" else "0",
    )
    assert (tmp_path / "out" / "port.jpg").is_file() or (tmp_path / "out" / "port.png").is_file()


@pytest.mark.parametrize("python", ["wheel"], indirect=True)
def test_stock_training_is_the_same_with_and_without(python, images, tmp_path):
    """The same arguments are saved, and the weights are the same to the last bit."""
    code = (
        "import sys; from ultralytics import YOLO; m = YOLO('yolo11n.yaml')\n"
        "m.train(data=sys.argv[1], project=sys.argv[2], name='run', exist_ok=True, epochs=1, imgsz=32, batch=2, seed=3,"
        " workers=0, device='cpu', plots=False, val=False, amp=False)\n"
        "total = sum(p.double().abs().sum().item() for p in m.model.parameters())\n"
        "print('SUM', total, hasattr(YOLO.__init__, '__optisar__'))"
    )
    results = []
    for switch in ("1", "0"):
        out = run([python, "-c", code, images, tmp_path / "same"], tmp_path, OPTISAR_AUTOLOAD=switch)
        (line,) = (line for line in out.splitlines() if line.startswith("SUM"))
        _, total, touched = line.split()
        assert touched == str(switch == "1")
        results.append((total, (tmp_path / "same" / "run" / "args.yaml").read_text()))
    assert results[0] == results[1]

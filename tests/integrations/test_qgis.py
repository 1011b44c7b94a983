"""The QGIS plugin: its pure parts everywhere, the whole of it with ``qgis_process`` where QGIS is installed."""

import configparser
import importlib.util
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from optisar_yolo.commands.main import VERBS
from optisar_yolo.utils import read_texts
from optisar_yolo.version import __version__

QGIS = Path(__file__).resolve().parents[2] / "integrations" / "qgis"
pytestmark = pytest.mark.skipif(not QGIS.is_dir(), reason="the plugin is not part of this copy")


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def command():
    return load(QGIS / "optisar_grounding" / "command.py")


def test_words_are_those_that_the_command_takes(command):
    from optisar_yolo.commands.scene import COMMAND

    texts = ["the ship's bow", 'the "large" ship, at the top']
    options = {"topk": "all", "conf": 0.3, "extent": "1,2,3,4", "model": "", "gsd": None, "modality": "sar"}
    words = command.words_of("/a b/port.tif", texts, "/tmp/x y", "gpkg", options, 'bands=1 nodata=0 crs="EPSG:32633"')
    assert words[0] == "scene" and "scene" in VERBS
    values = COMMAND.parse(words[1:])
    assert read_texts(values["text"]) if isinstance(values["text"], str) else values["text"] == texts
    assert (values["source"], values["project"], values["name"]) == ("/a b/port.tif", "/tmp/x y", "run")
    assert (values["topk"], values["conf"], values["modality"], values["vector"]) == ("all", 0.3, "sar", "gpkg")
    assert values["extent"] == (1, 2, 3, 4) and values["bands"] == (1,) and values["crs"] == "EPSG:32633"
    assert values["map"] is False and values["exist_ok"] is True and values["gsd"] is None


@pytest.mark.parametrize(
    "more, message",
    [
        ("bands", "not an option"),
        ("bands=", "not an option"),
        ("vector=fgb", "is set by this plugin"),
        ("text=a", "is set"),
    ],
)
def test_typed_options_that_are_none(command, more, message):
    with pytest.raises(command.CommandError, match=message):
        command.words_of("a.tif", ["the ship"], "/tmp", "gpkg", {}, more)


def test_expressions_are_lines(command):
    assert command.expressions_of(" the ship \n\n the tank\r\n") == ["the ship", "the tank"]
    with pytest.raises(command.CommandError, match="northernmost"):
        command.expressions_of(" \n ")


def test_programs(command, tmp_path):
    own = tmp_path / "with space" / "optisar"
    own.parent.mkdir()
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    assert command.program(str(own)) == [str(own)]
    assert command.program(f"{sys.executable} -m optisar_yolo") == [sys.executable, "-m", "optisar_yolo"]
    with pytest.raises(command.CommandError, match=r"'nowhere' was not found.*pip install"):
        command.program("nowhere")


def test_layers(command):
    assert command.source_of("gdal", "/a/b.tif") == "/a/b.tif"
    assert command.source_of("gdal", "/a/b.gpkg|layername=x") == "/a/b.gpkg"
    uri = "crs=EPSG:3857&type=xyz&url=https://h/%7Bz%7D/%7Bx%7D/%7By%7D.png?k%3D1&zmax=19&zmin=0"
    assert command.source_of("wms", uri) == "https://h/{z}/{x}/{y}.png?k=1"
    for provider, uri in (("wms", "contextualWMSLegend=0&url=https://h/wms&layers=a"), ("postgresraster", "x")):
        with pytest.raises(command.CommandError, match="GeoTIFF"):
            command.source_of(provider, uri)


def test_what_the_command_says(command):
    assert command.plain("\x1b[34mhello\x1b[0m world \n") == "hello world"
    assert command.percent_of(command.plain("scene: 10% a tiles\rscene: 45% |##| 4/9 tiles\n")) == 45
    assert command.percent_of("confidence 45%") is None
    assert command.reason_of(["a", "optisar: port.tif: no such file", ""]) == "port.tif: no such file"
    cleaned = command.environment({"PYTHONHOME": "/qgis", "PYTHONPATH": "/qgis", "HOME": "/home/x"})
    assert "PYTHONHOME" not in cleaned and "PYTHONPATH" not in cleaned and cleaned["HOME"] == "/home/x"


def test_metadata_and_archive(tmp_path):
    about = configparser.ConfigParser(interpolation=None)
    about.read(QGIS / "optisar_grounding" / "metadata.txt", encoding="utf-8")
    needed = ("name", "qgisMinimumVersion", "description", "about", "version", "author")
    assert all(about["general"][key].strip() for key in needed)
    assert about["general"]["version"] == __version__ and about["general"]["hasProcessingProvider"] == "yes"
    path = load(QGIS / "make_zip.py").make_zip(tmp_path)
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
    assert {f"optisar_grounding/{n}" for n in ("__init__.py", "metadata.txt", "command.py", "LICENSE")} <= names
    assert not [n for n in names if "pycache" in n or not n.startswith("optisar_grounding/")]


# the whole, in QGIS


def run_qgis(home, *words, fail=False, only_output=False):
    env = {
        "HOME": str(home),
        "PATH": "/usr/bin:/bin",
        "QT_QPA_PLATFORM": "offscreen",
        "QGIS_PLUGINPATH": str(home / "plugins"),
    }
    done = subprocess.run(
        [shutil.which("qgis_process.bin") or "qgis_process", *words],
        capture_output=True,
        text=True,
        env=env,
        timeout=500,
    )
    assert fail or not done.returncode, done.stdout + done.stderr
    return done.stdout if only_output else done.stdout + done.stderr


@pytest.fixture
def home(tmp_path):
    """Return a home folder with the plugin as it is unpacked from the archive, enabled."""
    with zipfile.ZipFile(load(QGIS / "make_zip.py").make_zip(tmp_path)) as archive:
        archive.extractall(tmp_path / "plugins")
    run_qgis(tmp_path, "plugins", "enable", "optisar_grounding")
    return tmp_path


def program_of_this_checkout(folder):
    """Return a program that runs the command of this checkout, as an installed one does."""
    path = folder / "optisar"
    root = Path(__file__).resolve().parents[2]
    path.write_text(
        f"#!/bin/sh\nPYTHONPATH='{root}' YOLO_OFFLINE=1 YOLO_AUTOINSTALL=false YOLO_CONFIG_DIR='{folder}/config' "
        f"exec '{sys.executable}' -m optisar_yolo \"$@\"\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("qgis_process") is None, reason="QGIS is not installed")
def test_the_algorithm_in_qgis(home):
    import rasters

    raster = rasters.write(home / "a.tif", rasters.painted(400, 300, [(100, 60, 160, 100)]), **rasters.UTM)
    program = program_of_this_checkout(home)
    assert "optisar:ground" in run_qgis(home, "list")
    words = [
        "run",
        "optisar:ground",
        f"--INPUT={raster}",
        "--TEXT=the ship",
        "--ALL=true",
        "--CONF=0.0",
        f"--COMMAND={program}",
    ]
    said = run_qgis(home, *words, "--OPTIONS=stretch=none batch=1", f"--OUTPUT={home}/ships.gpkg")
    gpd = pytest.importorskip("geopandas")
    table = gpd.read_file(home / "ships.gpkg", layer="objects")
    assert table.crs == "EPSG:32633" and set(table.sentence) <= {"the ship"} and "Results saved" in said
    assert (home / "ships.qml").is_file()
    wrong = run_qgis(home, *words, "--OPTIONS=stretch=nonsense", f"--OUTPUT={home}/b.gpkg", fail=True)
    assert "stretch=nonsense" in wrong and "is not valid" in wrong and not (home / "b.gpkg").exists()


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif(shutil.which("qgis_process") is None, reason="QGIS is not installed")
def test_mistakes_are_told_in_qgis(home):
    import rasters

    raster = rasters.write(home / "a.tif", rasters.painted(400, 300, []), **rasters.UTM)
    words = ["run", "optisar:ground", f"--INPUT={raster}", "--TEXT=the ship"]
    assert "was not found" in run_qgis(home, *words, "--COMMAND=nowhere", f"--OUTPUT={home}/a.gpkg", fail=True)
    described = run_qgis(home, "--json", "help", "optisar:ground", only_output=True)
    assert '"TEXT": {' in described and "Finds what an expression means" in described

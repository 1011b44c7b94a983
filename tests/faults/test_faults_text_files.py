"""Annotation files, dataset configs, recipes, model descriptions and manifests that are made to harm, or are odd."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from apart import command, refused

KIND = "annotations, configs and other text files"
DEEP = 100_000
BOMB = "\n".join(
    ["a: &a [x,x,x,x,x,x,x,x,x,x]", *(f"{n}: &{n} [{','.join(['*' + chr(ord(n) - 1)] * 10)}]" for n in "bcdefghi")]
)
"""A few hundred bytes of YAML that say 10^9 words where they are written out."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with an image, annotations and a dataset config of one ship."""
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images/sar_a.png"), np.random.default_rng(0).integers(0, 99, (64, 96), np.uint8))
    write(tmp_path, annotations())
    config(tmp_path, "names: [sar ship]")
    return tmp_path


def annotations(caption: Any = "the ship", **changed: Any) -> dict[str, Any]:
    note = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "caption": caption}
    image = {"id": 1, "file_name": "sar_a.png", "width": 96, "height": 64}
    for key, value in changed.items():
        (note if key in note else image)[key] = value
    return {"images": [image], "annotations": [note], "categories": [{"id": 1, "name": "sar ship"}]}


def write(folder: Path, content: Any) -> None:
    (folder / "val.json").write_text(content if isinstance(content, str) else json.dumps(content))


def config(folder: Path, names: str, more: str = "") -> None:
    (folder / "set.yaml").write_text(f"path: {folder}\nval: val.json\n{names}\n{more}\n")


def validate(folder: Path, **limits: Any) -> Any:
    words = ["val", f"data={folder}/set.yaml", "imgsz=64", "device=cpu", "plots=False", f"project={folder}/runs"]
    return command(folder, *words, **limits)


def no_run_left(folder: Path) -> bool:
    return not (folder / "runs").exists() or not list((folder / "runs").iterdir())


HOSTILE_JSON = {
    "nested lists": "[" * DEEP + "]" * DEEP,
    "nested objects": '{"a":' * DEEP + "1" + "}" * DEEP,
    "an open bracket": "[" * DEEP,
    "an integer of 5,000 digits": '{"images": [], "annotations": [], "n": ' + "9" * 5000 + "}",
    "nothing": "",
    "a byte order mark and nothing": "\ufeff",
    "half": json.dumps(annotations())[:-30],
    "a number": "3",
    "NUL bytes": "\0" * 1000,
}


@pytest.mark.fault(KIND, "JSON nested 100,000 deep, cut off, empty, with an integer of 5,000 digits")
@pytest.mark.parametrize("content", HOSTILE_JSON.values(), ids=HOSTILE_JSON)
def test_annotations_that_are_no_json(data: Path, content: str) -> None:
    write(data, content)
    refused(validate(data), "val.json")
    assert no_run_left(data)


ODD_VALUES: dict[str, dict[str, Any]] = {
    "id of 5,000 digits": {"image_id": int("9" * 4000)},
    "box of huge numbers": {"bbox": [1e308, 1e308, 1e308, 1e308]},
    "box of NaN": {"bbox": [float("nan")] * 4},
    "box of texts": {"bbox": ["1", "2", "3", "4"]},
    "caption of a number": {"caption": 5},
    "caption of a list": {"caption": ["the ship"]},
    "file name of 100,000 characters": {"file_name": "a" * 100_000},
    "file name with NUL": {"file_name": "sar_a\0.png"},
    "size of a googol": {"width": 10**100, "height": 10**100},
    "negative size": {"width": -96, "height": -64},
    "category that is a list": {"category_id": [1]},
}


@pytest.mark.fault(KIND, "values of another type, NaN, numbers beyond all limits in a record")
@pytest.mark.parametrize("changed", ODD_VALUES.values(), ids=ODD_VALUES)
def test_odd_values_of_a_record(data: Path, changed: dict[str, Any]) -> None:
    content = annotations()
    odd = annotations(**changed)
    odd["images"][0]["id"] = 2
    odd["images"][0].setdefault("file_name", "sar_b.png")
    odd["annotations"][0] |= {"id": 2} | ({"image_id": 2} if "image_id" not in changed else {})
    content["images"] += odd["images"]
    content["annotations"] += odd["annotations"]
    write(data, content)
    got = validate(data)
    assert got.status == 0, got.err[-2000:]
    if not changed.keys() & {"width", "height"}:  # the size comes from the file then, and nothing is lost
        assert "skipped or mended records" in got.out, got.out[-1500:]
    assert max(map(len, got.out.splitlines())) < 3000, "a message as long as the value"


@pytest.mark.fault(KIND, "captions of 10 MB, of 10,000 words, without a visible character")
@pytest.mark.parametrize(
    "caption",
    ["x" * 10_000_000, "left " * 10_000, "left of the " * 10_000, "\u200b", "\u200b" * 1000, "...", "\x07"],
    ids=["10 MB", "left x 10,000", "left of the x 10,000", "zero-width", "many zero-width", "dots", "bell"],
)
def test_captions(data: Path, caption: str) -> None:
    content = annotations()
    content["annotations"].append({**content["annotations"][0], "id": 2, "caption": caption})
    write(data, content)
    got = validate(data)
    assert got.status == 0 and got.seconds < 25, (got.seconds, got.err[-2000:])
    assert "skipped or mended records" in got.out and "annotation id 2" in got.out, got.out[-2000:]
    assert max(map(len, got.out.splitlines())) < 3000


HOSTILE_YAML = {
    "names that are a bomb": BOMB + "\nnames: *i",
    "names of bombs": BOMB + "\nnames: [*i, *i]",
    "a mapping of names to bombs": BOMB + "\nnames: {0: *i}",
    "synonyms that are a bomb": BOMB + "\nnames: [sar ship]\nsynonyms: *i",
    "parents of bombs": BOMB + "\nnames: [sar ship]\nparents: {sar ship: *i}",
    "include of bombs": BOMB + "\nnames: [sar ship]\ninclude: *i",
    "render of bombs": BOMB + "\nnames: [sar ship]\nrender: *i",
    "images of bombs": BOMB + "\nnames: [sar ship]\nimages: *i",
    "nested lists": "names: " + "[" * 20_000 + "]" * 20_000,
    "nested mappings": "names: " + "{a: " * 5_000 + "1" + "}" * 5_000,
    "an integer of 5,000 digits": "names: [" + "9" * 5000 + "]",
    "an integer as a key": "names: {" + "9" * 5000 + ": sar ship}",
    "a tag that runs code": "names: !!python/object/apply:os.system ['touch harmed']",
    "a date": "names: [2020-01-01]",
    "an anchor in itself": "names: &a [*a]",
    "an empty list of names": "names: []",
    "control characters": "names: [sar\x01ship]",
    "a tab": "names:\n\t- sar ship",
}


@pytest.mark.fault(KIND, "YAML bombs, deep YAML, tags that run code, values of other types")
@pytest.mark.parametrize("names", HOSTILE_YAML.values(), ids=HOSTILE_YAML)
def test_dataset_configs(data: Path, names: str) -> None:
    config(data, names)
    refused(validate(data), "set.yaml")
    assert no_run_left(data) and not (data / "harmed").exists()


@pytest.mark.fault(KIND, "a config without names, whose annotations have some")
def test_no_names(data: Path) -> None:
    config(data, "names:")
    got = validate(data)
    assert got.status == 0 and "no key 'names'; taking the" in got.out + got.err, got.out[-2000:]


OTHER = (
    "names that are a bomb", "synonyms that are a bomb", "render of bombs", "nested lists", "nested mappings",
    "an anchor in itself", "a tag that runs code", "an integer of 5,000 digits",
)  # fmt: skip


@pytest.mark.fault(KIND, "the same files as recipe, model description and settings of a run")
@pytest.mark.parametrize("names", map(HOSTILE_YAML.get, OTHER), ids=OTHER)
@pytest.mark.parametrize("place", ["recipe", "model", "cfg"])
def test_other_yaml(data: Path, names: str, place: str) -> None:
    file = data / "optisar++n.yaml"
    if place == "recipe":
        file = data / "recipe.yaml"
        file.write_text(f"name: x\nsources: []\n{names}\n")
        got = command(data, "dataset", "import", f"recipe={file}", f"work={data}/work")
    elif place == "model":
        file.write_text("# GroundingDetect\n" + names.replace("names:", "head: GroundingDetect\nbackbone:"))
        got = command(data, "train", f"model={file}", f"data={data}/set.yaml", f"project={data}/runs")
    else:
        file = data / "settings.yaml"
        file.write_text("model: optisar++n-pocket.safetensors\n" + names)
        got = command(data, "val", f"cfg={file}", f"data={data}/set.yaml", f"project={data}/runs")
    refused(got, *([file.name] if place != "cfg" else []))  # Ultralytics names the key
    assert no_run_left(data) and not (data / "harmed").exists()


@pytest.mark.fault(KIND, "absolute and parent paths in file_name")
@pytest.mark.parametrize("how", ["absolute", "parent", "parent of the images' folder", "home", "link"])
def test_paths_of_images(data: Path, how: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other") / "sar_secret.png"
    cv2.imwrite(str(other), np.zeros((64, 96), np.uint8))
    name = {
        "absolute": str(other),
        "parent": f"../../{other.parent.name}/{other.name}",
        "parent of the images' folder": f"x/../../../{other.parent.name}/{other.name}",
        "home": "~/sar_secret.png",
        "link": "sar_link.png",
    }[how]
    (data / "images" / "sar_link.png").symlink_to(data / "images" / "sar_a.png")  # inside: as the owner arranged it
    content = annotations()
    content["images"].append({"id": 2, "file_name": name, "width": 96, "height": 64})
    content["annotations"].append({**content["annotations"][0], "id": 2, "image_id": 2, "caption": "the other ship"})
    write(data, content)
    got = validate(data)
    assert got.status == 0, got.err[-2000:]
    if how == "link":
        assert "skipped" not in got.out
    else:
        assert "image file outside the data set" in got.out or "image file missing" in got.out, got.out[-1500:]

"""Dataset configs: where they are found, and what a broken one is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest
from ultralytics.utils import SETTINGS

from optisar_yolo.data.config import DataError, load_dataset_config
from optisar_yolo.plugin import resources


def test_packaged_config_by_bare_name_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(SETTINGS, "datasets_dir", str(tmp_path / "nowhere"))
    for name in ("optsar.yaml", "optsar"):
        with pytest.raises(DataError, match="(?s)OptSAR-RSVG does not exist.*project page.*datasets_dir"):
            load_dataset_config(name)


def test_unknown_card_lists_the_packaged_ones() -> None:
    with pytest.raises(DataError, match="'nonesuch.yaml' not found.*optsar.yaml"):
        load_dataset_config("nonesuch.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [a, b", "not valid YAML"),
        ("- a\n- b", "mapping of keys"),
        ("", "mapping of keys"),
        ("train: train.json", "'names' is missing"),
        ("train: train.json\nnames: []", "'names' is missing or empty"),
        ("train: train.json\nnames: {0: sar ship, 2: sar tower}", "0 to 1 without gaps"),
        ("train: train.json\nnames: [sar ship, 7]", "holds 7"),
        ("train: train.json\nnames: [sar ship, sar  ship]", "twice"),
        ("names: [sar ship]", "none of the keys train"),
        ("train: [a.json]\nnames: [sar ship]", "'train' must be text"),
        ("path: nowhere\ntrain: a.json\nnames: [sar ship]", "does not exist. Correct"),
        ("path: nowhere\ntrain: a.json\nnames: [sar ship]\nrender: 3", "'render' must hold"),
        ("path: nowhere\ntrain: a.json\nnames: [sar ship]\nrender: {seed: 0}", "'render' needs 'train'"),
        ("path: nowhere\ntrain: a.json\nnames: [sar ship]\nrender: {train: 1, kind: wide}", "'render' has no 'kind'"),
        ("path: nowhere\ntrain: a.json\nnames: [sar ship]\nrender: {train: 1, size: 320}", "'render' needs 'size'"),
        ("path: nowhere\ntrain: a.json\nnames: [sar ship]\nrender: {train: 1, kinds: all}", "kinds='all'; there are"),
    ],
)
def test_broken_config(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "data.yaml"
    file.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        load_dataset_config(file)
    assert str(file) in str(caught.value)


def test_config_that_is_a_folder_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a folder, not a dataset config"):
        load_dataset_config(tmp_path)
    (tmp_path / "data.yaml").write_bytes(b"names: \xff\xfe")
    with pytest.raises(DataError, match="UTF-8"):
        load_dataset_config(tmp_path / "data.yaml")


def test_resources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "optsar.yaml" in resources.packaged_names("datasets")
    assert resources.find_packaged("datasets", "optsar") == resources.find_packaged("datasets", "optsar.yaml")
    with pytest.raises(ValueError, match="unknown kind"):
        resources.find_packaged("pictures", "a")
    with pytest.raises(FileNotFoundError, match="optsar.yaml"):
        resources.find_packaged("datasets", "a")
    # An installed package: the folder is inside, and a neighbour of the same name is another project's.
    package = tmp_path / "site" / "optisar_yolo"
    (tmp_path / "site" / "datasets").mkdir(parents=True)
    package.mkdir()
    monkeypatch.setattr(resources, "_PACKAGE", package)
    with pytest.raises(FileNotFoundError, match="reinstall"):
        resources.find_packaged("datasets", "optsar")
    for folder in ("a", "b"):
        (package / "cfg" / folder).mkdir(parents=True)
        (package / "cfg" / folder / "same.yaml").write_text("")
    assert resources.find_packaged("cfg", "a/same") == package / "cfg" / "a" / "same.yaml"
    with pytest.raises(FileNotFoundError, match="ambiguous"):
        resources.find_packaged("cfg", "same.yaml")

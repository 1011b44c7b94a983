"""The contact sheet of augmented images: its command line, what it shows, and the errors of wrong options."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from optisar_yolo.commands import main as cli, view as commands
from optisar_yolo.engine import view


def sample(targets: list[list[float]], texts: list[str]) -> dict[str, object]:
    """Return a sample of a black image with its objects in a row."""
    n = len(targets)
    boxes = [[(i + 0.5) / n, 0.5, 0.5 / n, 0.3] for i in range(n)]
    return {
        "img": torch.zeros(3, 64, 64, dtype=torch.uint8), "bboxes": torch.tensor(boxes).view(-1, 4),
        "targets": torch.tensor(targets).view(n, len(texts)), "texts": texts,
        "modality": 1, "im_file": "folder/sar_1.jpg",
    }  # fmt: skip


def words(figure):
    """Return (text, colour) of all that is written beside the images."""
    return [(t.get_text().replace("\n", " "), t.get_color()) for axes in figure.axes[1::2] for t in axes.texts]


def test_true_expressions_have_the_colour_and_number_of_their_boxes():
    texts = ["The left ship", "A ship", "The right ship", "An optical ship", "The middle ship"]
    targets = [[1, 1, 0, 0, 0], [0, 1, 0, 0, -1], [0, 1, 1, 0, 0]]
    figure = view.view_sheet([sample(targets, texts)], "title")
    first, second = view.COLOURS[:2]
    boxes = [p.get_edgecolor() for p in figure.axes[0].patches]
    assert view.colours(np.array(targets)) == [first, second, second]
    assert boxes[1] == boxes[2] != boxes[0]
    texts_of = dict(words(figure))
    assert texts_of["The left ship  → 1"] == first and texts_of["The right ship  → 3"] == second
    assert texts_of["A ship  → 1, 2, 3"] == first and texts_of["An optical ship"] == view.FALSE
    assert texts_of["The middle ship  [left out: 2]"] == view.UNCERTAIN and "sar_1.jpg, sar" in texts_of


def test_long_lists_are_cut_and_counted():
    texts = [f"Expression {i}" for i in range(20)]
    targets = [[1.0] * 14 + [0.0] * 6] + [[0.0] * 20] * 8
    shown = words(view.view_sheet([sample(targets, texts)] * 3, "title"))
    assert [t for t, _ in shown].count("… and 8 more, 2 of them true") == 3
    assert sum(t.startswith("Expression") for t, _ in shown) == 3 * view.LINES
    many = words(view.view_sheet([sample([[1.0]] * 9, ["A ship"])], "title"))
    assert ("A ship  → 1, 2, 3, 4, 5, 6, … (9 objects)", view.COLOURS[0]) in many


def test_an_image_without_objects_is_shown():
    figure = view.view_sheet([sample([], [])], "title")
    assert len(figure.axes) == 2 and not figure.axes[0].patches


def test_command_writes_the_sheet(tiny: Path, tmp_path: Path, caplog, monkeypatch):
    seen = []
    monkeypatch.setattr(
        view,
        "view_sheet",
        lambda samples, title, *more, make=view.view_sheet: (
            seen.append((samples, title)) or make(samples, title, *more)
        ),
    )
    save = tmp_path / "sheet.jpg"
    line = ["view", f"data={tiny}", "split=val", "n=4", "imgsz=64", "epoch=2", "mosaic=1", "prompts=6", f"save={save}"]
    assert cli.main(line) == 0
    (samples, title) = seen[0]
    assert len(samples) == 2 and {s["modality"] for s in samples} == {0, 1}  # the split has no more
    assert all(s["extent"].tolist() == [0, 0, 1, 1] and len(s["texts"]) == 6 for s in samples)
    assert title == "tiny.yaml, val, seed 0, epoch 2: mosaic=1 prompts=6"
    assert cv2.imread(str(save)).shape[0] > 300
    assert cli.main(line) == 0
    assert all(torch.equal(a["img"], b["img"]) for a, b in zip(samples, seen[1][0], strict=True))


def test_settings_are_those_of_training_but_for_what_is_given():
    from optisar_yolo.engine.train import TRAIN_DEFAULTS

    own = commands.COMMAND.parse(["fliplr=1", "rewrite=no", "save=a.png"])
    settings = own.pop("settings")
    assert settings == {"fliplr": "1", "rewrite": "no"} and own.pop("save") == "a.png"
    args = view.training_settings(settings, data=own["data"], split=own["split"], imgsz=own["imgsz"])
    assert args.fliplr == 1 and args.rewrite is False and args.flipud == TRAIN_DEFAULTS["flipud"]
    assert (args.mosaic, args.hsv_s, args.crop, args.imgsz, args.split) == (0, 0, 0, 320, "train")
    assert own == {"data": "optsar.yaml", "split": "train", "n": 12, "seed": 0, "epoch": 0, "imgsz": 320}
    assert "optisar train --help" in commands.COMMAND.page()


@pytest.mark.parametrize(
    ("word", "status", "message"),
    [
        ("mosiac=1", 2, "unknown argument 'mosiac'; did you mean 'mosaic'?"),
        ("qqqq=1", 2, "unknown argument 'qqqq'; known are "),
        ("n=0", 2, "'n=0' is not valid: it must be a whole number of at least 1"),
        ("epoch=two", 2, "epoch=two: it must be a whole number of at least 0"),
        ("save=sheet.gif", 2, "must end with .jpg, .jpeg, .png"),
        ("mosaic=often", 2, "'mosaic=often' is of invalid type"),
        ("crop=2", 2, "'crop=2.0' is not valid: it must be a number from 0 to 1"),
        ("rewrite=maybe", 2, "it must be True or False"),
        ("split=trial", 1, "no split 'trial'; the dataset config has train, val, test"),
        ("data=missing.yaml", 1, "dataset config 'missing.yaml' not found"),
    ],
)
def test_errors_are_explained(tiny: Path, tmp_path: Path, capsys, monkeypatch, word, status, message):
    monkeypatch.chdir(tmp_path)
    given = {"data": str(tiny)} | dict([word.split("=")])
    assert cli.main(["view", *(f"{k}={v}" for k, v in given.items())]) == status
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())

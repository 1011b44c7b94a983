"""The demo: it runs without data of the user, and writes a page with what it did."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from optisar_yolo.commands import demo, main as cli


def test_the_demo_writes_its_page(tiny: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(demo.TRAIN, "imgsz", 32)
    assert cli.main(["demo", f"data={tiny}", f"out={tmp_path}", "pictures=2"]) == 0
    assert "'pictures=' is now 'images='" in capsys.readouterr().err
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    drawn = sorted(tmp_path.glob("ask_*.png"))
    assert {p.name[4:8] for p in drawn} == {"opt_", "sar_"} and len(drawn) == 2
    for path in drawn:
        assert path.name in page and cv2.imread(str(path)).shape[0] > 200
    assert "meanIoU" in page and "val/best.png" in page and "train/train_batch0.jpg" in page


def test_a_wrong_number_of_images_is_refused(capsys) -> None:
    assert cli.main(["demo", "images=some"]) == 2
    assert "images=some: it must be a whole number" in capsys.readouterr().err

"""The demo: it needs no data of the user, ends on a success, and says where its page is."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from optisar_yolo.commands import demo, main as cli


@pytest.mark.timeout(400)
def test_the_demo_shows_before_and_after(tmp_path: Path, capfd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "COUNTS", {"train": 4, "val": 2, "test": 2})
    monkeypatch.setitem(demo.TRAIN, "imgsz", 64)
    assert cli.main(["demo", f"out={tmp_path}", "pictures=2", "epochs=1"]) == 0
    said = capfd.readouterr()
    assert "'pictures=' is now 'images='" in said.err
    assert "\x1b" not in said.out and "WARNING" not in said.out + said.err
    lines = said.out.strip().splitlines()
    assert lines[-1] == f"Open {tmp_path / 'index.html'}"
    assert lines[0].startswith("1/4 4 images of radio telescopes to train on, 2 to test on")
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    drawn = sorted(p.name for p in tmp_path.glob("opt_*.png"))
    assert drawn == [f"opt_00000{n}-{when}.png" for n in (1, 2) for when in ("after", "before")]
    for name in drawn:
        assert name in page and cv2.imread(str(tmp_path / name)).shape[0] > 200
    assert "right boxes" in page and (tmp_path / "train" / "weights" / "best.pt").is_file()


@pytest.mark.timeout(300)
def test_the_demo_takes_other_data(tiny: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(demo.TRAIN, "imgsz", 32)
    assert cli.main(["demo", f"data={tiny}", f"out={tmp_path}", "images=0", "epochs=1"]) == 0
    assert "the objects of tiny.yaml" in capsys.readouterr().out
    assert not (tmp_path / "radio-telescopes").exists()


def test_a_wrong_number_of_images_is_refused(capsys) -> None:
    assert cli.main(["demo", "images=some"]) == 2
    assert "images=some: it must be a whole number" in capsys.readouterr().err

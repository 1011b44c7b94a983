"""The procedural data set: layout, determinism, tight boxes, expressions that mean one object."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from optisar_yolo.language import BUILT_IN
from optisar_yolo.language.verify import LabelledObjects
from optisar_yolo.synthetic import paint, render as module
from optisar_yolo.synthetic.more_layouts import disturb, halls, ponds
from optisar_yolo.synthetic.more_objects import MORE_OBJECTS
from optisar_yolo.synthetic.objects import OBJECTS
from optisar_yolo.synthetic.optical import Canvas
from optisar_yolo.synthetic.render import NAMES, WIDE_NAMES, kind_of, render_dataset, render_image
from optisar_yolo.synthetic.telescopes import RADIO_TELESCOPE

COUNTS = {"train": 4, "val": 2, "test": 2}
SMALL = (160, 200)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small rendered set."""
    root = tmp_path_factory.mktemp("set") / "demo"
    render_dataset(root, seed=5, counts=COUNTS, size=SMALL)
    return root


def test_layout_is_that_of_the_release(rendered: Path) -> None:
    assert sorted(p.name for p in rendered.parent.iterdir()) == ["demo"]  # no working folder stays behind
    for split, count in COUNTS.items():
        content = json.loads((rendered / f"{split}.json").read_text())
        assert [c["name"] for c in content["categories"]] == list(NAMES)
        assert len(content["images"]) == count
        files = sorted(i["file_name"] for i in content["images"])
        assert files == sorted(p.name for p in (rendered / "images" / split).iterdir())
        assert {f[:4] for f in files} == {"opt_", "sar_"}
        for image in content["images"]:
            img = cv2.imread(str(rendered / "images" / split / image["file_name"]))
            assert img is not None and img.shape == (image["height"], image["width"], 3)
            label = np.loadtxt(rendered / "labels" / split / f"{image['file_name'][:-4]}.txt", ndmin=2)
            own = [a for a in content["annotations"] if a["image_id"] == image["id"]]
            assert 1 <= len(own) <= len(label)
            for a in own:
                assert a["category_name"] == NAMES[a["category_id"]] and a["kind"] == kind_of(a["caption"])
                x, y, w, h = a["bbox"]
                relative = np.array([x + w / 2, y + h / 2, w, h]) / ([image["width"], image["height"]] * 2)
                assert (np.abs(label[:, 1:] - relative).max(axis=1) < 1e-5).any()
        assert [a["id"] for a in content["annotations"]] == list(range(len(content["annotations"])))


def test_same_seed_same_bytes_and_more_images_keep_the_first(rendered: Path, tmp_path: Path) -> None:
    render_dataset(tmp_path / "again", seed=5, counts={"train": 6}, size=SMALL)
    for file in (rendered / "images/train").iterdir():
        assert (tmp_path / "again/images/train" / file.name).read_bytes() == file.read_bytes()
    one, other = (render_image(seed, "train", 0, SMALL)["img"] for seed in (5, 6))
    assert one.shape != other.shape or (one != other).any()


@pytest.mark.parametrize("number", range(16))
def test_every_image_has_sound_boxes_and_expressions_of_one_object(number: int) -> None:
    made = render_image(0, "val", number, (224, 256))
    img, boxes, names = made["img"], made["boxes"], made["names"]
    h, w = img.shape[:2]
    assert img.dtype == np.uint8 and max(h, w) in range(224, 257)
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= [w, h]).all()
    assert (boxes[:, 2:] - boxes[:, :2] >= 5).all() and set(names) <= set(NAMES)
    assert {n.split()[0] for n in names} == {made["modality"]}
    objects = LabelledObjects(boxes, names, (w, h))
    assert made["expressions"]
    for index, caption, _ in made["expressions"]:
        assert objects.singles_out(caption, index), caption
    if made["modality"] == "sar":
        assert (img[..., 0] == img[..., 1]).all()
        for x0, y0, x1, y1 in boxes.astype(int):  # ships and masts outshine what is around them
            around = img[max(y0 - 12, 0) : y1 + 12, max(x0 - 12, 0) : x1 + 12, 0]
            assert img[y0:y1, x0:x1, 0].mean() > 1.15 * np.median(around)


@pytest.mark.parametrize("layout", range(14))
def test_every_wide_image_has_sound_boxes_and_expressions_of_one_object(layout: int) -> None:
    made = render_image(3, "train", 2 * layout, (224, 256), kinds="wide")
    h, w = made["img"].shape[:2]
    boxes = made["boxes"]
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= [w, h]).all() and set(made["names"]) <= set(WIDE_NAMES)
    objects = LabelledObjects(boxes, made["names"], (w, h), BUILT_IN.including(WIDE_NAMES))
    assert made["expressions"]
    for index, caption, _ in made["expressions"]:
        assert objects.singles_out(caption, index), caption


def test_the_wide_set_shows_every_kind_and_what_is_no_object(tmp_path: Path) -> None:
    seen: set[str] = set()
    for number in range(0, 14 * 2 * 7, 2):
        seen |= set(render_image(1, "train", number, SMALL, kinds="wide")["names"])
        if len(seen) == len([n for n in WIDE_NAMES if n.startswith("optical")]):
            break
    assert seen == {n for n in WIDE_NAMES if n.startswith("optical")}
    canvas = Canvas(np.full((96, 128, 3), 90, np.float32), np.random.default_rng(4), (0.6, 0.8))
    halls(canvas, 3, 0.2)
    ponds(canvas, 2)
    for _ in range(12):
        disturb(canvas)
    assert not canvas.boxes and (canvas.img != 90).any()
    render_dataset(tmp_path / "wide", counts={"train": 2}, size=SMALL, kinds="wide")
    categories = json.loads((tmp_path / "wide/train.json").read_text())["categories"]
    assert [c["name"] for c in categories] == list(WIDE_NAMES)


@pytest.mark.parametrize("name", (*OBJECTS, *MORE_OBJECTS))
def test_a_stamps_box_is_tight(name: str) -> None:
    stamp = (OBJECTS | MORE_OBJECTS)[name](np.random.default_rng(1), 48.0, 0.7)
    img = np.full((140, 160, 3), 100, np.float32)
    before = img.copy()
    x0, y0, x1, y1 = paint.paste(img, stamp, 76, 71).astype(int)
    changed = (img != before).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert abs(rows.min() - y0) <= 1 and abs(rows.max() + 1 - y1) <= 1
    assert abs(columns.min() - x0) <= 1 and abs(columns.max() + 1 - x1) <= 1


def test_expressions_of_all_kinds_and_both_modalities_come_up() -> None:
    kinds: set[tuple[str, str]] = set()
    for number in range(40):
        made = render_image(1, "train", number, SMALL)
        kinds |= {(made["modality"], kind) for _, _, kind in made["expressions"]}
    assert {("optical", "position"), ("optical", "extreme"), ("optical", "relation")} <= kinds
    assert {("sar", "position"), ("sar", "extreme")} <= kinds


def test_nothing_half_written_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bool:
        return False

    monkeypatch.setattr(module.cv2, "imwrite", fail)
    with pytest.raises(OSError, match="could not be written"):
        render_dataset(tmp_path / "demo", counts={"train": 1}, size=SMALL)
    assert list(tmp_path.iterdir()) == []


def test_foreign_files_are_not_touched_and_a_finished_set_is_kept(tmp_path: Path) -> None:
    root = tmp_path / "demo"
    root.mkdir()
    render_dataset(root, counts={"train": 1}, size=SMALL)  # an empty folder is fine
    first = (root / "train.json").read_bytes()
    render_dataset(root, seed=1, counts={"train": 1}, size=SMALL)  # as if another process had been faster
    assert (root / "train.json").read_bytes() == first
    other = tmp_path / "mine"
    other.mkdir()
    (other / "notes.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="mine holds something"):
        render_dataset(other, counts={"train": 1}, size=SMALL)
    assert (other / "notes.txt").read_text() == "keep" and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    "bad",
    [{"counts": {"all": 3}}, {"counts": {"train": -1}}, {"size": (20, 40)}, {"size": (300, 200)}, {"kinds": "all"}],
)
def test_bad_recipes_are_refused(bad: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="render: "):
        render_dataset(tmp_path / "demo", **bad)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_new_kind_is_in_no_other_set_and_has_a_file_for_every_image(tmp_path: Path) -> None:
    assert RADIO_TELESCOPE not in WIDE_NAMES
    render_dataset(tmp_path / "new", 0, {"train": 3, "val": 1, "test": 1}, (96, 120), "new")
    made = json.loads((tmp_path / "new" / "train.json").read_text())
    assert [p["file_name"] for p in made["images"]] == ["opt_000001.jpg", "opt_000002.jpg", "opt_000003.jpg"]
    for image in made["images"]:
        height, width = cv2.imread(str(tmp_path / "new" / "images" / "train" / image["file_name"])).shape[:2]
        assert (width, height) == (image["width"], image["height"])
    assert {a["category_name"] for a in made["annotations"]} == {RADIO_TELESCOPE}
    assert all("radio telescope" in a["caption"] for a in made["annotations"])

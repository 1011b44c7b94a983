"""Annotation from end to end with the bundled weights: pools, files, bad input, interrupted runs, reading back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import pytest

from optisar_yolo import OptiSAR
from optisar_yolo.annotate import AnnotateOptions, Annotator, annotate_images, find_images, load_pool
from optisar_yolo.annotate.pool import Caption
from optisar_yolo.commands.main import main
from optisar_yolo.data import DataError, load_dataset_config, load_split
from optisar_yolo.engine import default_conf
from optisar_yolo.language import parse
from optisar_yolo.utils import BUNDLED_MODEL, SettingError

TEXTS = [
    "The ship in the upper left corner of the image", "The ship in the lower right corner of the image",
    "The leftmost ship", "The rightmost airplane", "An airplane", "A SAR ship",
]  # fmt: skip


@pytest.fixture(scope="module")
def model() -> OptiSAR:
    return OptiSAR(BUNDLED_MODEL)


@pytest.fixture(scope="module")
def folder(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images, one of them in a folder below, a file that is no image and one without a byte."""
    root = tmp_path_factory.mktemp("pictures")
    (root / "below").mkdir()
    for i, file in enumerate(sorted((tiny.parent / "images" / "test").iterdir())):
        shutil.copy(file, root / ("below" if i == 3 else ".") / file.name)
    (root / "empty.jpg").touch()
    (root / "prose.png").write_text("no image")
    (root / "notes.txt").write_text("not looked at")
    return root


def ready(model: OptiSAR, **options) -> Annotator:
    return Annotator(model, [Caption(t) for t in TEXTS], AnnotateOptions(**{"conf": 0.0, "imgsz": 96} | options))


def test_the_command_writes_what_the_project_reads_back(folder: Path, tmp_path: Path, log):
    pool = tmp_path / "captions.txt"
    pool.write_text("\n\n".join([*TEXTS, TEXTS[0]]) + "\n", encoding="utf-8")
    words = [f"source={folder}", f"pool={pool}", "conf=0", "imgsz=96", "topk=2", f"project={tmp_path}", "name=run"]
    assert main(["annotate", *words]) == 0
    run = tmp_path / "run"
    assert {p.name for p in run.iterdir()} == {"annotations.json", "annotations.yaml", "summary.json", "preview.jpg"}
    content = json.loads((run / "annotations.json").read_text(encoding="utf-8"))
    images = {i["id"]: i for i in content["images"]}
    assert len(images) == len(content["images"]) == 4 and "below" in "".join(i["file_name"] for i in images.values())
    assert len({a["id"] for a in content["annotations"]}) == len(content["annotations"]) > 4
    names = {c["id"]: c["name"] for c in content["categories"]}
    for note in content["annotations"]:
        x, y, w, h = note["bbox"]
        image = images[note["image_id"]]
        assert x >= 0 and y >= 0 and w > 0 and h > 0 and note["area"] == pytest.approx(w * h, abs=0.01)
        assert x + w <= image["width"] + 0.01 and y + h <= image["height"] + 0.01
        assert note["category_name"] == names[note["category_id"]] and 0 <= note["score"] <= 1
        assert note["caption"] in TEXTS
        assert names[note["category_id"]].split()[0] == {"o": "optical", "s": "sar"}[image["file_name"][-14]]
    counts = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert (
        counts["pictures"] == 6
        and counts["pictures with boxes"] <= 4
        and set(counts["skipped"]) == {"empty.jpg", "prose.png"}
    )
    assert counts["boxes"] == len(content["annotations"]) and counts["captions"] == len(TEXTS)
    assert "2 of them unreadable" in log.text and "used once" in log.text and "blank" in log.text
    # the dataset config can be loaded
    dataset_config = load_dataset_config(run / "annotations.yaml")
    read = load_split(dataset_config, "train")
    captions = sorted(c for p in read for texts in p.captions for c in texts)
    assert captions == sorted(a["caption"] for a in content["annotations"])
    # `optisar dataset` imports it
    recipe = {
        "name": "Annotated", "names": sorted(names.values()), "sources": [{
            "name": "found", "format": "coco", "path": "run", "modality": "optical", "images": ["pictures"],
            "files": {"": "annotations.json"}, "categories": {n: n for n in names.values() if n.startswith("optical")},
        }],
    }  # fmt: skip
    shutil.copytree(folder, run / "pictures")
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")  # JSON is YAML
    work = tmp_path / "work"
    steps = (["import", f"recipe={tmp_path / 'recipe.yaml'}", f"root={tmp_path}"], ["clean"])
    assert all(main(["dataset", *step, f"work={work}", "jobs=1"]) == 0 for step in steps)
    lines = [json.loads(line) for line in (work / "import" / "samples.jsonl").read_text().splitlines()]
    assert sorted(c for s in lines for i in s["instances"] for c in i["captions"]) == captions
    kept = [json.loads(line) for line in (work / "clean" / "samples.jsonl").read_text().splitlines()]
    assert {i["category"] for s in kept for i in s["instances"]} == set(recipe["sources"][0]["categories"].values())


def test_the_engine_is_no_part_of_what_a_run_depends_on(model):
    assert ready(model, engine="torch").about() == ready(model).about()
    assert ready(model, topk=2).about() != ready(model).about()


def test_an_interrupted_run_continues(model, folder: Path, tmp_path: Path, monkeypatch):
    whole = annotate_images(ready(model), folder, tmp_path / "whole", preview=0)
    assert not (tmp_path / "whole" / "progress.jsonl").exists()
    calls: list[str] = []
    work = Annotator.__call__

    def interrupted(self, path, name):
        calls.append(name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return work(self, path, name)

    monkeypatch.setattr(Annotator, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        annotate_images(ready(model), folder, tmp_path / "part", preview=0)
    assert [p.name for p in (tmp_path / "part").iterdir()] == ["progress.jsonl"]  # nothing half-written
    with open(tmp_path / "part" / "progress.jsonl", "a") as file:
        file.write('{"file": "opt_0000')  # killed while writing
    with pytest.raises(ValueError, match="begun with other settings"):
        annotate_images(ready(model, iou=0.9), folder, tmp_path / "part", resume=True)
    again = annotate_images(ready(model), folder, tmp_path / "part", resume=True, preview=0)
    assert len(calls) == 3 + 4 and calls[3] == calls[2] and len(set(calls)) == 6
    assert again.annotations.read_bytes() == whole.annotations.read_bytes() and again.counts == whole.counts


def test_default_confidence_is_the_models(model, log):
    assert ready(model, conf=None).options.conf == default_conf(model.model) > 0.1
    assert "runs of its neck" not in log.text
    ready(OptiSAR("optisar++n.yaml"))
    assert f"{len(TEXTS)} runs of its neck" in log.text  # the cost of a text-guided pyramid


@pytest.mark.parametrize(
    "bad", [{"conf": 2}, {"conf": float("nan")}, {"iou": -0.1}, {"topk": 0}, {"max_det": 0}, {"imgsz": 3},
            {"verify": "maybe"}, {"modality": "radar"}],
)  # fmt: skip
def test_options_out_of_range(bad):
    with pytest.raises(SettingError, match=f"'{next(iter(bad))}=.*not valid"):
        AnnotateOptions(**bad)


def test_bad_command_lines(tmp_path: Path, folder: Path, capsys):
    pool = tmp_path / "pool.txt"
    pool.write_text("A ship\n")
    (tmp_path / "none").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "x.png").touch()
    for words, status, message in (
        ([], 2, "needs source="),
        ([f"source={folder}"], 2, "needs pool="),
        ([f"source={folder}", f"pool={pool}", "conf=high"], 2, "it must be a number from 0 to 1"),
        ([f"source={folder}", f"pool={pool}", "conf=1.5"], 2, "from 0 to 1"),
        ([f"source={folder}", f"pool={pool}", "cnf=0.5"], 2, "did you mean 'conf'?"),
        ([f"source={folder / 'nowhere'}", f"pool={pool}"], 1, "no such folder or image"),
        ([f"source={tmp_path / 'none'}", f"pool={pool}"], 1, "no image in this folder"),
        ([f"source={folder}", f"pool={tmp_path / 'no.txt'}"], 1, "no such file"),
        ([f"source={tmp_path / 'broken'}", f"pool={pool}", f"project={tmp_path}"], 1, "none of 1 images can be read"),
    ):
        assert main(["annotate", *words]) == status, words
        assert message in capsys.readouterr().err, words


def test_sources(folder: Path):
    root, found = find_images(folder)
    assert root == folder and len(found) == 6 and found == sorted(found)
    assert find_images(found[0]) == (found[0].parent, [found[0]])
    assert find_images(str(folder / "*.jpg"))[1] == [f for f in found if f.parent == folder and f.suffix == ".jpg"]
    assert find_images(found[:2])[1] == found[:2]
    with pytest.raises(DataError, match="empty list"):
        find_images([])


def test_pools_of_every_kind_are_the_same(tiny: Path, tmp_path: Path):
    note = json.loads((tiny.parent / "train.json").read_text())
    texts = list(dict.fromkeys(a["caption"] for a in note["annotations"]))
    for name, content in (
        ("a.txt", "\n".join(texts)),
        ("a.json", json.dumps([*texts, texts[0]])),
        ("a.csv", "number,caption\n" + "".join(f'{i},"{t}"\n' for i, t in enumerate(texts))),
    ):
        (tmp_path / name).write_text(content, encoding="utf-8")
        assert load_pool(tmp_path / name) == [Caption(t) for t in texts]
    dataset_config = load_pool(tiny)
    assert [c.text for c in dataset_config] == texts and dataset_config == load_pool(tiny.parent / "train.json")
    assert {c.categories for c in dataset_config} <= {("optical airplane",), ("optical ship",), ("sar ship",)}
    assert load_pool(tiny, split="val") != dataset_config
    assert load_pool([" A  ship ", "A ship"]) == [Caption("A ship")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "no caption in it"), ("a.txt", "\n \n\t\n", "no caption in it"), ("a.json", "[]", "no caption"),
        ("a.json", "[1, null]", "no caption in it"), ("a.json", "{", "not valid JSON"), ("a.json", "{}", "expected a"),
        ("a.csv", "text\nA ship\n", "no column 'caption'; its first line names text"), ("a.csv", "", "names nothing"),
        ("a.docx", "A ship", "no pool of captions"), ("a.txt", b"\xff\xfe\xff", "cannot be read as UTF-8"),
        ("a.json", '{"annotations": [{"bbox": []}]}', "no caption in it"),
    ],
)  # fmt: skip
def test_pools_that_cannot_be_used(name, content, message, tmp_path: Path):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        load_pool(tmp_path / name)


def test_blank_captions_are_counted(tmp_path: Path, log):
    (tmp_path / "a.json").write_text(json.dumps(["A ship", "", 7, "A ship", "The bridge"]))
    assert [c.text for c in load_pool(tmp_path / "a.json")] == ["A ship", "The bridge"]
    assert "2 x blank caption or no text, left out" in log.text and "1 captions occur more than once" in log.text


def test_the_preview_shows_boxes(model, folder: Path, tmp_path: Path):
    result = annotate_images(ready(model), folder, tmp_path / "shown", preview=3)
    assert result.preview is not None
    sheet = cv2.imread(str(result.preview))
    assert sheet.shape[1] == 3 * 480 and sheet.shape[0] > 320


def test_captions_in_other_words_say_the_same(model, folder: Path):
    path = sorted(folder.glob("*.jpg"))[1]
    plain, other = (ready(model, reword=share)(path, path.name).objects for share in (0.0, 1.0))
    assert [o.box for o in plain] == [o.box for o in other] and plain
    for one, two in zip(plain, other, strict=True):
        mine, theirs = parse(one.caption), parse(two.caption)
        assert (mine.category, mine.place, mine.superlative) == (theirs.category, theirs.place, theirs.superlative)
    assert {o.caption for o in plain} != {o.caption for o in other}

"""The written layout reads back as it was; unchanged images stay byte for byte; killed runs go on."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hand_samples import run as run_step
from PIL import Image
from small_set import NAMES, RECIPE, SHIPS, SIZE, make_work, samples_of

from optisar_yolo.construction import image_files, writing as writer, written_files as writing
from optisar_yolo.construction.recipe import recipe_in
from optisar_yolo.construction.samples import Instance, Sample, SampleFile
from optisar_yolo.construction.steps import Report
from optisar_yolo.data.config import SPLITS, DataError, load_dataset_config
from optisar_yolo.data.images import read_image
from optisar_yolo.data.records import load_split
from optisar_yolo.utils import UsageError


def run(work: Path, to: Path, **options: Any) -> None:
    run_step("write", work, to=to, **options)


def tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that holds `work`, `sources` and the written set `out`; do not change it."""
    root = tmp_path_factory.mktemp("built")
    run(make_work(root), root / "out")
    return root


def test_it_reads_back_as_it_was(built: Path) -> None:
    dataset_config = load_dataset_config(built / "out" / "small.yaml")
    assert dataset_config.names == NAMES
    expected = list(SampleFile(built / "work" / "split" / "samples.jsonl"))
    for split in SPLITS:
        images = load_split(dataset_config, split)
        samples = [s for s in expected if s.split == split]
        assert [p.modality for p in images] == [s.modality for s in samples]
        for image, sample in zip(images, samples, strict=True):
            np.testing.assert_allclose(image.boxes, [i.box for i in sample.instances], atol=1e-3)
            assert [NAMES[c] for c in image.categories] == [i.category for i in sample.instances]
            assert [list(c) for c in image.captions] == [i.captions for i in sample.instances]


def test_names_and_layout_are_those_of_the_release(built: Path) -> None:
    files = set(tree(built / "out"))
    assert {"images/train/opt_000001.jpg", "images/train/opt_000002.png", "images/train/sar_000001.jpg"} <= files
    assert {"labels/val/opt_000004.txt", "annotations/test/sar_000003.xml"} <= files
    content = json.loads((built / "out" / "val.json").read_text())
    assert set(content) == {"images", "annotations", "categories"}
    assert set(content["images"][0]) == {"id", "file_name", "width", "height"}
    first, last = content["annotations"][0], content["annotations"][-1]
    assert set(first) == {
        "id", "image_id", "category_id", "category_name", "bbox", "area", "iscrowd", "caption",
    }  # fmt: skip
    assert first["bbox"] == [4.0, 5.0, 16.5, 12.25] and last["id"] == len(content["annotations"]) - 1
    assert sum("caption" not in a for a in content["annotations"]) == 1
    lines = (built / "out" / "labels" / "val" / f"{Path(content['images'][0]['file_name']).stem}.txt").read_text()
    assert lines.splitlines()[0] == "1 0.127604 0.173828 0.171875 0.191406"


def test_every_name_is_traced_to_its_source(built: Path) -> None:
    with open(built / "out" / "names.csv", encoding="utf-8", newline="") as file:
        rows = {row["file_name"]: row for row in csv.DictReader(file)}
    assert len(rows) == 12
    copied = rows["opt_000003.jpg"]
    assert copied["origin"] == "port/000.jpg" and copied["transform"] == "hflip" and copied["licence"] == "CC BY 4.0"
    assert rows["sar_000001.jpg"]["name"] == "radar/002.tif"


def test_unchanged_images_are_not_encoded_again(built: Path, tmp_path: Path) -> None:
    source = built / "sources" / "000.jpg"
    assert os.path.samefile(source, built / "out" / "images" / "train" / "opt_000001.jpg")
    run(make_work(tmp_path), tmp_path / "out", link=False)
    copied = tmp_path / "out" / "images" / "train" / "opt_000001.jpg"
    assert copied.read_bytes() == (tmp_path / "sources" / "000.jpg").read_bytes()
    assert not os.path.samefile(tmp_path / "sources" / "000.jpg", copied)


def test_a_symbolic_link_is_followed_to_its_file(tmp_path: Path) -> None:
    samples = samples_of(tmp_path / "sources")
    (tmp_path / "link.jpg").symlink_to(samples[0].path)
    samples[0].path = str(tmp_path / "link.jpg")
    run(make_work(tmp_path, samples), tmp_path / "out")
    written = tmp_path / "out" / "images" / "train" / "opt_000001.jpg"
    assert written.is_file() and not written.is_symlink()


@pytest.mark.parametrize("transform, corner", [("hflip", (8, -9)), ("vflip", (-9, 8)), ("rot180", (-9, -9))])
def test_transformed_images_are_turned(tmp_path: Path, transform: str, corner: tuple[int, int]) -> None:
    first = samples_of(tmp_path / "sources", 1)[0]
    first.transform = transform
    run(make_work(tmp_path, [first]), tmp_path / "out", format="png")
    image = cv2.imread(str(tmp_path / "out" / "images" / "train" / "opt_000001.png"))
    blue, _, red = image[corner]
    assert red > 150 > blue, "the red corner is not where the transform puts it"


def test_deep_images_are_written_with_eight_bits(built: Path) -> None:
    image = cv2.imread(str(built / "out" / "images" / "train" / "sar_000001.jpg"), cv2.IMREAD_UNCHANGED)
    assert image.dtype == np.uint8 and image.shape == (SIZE[1], SIZE[0], 3)
    assert image[45, 65].mean() > 200 > image[30, 50].mean()


def test_a_image_of_an_object_split_goes_into_each(tmp_path: Path) -> None:
    sample = samples_of(tmp_path / "sources", 1)[0]
    sample.split = ""
    sample.instances[1].split = "test"
    run(make_work(tmp_path, [sample]), tmp_path / "out")
    dataset_config = load_dataset_config(tmp_path / "out" / "small.yaml")
    assert set(dataset_config.splits) == {"train", "test"}
    for split, described in (("train", 0), ("test", 1)):
        (image,) = load_split(dataset_config, split)
        assert len(image.boxes) == 2, "the other split's object is still an object of the image"
        found = [i for i, c in enumerate(image.captions) if c]
        assert len(found) == 1
        np.testing.assert_allclose(image.boxes[found[0]], SHIPS[described][1], atol=1e-3)


def test_several_jobs_write_the_same(built: Path, tmp_path: Path) -> None:
    run(make_work(tmp_path), tmp_path / "out", jobs=3)
    ours, theirs = tree(tmp_path / "out"), tree(built / "out")
    assert {k: v for k, v in ours.items() if k != "manifest.json"} == {
        k: v for k, v in theirs.items() if k != "manifest.json"
    }


def test_repeating_it_changes_nothing_and_mends_what_is_missing(tmp_path: Path) -> None:
    work, out = make_work(tmp_path), tmp_path / "out"
    run(work, out)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.*") if p.parent != out}
    whole = tree(out)
    run(work, out)
    (out / "images" / "val" / "opt_000004.jpg").unlink()
    run(work, out)
    assert tree(out) == whole
    after = {p: p.stat().st_mtime_ns for p in before}
    assert {p for p in before if before[p] != after[p]} <= {out / "images" / "val" / "opt_000004.jpg"}


def test_a_set_whose_manifest_has_the_former_keys_is_up_to_date(tmp_path: Path) -> None:
    work, out = make_work(tmp_path), tmp_path / "out"
    run(work, out)
    text = (out / "manifest.json").read_text()
    source = json.loads(text)["plan"]["options"]["recipe"]["sources"][0]
    assert "images" in source and "pictures" not in source
    (out / "manifest.json").write_text(text.replace('"images":', '"pictures":'))
    run(work, out)  # another build would be refused


def test_dry_run_counts_and_writes_nothing(tmp_path: Path) -> None:
    samples = samples_of(tmp_path / "sources", 4)
    work, out = make_work(tmp_path, samples), tmp_path / "out"
    run(work, out, dry_run=True)
    assert not out.exists() and not (work / "write").exists()
    report, recipe = Report(), recipe_in(work)
    assert len(list(writer.estimate(samples, report, recipe, writing.Target(out, NAMES)))) == 4
    assert report.counts == {"train pictures": 4, "MiB still to be written, about": 1}
    jobs = list(writer.jobs_of(samples, Report(), recipe))
    side = writing.SIDE_FILES
    linked = [writing.Target(out, NAMES).missing(job, "train") for job in jobs]
    copied = [writing.Target(out, NAMES, link=False).missing(job, "train") for job in jobs]
    assert linked == [side, side, side + 3686, side + 3686]  # 96 x 64 pixels, 0.6 bytes each
    assert copied[:2] == [side + Path(s.path).stat().st_size for s in samples[:2]]


@pytest.mark.parametrize("transform", ["", "hflip"])
def test_the_orientation_mark_of_a_file_is_applied(tmp_path: Path, transform: str) -> None:
    file = tmp_path / "turned.jpg"
    pixels = Image.new("RGB", SIZE, "white")
    pixels.paste("red", (0, 0, 16, 16))
    exif = pixels.getexif()
    exif[0x0112] = 6  # shown turned to the right: the first corner comes to the upper right
    pixels.save(file, exif=exif, quality=95)
    box = (50.0, 2.0, 60.0, 12.0) if not transform else (4.0, 2.0, 14.0, 12.0)
    sample = Sample("port/x", str(file), "port", "optical", SIZE[1], SIZE[0],
                    [Instance("x#0", box, "optical ship", ["The ship"])], transform, "train")  # fmt: skip
    run(make_work(tmp_path, [sample]), tmp_path / "out")
    (image,) = load_split(load_dataset_config(tmp_path / "out" / "small.yaml"), "train")
    shown = read_image(image.path)
    assert shown.shape == (SIZE[0], SIZE[1], 3)
    x, y = (image.boxes[0, :2] + image.boxes[0, 2:]).astype(int) // 2
    blue, _, red = shown[y, x]
    assert red > 200 > 80 > blue


def test_a_folder_of_others_is_left_alone(tmp_path: Path) -> None:
    work, out = make_work(tmp_path), tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    for options in ({}, {"replace": True}):
        with pytest.raises(DataError, match="thesis.txt.*another to="):
            run(work, out, **options)
    assert tree(out) == {"thesis.txt": b"mine"}
    with pytest.raises(DataError, match="is a file"):
        run(work, out / "thesis.txt")


def test_another_build_is_replaced_on_demand_only(tmp_path: Path) -> None:
    work, out = make_work(tmp_path), tmp_path / "out"
    run(work, out)
    (out / "notes.txt").write_text("kept")
    whole = tree(out)
    (tmp_path / "second").mkdir()
    other = make_work(tmp_path / "second", samples_of(tmp_path / "second" / "sources", 5))
    with pytest.raises(DataError, match="replace=True"):
        run(other, out)
    assert tree(out) == whole
    run(other, out, replace=True)
    assert sum(name.startswith("images/") for name in tree(out)) == 5
    assert (out / "notes.txt").read_text() == "kept"


def test_what_cannot_be_used_is_left_out_and_named(tmp_path: Path) -> None:
    samples = samples_of(tmp_path / "sources")
    Path(samples[1].path).unlink()
    Path(samples[2].path).write_bytes(b"II*\0 broken")
    samples[4].width = 95  # not the file's
    samples[5].split = samples[5].instances[0].split = samples[5].instances[1].split = ""
    samples[8].instances[0].category = "optical dragon"
    samples[8].instances[1].captions.append("\u200b")
    samples[9].instances[0].box = (10.0, 10.0, 10.0, 20.0)
    samples[9].instances[1].box = (90.0, 50.0, 120.0, 90.0)
    samples[10].modality = "infrared"
    samples[11].transform = "shear"
    samples[6].instances[0].box = (1.0, None, 3.0)  # type: ignore[assignment]
    work, out = make_work(tmp_path, samples), tmp_path / "out"
    run(work, out)
    problems = json.loads((work / "write" / "manifest.json").read_text())["problems"]
    assert problems == {
        "image that cannot be read or encoded, left out": 2,
        "image of another size than its annotations say, left out": 1,
        "image of no split, left out (run 'optisar dataset split')": 1,
        "object of unknown category, left out (run 'optisar dataset clean')": 1,
        "empty caption, left out": 1,
        "box that is not four finite numbers of positive area": 2,
        "box partly outside its image, clipped": 1,
        "image of unknown modality, left out": 1,
        "image with an unknown transform, left out": 1,
    }
    for split in SPLITS:
        listed = {i["file_name"] for i in json.loads((out / f"{split}.json").read_text())["images"]}
        assert listed == {p.name for p in (out / "images" / split).iterdir()}


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    samples = samples_of(tmp_path / "sources", 3)
    for sample in samples:
        sample.split = ""
        for instance in sample.instances:
            instance.split = ""
    with pytest.raises(DataError, match="optisar dataset split"):
        run(make_work(tmp_path, samples), tmp_path / "out")


@pytest.mark.parametrize("options", [{"format": "gif"}, {"to": ""}])
def test_options_that_mean_nothing(tmp_path: Path, options: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        run_step("write", make_work(tmp_path), **options)


def test_a_name_that_is_no_file_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="file's name"):
        run(make_work(tmp_path, recipe=RECIPE | {"name": "a/b"}), tmp_path / "out")


def test_odd_captions_survive_in_all_formats(tmp_path: Path) -> None:
    samples = samples_of(tmp_path / "sources", 1)
    said = ['A "quoted" <ship> & co', "船 in the middle — ½", "a\x0bb\x00c", "=1+1,\nnext"]
    samples[0].instances = [Instance("x#0", (1, 1, 9, 9), "optical ship", said, "train")]
    run(make_work(tmp_path, samples), tmp_path / "out")
    (image,) = load_split(load_dataset_config(tmp_path / "out" / "small.yaml"), "train")
    assert image.captions == (('A "quoted" <ship> & co', "船 in the middle — ½", "a bc", "=1+1, next"),)


@pytest.mark.parametrize("after", [0, 5])
def test_a_full_disk_says_what_is_missing_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    work, out = make_work(tmp_path), tmp_path / "out"
    write, calls = writing.write_atomic, []

    def full(path: Path, content: bytes, sync: bool) -> None:
        calls.append(path)
        if len(calls) > after:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, content, sync)

    with monkeypatch.context() as patch:
        patch.setattr(writing, "write_atomic", full)
        patch.setattr(image_files, "write_atomic", full)
        with pytest.raises(DataError, match=r"No space left.*MiB.*repeat the command"):
            run(work, out)
    assert not list(out.glob("*.json.part")) and not (out / "train.json").exists()
    run(work, out)
    (tmp_path / "fresh").mkdir()
    run(make_work(tmp_path / "fresh", samples_of(tmp_path / "sources")), tmp_path / "fresh" / "out")
    ours, fresh = tree(out), tree(tmp_path / "fresh" / "out")
    assert ours.keys() == fresh.keys()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        run(make_work(tmp_path), tmp_path / "file" / "out")


SLOW = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from optisar_yolo.commands import dataset
from optisar_yolo.construction import image_files, written_files
write = written_files.write_atomic
def slow(path, content, sync):
    time.sleep(0.05)
    write(path, content, sync)
image_files.write_atomic = written_files.write_atomic = slow
dataset.main("write", dataset.COMMANDS["write"].parse([f"work={sys.argv[1]}", f"to={sys.argv[2]}", "jobs=1"]))
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_without_doubles(tmp_path: Path) -> None:
    work, out = make_work(tmp_path), tmp_path / "out"
    root = str(Path(__file__).resolve().parents[2])
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(work), str(out), root])
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and len(list(out.glob("images/*/*"))) < 5:
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (out / "train.json").exists() and not (work / "write" / "manifest.json").exists()
    assert json.loads((out / "manifest.json").read_text())["complete"] is False
    run(work, out)
    (tmp_path / "fresh").mkdir()
    run(make_work(tmp_path / "fresh", samples_of(tmp_path / "sources")), tmp_path / "fresh" / "out")
    assert tree(out) == tree(tmp_path / "fresh" / "out")
    assert not [p for p in out.rglob(".*")]


def test_memory_does_not_hold_the_samples(tmp_path: Path) -> None:
    """Samples are read a few ahead of those written, however many there are."""
    jobs, read = 2, 0
    work = make_work(tmp_path, samples_of(tmp_path / "sources") * 10)

    def counted() -> Iterator[Sample]:
        nonlocal read
        for sample in SampleFile(work / "split" / "samples.jsonl"):
            read += 1
            yield sample

    target = writing.Target(tmp_path / "out", NAMES)
    written = 0
    for _ in writer.write(counted(), Report(), recipe_in(work), target, jobs):
        written += 1
        assert read <= written + 4 * jobs
    assert written == read == 120

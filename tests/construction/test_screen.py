"""Screening: folds without leaks, a training that runs, resumes and downloads nothing, and the flags it leads to."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hand_samples import run as run_step

from optisar_yolo.construction import detector, screening, steps
from optisar_yolo.construction.samples import Instance, Sample, SampleFile, write_lines
from optisar_yolo.construction.screening import folds_of
from optisar_yolo.construction.steps import Report
from optisar_yolo.data.config import DataError
from optisar_yolo.utils import UsageError

QUICK = {"folds": 2, "epochs": 1, "imgsz": 64, "batch": 2, "device": "cpu", "jobs": 0}


def sample(number: int, category: str = "optical ship", source: str = "a", **fields) -> Sample:
    """Return an image of 64 x 64 with one object."""
    name = f"{source}/{number:03d}.png"
    item = Instance(f"{name}#0", (10.0, 12.0, 40.0, 44.0), category, ["the ship"])
    return Sample(name, f"/nowhere/{name}", source, category.split()[0], 64, 64, [item], **fields)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Return a work folder with eight small images; one is a 16-bit TIFF, one a JPEG with bytes behind its end."""
    rng = np.random.default_rng(0)
    samples = []
    for number in range(8):
        item = sample(number, "sar ship" if number % 2 else "optical ship")
        image = rng.integers(0, 90, (64, 64, 3), np.uint8)
        image[12:44, 10:40] = 230
        path = tmp_path / f"{number}{'.tif' if number == 5 else '.jpg' if number == 4 else '.png'}"
        cv2.imwrite(str(path), image[..., 0].astype(np.uint16) * 40 if number == 5 else image)
        samples.append(replace(item, path=str(path)))
    cut = tmp_path / "4.jpg"
    cut.write_bytes(cut.read_bytes() + b"\0\0")  # Ultralytics writes such files anew
    folder = tmp_path / "work"
    recipe = {"name": "t", "names": ["optical ship", "sar ship"]}
    recipe["sources"] = [{"name": "a", "format": "yolo", "path": "a", "modality": "optical"}]
    steps.run(folder, "import", lambda _, report: samples, None, {"recipe": recipe})
    return folder


def run(work: Path, **options) -> None:
    run_step("screen", work, **QUICK | options)


def test_folds_are_even_seeded_and_keep_copies_together():
    samples = [sample(i, "sar ship" if i < 3 else "optical ship", "ab"[i % 2]) for i in range(31)]
    copies = [replace(s, name=f"{s.name}@hflip", transform="hflip") for s in samples]
    folds = folds_of([*samples, *copies], 3, seed=1)
    assert set(folds) == {s.name for s in samples}
    sizes = [list(folds.values()).count(k) for k in range(3)]
    assert max(sizes) - min(sizes) <= 1
    assert {folds[s.name] for s in samples[:3]} == {0, 1, 2}  # the rare category is known to every model
    assert folds == folds_of([*copies, *samples], 3, seed=1) != folds_of(samples, 3, seed=2)
    for bad in (1, 32):
        with pytest.raises(DataError, match="fold"):
            folds_of(samples, bad, seed=1)


def test_the_wrong_label_is_flagged_and_the_others_are_not(tmp_path):
    samples = [sample(i, "optical ship" if i % 2 else "sar ship") for i in range(4)]
    samples[2].instances[0].box = (40.0, 40.0, 60.0, 60.0)  # wrong by hand
    samples[3].instances[0].flags = ["screen: best IoU 0.01", "ambiguous"]
    samples.append(sample(4, "optical ship"))  # found, but as something else
    samples.append(sample(5))  # has no line: its image could not be read
    folds = {s.name: i % 2 for i, s in enumerate(samples)}
    categories = ["optical ship", "sar ship"]
    near = [11.0, 12.0, 40.0, 45.0]
    for fold in range(2):
        lines = [
            {"index": i, "detections": [[1 if i == 4 else categories.index(s.instances[0].category), 0.6, *near]]}
            for i, s in enumerate(samples[:5])
            if folds[s.name] == fold
        ]
        write_lines(tmp_path / f"predictions-{fold}.jsonl", lines)
    files = [tmp_path / f"predictions-{k}.jsonl" for k in range(2)]
    report = Report()
    done = list(screening.screen(samples, report, files, folds, categories, 0.3))
    assert [s.instances[0].flags for s in done] == [
        [], [], ["screen: best IoU 0.00"], ["ambiguous"], ["screen: best IoU 0.00"], []
    ]  # fmt: skip
    assert report.counts["flagged"] == 2 and report.counts["best IoU 0.9-1.0"] == 3
    assert sum(n for name, n in report.counts.items() if name.startswith("best IoU")) == 5
    assert report.problems.counts == {"image without detections, not screened": 1}
    files[0].write_text("prose\n")
    with pytest.raises(DataError, match="line 1"):
        list(screening.screen(samples, report, files, folds, categories, 0.3))


def test_overlap_is_that_of_the_best_detection_of_the_category():
    item = Instance("x", (0.0, 0.0, 10.0, 10.0), "sar ship")
    found = [[0, 0.9, 0, 0, 10, 10], [1, 0.1, 0, 0, 10, 5], [1, 0.2, 3, 3, 3, 3]]
    assert screening.best_overlap(item, found, ["optical ship", "sar ship"]) == 0.5
    assert screening.best_overlap(replace(item, box=(5.0, 5.0, 5.0, 9.0)), found, ["sar ship"] * 2) == 0


@pytest.mark.slow
def test_runs_end_to_end_and_goes_on_after_a_fold(work, monkeypatch):
    sources = {p: p.read_bytes() for p in work.parent.glob("*.*")}
    before = set(os.listdir())
    run(work)
    folder = work / "screen"
    samples = list(SampleFile(folder / "samples.jsonl"))
    counts = json.loads((folder / "manifest.json").read_text())["counts"]
    assert len(samples) == 8 and sum(n for name, n in counts.items() if name.startswith("best IoU")) == 8
    parts = sorted(p.stem for k in range(2) for p in (folder / f"part-{k}" / "images").iterdir())
    assert parts == [f"{i:07d}" for i in range(8)]
    assert {p.read_bytes() for p in sources} == set(sources.values())  # the JPEG was not written anew at the source
    assert set(os.listdir()) == before  # no runs folder

    trained = []
    stock = detector.train_fold

    def watched(dataset_config, *args, **settings):
        trained.append(dataset_config.parent.name)
        if not (dataset_config.parent / "train").exists():
            raise KeyboardInterrupt  # enough: it would train
        return stock(dataset_config, *args, **settings)

    monkeypatch.setattr(detector, "train_fold", watched)
    run(work)
    run(work, iou=0.9)
    assert not trained and json.loads((folder / "manifest.json").read_text())["options"]["iou"] == 0.9
    kept = (folder / "predictions-0.jsonl").stat().st_mtime_ns
    (folder / "predictions-1.jsonl").unlink()  # as if killed before its end
    run(work)
    assert trained == ["fold-1"] and (folder / "predictions-0.jsonl").stat().st_mtime_ns == kept
    with pytest.raises(KeyboardInterrupt):
        run(work, seed=5)  # other folds: nothing of the old ones counts
    assert trained == ["fold-1", "fold-0"] and not list(folder.glob("predictions-*"))


@pytest.mark.slow
def test_a_training_that_was_killed_goes_on_with_its_epoch(work, monkeypatch):
    epochs = []

    class Killed(detector.FoldTrainer):
        def save_model(self):
            super().save_model()
            epochs.append(self.epoch)
            if len(epochs) == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr(detector, "FoldTrainer", Killed)
    with pytest.raises(KeyboardInterrupt):
        run(work, epochs=2)
    assert not (work / "screen" / "manifest.json").exists()
    run(work, epochs=2)
    assert epochs == [0, 1, 0, 1]  # fold 0: its first epoch was not trained twice
    torn = work / "screen" / "fold-0" / "train" / "weights" / "last.pt"
    torn.write_bytes(torn.read_bytes()[:100])
    assert detector._state(torn) == (False, False)


def test_images_as_a_trainer_reads_them(work):
    source = SampleFile(work / "import" / "samples.jsonl")
    folds = folds_of(source, 2, 0)
    root = work / "parts"
    samples = [*source, sample(8)]  # the last has no image
    report = Report()
    screening.write_parts(root, samples, folds | {"a/008.png": 0}, ["optical ship", "sar ship"], report, jobs=2)
    assert report.problems.counts == {"image that cannot be read, not screened": 1}
    written = {p.stem: p for p in root.rglob("images/*")}
    assert written["0000000"].samefile(samples[0].path)  # linked
    assert written["0000004"].suffix == written["0000005"].suffix == ".png"
    grey = cv2.imread(str(written["0000005"]))
    assert grey.dtype == np.uint8 and grey[20, 20, 0] > 200  # stretched from 16 bits
    labels = next(root.rglob("labels/0000001.txt")).read_text().split()
    assert labels[0] == "1" and [float(v) * 64 for v in labels[1:]] == pytest.approx([25, 28, 30, 32], abs=1e-3)


@pytest.mark.parametrize(
    "wrong", [{"iou": 0.0}, {"folds": 99}, {"epochs": 0}, {"model": "optisar++n.yaml"}, {"from": "nowhere"}]
)
def test_options_that_mean_nothing_are_refused(work, wrong):
    with pytest.raises((DataError, UsageError)):
        run(work, **wrong)


def test_a_dry_run_trains_and_writes_nothing(work):
    run(work, dry_run=True)
    assert not (work / "screen").exists()

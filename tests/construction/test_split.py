"""Splits: sizes, alikeness, no image and copy apart, the same again; and the source's own splits."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hand_samples import run

from optisar_yolo.construction.samples import Instance, Sample, SampleFile, write_lines
from optisar_yolo.construction.splitting import by_image, by_source, parse_ratio
from optisar_yolo.construction.steps import Report
from optisar_yolo.data.config import SPLITS, DataError
from optisar_yolo.utils import UsageError

CATEGORIES = ("optical vehicle", "optical ship", "optical harbor", "sar ship", "sar transmission tower")
WEIGHTS = (0.6, 0.3, 0.1), (0.9, 0.1)
EIGHT = (0.8, 0.1, 0.1)


def images(count: int, seed: int = 0) -> list[Sample]:
    """Return images of both modalities, some of which have up to three transformed copies."""
    rng = np.random.default_rng(seed)
    samples = []
    for number in range(count):
        sar = rng.random() < 0.25
        words = rng.choice(CATEGORIES[3:] if sar else CATEGORIES[:3], rng.integers(1, 6), p=WEIGHTS[int(sar)])
        for transform in ("", "hflip", "vflip", "rot180")[: rng.integers(1, 5) if rng.random() < 0.2 else 1]:
            name = f"a/{number}.jpg" + (f"@{transform}" if transform else "")
            items = [Instance(f"{name}#{i}", (1, 1, 9, 9), str(w), ["The one"]) for i, w in enumerate(words)]
            modality = "sar" if sar else "optical"
            samples.append(Sample(name, f"/{number}.jpg", "a", modality, 64, 64, items, transform))
    return samples


def test_sizes_categories_and_modalities_follow_the_ratio() -> None:
    samples = list(by_image(images(1500), report := Report(), EIGHT))
    sizes = Counter(s.split for s in samples)
    for split, share in zip(SPLITS, EIGHT, strict=True):
        assert abs(sizes[split] - share * len(samples)) <= 4, "more than one group off"
        assert report.counts[f"{split} pictures"] == sizes[split]
    for category in CATEGORIES:
        held = Counter(s.split for s in samples for i in s.instances if i.category == category)
        assert held["val"] / held.total() == pytest.approx(0.1, abs=0.015), (category, held)
        assert held["test"] / held.total() == pytest.approx(0.1, abs=0.015), (category, held)
        assert report.counts[f"train {category}"] == held["train"]
    sar = Counter(s.split for s in samples if s.modality == "sar")
    assert sar["test"] / sar.total() == pytest.approx(0.1, abs=0.02)


def test_a_image_and_its_copies_stay_together() -> None:
    samples = list(by_image(images(400), Report(), EIGHT))
    found: dict[str, set[str]] = {}
    for sample in samples:
        found.setdefault(sample.origin, set()).add(sample.split)
        assert {i.split for i in sample.instances} <= {sample.split}
    assert any("@" in s.name for s in samples)
    assert all(len(splits) == 1 for splits in found.values())


def test_two_names_of_one_file_stay_together() -> None:
    samples = images(200)
    for sample in list(samples):
        twin = Sample(f"b/{sample.name}", sample.path, "b", sample.modality, 64, 64, [])
        samples.append(twin)
    found: dict[str, set[str]] = {}
    for sample in by_image(samples, Report(), EIGHT):
        found.setdefault(sample.path, set()).add(sample.split)
    assert all(len(splits) == 1 for splits in found.values())


def test_the_seed_decides_and_nothing_else() -> None:
    first, again, other = ([s.split for s in by_image(images(300), Report(), EIGHT, seed)] for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize("ratio", [(1.0, 0.0, 0.0), (0.5, 0.5, 0.0), (0.0, 0.0, 1.0)])
def test_a_share_of_zero_gets_nothing(ratio: tuple[float, float, float]) -> None:
    samples = list(by_image(images(50), Report(), ratio))
    used = {s.split for s in samples}
    assert used == {name for name, share in zip(SPLITS, ratio, strict=True) if share}


def test_few_images_and_images_without_objects() -> None:
    bare = [Sample(f"a/{i}.jpg", f"{i}.jpg", "a", "sar", 64, 64) for i in range(10)]
    assert Counter(s.split for s in by_image(bare, Report(), EIGHT)) == {"train": 8, "val": 1, "test": 1}
    assert [s.split for s in by_image(bare[:1], Report(), EIGHT)] == ["train"]
    with pytest.raises(DataError, match="no image"):
        list(by_image([], Report(), EIGHT))


@pytest.mark.parametrize("text", ["8:1", "8:1:x", "-8:1:1", "0:0:0", "", "nan:1:1", "inf:1:1", "8:1:1:1"])
def test_ratios_that_mean_nothing(text: str) -> None:
    with pytest.raises(DataError, match="8:1:1"):
        parse_ratio(text)


def test_the_source_may_split_one_image() -> None:
    items = [Instance(f"x#{i}", (0, 0, 5, 5), "optical ship", ["a"], split) for i, split in enumerate(SPLITS)]
    shared = Sample("x", "x.jpg", "d", "optical", 9, 9, items)
    whole = Sample("y", "y.jpg", "d", "optical", 9, 9, [Instance("y#0", (0, 0, 5, 5), "optical ship", ["a"], "test")])
    part = Sample("z", "z.jpg", "d", "optical", 9, 9, [Instance("z#0", (0, 0, 5, 5), "optical ship", ["a"])])
    samples = list(by_source([shared, whole, part], report := Report()))
    assert [s.split for s in samples] == ["", "test", ""]
    assert report.counts["pictures in several splits"] == 1
    assert report.counts["test expressions"] == 2 and report.counts["train pictures"] == 1
    assert report.problems.counts == {"object that the source gives no split, without its expressions": 1}
    with pytest.raises(DataError, match="by=image"):
        list(by_source([part], Report()))


def test_the_step_runs_from_the_command(tmp_path: Path) -> None:
    write_lines(tmp_path / "import" / "samples.jsonl", images(30))
    (tmp_path / "import" / "manifest.json").write_text("{}")
    manifest = tmp_path / "split" / "manifest.json"
    for by in ("image", "picture"):  # the former name means the same
        run("split", tmp_path, by=by)
        assert {s.split for s in SampleFile(tmp_path / "split" / "samples.jsonl")} == set(SPLITS)
        assert json.loads(manifest.read_text())["options"]["by"] == "image"
    with pytest.raises(UsageError, match="image, source"):
        run("split", tmp_path, by="mood")

"""Numbers and figures of a data set, and expressions made from boxes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hand_samples import run
from small_set import make_work

from optisar_yolo.construction.describing import describe
from optisar_yolo.construction.figures import attributes_of, directions_of, distributions, word_figure, words_of
from optisar_yolo.construction.samples import Instance, Sample, SampleFile, write_lines
from optisar_yolo.construction.statistics import stats, table, tally_of
from optisar_yolo.construction.steps import Report
from optisar_yolo.data.config import DataError, load_dataset_config
from optisar_yolo.language.nouns import Vocabulary
from optisar_yolo.language.parser import parse
from optisar_yolo.language.verify import LabelledObjects
from optisar_yolo.utils import UsageError


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("stats")
    run("write", make_work(root), to=root / "out")
    return root / "out"


def test_the_numbers_are_those_of_the_set(built: Path) -> None:
    result = stats(tally_of(load_dataset_config(built / "small.yaml")))
    assert result["splits"]["all"] == {"pictures": 12, "objects": 24, "expressions": 24}
    assert result["modalities"]["sar"] == {"pictures": 3, "expressions": 6, "share": 0.25}
    assert result["categories"]["optical ship"]["share"] == 0.75 and "optical airplane" not in result["categories"]
    assert result["sizes"]["sar"]["width"] == {
        "mean": 18.25, "min": 16.5, "max": 20.0, "5%": 16.5, "25%": 16.5, "50%": 18.25, "75%": 20.0, "95%": 20.0,
    }  # fmt: skip
    assert result["sizes"]["sar"]["area"]["max"] == 400.0
    # an image of each kind: 10+10+9 words, 10, 11+11, 10+10
    assert result["words"]["mean"] == pytest.approx(81 / 8, abs=0.01)
    assert result["words"]["histogram"] == {"9": 3, "10": 15, "11": 6}
    assert result["clouds"]["directions"] == {
        "upper left": 9, "lower right": 6, "top": 3, "upper right": 3, "lower left": 3,
    }  # fmt: skip
    assert result["clouds"]["attributes"] == {"SAR": 6}
    assert json.loads(json.dumps(result)) == result
    assert any("24" in line for line in table(result))


@pytest.mark.parametrize(
    "caption, attributes, directions",
    [
        ("The small white SAR ship in the upper-left corner of the image", ["small", "SAR", "white"], ["upper left"]),
        ("The leftmost vehicle", [], ["leftmost"]),
        ("A ship to the left of the harbor", [], ["left"]),
        ("The airplane closest to the top of the image", [], ["top"]),
        ("The bright bridge is above the dam", ["bright"], ["above"]),
        ("A ship along the pier", ["along", "pier"], []),
        ("船", ["船"], []),
        ("...", [], []),
    ],
)
def test_words_are_sorted_by_what_they_say(caption: str, attributes: list[str], directions: list[str]) -> None:
    assert attributes_of(caption) == attributes
    assert directions_of(caption) == directions


def test_words_within_a_category_say_no_direction_and_no_attribute() -> None:
    words = Vocabulary.of(["optical left-turn lane", "infrared ship"], modalities={"infrared": ("thermal",)})
    assert directions_of("The left-turn lane on the right side", words) == ["right"]
    assert directions_of("The left-turn lane on the right side") != ["right"]
    assert attributes_of("The thermal ship", words) == ["thermal"] and attributes_of("The left-turn lane", words) == []


def test_words_that_say_nothing_are_left_out() -> None:
    assert words_of("There is a SAR ship in the middle of the image.") == ["SAR", "ship", "middle"]


def test_the_command_writes_readable_figures(built: Path, tmp_path: Path) -> None:
    options = {"data": built, "out": tmp_path / "figures"}
    run("stats", tmp_path, **options, dry_run=True)
    assert not (tmp_path / "figures").exists()
    run("stats", tmp_path, **options)
    assert json.loads((tmp_path / "figures" / "stats.json").read_text())["unit"] == "expression"
    for name in ("distributions.png", "words.png"):
        image = cv2.imread(str(tmp_path / "figures" / name))
        assert min(image.shape[:2]) > 800 and image.std() > 20, f"{name} is nearly empty"
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        run("stats", tmp_path, **options | {"out": tmp_path / "file" / "x"})


def test_axes_have_titles_and_units(built: Path) -> None:
    figure = distributions(tally_of(load_dataset_config(built / "small.yaml")))
    titles = [axes.get_title() for axes in figure.axes]
    assert [t[:3] for t in titles] == ["(a)", "(b)", "(c)", "(d)", "(e)", "(f)", "(g)"]
    assert all(axes.get_xlabel() for axes in figure.axes if not axes.get_title().startswith("(d)"))


def test_bars_where_word_clouds_are_not_installed(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wordcloud", None)
    tally = tally_of(load_dataset_config(built / "small.yaml"))
    tally.clouds["attributes"].clear()
    axes = word_figure(tally.clouds).axes
    assert not axes[0].patches and axes[0].texts[0].get_text() == "none"
    labels = [t.get_text() for t in axes[3].get_yticklabels()]
    assert labels[-1] == "upper left" and len(axes[3].patches) == 5


# Expressions from boxes


def scenes(count: int, seed: int = 0) -> list[Sample]:
    rng = np.random.default_rng(seed)
    samples = []
    for number in range(count):
        items = []
        for i in range(int(rng.integers(1, 6))):
            x, y, w, h = rng.uniform((0, 0, 5, 5), (160, 90, 40, 30))
            items.append(Instance(f"{number}#{i}", (x, y, x + w, y + h), str(rng.choice(["sar ship", "sar harbor"]))))
        samples.append(Sample(f"a/{number}.jpg", "", "a", "sar", 200, 120, items))
    return samples


@pytest.mark.parametrize("each", [1, 3])
def test_every_new_expression_singles_out_its_object(each: int) -> None:
    report = Report()
    written = 0
    for sample in describe(scenes(150), report, each=each):
        boxes = np.array([i.box for i in sample.instances])
        scene = LabelledObjects(boxes, [i.category for i in sample.instances], (200, 120))
        said = [c for i in sample.instances for c in i.captions]
        assert len(said) == len({c.casefold() for c in said})
        for index, instance in enumerate(sample.instances):
            assert len(instance.captions) <= each
            claims = {(p.place, p.superlative, p.relation, p.reference) for p in map(parse, instance.captions)}
            assert len(claims) == len(instance.captions), "one claim said twice"
            assert all(scene.singles_out(caption, index) for caption in instance.captions)
            written += len(instance.captions)
    assert report.counts["expressions written"] == written > 200
    assert report.counts["objects without an unambiguous expression"] > 0


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_share_that_names_the_modality(share: float) -> None:
    captions = [c for s in describe(scenes(150), Report(), modality=share) for i in s.instances for c in i.captions]
    named = sum("SAR" in c for c in captions) / len(captions)
    assert named == pytest.approx(share, abs=0.07)


def test_what_is_said_depends_on_the_seed_and_the_image_alone() -> None:
    def said(samples: list[Sample], seed: int) -> dict[str, list[str]]:
        return {i.id: i.captions for s in describe(samples, Report(), seed=seed) for i in s.instances}

    first = said(scenes(20), 0)
    assert first == said(scenes(20), 0) != said(scenes(20), 1)
    fewer = said(scenes(20)[10:], 0)
    assert all(first[key] == value for key, value in fewer.items())


def test_what_is_described_stays_and_twins_stay_without() -> None:
    sample = scenes(1)[0]
    twin = Instance("t#0", (10, 10, 20, 20), "sar ship")
    sample.instances = [Instance("k#0", (150, 100, 160, 110), "sar harbor", ["Mine"]), twin, Instance(**vars(twin))]
    none = Sample("b", "", "a", "sar", 0, 0, [Instance("b#0", (0, 0, 1, 1), "sar ship")])
    (first, second) = describe([sample, none], report := Report())
    assert [i.captions for i in first.instances] == [["Mine"], [], []]
    assert report.counts == {"objects without an unambiguous expression": 2}
    assert second.instances[0].captions == [] and report.problems.counts == {
        "image without a size, nothing described": 1
    }


def test_describe_runs_from_the_command(tmp_path: Path) -> None:
    write_lines(tmp_path / "clean" / "samples.jsonl", scenes(10))
    (tmp_path / "clean" / "manifest.json").write_text("{}")
    run("describe", tmp_path)
    samples = list(SampleFile(tmp_path / "describe" / "samples.jsonl"))
    assert len(samples) == 10 and any(i.captions for s in samples for i in s.instances)
    for wrong in ({"each": 0}, {"modality": 1.5}):
        with pytest.raises(UsageError):
            run("describe", tmp_path, **wrong)

"""Import: every format of every packaged recipe's sources, and what broken ones get."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import cv2
import numpy as np
import pytest
from fake_sources import COUNTS, SIZE, Thing, fake_recipe, make_sources, write_xml

from optisar_yolo.commands import main as cli
from optisar_yolo.construction.image_files import find_image, image_size
from optisar_yolo.construction.importing import fingerprint, read_source
from optisar_yolo.construction.recipe import Source
from optisar_yolo.construction.samples import Sample, SampleFile
from optisar_yolo.construction.steps import Report, output_of
from optisar_yolo.data.config import DataError

RECIPES = ("optsar-rsvg.yaml", "dior-rsvg.yaml", "opt-rsvg.yaml", "own-boxes.yaml")
THINGS = [Thing("ship", (10, 20, 40, 50), "A ship"), Thing("bridge", (60, 8, 90, 30), "A bridge")]


@pytest.fixture(scope="module")
def fakes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the fake sources; do not write into it."""
    root = tmp_path_factory.mktemp("sources")
    make_sources(root)
    return root


@pytest.fixture
def voc(tmp_path: Path) -> Callable[..., Source]:
    """Return a maker of VOC sources: images in `tmp_path`/x/JPEGImages, two objects in each."""

    def make(images: int = 2, **entries: Any) -> Source:
        for number in reversed(range(images)):
            write_xml(tmp_path / "x" / "Annotations" / f"{number}.xml", f"{number}.png", THINGS)
            save_image(tmp_path / "x" / "JPEGImages" / f"{number}.png")
        return Source("x", "voc", "x", "optical", **entries)

    return make


def save_image(path: Path, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.zeros((size[1], size[0]), np.uint8))
    return path


def read(source: Source, root: Path, report: Report | None = None, jobs: int = 1) -> list[Sample]:
    return list(read_source(source, root, report or Report(), jobs))


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_imports_its_sources(
    name: str, fakes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["dataset", "import", f"recipe={fake_recipe(name, tmp_path)}", f"root={fakes}", f"work={tmp_path / 'w'}"]
    assert cli.main(words) == 0, capsys.readouterr().err
    samples = list(SampleFile(output_of(tmp_path / "w", "import")))
    folders = {"optsar": ("RSVGD", "OPT-RSVG", "SARVG", "SARVG1.0"), "dior-r": ("DIOR-RSVG",), "opt-rs": ("OPT-RSVG",)}
    assert len(samples) == sum(COUNTS[f] for f in folders.get(name[:6], ("yolo", "coco")))
    for sample in samples:
        assert (sample.width, sample.height) == SIZE
        pixels = cv2.imread(sample.path)
        for instance in sample.instances:
            x1, y1, x2, y2 = (int(v) for v in instance.box)
            assert pixels[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1].min() > 150, f"{instance.id}: box and object differ"
            assert bool(instance.captions) == (name != "own-boxes.yaml")
    ids = [i.id for s in samples for i in s.instances]
    assert len(set(ids)) == len(ids)


def test_threads_change_nothing(fakes: Path, tmp_path: Path) -> None:
    source = Source("d", "voc", "DIOR-RSVG", "optical", index={s: f"{s}.txt" for s in ("train", "val", "test")})
    assert read(source, fakes, jobs=3) == read(source, fakes)


def test_index_counts_objects_of_files_sorted_by_name(voc: Callable[..., Source], tmp_path: Path) -> None:
    source = voc(3, index={"train": "train.txt", "test": "test.txt"}, expect={"objects": 6, "train": 4, "test": 2})
    for numbers, base in (((0, 1, 2, 5), 0), ((1, 2, 3, 6), 1)):  # the last number of the second can only count from 1
        rest = sorted({*range(base, base + 6)} - {*numbers})
        (tmp_path / "x" / "train.txt").write_text("\r\n".join(map(str, numbers)) + "\r\n")
        (tmp_path / "x" / "test.txt").write_text("\n".join(map(str, rest)))
        splits = [i.split for s in read(source, tmp_path) for i in s.instances]
        assert splits == ["train", "train", "train", "test", "test", "train"]


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("0\n1\n4\n", "goes up to object 4, but the annotation files hold 4"),
        ("0\none\n", "line 2: 'one' is no object number"),
        ("0\n-1\n", "not negative"),
        ("0\n3\n", "object 3 is in train as well"),
    ],
)
def test_index_that_does_not_fit_is_refused(
    train: str, message: str, voc: Callable[..., Source], tmp_path: Path
) -> None:
    source = voc(2, index={"train": "train.txt", "test": "test.txt"})
    (tmp_path / "x" / "train.txt").write_text(train)
    (tmp_path / "x" / "test.txt").write_text("3\n")
    with pytest.raises(DataError, match=message):
        read(source, tmp_path)


def test_broken_xml_is_skipped_unless_an_index_counts_through_it(voc: Callable[..., Source], tmp_path: Path) -> None:
    plain, indexed = voc(3), voc(3, index={"train": "train.txt"})
    (tmp_path / "x" / "train.txt").write_text("0\n5\n")
    (tmp_path / "x" / "Annotations" / "1.xml").write_text("<annotation><object>")
    report = Report()
    assert [s.name for s in read(plain, tmp_path, report)] == ["x/0.png", "x/2.png"]
    assert report.problems.counts == {"annotation file that cannot be read, dropped": 1}
    with pytest.raises(DataError, match=r"1\.xml: .*the index counts its objects"):
        read(indexed, tmp_path)


def test_xml_cannot_declare_entities(voc: Callable[..., Source], tmp_path: Path) -> None:
    bomb = '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;">]><annotation><filename>&c;</filename></annotation>'
    source, report = voc(2), Report()
    (tmp_path / "x" / "Annotations" / "0.xml").write_text(bomb)
    assert len(read(source, tmp_path, report)) == 1
    assert "DOCTYPE" in report.problems.examples["annotation file that cannot be read, dropped"][0]


def test_sizes_come_from_the_header_where_xml_has_none(tmp_path: Path) -> None:
    write_xml(tmp_path / "x" / "Annotations" / "a.xml", "a.jpg", THINGS, size=None)
    write_xml(tmp_path / "x" / "Annotations" / "b.xml", "b.tif", THINGS, size=(0, 0))
    save_image(tmp_path / "x" / "JPEGImages" / "a.jpg", (70, 110))
    save_image(tmp_path / "x" / "JPEGImages" / "b.tif", (80, 120))
    samples = read(Source("x", "voc", "x", "optical"), tmp_path)
    assert [(s.width, s.height) for s in samples] == [(70, 110), (80, 120)]


def test_objects_that_cannot_be_used_are_counted_and_keep_the_others_ids(
    voc: Callable[..., Source], tmp_path: Path
) -> None:
    source, report = voc(1), Report()
    path = tmp_path / "x" / "Annotations" / "0.xml"
    tree = ET.parse(path)
    tree.find("object/bndbox/xmin").text = "left"  # type: ignore[union-attr]
    tree.write(path)
    assert [i.id for s in read(source, tmp_path, report) for i in s.instances] == ["x/0.png#1"]
    assert report.problems.counts == {"box that is not four numbers, dropped": 1}


def test_missing_and_broken_images_are_dropped(voc: Callable[..., Source], tmp_path: Path) -> None:
    source, report = voc(3), Report()
    (tmp_path / "x" / "JPEGImages" / "0.png").unlink()
    write_xml(tmp_path / "x" / "Annotations" / "1.xml", "1.png", THINGS, size=None)
    (tmp_path / "x" / "JPEGImages" / "1.png").write_bytes(b"")
    assert [s.name for s in read(source, tmp_path, report)] == ["x/2.png"]
    assert report.problems.counts == {"image missing, dropped": 1, "image whose size cannot be read, dropped": 1}


def test_source_that_gives_nothing_or_too_little_is_refused(voc: Callable[..., Source], tmp_path: Path) -> None:
    source, counted = voc(2), voc(2, expect={"images": 3})
    with pytest.raises(DataError, match="found 2 images, but the recipe expects 3"):
        read(counted, tmp_path)
    for file in (tmp_path / "x" / "JPEGImages").iterdir():
        file.unlink()
    with pytest.raises(DataError, match="no image with objects.*image missing"):
        read(source, tmp_path)
    with pytest.raises(DataError, match="source x is not there"):
        read(source, tmp_path / "elsewhere")


def test_links_to_nowhere_are_counted(voc: Callable[..., Source], tmp_path: Path) -> None:
    source, report = voc(3), Report()
    for file in ("Annotations/0.xml", "JPEGImages/1.png"):
        (tmp_path / "x" / file).unlink()
        (tmp_path / "x" / file).symlink_to(tmp_path / "nowhere")
    assert fingerprint(source, tmp_path)
    assert [s.name for s in read(source, tmp_path, report)] == ["x/2.png"]
    assert sorted(report.problems.counts.values()) == [1, 1]


def test_second_annotation_of_a_image_is_dropped(voc: Callable[..., Source], tmp_path: Path) -> None:
    source, report = voc(2), Report()
    write_xml(tmp_path / "x" / "Annotations" / "9.xml", "0.png", THINGS)
    assert len(read(source, tmp_path, report)) == 2
    assert report.problems.counts == {"image that was annotated before, dropped": 1}


def test_names_that_lead_out_of_the_folder_find_nothing(tmp_path: Path) -> None:
    save_image(tmp_path / "secret.png")
    (tmp_path / "x" / "images").mkdir(parents=True)
    for name in ("../../secret.png", str(tmp_path / "secret.png"), "..", "", "a\0b", "n" * 5000):
        assert find_image(tmp_path / "x", ["images"], name) is None


def test_image_size_is_that_of_the_decoded_image(tmp_path: Path) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    for suffix, mode in ((".jpg", "L"), (".png", "1"), (".tif", "L"), (".webp", "RGB"), (".bmp", "L")):
        Image.new(mode, (40, 25)).save(tmp_path / f"a{suffix}")
        assert image_size(tmp_path / f"a{suffix}") == (40, 25)
    for suffix in (".jpg", ".png"):
        Image.new("L", (40, 25)).save(tmp_path / f"b{suffix}", exif=exif)
        assert image_size(tmp_path / f"b{suffix}") == (25, 40)
    for content in (b"", b"hello", b"\xff\xd8\xff\xe0 no JPEG"):
        (tmp_path / "c.jpg").write_bytes(content)
        with pytest.raises(DataError, match=r"c\.jpg"):
            image_size(tmp_path / "c.jpg")


def test_official_split_of_real_expressions_is_reproduced(tmp_path: Path) -> None:
    captions = Path(__file__).resolve().parents[3] / "shared" / "data" / "captions"
    if not (captions / "DIOR_RSVG_test.json").is_file():
        pytest.skip(f"real expressions are not part of the repository, and {captions} does not exist")
    splits = ("train", "val", "test")

    def rows(name: str) -> dict[str, list[Any]]:
        lists = {s: json.loads((captions / f"{name}_{s}.json").read_text(encoding="utf-8")) for s in splits}
        return {
            s: [(r["image"], *r["bbox_xyxy"], r["phrase"]) for r in lists[s] if r["image"] < "00400"] for s in splits
        }

    ordered = sorted((r for part in rows("DIOR_RSVG").values() for r in part), key=lambda r: r[0])  # stable
    official = rows("DIOR_RSVG_official_index")
    for image in {r[0] for r in ordered}:
        things = [Thing("thing", r[1:5], r[5]) for r in ordered if r[0] == image]
        write_xml((tmp_path / "d" / "Annotations" / image).with_suffix(".xml"), image, things, (800, 800))
        (tmp_path / "d" / "JPEGImages").mkdir(exist_ok=True)
        (tmp_path / "d" / "JPEGImages" / image).touch()
    for split, part in official.items():
        (tmp_path / "d" / f"{split}.txt").write_text("".join(f"{ordered.index(r)}\n" for r in part))
    source = Source("d", "voc", "d", "optical", index={s: f"{s}.txt" for s in splits})
    found = Counter(
        (i.split, Path(s.name).name, *i.box, *i.captions) for s in read(source, tmp_path, jobs=2) for i in s.instances
    )
    assert found == Counter((split, *r) for split, part in official.items() for r in part)
    assert found.total() > 500

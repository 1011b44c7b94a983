"""The cells of the paper's tables: their data, their networks, and the paper's figures as they are kept."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from optisar_yolo.data.config import load_dataset_config
from optisar_yolo.data.records import ImageRecord, load_split
from optisar_yolo.engine import metrics
from optisar_yolo.nn.model import GroundingModel
from optisar_yolo.nn.plmoe import MoEBlock, PLMoE
from optisar_yolo.nn.tgdf import TGDFSSA
from optisar_yolo.nn.yaml import load_model_yaml
from optisar_yolo.paper import networks, subsets
from optisar_yolo.paper.tables import FIGURES, TABLES, ReproduceError, published


def images(rng: np.random.Generator, count: int) -> list[ImageRecord]:
    """Images of six categories, two of them SAR and one of them rare."""
    made = []
    for i in range(count):
        sar = rng.random() < 0.3
        of = [4, 5] if sar else [0, 1, 2, 3]
        share = np.array([0.9, 0.1] if sar else [0.5, 0.3, 0.17, 0.03])
        own = rng.choice(of, size=int(rng.integers(1, 5)), p=share)
        boxes = np.tile(np.array([[0, 0, 5, 5]], np.float32), (len(own), 1))
        said = tuple(("a ship",) for _ in own)
        made.append(ImageRecord(Path(f"{i}.jpg"), 64, 64, "sar" if sar else "optical", boxes, own, said))
    return made


@pytest.mark.parametrize("seed", range(5))
def test_shares_are_nested_and_alike(seed):
    """30 % is part of 60 %, and each has its share of all images, of each modality and of each category's objects."""
    every = images(np.random.default_rng(seed), 300 + 37 * seed)
    taken = {share: subsets.chosen(every, share, seed) for share in subsets.STEPS}
    assert set(taken[30]) < set(taken[60]) < set(taken[100]) == set(range(len(every)))
    holds = Counter(f"c{c}" for p in every for c in p.categories) + Counter(p.modality for p in every)
    for share, index in taken.items():
        assert index == sorted(index)
        assert abs(len(index) - share * len(every) / 100) < 1
        own = Counter(f"c{c}" for i in index for c in every[i].categories)
        own += Counter(every[i].modality for i in index)
        for key, total in holds.items():
            assert abs(own[key] - share * total / 100) <= max(3, 0.04 * total), (share, key)
    assert taken[30] == subsets.chosen(every, 30, seed)
    assert taken[30] != subsets.chosen(every, 30, seed + 1), "the seed must matter"


def test_only_the_papers_shares_are_drawn():
    with pytest.raises(ValueError, match="choose from 30, 60, 100"):
        subsets.chosen(images(np.random.default_rng(0), 10), 50, 0)


@pytest.mark.parametrize("seed", [0, 7])
def test_replaced_expressions_are_an_exact_nested_share_of_each_modality(seed):
    groups = ["sar" if i % 3 else "optical" for i in range(301)]
    taken = {percent: subsets.replaced(groups, percent, seed) for percent in (0, 10, 30, 100)}
    assert taken[0] == set() and taken[10] < taken[30] < taken[100] == set(range(301))
    for percent, index in taken.items():
        for group in ("sar", "optical"):
            assert sum(groups[i] == group for i in index) == round(percent * groups.count(group) / 100)
    assert taken[30] != subsets.replaced(groups, 30, seed + 1)


def test_a_share_refers_to_the_sets_own_images(tiny, tmp_path):
    """Its dataset config reads as any other; its images, boxes and expressions are those of the data set."""
    data = subsets.read(tiny)
    dataset_config, counts = subsets.write(data, tmp_path / "run", 60, 0, 0)
    own = load_split(load_dataset_config(dataset_config), "train")
    before = {p.path: p for p in load_split(load_dataset_config(tiny), "train")}
    assert len(own) == counts["pictures"] == len(subsets.chosen(data.train, 60, 0)) < len(before)
    assert {p.modality for p in own} == {"optical", "sar"}
    for image in own:
        old = before[image.path]
        assert image.captions == old.captions
        np.testing.assert_array_equal(image.boxes, old.boxes)  # with those of the label files
    assert {p.name for p in (tmp_path / "run").iterdir()} == {"train.json", "data.yaml"}, "no image is copied"


def test_replaced_expressions_are_names_and_only_those_of_training(tiny, tmp_path):
    data = subsets.read(tiny)
    dataset_config, counts = subsets.write(data, tmp_path, 100, 30, 3)
    old, new = (
        json.loads(p.read_text())["annotations"] for p in (data.config.splits["train"], tmp_path / "train.json")
    )
    changed = [(a, b) for a, b in zip(old, new, strict=True) if a["caption"] != b["caption"]]
    expected = sum(round(0.3 * sum(a["category_name"].startswith(m) for a in old)) for m in ("optical", "sar"))
    assert counts["replaced"] == len(changed) == expected > 0
    for a, b in changed:
        assert b["caption"] == a["category_name"].replace("sar", "SAR")
        assert b["bbox"] == a["bbox"] and "kind" not in b
    for split in ("val", "test"):
        assert load_dataset_config(dataset_config).splits[split] == data.config.splits[split], (
            "asked as in every other cell"
        )


def test_whole_data_are_the_sets_own_files(tiny, tmp_path):
    data = subsets.read(tiny)
    dataset_config, counts = subsets.write(data, tmp_path, 100, 0, 0)
    assert load_dataset_config(dataset_config).splits == data.config.splits and counts["replaced"] == 0
    assert {p.name for p in tmp_path.iterdir()} == {"data.yaml"}


def test_real_images_are_divided_alike(optsar_real):
    """Every category of the real set keeps its share at 30 %, up to a few objects."""
    names = load_dataset_config(Path(__file__).resolve().parents[2] / "benchmarks" / "optsar-real.yaml").names
    mapping = {"path": str(optsar_real), "train": "train.json", "names": list(names)}
    every = load_split(load_dataset_config(mapping), "train")
    index = subsets.chosen(every, 30, 0)
    assert len(index) == round(0.3 * len(every))
    total = Counter(c for p in every for c in p.categories.tolist())
    own = Counter(c for i in index for c in every[i].categories.tolist())
    for category, count in total.items():
        assert abs(own[category] - 0.3 * count) <= max(2, 0.02 * count), names[category]


def block_of(network: dict) -> tuple[GroundingModel, list[MoEBlock]]:
    content = load_model_yaml("optisar++n.yaml")
    networks.change(content, network)
    model = GroundingModel(content, verbose=False, text_dim=16)
    return model, [m for m in model.modules() if isinstance(m, MoEBlock)]


@pytest.mark.parametrize("cell", TABLES["table6"].cells, ids=lambda c: c.name)
def test_cells_of_table_6_have_the_experts_that_they_name(cell):
    """Experts and top-k of the built network, and as many patches as the granularity makes of an 8 x 8 map."""
    experts, top_k, patch = cell.name.split("-")
    model, (block,) = block_of(dict(cell.network))
    assert block.gate.experts.shape[1] == int(experts) and block.gate.top_k == int(top_k)
    model.train()
    with torch.no_grad():
        model.encode(torch.rand(2, 3, 256, 256))
    assert block.gates is not None
    per_image = {"1": 64, "2": 16, "4": 4, "image": 1}[patch]
    assert block.gates.shape == (2 * per_image, int(experts))
    assert ((block.gates > 0).sum(1) == int(top_k)).all()


@pytest.mark.parametrize("cell", TABLES["table5"].cells, ids=lambda c: c.name)
def test_cells_of_table_5_have_the_parts_that_they_name(cell):
    model, _ = block_of(dict(cell.network))
    blocks = {type(m) for m in model.modules()}
    assert (PLMoE in blocks) == (cell.name in ("experts", "full"))
    assert (TGDFSSA in blocks) == (cell.name == "full")
    assert not model.head.position and model.head.reranker is None
    assert cell.settings["negatives"] == ("random" if cell.name == "baseline" else "proven")


def test_without_fusion_the_rows_are_those_of_the_packaged_baseline():
    content, baseline = load_model_yaml("optisar++n.yaml"), load_model_yaml("optisar++n-baseline.yaml")
    networks.change(content, TABLES["table5"].cell("baseline").network)
    content["head"][-1][3] = content["head"][-1][3][:2]  # candidates=0 is the default
    assert content["backbone"] + content["head"] == baseline["backbone"] + baseline["head"]


def test_costs_are_those_of_the_network():
    """All parameters but the fixed ones of DFL; operations grow with the image's area."""
    content = load_model_yaml("optisar++n-late.yaml")
    small, large = (networks.cost(content, imgsz, 384) for imgsz in (320, 640))
    model = GroundingModel("optisar++n-late.yaml", verbose=False, text_dim=384)
    fixed = sum(p.numel() for p in model.head.dfl.parameters())
    assert small["parameters"] == sum(p.numel() for p in model.parameters()) - fixed
    assert 3.8 < large["gflops"] / small["gflops"] < 4.1, "four times the image"


def test_models_are_named_with_their_scale():
    assert networks.scaled("optisar++-late.yaml", "n") == "optisar++n-late.yaml"
    assert networks.scaled("a/optisar++m.yaml", "x") == str(Path("a/optisar++x.yaml"))
    assert networks.scaled("optisar++.yaml", None) == "optisar++.yaml"
    for model, scale, message in (
        ("best.pt", "n", "from scratch"),
        ("optisar++.yaml", "q", "choose one of n, s"),
        ("mine.yaml", "n", "needs a name like"),
    ):
        with pytest.raises(ReproduceError, match=message):
            networks.scaled(model, scale)


def test_published_figures_fit_the_tables():
    """Every cell has the paper's figures, rows have their columns, and figures that stand in two tables agree."""
    for table in TABLES.values():
        paper = published()[table.name]
        assert list(paper["cells"]) == [c.name for c in table.cells]
        titles = {f"{group} {figure}" for group, figure in table.columns} | {"Params (M)"}
        assert all(set(cell) <= titles for cell in paper["cells"].values())
        others = paper.get("others", {"rows": {}, "columns": []})
        assert all(len(row) == len(others["columns"]) for row in others["rows"].values())
    whole = published()["table1"]["cells"]["full"]
    for name, cell in (("table2", "100"), ("table3", "0"), ("table5", "full"), ("table6", "8-2-2")):
        other = published()[name]["cells"][cell]
        assert other.items() <= whole.items()
    for name in ("LQVG", "TACMT", "CSDNet", "G-DINO", "GLIP"):
        row = published()["table1"]["others"]["rows"][name]
        assert row[4] == published()["table2"]["others"]["rows"][name][3]
        assert row[9] == published()["table2"]["others"]["rows"][name][6]


def test_figures_are_those_of_a_validation():
    assert FIGURES == metrics.FIGURES

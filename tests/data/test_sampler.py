"""Balanced sampling: as many optical as SAR images in every epoch, rank and batch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings, strategies as st
from ultralytics.utils import DEFAULT_CFG_DICT

from optisar_yolo.data import sampler as module
from optisar_yolo.data.config import MODALITIES, load_dataset_config
from optisar_yolo.data.dataset import GroundingDataset
from optisar_yolo.data.records import load_split
from optisar_yolo.data.sampler import EpochSampler, modality_groups
from optisar_yolo.engine.train import GroundingTrainer
from optisar_yolo.plugin.settings import OPTISAR_DEFAULTS, check
from optisar_yolo.utils.options import SettingError


def draw(first: int, second: int, seed: int = 0, epoch: int = 0, rank: int = -1, world: int = 1) -> list[int]:
    """One rank's indices of an epoch; those below `first` are of the first group."""
    groups = [list(range(first)), list(range(first, first + second))]
    sampler = EpochSampler(first + second, seed, rank, world, groups=groups)
    sampler.set_epoch(epoch)
    pairs = list(sampler)
    assert all(e == epoch for e, _ in pairs) and len(pairs) == len(sampler)
    return [i for _, i in pairs]


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 4), st.integers(0, 5), st.integers(0, 5))
def test_groups_are_drawn_equally_often(first, second, world, seed, epoch):
    """Half of an epoch and of any stretch of it each; images of a group are repeated evenly; ranks are as long."""
    ranks = [draw(first, second, seed, epoch, r, world) for r in range(world)]
    every = sum(ranks, [])
    assert len({len(r) for r in ranks}) == 1
    assert first + second <= len(every) < first + second + world  # an epoch costs what it costs without balance
    for drawn in ranks:
        kinds = [i < first for i in drawn]
        assert all(a != b for a, b in zip(kinds, kinds[1:], strict=False))  # alternating, so each batch is balanced
    counts = Counter(every)
    totals = [sum(n for i, n in counts.items() if (i < first) == side) for side in (True, False)]
    assert abs(totals[0] - totals[1]) <= 1
    for group in (range(first), range(first, first + second)):
        often = [counts[i] for i in group]
        assert max(often) - min(often) <= 1


def test_order_follows_from_seed_and_epoch():
    assert draw(30, 10, epoch=1) == draw(30, 10, epoch=1) != draw(30, 10, epoch=2)
    assert draw(30, 10, epoch=1) != draw(30, 10, seed=1, epoch=1)


def test_every_image_of_the_larger_group_is_drawn_in_time():
    seen = [set(draw(30, 10, epoch=e)) for e in range(12)]
    assert all(len({i for i in s if i < 30}) == 20 and len({i for i in s if i >= 30}) == 10 for s in seen)
    assert set.union(*seen) == set(range(40))


def test_another_group_gets_the_odd_sample_in_every_epoch():
    assert [sum(i < 3 for i in draw(3, 2, epoch=e)) for e in range(4)] == [3, 2, 3, 2]


@pytest.mark.parametrize(("groups", "shuffle"), [([[0, 1], []], True), ([[0], [1]], False)])
def test_impossible_groups_are_refused(groups, shuffle):
    with pytest.raises(ValueError, match="groups"):
        EpochSampler(2, 0, shuffle=shuffle, groups=groups)


def test_groups_are_the_modalities(tiny: Path, monkeypatch):
    images = load_split(load_dataset_config(tiny), "train")
    groups = modality_groups(images)
    assert [{images[i].modality for i in group} for group in groups] == [{m} for m in MODALITIES]
    assert sorted(sum(groups, [])) == list(range(len(images)))
    warnings: list[str] = []
    monkeypatch.setattr(module.LOGGER, "warning", warnings.append)
    assert modality_groups([p for p in images if p.modality == "sar"]) == []
    assert len(warnings) == 1 and "one modality" in warnings[0]


@pytest.mark.parametrize("balance", [True, False])
def test_training_batches_are_balanced_where_configured(tiny: Path, balance: bool):
    config = load_dataset_config(tiny)
    images = load_split(config, "train")
    images = [p for p in images if p.modality == "optical"] + [p for p in images if p.modality == "sar"][:1]
    changes = {"imgsz": 64, "mosaic": 0.0, "workers": 0, "balance": balance}
    args = SimpleNamespace(**DEFAULT_CFG_DICT | OPTISAR_DEFAULTS | changes)
    data = GroundingDataset(images, config.names, args)
    stub = SimpleNamespace(args=args, device=torch.device("cpu"), world_size=1, build_dataset=lambda *_: data)
    loader = GroundingTrainer.get_dataloader(stub, "train", 2, -1, "train")  # type: ignore[arg-type]
    drawn = [batch["modality"].tolist() for batch in loader]
    expected = [images[i].modality for _, i in loader.sampler]
    assert [MODALITIES[m] for m in sum(drawn, [])] == expected  # the batch says of which modality each image is
    assert sum(sum(drawn, [])) == (2 if balance else 1)
    assert not balance or all(sorted(b) == [0, 1] for b in drawn)


def test_the_setting_is_yes_or_no():
    check({"balance": True})
    with pytest.raises(SettingError, match="balance"):
        check({"balance": "modality"})

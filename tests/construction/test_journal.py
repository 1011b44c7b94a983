"""The journal of a review (crashes, disks, foreign content) and what it does to samples."""

from __future__ import annotations

import copy
import errno
import json
import os
from dataclasses import replace

import pytest
from review_set import NAMES, make_work, run

from optisar_yolo.construction import steps
from optisar_yolo.construction.review import review
from optisar_yolo.construction.review.decisions import (
    Decision,
    DecisionLog,
    Queue,
    cleaned,
    correction,
    next_open,
    resolved,
)
from optisar_yolo.construction.samples import SampleFile
from optisar_yolo.construction.steps import Report
from optisar_yolo.data.config import DataError

CORRECT = Decision("s/a.jpg#1", "correct", (330.0, 260.0, 391.0, 291.0), ("the ship in the middle",), by="me")


@pytest.fixture
def work(tmp_path):
    return make_work(tmp_path)


@pytest.fixture
def samples(work):
    return list(SampleFile(work / "import" / "samples.jsonl"))


def test_decisions_come_back_and_the_last_one_counts(tmp_path):
    journal = DecisionLog(tmp_path / "review" / "journal.jsonl")
    journal.add(Decision("a", "accept"), Decision("b", "reject"))
    journal.add(CORRECT)
    journal.add(Decision("a", "reject"))
    journal.add(Decision("b", "open"))  # undone
    again = DecisionLog(journal.path)
    assert list(again.last.values()) == list(journal.last.values())
    assert list(again.last) == ["s/a.jpg#1", "a"] and again.last["a"].action == "reject"
    assert replace(again.last["s/a.jpg#1"], time="") == CORRECT
    assert all(json.loads(line)["time"].endswith("+00:00") for line in journal.path.read_text().splitlines())


def test_every_decision_is_on_the_disk_before_add_returns(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_size))
    journal = DecisionLog(tmp_path / "journal.jsonl")
    for number in range(3):
        journal.add(Decision(str(number), "accept"))
        assert synced[-1] == journal.path.stat().st_size and len(synced) == number + 1


@pytest.mark.parametrize("cut", [1, 2, 20, 60])
def test_a_torn_last_line_is_left_out_and_the_next_decision_stands_alone(tmp_path, cut):
    journal = DecisionLog(tmp_path / "journal.jsonl")
    journal.add(Decision("a", "accept"))
    journal.add(Decision("b", "correct", captions=("größer",)))
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole[:-cut])
    torn = DecisionLog(journal.path)
    assert list(torn.last) == (["a", "b"] if cut == 1 else ["a"])  # without its line break alone, b is whole
    torn.add(Decision("c", "reject"))
    assert list(DecisionLog(journal.path).last) == [*torn.last]


def test_a_full_disk_takes_no_decision_and_spoils_none(tmp_path, monkeypatch):
    journal = DecisionLog(tmp_path / "journal.jsonl")
    journal.add(Decision("a", "accept"))

    def full(fd):
        os.truncate(journal.path, journal.path.stat().st_size - 5)  # a part of it got there
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            journal.add(Decision("b", "reject"))
    assert list(journal.last) == ["a"]
    journal.add(Decision("c", "reject"))
    assert list(DecisionLog(journal.path).last) == ["a", "c"]


@pytest.mark.parametrize(
    "line",
    [
        "prose", "[]", "{}", '{"id": "a"}', '{"id": "a", "action": "delete"}', '{"id": 3, "action": "accept"}',
        '{"id": "a", "action": "correct", "box": [1, 2, NaN, 4]}',
        '{"id": "a", "action": "correct", "box": [5, 5, 1, 9]}',
        '{"id": "a", "action": "correct", "box": "1234"}', '{"id": "a", "action": "correct", "captions": "text"}',
        '{"id": "a", "action": "correct", "captions": [1]}', '{"id": "a", "action": "accept", "extra": 1}',
        '{"id": "a", "action": "correct", "category": 5}', "[" * 100_000, "\0\0\0",
    ],
)  # fmt: skip
def test_foreign_lines_are_left_out_and_a_foreign_file_is_refused(tmp_path, line):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(line.encode() + b"\n\xff\xfe\n" + b'{"id": "b", "action": "accept"}\n\n')
    assert list(DecisionLog(path).last) == ["b"]
    path.write_text(line + "\n")
    with pytest.raises(DataError, match="no journal"):
        DecisionLog(path)


def test_a_decision_changes_what_it_names(samples):
    item = samples[0].instances[1]
    assert resolved(item, None) is item and resolved(item, Decision(item.id, "open")) is item
    assert resolved(item, Decision(item.id, "reject")) is None
    assert resolved(item, Decision(item.id, "accept")) == replace(item, flags=[])
    after = replace(item, category="optical airplane", flags=[])
    decision = correction(item, after)
    assert decision.box is None and decision.captions is None and resolved(item, decision) == after
    assert resolved(item, correction(item, replace(item, captions=[]))).captions == []
    assert cleaned(["  a  ship ", "a ship", "\u200b", "", "x\0y"])[0] == "a ship"


def test_applying_drops_corrects_and_keeps_what_is_open(samples):
    decisions = [
        CORRECT,
        Decision("s/a.jpg#0", "reject"),
        Decision("s/b.tif#0", "correct", (140.0, 90.0, 9000.0, 140.0)),  # clipped
        Decision("s/b.tif#1", "correct", (400.0, 400.0, 500.0, 500.0)),  # outside
        Decision("gone", "reject"),
    ]
    report = Report()
    before = copy.deepcopy(samples)
    done = list(review.decided(samples, report, {d.id: d for d in decisions}, tuple(NAMES)))
    assert samples == before
    assert [[i.id for i in s.instances] for s in done] == [["s/a.jpg#1", "s/a.jpg#2"], ["s/b.tif#0", "s/b.tif#1"]]
    corrected, open_, clipped, outside = [i for s in done for i in s.instances]
    assert corrected.box == CORRECT.box and corrected.flags == [] and open_ == samples[0].instances[2]
    assert clipped.box == (140, 90, 300, 140)
    assert outside.box == (20, 20, 60, 60) and outside.flags[-1] == "review: box outside the image"
    assert report.counts == {"rejected": 1, "corrected": 2, "flagged and open": 2}
    assert report.problems.counts == {
        "correction that cannot be right, not applied": 1,
        "decision about an object that is not here, ignored": 1,
    }


@pytest.mark.parametrize(("category", "flagged"), [("optical airplane", False), ("sar ship", True), ("dragon", True)])
def test_a_category_must_be_known_and_of_the_images_modality(samples, category, flagged):
    decisions = {"s/a.jpg#1": Decision("s/a.jpg#1", "correct", category=category)}
    item = list(review.decided(samples, Report(), decisions, tuple(NAMES)))[0].instances[1]
    assert bool(item.flags) == flagged and item.category == ("optical ship" if flagged else category)


def test_a_image_goes_with_its_last_object(samples):
    report = Report()
    decisions = {i.id: Decision(i.id, "reject") for i in samples[1].instances}
    assert [s.name for s in review.decided(samples, report, decisions)] == ["s/a.jpg"]
    assert report.counts["pictures without objects left, dropped"] == 1


def test_apply_is_a_step_whose_input_is_the_journal(work):
    with pytest.raises(DataError, match="nothing has been decided"):
        run(work, apply=True)
    journal = DecisionLog(work / "review" / "journal.jsonl")
    journal.add(CORRECT)
    run(work, apply=True, dry_run=True)
    assert not (work / "review" / "samples.jsonl").exists()
    run(work, apply=True)
    first = (work / "review" / "manifest.json").stat().st_mtime_ns
    run(work, apply=True)
    assert (work / "review" / "manifest.json").stat().st_mtime_ns == first  # up to date
    journal.add(Decision("s/b.tif#0", "reject"))
    run(work, apply=True)
    ids = [i.id for s in SampleFile(work / "review" / "samples.jsonl") for i in s.instances]
    assert "s/b.tif#0" not in ids and len(ids) == 4
    assert steps.input_of(work, "transform").path.parent.name == "review"


def test_the_queue_finds_objects_by_their_place(work, tmp_path):
    path = work / "import" / "samples.jsonl"
    queue = Queue(path, "flagged")
    assert queue.ids == ["s/a.jpg#1", "s/a.jpg#2", "s/b.tif#0", "s/b.tif#1"]
    assert queue.kinds == {"screen": 4, "ambiguous": 1} and queue.positions("ambiguous") == [1]
    path.unlink()  # a step writes the file anew
    for position in (3, 0, 2, 1):
        sample, place = queue.load(position)
        assert sample.instances[place].id == queue.ids[position]
    with pytest.raises(IndexError):
        queue.load(-1)
    path.write_text("{}\n")
    with pytest.raises(DataError, match="line 1"):
        Queue(path, "all")
    assert next_open(["a", "b", "c"], {"c": 1}, 2) == 0 and next_open(["a"], {"a": 1}, 1) is None

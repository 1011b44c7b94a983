"""The cache of graphs: whole entries or none, whatever happens while they are written, and never too large."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from optisar_yolo.export import graph_cache
from optisar_yolo.export.graph_cache import ABOUT, GraphCache
from optisar_yolo.utils import PART


def content(folder: Path) -> dict[str, Any]:
    (folder / "net.onnx").write_bytes(b"graph" * 100)
    return {"weights": "best.pt", "version": "1"}


def leftovers(cache: GraphCache) -> list[str]:
    return [p.name for p in cache.root.iterdir() if p.name.endswith(PART)]


def test_an_entry_is_made_once_and_found(tmp_path: Path) -> None:
    cache = GraphCache(tmp_path / "cache")
    assert cache.find("a") is None and not cache.has("a") and not cache.root.exists()
    made = cache.make("a", content)
    assert (made / "net.onnx").read_bytes() == b"graph" * 100
    assert cache.make("a", lambda _: pytest.fail("made twice")) == made == cache.find("a")
    entry = cache.entries()[0]
    assert entry.about["weights"] == "best.pt" and entry.size > 500


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, number: int) -> None:
    cache = GraphCache(tmp_path)

    def full(folder: Path) -> dict[str, Any]:
        (folder / "net.onnx").write_bytes(b"half")
        raise OSError(number, os.strerror(number))

    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        cache.make("a", full)
    assert caught.value.filename == str(tmp_path)  # the command line names it, with a remedy
    assert not cache.has("a") and not leftovers(cache)
    assert cache.make("a", content).is_dir()  # there is room again


def test_a_disk_that_is_full_at_the_last_byte(tmp_path: Path, monkeypatch: Any) -> None:
    cache = GraphCache(tmp_path)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "entry.json")

    monkeypatch.setattr(graph_cache, "write_atomic", full)
    with pytest.raises(OSError, match="No space left"):
        cache.make("a", content)
    monkeypatch.undo()
    assert cache.find("a") is None and not leftovers(cache)


def write_slowly(root: Path, told: Any) -> None:
    def slow(folder: Path) -> dict[str, Any]:
        (folder / "net.onnx").write_bytes(b"half")
        told.set()
        time.sleep(60)
        return {}

    GraphCache(root).make("a", slow)


def test_a_process_that_is_killed_while_writing(tmp_path: Path) -> None:
    cache = GraphCache(tmp_path)
    fork = multiprocessing.get_context("fork")
    told = fork.Event()
    writer = fork.Process(target=write_slowly, args=(tmp_path, told))
    writer.start()
    assert told.wait(30)
    assert not cache.has("a") and cache.find("a") is None  # not before it is complete
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    assert leftovers(cache)
    assert (cache.make("a", content) / "net.onnx").read_bytes() == b"graph" * 100
    assert not leftovers(cache)  # swept by the next one


def make_counted(root: Path, start: Any, counter: Any) -> None:
    def counted(folder: Path) -> dict[str, Any]:
        with counter.get_lock():
            counter.value += 1
        time.sleep(0.3)
        return content(folder)

    start.wait()
    found = GraphCache(root).make("a", counted)
    assert (found / "net.onnx").stat().st_size == 500


def test_two_processes_make_one_entry(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    start, counter = fork.Event(), fork.Value("i", 0)
    both = [fork.Process(target=make_counted, args=(tmp_path, start, counter)) for _ in range(3)]
    for process in both:
        process.start()
    start.set()
    for process in both:
        process.join(30)
    assert [process.exitcode for process in both] == [0, 0, 0] and counter.value == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda p: (p / "net.onnx").write_bytes(b"graph" * 99),
        lambda p: (p / "net.onnx").write_bytes(b"grapf" * 100),
        lambda p: (p / "net.onnx").unlink(),
        lambda p: (p / ABOUT).write_text("{"),
        lambda p: (p / ABOUT).write_text("[]"),
        lambda p: (p / ABOUT).write_text('{"files": 3}'),
    ],
)
def test_a_damaged_entry_is_made_anew(tmp_path: Path, damage: Any, log: Any) -> None:
    cache = GraphCache(tmp_path)
    damage(cache.make("a", content))
    assert cache.find("a") is None
    assert "damaged graph" in log.text
    assert not cache.has("a") and not leftovers(cache)
    assert cache.find(cache.make("a", content).name) is not None


def test_the_entries_used_last_stay_where_room_is_short(tmp_path: Path) -> None:
    cache = GraphCache(tmp_path, limit=2500)
    for i, key in enumerate("abc"):
        os.utime(cache.make(key, content) / ABOUT, (i, i))
    cache.find("a")  # used just now
    cache.limit = 1700
    cache.make("d", content)
    assert {e.path.name for e in cache.entries()} == {"a", "d"}
    cache.limit = 10
    assert cache.make("e", content).is_dir()  # the newest stays, however large
    assert [e.path.name for e in cache.entries()] == ["e"]


def test_clear_removes_everything_but_what_another_process_makes(tmp_path: Path) -> None:
    cache = GraphCache(tmp_path)
    cache.make("b", content)
    cache.note_failure("c", "differs")
    (tmp_path / f".d.0123{PART}").mkdir()  # of a process that was killed

    def clear_meanwhile(folder: Path) -> dict[str, Any]:
        made = content(folder)
        fork = multiprocessing.get_context("fork")
        other = fork.Process(target=lambda: GraphCache(tmp_path).clear())
        other.start()
        other.join()
        return made

    assert cache.failure("c") == "differs"
    assert (cache.make("a", clear_meanwhile) / "net.onnx").is_file()
    assert not cache.has("b") and cache.failure("c") == "" and not leftovers(cache)
    assert cache.clear() == 1 and not cache.entries()


def test_trials_are_kept_by_machine(tmp_path: Path) -> None:
    cache = GraphCache(tmp_path)
    cache.add_trial("a", "here", {"torch": 3.0})
    assert cache.trials("a") == {}  # no such entry
    path = cache.make("a", content)
    cache.add_trial("a", "here", {"torch": 3.0})
    cache.add_trial("a", "there", {"torch": 5.0, "onnx": 2.0})
    assert cache.trials("a") == {"here": {"torch": 3.0}, "there": {"torch": 5.0, "onnx": 2.0}}
    assert cache.find("a") == path  # they are no damage
    for broken in ("{", "[1]", json.dumps({"here": 3}), json.dumps({"here": {"torch": "x"}})):
        (path / graph_cache.TRIALS).write_text(broken)
        assert cache.trials("a") == {}

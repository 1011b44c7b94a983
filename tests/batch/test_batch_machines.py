"""What a batch does when a machine of the cluster is lost, without Ray's processes."""

import threading
import time
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

pytest.importorskip("ray")

import pyarrow as pa  # noqa: E402

from optisar_yolo.batch import BatchError, BatchOptions, cluster, run  # noqa: E402
from optisar_yolo.batch.cluster import Share  # noqa: E402
from optisar_yolo.batch.manifest import unpack  # noqa: E402
from optisar_yolo.batch.worker import WorkerSettings  # noqa: E402

TABLE = pa.table({"id": list("abcdef"), "image": list("abcdef"), "text": ["the ship"] * 6})
SETTINGS = WorkerSettings("model", None, "", "out", conf=0.3, topk=1, imgsz=None, batch=1)


@pytest.fixture
def sessions():
    """One entry for each session of Ray."""
    return []


@pytest.fixture
def rounds(monkeypatch, sessions):
    """Rounds as they are told to go: the rows that each does, the machines after it, and its problem."""

    def told(*plan):
        plan, alive, done, seen = list(plan), [{"one", "two", "three"}], set(), []

        def one_round(todo, *_):
            rows, machines, problem = plan.pop(0)
            seen.append(todo["id"].to_pylist())
            done.update(rows)
            alive[0] = machines
            return problem

        monkeypatch.setattr(run, "session", lambda *_: sessions.append(1) or nullcontext(Share(1, 0.0)))
        monkeypatch.setattr(run.ray, "available_resources", lambda: {"CPU": 1.0})
        monkeypatch.setattr(run, "_round", one_round)
        monkeypatch.setattr(run, "_machines", lambda: alive[0])
        monkeypatch.setattr(
            run, "BatchFolder", lambda _: SimpleNamespace(count=lambda ids: SimpleNamespace(ids=done & ids))
        )
        monkeypatch.setattr(run, "NOTICED", 0)
        monkeypatch.setattr(run, "PAUSE", 0)
        return seen

    return told


def test_the_rows_of_a_lost_machine_are_done_again_by_the_others(rounds, sessions, monkeypatch):
    said = []
    monkeypatch.setattr(run.LOGGER, "warning", said.append)
    seen = rounds(("abc", {"one", "two"}, None), ("d", {"one"}, BatchError("gone")), ("ef", {"one"}, None))
    run._ground(TABLE, SETTINGS, BatchOptions())
    assert seen == [list("abcdef"), list("def"), list("ef")]
    assert len(sessions) == 3, "workers of a lost machine keep their cores until their session ends"
    assert [line for line in said if "machine" in line] == [
        "1 of 3 machines were lost; 3 rows are grounded by the others",
        "1 of 2 machines were lost; 2 rows are grounded by the others",
    ]


def test_rows_that_no_lost_machine_explains_are_not_tried_again(rounds):
    everywhere = {"one", "two", "three"}
    seen = rounds(("abc", everywhere, None))
    run._ground(TABLE, SETTINGS, BatchOptions())  # `_result` names the rows without a result
    assert seen == [list("abcdef")]
    rounds(("abc", everywhere, BatchError("out of memory")))
    with pytest.raises(BatchError, match="out of memory"):
        run._ground(TABLE, SETTINGS, BatchOptions())


def test_a_problem_counts_for_nothing_where_every_row_is_done(rounds):
    rounds(("abcdef", {"one"}, BatchError("gone")))
    run._ground(TABLE, SETTINGS, BatchOptions())


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds

    perf_counter = monotonic


@pytest.mark.parametrize(
    ("share", "free", "wanted"),
    [
        (Share(1, 0.0), {}, "1 CPUs found"),
        (Share(2, 0.0), {"CPU": 1.0}, "2 CPUs found"),
        (Share(1, 0.5), {"CPU": 4.0, "GPU": 0.25}, "1 CPUs and 0.5 GPUs found"),
    ],
)
def test_a_round_does_not_wait_for_cores_without_end(monkeypatch, share, free, wanted):
    clock, said = Clock(), []
    monkeypatch.setattr(cluster, "time", clock)
    monkeypatch.setattr(cluster.LOGGER, "info", said.append)
    monkeypatch.setattr(cluster.ray, "available_resources", lambda: free)
    with pytest.raises(BatchError, match=f"{wanted}.*same command.*smaller cpus=.*results in out"):
        cluster.wait_for_cores(share, "out")
    assert cluster.FREE <= clock.now < cluster.FREE + 5 and len(said) == 1 and "waiting for" in said[0]


def test_a_round_starts_as_soon_as_there_is_room(monkeypatch):
    clock, free = Clock(), [{}, {}, {"CPU": 1.0}]
    monkeypatch.setattr(cluster, "time", clock)
    monkeypatch.setattr(run.ray, "available_resources", lambda: free.pop(0))
    cluster.wait_for_cores(Share(1, 0.0), "out")
    assert clock.now == 2.0


@pytest.mark.parametrize(
    ("machines", "words"),
    [
        ([{"CPU": 1.0}, {"CPU": 1.0}], "2 CPUs finds only 1 on a machine"),
        ([{}], "no machine of the Ray cluster has CPUs"),
        ([], "no machine"),
    ],
)
def test_a_worker_that_fits_no_machine_is_refused(monkeypatch, machines, words):
    monkeypatch.setattr(run.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(run.ray, "cluster_resources", lambda: {"CPU": 2.0})
    nodes = [{"Alive": True, "Resources": own} for own in machines] + [{"Alive": False, "Resources": {"CPU": 8.0}}]
    monkeypatch.setattr(run.ray, "nodes", lambda: nodes)
    with pytest.raises(BatchError, match=words), run.session(BatchOptions(cpus=2), 1, 0):
        pass


def test_parts_reach_the_workers_without_a_task_of_the_cluster(monkeypatch):
    monkeypatch.setattr(run.ray.data, "from_arrow", lambda *_: pytest.fail("it waits for a core"))
    made = []

    class Data:
        def map(self, *_, **__):
            return self

        def iter_batches(self, **_):
            return iter(())

        def _synchronize_progress_bar(self):
            made.append("ended")

    monkeypatch.setattr(run.ray.data, "from_items", lambda items, **k: made.append((items, k)) or Data())
    run._round(TABLE, SETTINGS, BatchOptions(workers=2), Share(1, 0.0), run._Work())
    (items, how), last = made
    assert last == "ended", "workers end with their round"
    assert how == {"override_num_blocks": len(items)} and len(items) > 1
    assert sorted(key for item in items for key in unpack(item["rows"])["id"].to_pylist()) == list("abcdef")


def machines(*cores):
    return [{"Alive": True, "Resources": {"CPU": count}} for count in cores]


@pytest.mark.parametrize("raises", [False, True])
def test_a_round_ends_where_no_machine_is_left(monkeypatch, raises):
    said, stopped = [], threading.Event()
    monkeypatch.setattr(cluster, "LOOK", 0.02)
    monkeypatch.setattr(cluster, "FREE", 0.3)
    monkeypatch.setattr(cluster.LOGGER, "warning", said.append)
    monkeypatch.setattr(cluster.ray, "nodes", lambda: machines(0.0))  # the head
    with (
        pytest.raises(BatchError, match="had room for a worker of 1 CPUs.*same command.*results in out"),
        cluster.machines_watched(Share(1, 0.0), "out", stopped.set),
    ):
        assert stopped.wait(20)  # Ray waits for a machine
        if raises:
            raise KeyError("ended")
    assert len(said) == 1 and "at most" in said[0]
    assert not [t for t in threading.enumerate() if t.name == "optisar-batch"]


def test_a_machine_that_comes_in_time_ends_the_wait(monkeypatch):
    known, said = [machines(0.0), machines(0.0), machines(0.0, 2.0), machines(0.0)], []
    monkeypatch.setattr(cluster, "LOOK", 0.02)
    monkeypatch.setattr(cluster.LOGGER, "warning", said.append)
    monkeypatch.setattr(cluster.ray, "nodes", lambda: known.pop(0) if len(known) > 1 else known[0])
    with cluster.machines_watched(Share(2, 0.0), "out", lambda: pytest.fail("ended")):
        ends = time.monotonic() + 20
        while len(said) < 2 and time.monotonic() < ends:
            time.sleep(0.01)
    assert len(said) == 2, "once for each time that no machine was left"


def test_what_a_worker_raises_reaches_the_round():
    with pytest.raises(KeyError, match="broken"), cluster.machines_watched(Share(1, 0.0), "out", lambda: None):
        raise KeyError("broken")
    assert not [t for t in threading.enumerate() if t.name == "optisar-batch"]

"""What a batch does when a machine of the cluster is lost, without Ray's processes."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

pytest.importorskip("ray")

import pyarrow as pa  # noqa: E402

from optisar_yolo.batch import BatchError, BatchOptions, run  # noqa: E402
from optisar_yolo.batch.run import Share  # noqa: E402
from optisar_yolo.batch.worker import WorkerSettings  # noqa: E402

TABLE = pa.table({"id": list("abcdef"), "image": list("abcdef"), "text": ["the ship"] * 6})
SETTINGS = WorkerSettings("model", None, "", "out", conf=0.3, topk=1, imgsz=None, batch=1)


@pytest.fixture
def rounds(monkeypatch):
    """Rounds as they are told to go: the rows that each does, the machines after it, and its problem."""

    def told(*plan):
        plan, alive, done, seen = list(plan), [{"one", "two", "three"}], set(), []

        def one_round(todo, *_):
            rows, machines, problem = plan.pop(0)
            seen.append(todo["id"].to_pylist())
            done.update(rows)
            alive[0] = machines
            return problem

        monkeypatch.setattr(run, "session", lambda *_: nullcontext(Share(1, 0.0)))
        monkeypatch.setattr(run, "_round", one_round)
        monkeypatch.setattr(run, "_machines", lambda: alive[0])
        monkeypatch.setattr(
            run, "BatchFolder", lambda _: SimpleNamespace(count=lambda ids: SimpleNamespace(ids=done & ids))
        )
        monkeypatch.setattr(run, "NOTICED", 0)
        return seen

    return told


def test_the_rows_of_a_lost_machine_are_done_again_by_the_others(rounds, monkeypatch):
    said = []
    monkeypatch.setattr(run.LOGGER, "warning", said.append)
    seen = rounds(("abc", {"one", "two"}, None), ("d", {"one"}, BatchError("gone")), ("ef", {"one"}, None))
    run._ground(TABLE, SETTINGS, BatchOptions())
    assert seen == [list("abcdef"), list("def"), list("ef")]
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

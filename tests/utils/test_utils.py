"""Journals, areas of overlap, and work ahead of its reader."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torchvision.ops import box_iou

from optisar_yolo.utils import Journal, appearing, file_name_of, fingerprint, iou, locked, naming, ordered_map


def test_a_journal_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "state.jsonl"
    with Journal(path, "a") as journal:
        journal.add({"tile": 1, "text": "çà"})
        journal.add({"tile": 2})
    with open(path, "ab") as file:
        file.write(b'{"tile": 3, "te')  # killed here
    assert Journal.belongs(path, "a") and not Journal.belongs(path, "b") and not Journal.belongs(tmp_path / "x", "a")
    with Journal(path, "a") as journal:
        assert list(journal) == [{"tile": 1, "text": "çà"}, {"tile": 2}]
        journal.add({"tile": 4})
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()][1:] == [
        {"tile": 1, "text": "çà"}, {"tile": 2}, {"tile": 4},
    ]  # fmt: skip


@pytest.mark.parametrize(
    "content", [b"", b"nonsense\n", b"[1]\n", b'{"format": 99, "fingerprint": "a"}\n{"tile": 1}\n']
)
def test_another_file_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.jsonl"
    path.write_bytes(content)
    with Journal(path, "a") as journal:
        assert journal.entries == []
    with Journal(path, "b") as journal:
        assert journal.entries == []


def test_a_damaged_line_ends_what_is_believed(tmp_path: Path) -> None:
    path = tmp_path / "state.jsonl"
    with Journal(path, "a") as journal:
        journal.add({"tile": 1})
    with open(path, "ab") as file:
        file.write(b'{"tile": 2\n{"tile": 3}\n')
    with Journal(path, "a") as journal:
        assert list(journal) == [{"tile": 1}]


def test_fingerprints_follow_the_content() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1}) != fingerprint({"a": 1, "b": 3})
    assert fingerprint(1, 2) == fingerprint([1, 2]) and len(fingerprint("x", digits=12)) == 12


BOX = st.tuples(*[st.integers(0, 60)] * 2, *[st.integers(1, 40)] * 2).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


@settings(max_examples=60, deadline=None)
@given(st.lists(BOX, min_size=1, max_size=6), st.lists(BOX, min_size=1, max_size=6))
def test_overlap_is_that_of_torchvision(a: list, b: list) -> None:
    found = iou(np.array(a)[:, None], np.array(b)[None])
    expected = box_iou(torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert iou(a[0], b[0]) == pytest.approx(float(expected[0, 0])) and isinstance(iou(a[0], b[0]), float)


def test_boxes_without_area_overlap_nothing() -> None:
    assert iou((5, 5, 5, 5), (5, 5, 5, 5)) == 0 and iou((0, 0, 4, 4), (9, 9, 3, 3)) == 0


@pytest.mark.parametrize(("jobs", "ahead"), [(1, None), (1, 2), (3, None)])
def test_work_ahead_keeps_the_order_and_stops_with_its_reader(jobs: int, ahead: int | None) -> None:
    begun: list[int] = []
    lock = threading.Lock()

    def work(n: int) -> int:
        with lock:
            begun.append(n)
        return n * n

    assert list(ordered_map(work, range(20), jobs, ahead)) == [n * n for n in range(20)]
    begun.clear()
    reader = ordered_map(work, range(1000), jobs, ahead)
    assert next(reader) == 0
    reader.close()
    assert len(begun) <= 4 * jobs + 2


def test_a_fault_in_the_work_reaches_the_reader() -> None:
    with pytest.raises(ZeroDivisionError):
        list(ordered_map(lambda n: 1 // n, [1, 0, 2], ahead=1))


@pytest.mark.parametrize("text", ["the ship", "Schiff im Hafen", "船", "a.b"])
def test_a_text_that_is_a_file_name_stays(text: str) -> None:
    assert file_name_of(text) == text


@given(st.text(max_size=400))
def test_every_text_gets_a_name_of_its_own(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    name = file_name_of(text)
    assert Path(name).name == name and name not in ("", ".", "..") and len(name.encode()) <= 120
    folder = tmp_path_factory.getbasetemp() / "names"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.txt").touch()
    assert name == text or name != file_name_of(name + "x")


@pytest.mark.parametrize(
    "text", ["../../outside", "a/b", "x" * 300, "船" * 200, "con", "NUL.txt", "a\nb", " ", "..", ""]
)
def test_other_texts_become_names_that_no_other_text_has(text: str) -> None:
    name = file_name_of(text)
    assert name != text and name != file_name_of(name) + "x" and file_name_of(name) == name
    assert "/" not in name and "\\" not in name and not name.startswith(".")


def test_errors_of_writing_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"No space left on device: .*last\.pt"), appearing(tmp_path / "last.pt"):
        raise OSError(28, "No space left on device")
    with pytest.raises(OSError, match=r"last\.pt"), naming(tmp_path / "last.pt"):
        raise RuntimeError("[enforce fail] . PytorchStreamWriter failed writing file data/1: file write failed")
    with pytest.raises(OSError, match=r"No space .*model\.bin"), naming(tmp_path / "model.bin"):
        raise RuntimeError("basic_ios::clear: iostream error")  # as OpenVINO says it
    with pytest.raises(OSError, match=r"too large.*runs"), naming(tmp_path / "runs", disk=True):
        raise OSError(27, "File too large")
    with pytest.raises(OSError, match=r"refused$"), naming(tmp_path / "runs", disk=True):
        raise OSError(111, "Connection refused")  # of a source in the network: no file of ours
    assert not list(tmp_path.iterdir())


def test_a_lock_is_held_once(tmp_path: Path) -> None:
    with locked(tmp_path / "lock", wait=False) as first, locked(tmp_path / "lock", wait=False) as second:
        assert first is not None and second is None

"""Injected faults: `make faults` runs them and writes the table of docs/reliability.md; `make test` leaves them out.

Each test injects one fault and holds where nothing was lost, no answer is wrong without a word, and the message is one
line that names what to do. ``@pytest.mark.fault(kind, what)`` names it in the table.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

START, END = "<!-- faults: written by make faults -->", "<!-- end of faults -->"
TABLE = os.environ.get("OPTISAR_FAULTS_TABLE")  # the file whose table is renewed
_found: dict[tuple[str, str], dict[str, int]] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = str(Path(__file__).parent)
    for item in items:
        if str(item.path).startswith(here) and not item.get_closest_marker("quick"):
            item.add_marker(pytest.mark.faults)
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    mark = item.get_closest_marker("fault")
    if mark is not None:
        item.user_properties.append(("fault", mark.args))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count a fault: held, not held, or not tried here."""
    fault = dict(report.user_properties).get("fault")
    if fault is None or (report.when != "call" and report.outcome == "passed"):
        return
    counts = _found.setdefault((fault[0], fault[1]), {"passed": 0, "failed": 0, "skipped": 0})
    counts[report.outcome] += 1


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not _found:
        return
    lines = list(_table())
    terminalreporter.write_line("")
    for line in lines:
        terminalreporter.write_line(line)
    if TABLE:
        file = Path(TABLE)
        before, start, rest = file.read_text(encoding="utf-8").partition(START)
        _, end, after = rest.partition(END)
        assert start and end, f"{file}: no place for the table ({START} … {END})"
        file.write_text(f"{before}{START}\n\n" + "\n".join(lines) + f"\n\n{END}{after}", encoding="utf-8")


def _table() -> Iterator[str]:
    yield "| kind | what is injected | injected | held |"
    yield "|---|---|---:|---:|"
    kinds = sorted({kind for kind, _ in _found})
    total = held = 0
    for kind in kinds:
        rows = {what: counts for (k, what), counts in sorted(_found.items()) if k == kind}
        tried = sum(c["passed"] + c["failed"] for c in rows.values())
        passed = sum(c["passed"] for c in rows.values())
        skipped = sum(c["skipped"] for c in rows.values())
        note = f" ({skipped} not tried on this machine)" if skipped else ""
        yield f"| {kind} | {'; '.join(rows)}{note} | {tried} | {passed} |"
        total, held = total + tried, held + passed
    yield f"| **all** | | **{total}** | **{held}** |"


@pytest.fixture(scope="session", autouse=True)
def one_thread_each() -> None:
    """Keep this process and its children from using more than one core each."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"

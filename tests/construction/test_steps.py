"""The runner of steps: what is up to date, what a killed run leaves, and what folders that cannot be written get."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from optisar_yolo.commands.dataset import COMMANDS
from optisar_yolo.commands.main import main
from optisar_yolo.construction import steps
from optisar_yolo.construction.samples import Instance, Sample, SampleFile, write_lines
from optisar_yolo.construction.steps import Report
from optisar_yolo.data.config import DataError

SAMPLES = [
    Sample(f"a/{n}.jpg", f"/{n}.jpg", "a", "sar", 10, 8, [Instance(f"a/{n}.jpg#0", (1, 2, 3.5, 4), "ship", ["ü", "b"])])
    for n in range(3)
]


class Step:
    """A step that counts how often it is run."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, given: Any, report: Report) -> Iterator[Sample]:
        self.runs += 1
        report.problems.add("odd", "record 1")
        yield from SAMPLES if given is None else given


def run(work: Path, step: Step, **options: Any) -> Report:
    return steps.run(work, "import", step, None, options)


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    run(tmp_path, Step())
    assert list(steps.input_of(tmp_path, "clean")) == SAMPLES
    manifest = json.loads((tmp_path / "import" / "manifest.json").read_text())
    assert manifest["counts"] == {"pictures": 3, "objects": 3, "expressions": 6}
    assert manifest["problems"] == {"odd": 1} and manifest["peak_memory_mib"] > 0


def test_step_runs_again_only_when_something_changed(tmp_path: Path) -> None:
    step, extra = Step(), tmp_path / "extra.txt"
    extra.write_text("1")

    def again(**options: Any) -> Report:
        return steps.run(tmp_path, "import", step, None, options, inputs=[extra])

    again(ratio=(8, 1))
    report = again(ratio=(8, 1))  # a tuple comes back from the manifest as a list
    assert step.runs == 1
    assert report.counts["pictures"] == 3 and report.problems.examples == {"odd": ["record 1"]}
    again(ratio=(7, 1))
    assert step.runs == 2
    extra.write_text("2")
    again(ratio=(7, 1))
    assert step.runs == 3
    with open(steps.output_of(tmp_path, "import"), "a") as file:
        file.write("\n")
    again(ratio=(7, 1))  # somebody changed what had been written
    assert step.runs == 4
    (tmp_path / "import" / "manifest.json").write_text("{")
    again(ratio=(7, 1))
    assert step.runs == 5


def test_changed_input_makes_the_next_step_run_again(tmp_path: Path) -> None:
    step = Step()
    run(tmp_path, Step())
    for _ in range(2):
        steps.run(tmp_path, "clean", step, steps.input_of(tmp_path, "clean"), {})
    assert step.runs == 1
    write_lines(steps.output_of(tmp_path, "import"), SAMPLES[:2])
    steps.run(tmp_path, "clean", step, steps.input_of(tmp_path, "clean"), {})
    assert step.runs == 2


def test_nearest_earlier_step_is_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="begin with 'optisar dataset import"):
        steps.input_of(tmp_path, "split")
    for name in ("import", "clean"):
        steps.run(tmp_path, name, Step(), None, {})
    assert steps.input_of(tmp_path, "write").path.parent.name == "clean"
    assert steps.input_of(tmp_path, "split", "import").path.parent.name == "import"
    with pytest.raises(DataError, match="screen has not been run"):
        steps.input_of(tmp_path, "split", "screen")
    with pytest.raises(DataError, match="from=nonsense: no such step"):
        steps.input_of(tmp_path, "split", "nonsense")


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    report = steps.run(tmp_path / "work", "import", Step(), None, {}, dry_run=True)
    assert report.counts["pictures"] == 3
    assert not (tmp_path / "work").exists()


def test_failing_step_leaves_no_manifest_and_no_half_file(tmp_path: Path) -> None:
    def fails(given: Any, report: Report) -> Iterator[Sample]:
        yield SAMPLES[0]
        raise DataError("broken source")

    run(tmp_path, Step())
    with pytest.raises(DataError, match="broken source"):
        steps.run(tmp_path, "import", fails, None, {"new": 1})
    assert [p.name for p in (tmp_path / "import").iterdir()] == ["samples.jsonl"]  # that of the earlier run
    with pytest.raises(DataError, match="no step has been run here"):
        steps.input_of(tmp_path, "clean")


KILLED = """
import sys, time
from pathlib import Path
from optisar_yolo.construction import steps
from optisar_yolo.construction.samples import Sample

def slow(given, report):
    for n in range(10_000):
        yield Sample(f"a/{n}", "/a", "a", "sar", 10, 8)
        if n == 5_000:
            Path(sys.argv[1], "half").touch()
            time.sleep(60)

steps.run(Path(sys.argv[1]), "import", slow, None, {})
"""


def test_killed_run_leaves_nothing_that_counts_and_is_run_again(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 90
    while not (tmp_path / "half").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / "half").exists()
    left = {p.name for p in (tmp_path / "import").iterdir()}
    assert not left & {"samples.jsonl", "manifest.json"} and len(left) == 1
    run(tmp_path, Step())
    assert {p.name for p in (tmp_path / "import").iterdir()} == {"samples.jsonl", "manifest.json"}
    assert list(SampleFile(steps.output_of(tmp_path, "import"))) == SAMPLES


def test_full_disk_is_named_and_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run(tmp_path, Step())
    old = steps.output_of(tmp_path, "import").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DataError, match=r"samples\.jsonl: import cannot go on \(No space left"):
            run(tmp_path, Step(), new=1)
    assert steps.output_of(tmp_path, "import").read_bytes() == old
    assert not list((tmp_path / "import").glob(".*"))
    with monkeypatch.context() as patch:
        patch.setattr(steps, "write_atomic", lambda path, content: full(0))  # full when the manifest is written
        with pytest.raises(DataError, match="cannot go on"):
            run(tmp_path, Step(), new=1)
    assert not (tmp_path / "import" / "manifest.json").exists()
    step = Step()
    run(tmp_path, step, new=1)
    assert step.runs == 1


def test_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="import cannot go on"):
        run(tmp_path / "file", Step())
    if os.geteuid() == 0:  # nothing is read-only for root

        def refuse(*args: Any, **options: Any) -> None:
            raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "import"))

        monkeypatch.setattr(Path, "mkdir", refuse)
    else:
        tmp_path.chmod(0o500)
    try:
        with pytest.raises(DataError, match="Permission denied"):
            run(tmp_path, Step())
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("line", ["{", "[]", '{"name": "a"}', '{"instances": [{"box": 3}]}', '{"instances": 3}', "\n"])
def test_broken_line_is_named(line: str, tmp_path: Path) -> None:
    write_lines(tmp_path / "s.jsonl", SAMPLES)
    with open(tmp_path / "s.jsonl", "a", encoding="utf-8") as file:
        file.write(line)
    with pytest.raises(DataError, match=r"s\.jsonl line 4: no sample of this version"):
        list(SampleFile(tmp_path / "s.jsonl"))


def test_samples_know_their_origin() -> None:
    assert SAMPLES[0].origin == "a/0.jpg"
    assert Sample("a/b@hflip.jpg@hflip", "", "a", "sar", 1, 1, transform="hflip").origin == "a/b@hflip.jpg"


def test_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dataset", "improt"]) == 2 and "did you mean 'import'" in capsys.readouterr().err
    assert main(["dataset", "import"]) == 2
    err = capsys.readouterr().err
    assert "optisar dataset import needs recipe=…" in err and "optsar-rsvg.yaml" in err
    assert main(["dataset"]) == 0
    page = capsys.readouterr().out
    assert all(f"optisar dataset {verb}" in page for verb in COMMANDS)
    assert main(["dataset", "split", "--help"]) == 0 and "8:1:1" in capsys.readouterr().out


def test_a_recipe_with_an_unknown_option_or_value_fails_before_the_first_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = {"name": "a", "format": "voc", "path": "a", "modality": "sar"}
    for options, message in (({"ratios": 1}, "unknown argument 'ratios'; did you mean 'ratio'"), ({"by": 3}, "by=3")):
        content = {"name": "x", "names": ["sar ship"], "sources": [source], "build": {"clean": None, "split": options}}
        (tmp_path / "r.yaml").write_text(json.dumps(content))
        assert main(["dataset", "build", f"recipe={tmp_path / 'r.yaml'}", f"work={tmp_path / 'w'}"]) == 1
        err = capsys.readouterr().err
        assert "r.yaml: step split: " in err and message in err


def test_counts_begin_with_the_whole_set_and_then_each_split() -> None:
    report = Report()
    for name in ("test pictures", "val ship", "pictures", "train pictures", "objects", "odd things"):
        report.count(name, 3)
    said = "3 images, 3 objects, 3 train images, 3 test images, 3 val ship, 3 odd things"
    assert report.lines()[0] == said
    assert report.lines(2)[0] == "3 images, 3 objects, 4 more counts"

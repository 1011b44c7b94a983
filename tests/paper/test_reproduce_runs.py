"""`optisar reproduce`: what runs, what is skipped, and that a table says only what was run."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch

from optisar_yolo.commands import main as cli
from optisar_yolo.paper import runs, subsets
from optisar_yolo.paper.markdown import NOT_RUN, belongs, table_text
from optisar_yolo.paper.plan import make_plan, measured, runs_of
from optisar_yolo.paper.runs import RECORD, Record
from optisar_yolo.paper.tables import TABLES, ReproduceError

SMALL = ["epochs=1", "imgsz=64", "batch=2", "prompts=8", "warmup_epochs=0", "amp=False", "threads=1"]
NAMES = ["optical ship", "sar ship"]


def reproduce(*words: object) -> int:
    return cli.main(["reproduce", *(str(w) for w in words)])


def entry(table: str, cell: str, seed: int = 0, value: float = 0.123456, **settings: object) -> dict:
    """A record's entry as of a finished run, with figures that nobody measured."""
    plan = make_plan(TABLES[table], {"seed": seed, **settings}, model="optisar++n.yaml", cells=cell)
    (run,) = runs_of(plan, "data")
    figures = {f"modality/{g}": {"meanIoU": value, "cumIoU": value} for g in ("all", "optical")}
    counts = {"pictures": 3, "expressions": 5, "replaced": 0}
    return {
        "key": run.key, "share": run.cell.share, "bare": run.cell.bare, "network": run.network, "model": run.model,
        "seed": seed, "settings": measured(run.settings), "figures": figures, "training_seconds": 61,
        "data": {"name": "mine", "names": NAMES, "fingerprint": "data", "train": counts,
                 "counts": dict.fromkeys(("train", "val", "test"), counts)},
        "cost": {"parameters": 2_500_000, "gflops": 1.5}, "device": "cpu",
    }  # fmt: skip


def grids(text: str) -> list[list[list[str]]]:
    """The Markdown grids of a text: rows of cells, without their heads."""
    found: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            found[-1].append([c.strip() for c in line.strip("|").split("|")])
        elif found[-1]:
            found.append([])
    return [grid[2:] for grid in found if grid]


@pytest.mark.parametrize("table", TABLES)
def test_nothing_run_is_nothing_filled(table):
    text = table_text(TABLES[table], [])
    rows = grids(text)[0]
    assert len(rows) == len(TABLES[table].cells)
    assert all(cell.startswith(NOT_RUN) for row in rows for cell in row[1:])


def test_a_run_fills_its_own_cell_alone():
    text = table_text(TABLES["table2"], [entry("table2", "60")])
    few, some, whole = grids(text)[0]
    assert some[1] == "12.35 (79.83)" and some[2] == "- (78.36)" and some[3] == "12.35"
    assert all(c.startswith(NOT_RUN) for row in (few, whole) for c in row[1:])
    assert few[1] == f"{NOT_RUN} (73.41)"
    assert "epochs 8 (not 300)" in text and "not the paper's OptSAR-RSVG" in text


def test_runs_of_other_budgets_stand_apart_and_seeds_together():
    entries = [entry("table2", "60"), entry("table2", "60", 1, 0.143456), entry("table2", "100", epochs=2)]
    first, second, _ = grids(table_text(TABLES["table2"], entries))
    assert first[1][1] == "13.35 ± 1.00 (79.83)" and first[1][-1] == "2"
    assert first[2][1] == f"{NOT_RUN} (83.17)"
    assert second[2][1] == "12.35 (83.17)" and second[1][1].startswith(NOT_RUN)


def test_tables_share_a_run_only_where_it_is_the_same():
    """All images and all expressions is one training for Tables I to III, and the full network of VI; not of V."""
    whole = entry("table2", "100")
    for table, cell in (("table1", "full"), ("table3", "0"), ("table6", "8-2-2")):
        assert entry(table, cell)["key"] == whole["key"]
        assert belongs(whole, TABLES[table].cell(cell))
    assert not any(belongs(whole, cell) for cell in TABLES["table5"].cells)
    described = entry("table2", "100", describe=0.5)
    assert described["key"] != whole["key"] and not belongs(described, TABLES["table3"].cell("0"))
    assert entry("table2", "100", device="0")["key"] == whole["key"], "where it ran is not what it measured"
    assert entry("table2", "100", seed=1)["key"] != whole["key"]


def test_a_run_on_another_kind_of_data_is_no_run_of_the_table():
    whole = entry("table1", "full")
    assert NOT_RUN in grids(table_text(TABLES["table4"], [whole]))[0][0][1]
    whole["data"]["names"] = ["optical ship"]
    assert NOT_RUN in grids(table_text(TABLES["table1"], [whole]))[0][0][1]


def test_record_grows_by_whole_entries(tmp_path):
    store = Record(tmp_path)
    store.add(entry("table2", "30"))
    store.add(entry("table2", "60"))
    store.add(entry("table2", "30", value=0.5))
    assert [e["figures"]["modality/all"]["meanIoU"] for e in store.entries()] == [0.123456, 0.5]
    store.path.write_text('{"runs": [', encoding="utf-8")
    with pytest.raises(ReproduceError, match=r"record\.json: not a record"):
        store.add(entry("table2", "30"))
    assert store.path.read_text(encoding="utf-8") == '{"runs": [', "what cannot be read is left as it is"


def test_the_papers_recipe_can_be_looked_at_without_its_machine(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(subprocess, "run", None)
    for table, cells in (("table2", "30"), ("table5", "baseline,full")):
        project = tmp_path / table
        assert reproduce(table, f"cells={cells}", "cfg=paper.yaml", "dry_run=True", f"project={project}") == 0
        page = capsys.readouterr().out
        count = len(cells.split(","))
        assert f"{count} cell(s): {count} new" in page
        assert "epochs=300" in page and "batch=64" in page and "imgsz=640" in page and "lr0=0.002" in page
        assert "needs 8 GPU(s), this machine has 0" in page
        # the paper's count includes 5.56 M of a visual-prompt part that is not in the network here
        assert "at scale m with the paper's text encoder 90.0 M (paper: 95.6 M)" in page
        assert not project.exists()


def test_a_dry_run_counts_the_data(capsys, tiny, tmp_path):
    assert reproduce("table2", f"data={tiny}", "scale=n", "imgsz=64", "dry_run=True", f"project={tmp_path / 'p'}") == 0
    page = capsys.readouterr().out
    assert "train 6 images / 12 expressions" in page and "not the paper's OptSAR-RSVG" in page
    assert "2 images, 4 expressions, 8 epochs of 1 batches" in page
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tabel2"], "unknown command 'optisar reproduce tabel2'; did you mean 'table2'?"),
        (["table2", "threads=-1"], "'threads=-1' is not valid: it must be a whole number of at least 0"),
        (["table2", "epoch=3"], "unknown argument 'epoch'; did you mean 'epochs'?"),
        (["table2", "epochs=three"], "epochs"),
        (["table2", "cells=40"], "no cell '40'; it has 30, 60, 100"),
        (["table2", "fraction=0.3"], "fraction= is decided by the tables' protocol"),
        (["table2", "cfg=none.yaml"], "cfg=none.yaml: no such recipe"),
        (["table2", "seed=-1"], "seed=-1"),
        (["table3", "describe=0.5"], "cell '0' of table3 is about describe=0.0"),
        (["table2", "model=best.pt"], "networks from scratch"),
        (["table6", "model=optisar++-baseline.yaml", "dry_run=True"], "has no PL-MoE row"),
        (["table2", "data=nowhere.yaml"], "dataset config 'nowhere.yaml' not found"),
        (["table2", "now"], "expected key=value, got 'now'"),
    ],
)
def test_slips_get_a_clear_answer(words, message, capsys, tmp_path):
    assert cli.main(["reproduce", *words, f"project={tmp_path}"]) in (1, 2)
    assert message in capsys.readouterr().err


def test_a_table_wants_its_own_kind_of_data(tiny, tmp_path, capsys):
    assert cli.main(["reproduce", "table4", f"data={tiny}", f"project={tmp_path}"]) == 1
    assert "table4 is about DIOR-RSVG, whose 20 categories" in capsys.readouterr().err
    assert cli.main(["reproduce", "table2", f"data={tiny}", f"project={tmp_path}", "device=7"]) == 1
    assert "device=7: needs 1 GPU(s)" in capsys.readouterr().err


def test_help_lists_every_table(capsys):
    assert reproduce() == 0
    page = capsys.readouterr().out
    assert all(f"\n  optisar reproduce {name}" in page for name in TABLES)


def test_a_broken_run_goes_on(tiny, tmp_path, monkeypatch, capsys):
    """It is resumed from its last whole epoch; what fails is named with the end of its log, and fills no cell."""
    words = ["table2", f"data={tiny}", "cells=30", f"project={tmp_path}", *SMALL]
    calls: list[list[str]] = []

    def fail(call, stdout, **_):
        calls.append(call)
        stdout.write("out of luck\n")
        return subprocess.CompletedProcess(call, 3)

    monkeypatch.setattr(runs.subprocess, "run", fail)
    assert reproduce(*words) == 1
    assert NOT_RUN in capsys.readouterr().out and not (tmp_path / RECORD).exists()
    folder = Path(next(w for w in calls[0] if w.startswith("project=")).partition("=")[2])
    assert f"data={folder / 'data.yaml'}" in calls[0] and "epochs=1" in calls[0] and "val=False" in calls[0]
    last = folder / "train" / "weights" / "last.pt"
    last.parent.mkdir(parents=True)
    torch.save({"optimizer": {"state": {}}}, last)
    assert reproduce(*words) == 1
    assert calls[1][-2:] == ["resume=True", f"model={last}"]


def test_a_cell_that_another_process_runs_is_left_alone(tiny, tmp_path, monkeypatch, capsys):
    words = ["table2", f"data={tiny}", "cells=30", f"project={tmp_path}", *SMALL]
    monkeypatch.setattr(runs, "train", None)
    values = cli.commands_of("reproduce")["table2"].parse(words[1:])
    plan = make_plan(TABLES["table2"], values["settings"], cells="30", project=tmp_path)
    (run,) = runs_of(plan, subsets.read(tiny).fingerprint)
    with runs.locked(run.folder / "lock"):
        assert reproduce(*words) == 1
    assert NOT_RUN in capsys.readouterr().out


@pytest.mark.slow
def test_from_command_to_table(tiny, tmp_path, monkeypatch, capsys):
    """One cell is trained and measured; given again it is skipped, and without its record only measured again."""
    words = ["table3", f"data={tiny}", "cells=30", f"project={tmp_path}", *SMALL]
    assert reproduce(*words) == 0
    assert "30 % of the training expressions are bare names" in capsys.readouterr().out
    (made,) = Record(tmp_path).entries()
    assert made["data"]["train"]["replaced"] == 4 and made["settings"]["describe"] == 0
    table = (tmp_path / "table3.md").read_text(encoding="utf-8")
    rows = grids(table)[0]
    value = 100 * made["figures"]["modality/optical"]["meanIoU"]
    assert rows[2][1] == f"{value:.2f} (77.63)"
    assert rows[0][1].startswith(NOT_RUN) and rows[1][1].startswith(NOT_RUN)

    monkeypatch.setattr(runs.subprocess, "run", None)  # nothing may be trained again
    assert reproduce(*words) == 0
    (tmp_path / RECORD).unlink()
    assert reproduce(*words) == 0
    (again,) = Record(tmp_path).entries()
    assert again["figures"] == made["figures"] and again["key"] == made["key"]
    capsys.readouterr()
    assert reproduce("table3", "show", f"project={tmp_path}") == 0
    assert table.splitlines()[0] in capsys.readouterr().out
    assert (tmp_path / again["folder"] / "train.json").is_file()

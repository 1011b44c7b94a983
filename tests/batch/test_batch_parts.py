"""Batches without Ray's processes: the manifest, parts, paths, the folder, and a worker called directly."""

import json
import subprocess
import sys

import pytest
from batch_set import IMGSZ, make

from optisar_yolo.commands.main import main
from optisar_yolo.utils import BUNDLED_MODEL, SettingError

pytest.importorskip("ray")

import pyarrow as pa  # noqa: E402
import pyarrow.csv  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

from optisar_yolo.batch import BatchError, BatchOptions  # noqa: E402
from optisar_yolo.batch.manifest import cut, make_id, name_of, pack, read_manifest, unpack  # noqa: E402
from optisar_yolo.batch.run import _result, _Work  # noqa: E402
from optisar_yolo.batch.storage import OLD_RECORD, RECORD, BatchFolder, ending, locate, parent  # noqa: E402
from optisar_yolo.batch.worker import Worker, WorkerSettings  # noqa: E402

ROWS = [
    {"id": "007", "image": "b.png", "text": "the ship, left", "weight": 0.5},
    {"id": "008", "image": "a b.png", "text": 'the "big" tank', "weight": 1.5},
    {"id": "009", "image": "b.png", "text": "the harbor", "weight": 2.5},
]


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_formats_are_read_alike(tmp_path, ending):
    path = tmp_path / f"my asks.{ending}"
    table = pa.Table.from_pylist(ROWS)
    if ending == "parquet":
        pq.write_table(table.set_column(1, "image", table["image"].dictionary_encode()), path)
    elif ending == "csv":
        pyarrow.csv.write_csv(table, path)
    else:
        path.write_text("".join(json.dumps(r) + "\n" for r in ROWS))
    for source in (str(path), path.as_uri()):
        assert read_manifest(source).to_pylist() == ROWS


def manifest(tmp_path, rows):
    path = tmp_path / "asks.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return str(path)


def test_ids_are_made_of_image_and_expression(tmp_path):
    rows = [{"image": "a", "text": "x"}, {"image": "a", "text": "y"}, {"image": "ax", "text": "y"}]
    ids = read_manifest(manifest(tmp_path, rows))["id"].to_pylist()
    assert ids == [make_id("a", "x"), make_id("a", "y"), make_id("ax", "y")] and len(set(ids)) == 3
    assert read_manifest(manifest(tmp_path, rows[::-1]))["id"].to_pylist() == ids[::-1]
    numbers = [{"id": i, "image": "a", "text": "x"} for i in (3, 1)]
    assert read_manifest(manifest(tmp_path, numbers))["id"].to_pylist() == ["3", "1"]


def test_lists_of_expressions_become_rows(tmp_path):
    rows = [{"id": "p", "image": "a", "text": ["x", "y"], "n": 1}, {"id": "q", "image": "b", "text": ["z"], "n": 2}]
    table = read_manifest(manifest(tmp_path, rows))
    assert [tuple(r.values()) for r in table.to_pylist()] == [
        ("p#0", "a", "x", 1), ("p#1", "a", "y", 1), ("q#0", "b", "z", 2)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"picture": "a", "text": "x"}], "no column 'image'"),
        ([{"image": "a", "text": "x", "width": 3}], "'width' has the name of a result column"),
        ([{"image": "a", "text": "x"}, {"image": "a", "text": "  "}], "'text' of row 2 is empty"),
        ([{"image": "a", "text": "x"}, {"image": "a", "text": "\u200b"}], "'text' of row 2: an expression must say"),
        ([{"image": "a", "text": ["x"]}, {"image": "b", "text": []}], "'text' of row 2 is empty"),
        ([{"image": "a", "text": ["x", ""]}], "is empty"),
        ([{"image": None, "text": "x"}], "'image' of row 1 is empty"),
        ([{"image": 5, "text": "x"}], "the column 'image' holds int64"),
        ([{"id": "k", "image": "a", "text": "x"}] * 2, "row 2 has an id that an earlier row has (row 1, 'k')"),
        ([{"image": "a", "text": "x"}] * 2, "row 2 has the image and expression of an earlier row"),
        ([{"image": "a", "text": "x"}, {"image": "a", "text": ["x"]}], "cannot be read as .jsonl"),
        ([], "no row"),
    ],
)
def test_bad_manifests_are_refused(tmp_path, rows, message):
    with pytest.raises(BatchError, match="asks.jsonl") as caught:
        read_manifest(manifest(tmp_path, rows))
    assert message in str(caught.value)


def test_files_that_are_no_manifest(tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match="no such manifest"):
        read_manifest(str(tmp_path / "none.csv"))
    with pytest.raises(BatchError, match="unknown format"):
        read_manifest("asks.xlsx")
    (tmp_path / "asks.parquet").write_bytes(b"junk")
    with pytest.raises(BatchError, match="cannot be read as .parquet"):
        read_manifest(str(tmp_path / "asks.parquet"))
    (tmp_path / "asks.csv").write_text("")
    with pytest.raises(BatchError, match="no row"):
        read_manifest(str(tmp_path / "asks.csv"))
    with pytest.raises(BatchError, match="cannot be opened"):
        read_manifest("nowhere://bucket/asks.csv")
    assert main(["batch", "out=x"]) == 2 and "needs manifest=" in capsys.readouterr().err
    assert main(["batch", "manifest=x.csv", "out=y", "workers=0"]) == 2 and "workers=0" in capsys.readouterr().err
    with pytest.raises(SettingError, match="conf=2"):
        BatchOptions(conf=2)


def test_paths_and_uris(tmp_path):
    assert locate("p.png", str(tmp_path))[1] == str(tmp_path / "p.png")
    assert locate((tmp_path / "a b.png").as_uri())[1] == str(tmp_path / "a b.png")
    assert locate("p.png", tmp_path.as_uri())[1] == str(tmp_path / "p.png")
    assert locate("/p.png", "s3://bucket/asks")[1] == "/p.png"
    assert parent("s3://bucket/asks/july.csv") == "s3://bucket/asks"
    where = "?region=eu-west-1"  # with a region, no network is needed
    assert locate(f"s3://bucket/my asks/ä.csv{where}")[1] == "bucket/my asks/ä.csv"
    assert locate(f"s3://bucket/a.csv{where}")[0].type_name == "s3"
    assert parent(f"s3://bucket/asks/a.csv{where}") == f"s3://bucket/asks{where}"
    assert locate("sub/p.png", f"s3://bucket/asks{where}")[1] == "bucket/asks/sub/p.png"
    assert ending(f"s3://bucket/a.CSV{where}") == "csv"


def test_parts_keep_images_whole():
    images = [f"p{i % 100}" for i in range(1000)]
    table = pa.table({"id": [str(i) for i in range(1000)], "image": images, "text": ["x"] * 1000})
    parts = cut(table, 2)
    assert 16 <= len(parts) <= 20
    assert sorted(i for p in parts for i in p["id"].to_pylist()) == sorted(table["id"].to_pylist())
    where = [set(p["image"].to_pylist()) for p in parts]
    assert sum(map(len, where)) == 100  # no image is in two
    assert len(cut(table.slice(0, 1), 8)) == 1
    assert unpack(pack(parts[1])).equals(parts[1])


def test_all_expressions_of_an_image_are_in_one_part(monkeypatch):
    monkeypatch.setattr("optisar_yolo.batch.manifest.ROWS", 10)
    images = ["a"] * 4 + ["b"] * 25 + ["c"] * 4 + ["d"] * 4
    table = pa.table({"id": [str(i) for i in range(37)], "image": images})
    monkeypatch.setattr("optisar_yolo.batch.manifest.PARTS", 0.25)  # one part, as far as images are concerned
    assert [len(p) for p in cut(table, 1)] == [4, 25, 8]


def test_a_part_has_the_same_name_however_it_is_ordered():
    assert name_of(["a", "b"]) == name_of(["b", "a"]) != name_of(["a", "c"])


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    pq.write_table(pa.table({"x": [1]}), tmp_path / "mine.parquet")
    with pytest.raises(BatchError, match="not of a batch"):
        BatchFolder(str(tmp_path)).begin({"conf": 0.5})
    assert [f.name for f in tmp_path.iterdir()] == ["mine.parquet"]
    other = BatchFolder(str(tmp_path / "new"))
    other.begin({"conf": 0.5})
    other.begin({"conf": 0.5})
    (tmp_path / "new" / RECORD).write_text("{")
    with pytest.raises(BatchError, match="damaged"):
        other.begin({"conf": 0.5})


def test_a_folder_reads_as_one_table_and_a_former_record_is_taken_over(tmp_path):
    pandas = pytest.importorskip("pandas")
    folder = BatchFolder(str(tmp_path))
    folder.begin({"conf": 0.5})
    folder.write("one", pa.table({"id": ["a"], "answered": [True]}))
    assert pandas.read_parquet(tmp_path)["id"].tolist() == ["a"]
    (tmp_path / RECORD).rename(tmp_path / OLD_RECORD)
    with pytest.raises(BatchError, match="conf 0.5 there, 0.6 now"):
        folder.begin({"conf": 0.6})
    folder.begin({"conf": 0.5})
    assert {f.name for f in tmp_path.iterdir()} == {RECORD, "answers-one.parquet"}


def test_what_two_runs_wrote_at_once_is_noticed(tmp_path):
    folder = BatchFolder(tmp_path.as_uri())
    columns = {"image": ["p", "p"], "answered": [True, False], "error": pa.array([None, None], pa.string())}
    folder.write("one", pa.table({"id": ["a", "b"], **columns}))
    folder.write("two", pa.table({"id": ["b", "c"], **columns}))
    counts = folder.count({"a", "b", "z"})
    assert counts.ids == {"a", "b"} and counts.doubled == {"b"}


def test_rows_that_were_given_up_are_named(tmp_path):
    folder = BatchFolder(str(tmp_path))
    folder.write(
        "one", pa.table({"id": ["a"], "image": ["p"], "answered": [True], "error": pa.array([None], "string")})
    )
    rows = pa.table({"id": ["a", "b", "c"], "image": ["p", "big.tif", "big.tif"]})
    with pytest.raises(BatchError, match="2 of 3 rows have no result.* of 1 images, among them big.tif"):
        _result(folder, rows, _Work(), 3)
    assert _result(folder, rows.slice(0, 1), _Work(), 0).answered == 1


def test_a_worker_by_itself(tmp_path, monkeypatch):
    """Few images and expressions at a time give the same results; columns of any type are kept."""
    path = make(tmp_path, 3)
    table = read_manifest(str(path))
    extra = pa.array([{"a": [i]} for i in range(len(table))])
    table = table.append_column("extra", extra)
    settings = WorkerSettings(BUNDLED_MODEL, None, str(tmp_path), str(tmp_path / "whole"), 0.0, 2, IMGSZ, 8)
    worker = Worker(settings)
    whole = worker({"rows": pack(table)})
    assert (whole["images"], whole["rows"], whole["again"]) == (6, 6, False)  # not grouped, as no part is
    grouped = worker({"rows": pack(pa.concat_tables(cut(table, 1)))})
    assert (grouped["images"], grouped["rows"]) == (3, 6)
    (file,) = (tmp_path / "whole").iterdir()  # the same rows replace themselves
    before = pq.read_table(file)
    monkeypatch.setattr("optisar_yolo.batch.worker.EXPRESSIONS", 1)
    worker.settings = WorkerSettings(BUNDLED_MODEL, None, str(tmp_path), "", 0.0, 2, IMGSZ, 1)
    worker({"rows": pack(table)})
    after = pq.read_table(file)
    assert after.schema.names[-10:] == [
        "x1", "y1", "x2", "y2", "confidence", "width", "height", "answered", "error", "rank"
    ]  # fmt: skip
    assert before.schema == after.schema
    keys = [("id", "ascending"), ("rank", "ascending")]
    for a, b in zip(before.sort_by(keys).to_pylist(), after.sort_by(keys).to_pylist(), strict=True):
        assert a["extra"] == b["extra"] and a["x1"] == pytest.approx(b["x1"], abs=0.01)


def test_without_ray_the_extra_is_named():
    code = (
        "import sys; sys.modules['ray'] = None\n"
        "from optisar_yolo.commands.main import main\n"
        "sys.exit(main(['batch', 'manifest=x.csv', 'out=y']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and "pip install 'optisar-yolo[batch]'" in done.stderr

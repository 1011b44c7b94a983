"""Batches on a real Ray session: a worker is killed, the driver is killed, and every row is there once.

`test_apart.py` runs these in a process of their own.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from batch_set import IMGSZ, make

from optisar_yolo import OptiSAR
from optisar_yolo.commands.main import main
from optisar_yolo.utils import BUNDLED_MODEL

pytest.importorskip("ray")

import pyarrow.dataset  # noqa: E402
import ray  # noqa: E402
from ray._private.state import actors  # noqa: E402  # the public API needs the dashboard, which is off

from optisar_yolo.batch import run_batch  # noqa: E402
from optisar_yolo.batch.storage import RECORD  # noqa: E402

pytestmark = pytest.mark.timeout(300)  # a worker imports PyTorch and Ultralytics, on slow machines for many seconds
COUNT = 24


@pytest.fixture(scope="module")
def cluster():
    """Ray with two CPUs; returns its address."""
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # sockets allow short paths only
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    context = ray.init(
        "local", num_cpus=2, object_store_memory=100 * 1024**2, include_dashboard=False, log_to_driver=False,
        _temp_dir=folder,
    )  # fmt: skip
    yield context.address_info["address"]
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """24 images of two expressions each; one of them is damaged."""
    path = make(tmp_path_factory.mktemp("batch"), COUNT)
    (path.parent / "p5.png").write_bytes(b"\x89PNG but no more")
    return path


def read(folder):
    return pyarrow.dataset.dataset(sorted(Path(folder).glob("*.parquet"))).to_table().to_pylist()


def workers():
    """Return the workers that live, as Ray knows them."""
    known = actors().values()
    return [a for a in known if a["State"] == "ALIVE" and a["ActorClassName"].startswith("MapWorker")]


def kill_a_worker(folder, killed):
    """Kill the process of a worker as soon as the first results are written."""
    while not list(Path(folder).glob("answers-*.parquet")):
        time.sleep(0.02)
    killed.append(workers()[0]["Pid"])
    os.kill(killed[0], signal.SIGKILL)


@pytest.fixture(scope="module")
def killed_run(cluster, manifest, tmp_path_factory):
    """A run of two workers, of which one is killed in the middle: folder and result."""
    out, killed = tmp_path_factory.mktemp("out") / "answers", []
    thread = threading.Thread(target=kill_a_worker, args=(out, killed), daemon=True)
    thread.start()
    result = run_batch(manifest.as_uri(), out.as_uri(), BUNDLED_MODEL, imgsz=IMGSZ, workers=2, batch=4, engine="torch")
    thread.join()
    assert killed
    return out, result


def test_no_row_is_lost_or_doubled_when_a_worker_is_killed(killed_run):
    out, result = killed_run
    rows = read(out)
    assert len(rows) == len({r["id"] for r in rows}) == 2 * COUNT == result.rows == result.new
    assert sum(r["answered"] for r in rows) == result.answered > 0
    assert result.answered + result.unanswered + result.failed == result.rows
    assert result.restarts >= 1 and "died and were replaced" in result.summary()
    assert all(r["modality"] in ("optical", "sar") and r["image"] == f"p{r['number']}.png" for r in rows)


def test_results_are_those_of_the_model(killed_run, manifest):
    model = OptiSAR(BUNDLED_MODEL)
    rows = read(killed_run[0])
    for number in (0, 1, 2, 3, 4, 6):
        encoded = model.encode(manifest.parent / f"p{number}.png", IMGSZ, engine="torch")
        for row in (r for r in rows if r["number"] == number):
            found = encoded.ground(row["text"]).boxes
            assert len(found) == row["answered"]
            assert (row["height"], row["width"]) == encoded.image.shape[:2]
            if row["answered"]:
                assert [row[k] for k in ("x1", "y1", "x2", "y2")] == pytest.approx(found.xyxy[0].tolist(), abs=0.01)
                # several images at once round otherwise: of two cells that score alike, the other may be a candidate
                assert row["confidence"] == pytest.approx(float(found.conf[0]), abs=2e-3)
            else:
                best = encoded.ground(row["text"], conf=0).boxes.conf[0]
                assert row["x1"] is None and row["confidence"] == pytest.approx(float(best), abs=1e-4)


def test_a_damaged_image_is_named_and_stops_nothing(killed_run):
    out, result = killed_run
    failed = [r for r in read(out) if r["error"] is not None]
    assert result.failed == 2 and [r["image"] for r in failed] == ["p5.png"] * 2
    assert all(r["answered"] is False and r["x1"] is None and r["width"] is None for r in failed)
    assert list(result.problems) == ["p5.png"]
    assert "failed: " in result.summary() and "not an image that can be decoded" in result.summary()


def test_a_second_run_has_nothing_to_do(killed_run, manifest, log):
    out = killed_run[0]
    before = {f: f.stat().st_mtime_ns for f in out.iterdir()}
    assert main(["batch", f"manifest={manifest}", f"out={out}", f"imgsz={IMGSZ}", "workers=2"]) == 0
    assert {f: f.stat().st_mtime_ns for f in out.iterdir()} == before
    assert "48 of 48 rows are done already" in log.text and "nothing to do" in log.text


def test_other_settings_are_rejected(killed_run, manifest, capsys):
    assert main(["batch", f"manifest={manifest}", f"out={killed_run[0]}", f"imgsz={IMGSZ}", "conf=0.1"]) == 1
    message = capsys.readouterr().err
    assert "begun with other settings (conf " in message and "0.1 now" in message


def test_a_killed_driver_continues(cluster, manifest, tmp_path):
    """The command is killed after its first file; a second one on the same Ray finishes, and writes nothing twice."""
    out = tmp_path / "answers"
    words = ["batch", f"manifest={manifest}", f"out={out}", f"imgsz={IMGSZ}", "workers=1", "device=cpu", "topk=2"]
    command = [sys.executable, "-m", "optisar_yolo", *words, f"address={cluster}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as driver:
        try:
            while not list(out.glob("answers-*.parquet")):
                assert driver.poll() is None, driver.stderr.read()
                time.sleep(0.02)
        finally:
            driver.kill()
    while workers():
        time.sleep(0.1)  # Ray ends the workers of a driver that is gone
    early = {f.name for f in out.glob("answers-*.parquet")}
    ids = {r["id"] for r in read(out)}
    assert 0 < len(ids) < 2 * COUNT and (out / RECORD).is_file()
    (out / ".answers-00.parquet.12345678.part").write_bytes(b"PAR1")  # as a worker killed while writing leaves it
    (out / "answers-00.parquet").write_bytes(b"PAR1 half")

    result = run_batch(str(manifest), str(out), BUNDLED_MODEL, imgsz=IMGSZ, workers=1, topk=2, device="cpu")
    rows = read(out)
    assert result.new == 2 * COUNT - len(ids)
    assert early < {f.name for f in out.iterdir()} and not list(out.glob(".*"))
    first = [r["id"] for r in rows if r["rank"] == 1]
    assert len(first) == len(set(first)) == 2 * COUNT
    second = [r for r in rows if r["rank"] == 2]
    assert all(r["answered"] and r["id"] in first for r in second)

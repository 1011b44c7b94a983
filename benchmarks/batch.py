"""Recovery of a batch from a dead worker: the same manifest undisturbed, and with a worker killed midway.

    python benchmarks/batch.py [--images 96] [--expressions 2] [--workers 2] [--imgsz 320]

writes benchmarks/results/batch.json. The images are rendered. The worker gets SIGKILL when a quarter of the
rows are written. Both runs are in one Ray session, and each starts its own workers, which is part of its seconds.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import ray
from ray._private.state import actors  # the public API needs the dashboard
from timing import RESULTS, about, add_to_record

from optisar_yolo.batch import run_batch
from optisar_yolo.synthetic import render_image
from optisar_yolo.utils import BUNDLED_MODEL

BOX = ("x1", "y1", "x2", "y2")
PIXELS, CONFIDENCE = 0.01, 1e-4  # tolerance within which two results are the same
EXPRESSIONS = ("the ship in the upper left", "the largest object", "the rightmost ship", "the harbor at the bottom")


def make(folder: Path, images: int, expressions: int) -> Path:
    """Render images, and write a manifest with a number of expressions for each."""
    rows = []
    for i in range(images):
        made = render_image(0, "test", i)
        cv2.imwrite(str(folder / f"{i}.jpg"), made["img"])
        texts = list(dict.fromkeys([*(e[1] for e in made["expressions"]), *EXPRESSIONS]))[:expressions]
        rows += [{"image": f"{i}.jpg", "text": text} for text in texts]
    pq.write_table(pa.Table.from_pylist(rows), folder / "asks.parquet")
    return folder / "asks.parquet"


def results(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of the whole files in a folder, in the order of their ids."""
    files = sorted(folder.glob("answers-*.parquet"))
    return pyarrow.dataset.dataset(files).to_table().sort_by("id").to_pylist() if files else []


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Tell whether two rows have the same result; its last bits depend on the images of the batch."""
    moved = {*BOX, "confidence"}
    if any((one[k] is None) != (other[k] is None) if k in moved else one[k] != other[k] for k in one):
        return False
    return all(abs(one[k] - other[k]) <= (PIXELS if k in BOX else CONFIDENCE) for k in moved if one[k] is not None)


def kill_in_the_middle(folder: Path, rows: int, record: dict[str, Any]) -> None:
    """Kill a worker when a quarter of the rows are written, and record when."""
    while len(done := results(folder)) < rows / 4:
        time.sleep(0.05)
    alive = [a for a in actors().values() if a["State"] == "ALIVE" and a["ActorClassName"].startswith("MapWorker")]
    os.kill(alive[0]["Pid"], signal.SIGKILL)
    record["rows written at the kill"] = len(done)


def restarts() -> int:
    """Return how often Ray has restarted a worker, by its own records."""
    return sum(int(a["NumRestarts"]) for a in actors().values() if a["ActorClassName"].startswith("MapWorker"))


def main() -> None:
    """Run both, compare, record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", "--pictures", type=int, default=96)
    parser.add_argument("--expressions", "--sentences", type=int, default=2, choices=range(1, 5))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--imgsz", type=int, default=320)
    o = parser.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init("local", num_cpus=o.workers, include_dashboard=False, log_to_driver=False)
    how = {"imgsz": o.imgsz, "workers": o.workers, "device": "cpu", "cpus": 1}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = make(folder, o.images, o.expressions)
        rows = o.images * o.expressions
        plain = run_batch(str(manifest), str(folder / "plain"), BUNDLED_MODEL, **how)
        before, at_kill = restarts(), {}
        thread = threading.Thread(target=kill_in_the_middle, args=(folder / "killed", rows, at_kill), daemon=True)
        thread.start()
        killed = run_batch(str(manifest), str(folder / "killed"), BUNDLED_MODEL, **how)
        thread.join()
        first, second = results(folder / "plain"), results(folder / "killed")
    ids = [row["id"] for row in second]
    cell = {
        "pictures": o.images,
        "rows": rows,
        "workers": o.workers,
        **at_kill,
        "workers started again": restarts() - before,
        "rows lost": len({row["id"] for row in first} - set(ids)),
        "rows doubled": len(ids) - len(set(ids)),
        "rows with another answer": sum(not same(*pair) for pair in zip(first, second, strict=True)),
        "seconds undisturbed": plain.seconds,
        "seconds with the kill": killed.seconds,
    }
    ray.shutdown()
    add_to_record(RESULTS / "batch.json", about(o.workers) | {"ray": ray.__version__}, {"a killed worker": cell})
    print("\n".join(f"{k}: {v}" for k, v in cell.items()))


if __name__ == "__main__":
    main()

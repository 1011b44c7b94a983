"""A batch on a Ray cluster of two nodes, with images and results in object storage; nodes are killed midway.

`test_apart.py` runs this in a process of its own. The object storage is moto's server on this machine.
"""

import os
import shutil
import tempfile
import threading
import time

import pytest
from batch_set import IMGSZ, make

from optisar_yolo.utils import BUNDLED_MODEL

pytest.importorskip("ray")
pytest.importorskip("moto.server")

import pyarrow.dataset  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402
from pyarrow import fs  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402

from optisar_yolo.batch import BatchError, run_batch  # noqa: E402

pytestmark = pytest.mark.timeout(1500)
COUNT = 40
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}


@pytest.fixture(scope="module")
def bucket():
    """An empty bucket: its filesystem, and a function that makes URIs in it."""
    os.environ |= KEYS
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    query = f"region=us-east-1&scheme=http&endpoint_override={host}:{port}&allow_bucket_creation=true"
    storage, _ = fs.FileSystem.from_uri(f"s3://archive/?{query}")
    storage.create_dir("archive")
    yield storage, lambda name: f"s3://archive/{name}?{query}"
    server.stop()


@pytest.fixture(scope="module")
def cluster():
    """Two nodes that work, and a head that does not."""
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # sockets allow short paths only
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    store = {"object_store_memory": 80 * 1024**2}
    head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": folder, **store}
    made = Cluster(initialize_head=True, connect=False, head_node_args=head)
    nodes = [made.add_node(num_cpus=2, **store) for _ in range(2)]
    yield made, nodes
    made.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


def names(storage, folder):
    found = storage.get_file_info(fs.FileSelector(f"archive/{folder}", allow_not_found=True))
    return [f.path for f in found if f.base_name.startswith("answers-")]


def upload(storage, folder):
    """Put the files of a folder into the bucket; what is there is replaced."""
    for file in folder.iterdir():
        with storage.open_output_stream(f"archive/asks/{file.name}") as out:
            out.write(file.read_bytes())


def test_no_row_is_lost_or_doubled_when_a_node_is_killed(bucket, cluster, tmp_path):
    storage, uri = bucket
    made, nodes = cluster
    manifest = make(tmp_path, COUNT)
    upload(storage, tmp_path)
    killed = []

    def kill_a_node():
        while not names(storage, "answers"):
            time.sleep(0.05)
        killed.append(len(names(storage, "answers")))
        made.remove_node(nodes[0], allow_graceful=False)

    thread = threading.Thread(target=kill_a_node, daemon=True)
    thread.start()
    result = run_batch(
        uri(f"asks/{manifest.name}"), uri("answers"), BUNDLED_MODEL, imgsz=IMGSZ, workers=2, batch=1,
        address=made.address, device="cpu", engine="torch",
    )  # fmt: skip
    thread.join(60)
    files = names(storage, "answers")
    assert killed and killed[0] < len(files), "the node died before the run's end"
    rows = pyarrow.dataset.dataset(files, filesystem=storage).to_table().to_pylist()
    assert len(rows) == len({r["id"] for r in rows}) == 2 * COUNT == result.rows == result.new
    assert result.failed == 0 and sum(r["answered"] for r in rows) == result.answered > 0
    again = run_batch(
        uri(f"asks/{manifest.name}"), uri("answers"), BUNDLED_MODEL, imgsz=IMGSZ, workers=2, batch=2, device="cpu",
        engine="torch",
    )  # fmt: skip
    assert again.new == 0 and again.rows == 2 * COUNT


def test_a_batch_ends_where_no_machine_is_left(bucket, cluster, tmp_path, monkeypatch):
    storage, uri = bucket
    made, _ = cluster
    manifest = make(tmp_path, COUNT)
    upload(storage, tmp_path)
    monkeypatch.setattr("optisar_yolo.batch.cluster.FREE", 20)

    def kill_all_nodes():
        while not names(storage, "other"):
            time.sleep(0.05)
        for node in list(made.worker_nodes):
            made.remove_node(node, allow_graceful=False)

    thread = threading.Thread(target=kill_all_nodes, daemon=True)
    thread.start()
    with pytest.raises(BatchError, match=r"no machine of the Ray cluster (had room|has CPUs)"):
        run_batch(
            uri(f"asks/{manifest.name}"), uri("other"), BUNDLED_MODEL, imgsz=IMGSZ, workers=2, batch=1,
            address=made.address, device="cpu", engine="torch",
        )  # fmt: skip
    thread.join(60)
    files = names(storage, "other")
    rows = pyarrow.dataset.dataset(files, filesystem=storage).to_table().to_pylist()
    assert 0 < len(rows) == len({r["id"] for r in rows}) < 2 * COUNT

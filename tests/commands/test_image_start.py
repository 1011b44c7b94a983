"""The start of the container's service: the graph that was made with the image is used, and the words are passed on."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "packaging" / "start.sh"


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_the_service_starts_with_the_graph_of_the_image(tmp_path: Path) -> None:
    made = tmp_path / "graphs" / "Ultralytics" / "optisar-engines" / "abc"
    made.mkdir(parents=True)
    (made / "entry.json").write_text("{}")
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "optisar"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/called\n')
    program.chmod(0o755)
    config = tmp_path / "config"
    where = {"PATH": f"{program.parent}:/usr/bin:/bin", "YOLO_CONFIG_DIR": str(config)}
    where["OPTISAR_GRAPHS"] = str(tmp_path / "graphs")
    for _ in range(2):  # a container that is started again
        subprocess.run(["/bin/sh", SCRIPT, "port=8000", "model=my weights.pt"], env=where, check=True, timeout=60)
    time.sleep(0.5)
    called = (tmp_path / "called").read_text().splitlines()
    assert (
        sorted(called)
        == ["cache make model=my weights.pt background=True"] * 2 + ["serve port=8000 model=my weights.pt"] * 2
    )
    kept = config / "Ultralytics" / "optisar-engines"
    assert [p.relative_to(kept).as_posix() for p in kept.rglob("*.json")] == ["abc/entry.json"]


def test_the_dockerfile_makes_the_graph_and_starts_the_script() -> None:
    text = SCRIPT.with_name("Dockerfile").read_text(encoding="utf-8")
    assert "optisar cache make" in text and "COPY packaging/start.sh /opt/optisar/start.sh" in text
    assert text.rstrip().splitlines()[-1].startswith('ENTRYPOINT ["/bin/sh", "/opt/optisar/start.sh"')

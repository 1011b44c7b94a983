"""Waiting for a Ray cluster: no wait is without end, and each says what it waits for.

1. :func:`wait_for_cores`: before a round, until a worker finds its cores.
2. :func:`machines_watched`: in a round, for results, as long as a machine has room for a worker.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import ray
from ultralytics.utils import LOGGER

from optisar_yolo.batch.options import BatchError

FREE = 600  # seconds that a round waits for a worker's cores at most: as long as Ray may hold those of a lost machine
SAID = 10  # seconds after which it is said
LOOK = 5  # seconds between two looks at the machines


@dataclass(frozen=True)
class Share:
    """Resources of a worker.

    Attributes:
        cpus: Cores.
        gpus: GPUs, a fraction where workers share one.
    """

    cpus: int
    gpus: float

    def __str__(self) -> str:
        return f"{self.cpus} CPUs" + (f" and {self.gpus:g} GPUs" if self.gpus else "")


def largest_machine() -> float:
    """Return the number of cores of the living machine that has most, used or not."""
    return max((node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]), default=0)


def wait_for_cores(share: Share, out: str) -> None:
    """Wait until a worker finds its cores: others may use the cluster, or workers of a machine that was lost.

    Args:
        share: Resources of a worker.
        out: Folder of results, for messages.

    Raises:
        BatchError: They were not free within `FREE` seconds.
    """
    started, said = time.monotonic(), False
    while (free := ray.available_resources()).get("CPU", 0) < share.cpus or free.get("GPU", 0) < share.gpus:
        spent = time.monotonic() - started
        if spent >= FREE:
            raise BatchError(
                f"no worker of {share} found room in the Ray cluster within {FREE} seconds: {free.get('CPU', 0):g} "
                f"CPUs and {free.get('GPU', 0):g} GPUs are free, others use the rest. Run the same command when they "
                f"have ended, or give a smaller cpus=; it continues from the results in {out}"
            )
        if spent >= SAID and not said:
            LOGGER.info(f"waiting for {share} of the Ray cluster, at most {FREE} seconds")
            said = True
        time.sleep(1)


@contextmanager
def machines_watched(share: Share, out: str, stop: Callable[[], object]) -> Iterator[None]:
    """Watch, while a block waits for results, that a machine of the cluster has room for a worker.

    Workers of a lost machine start anew on another one, and Ray waits for one without end: it has no limit for this,
    and results can be hours apart. Another thread looks at the machines.

    Args:
        share: Resources of a worker.
        out: Folder of results, for messages.
        stop: Ends what the block waits for; called from the other thread.

    Raises:
        BatchError: No machine had room for `FREE` seconds.
    """
    over, problems = threading.Event(), list[BatchError]()

    def watch() -> None:
        since: float | None = None  # when the last machine went
        while not over.wait(LOOK):
            try:
                since = _without_machines(share, since, out)
            except BatchError as error:
                problems.append(error)
                stop()
                return

    watcher = threading.Thread(target=watch, name="optisar-batch", daemon=True)
    watcher.start()
    try:
        yield
    except Exception:
        if problems:
            raise problems[0] from None
        raise
    finally:
        over.set()
        watcher.join()
    if problems:
        raise problems[0]


def _without_machines(share: Share, since: float | None, out: str) -> float | None:
    """Return since when no machine has room for a worker; None: one has."""
    if largest_machine() >= share.cpus:
        return None
    if since is None:
        LOGGER.warning(f"no machine of the Ray cluster is left for a worker; waiting for one, at most {FREE} seconds")
        return time.monotonic()
    if time.monotonic() - since >= FREE:
        raise BatchError(
            f"no machine of the Ray cluster had room for a worker of {share} for {FREE} seconds: add one, and run the "
            f"same command; it continues from the results in {out}"
        )
    return since

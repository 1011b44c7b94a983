"""The Ray session of a run: joined where there is one, started and ended otherwise; quiet, without telemetry."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import ray
import torch
from ray.data import DataContext
from ultralytics.utils.torch_utils import select_device

from optisar_yolo.batch.options import BatchError, BatchOptions

PASSED = ("YOLO_OFFLINE", "YOLO_AUTOINSTALL", "YOLO_CONFIG_DIR", "HF_HUB_OFFLINE", "OPTISAR_AUTOLOAD")
"""Environment variables that workers get from the driver."""

STORE = 256 * 1024**2  # bytes of shared memory of a session of our own, beside the manifest's
LOST = 10  # parts that may be given up, their worker having died under each again and again, before the run ends
_LEVELS = {"ray.data": logging.WARNING, "ray.data._internal.progress": logging.ERROR}
_QUIET = {"enable_progress_bars": False, "print_on_execution_start": False, "max_errored_blocks": LOST}


@dataclass(frozen=True)
class Share:
    """What a worker gets.

    Attributes:
        cpus: CPU cores.
        gpus: GPUs, a fraction where workers share one.
    """

    cpus: int
    gpus: float


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def session(options: BatchOptions, workers: int, size: int) -> Iterator[Share]:
    """Join or start Ray for the time of a block.

    Args:
        options: ``address``, ``cpus`` and ``device`` of them.
        workers: Workers to have room for.
        size: Bytes of the manifest.

    Yields:
        What each worker gets.

    Raises:
        BatchError: The cluster cannot be reached or has no room for a worker.
        ValueError: No such device.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray 2.60 warns about otherwise
    ours = not ray.is_initialized()
    local = ours and not options.address
    gpus = _local_gpus(options.device) if local else 0
    cpus = options.cpus or (max(1, cores() // workers) if local else 1)
    if local:
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # or Ray's core explains itself on every start
    if ours:
        how: dict[str, object] = {"num_cpus": workers * cpus, "num_gpus": gpus, "object_store_memory": STORE + 2 * size}
        _start(options.address or "local", how | {"include_dashboard": False} if local else {})
    try:
        resources = ray.cluster_resources()
        if not local:
            gpus = 0 if options.device == "cpu" else int(resources.get("GPU", 0))
        share = Share(cpus, min(1.0, gpus / workers))
        if resources.get("CPU", 0) < cpus:
            raise BatchError(f"a worker of {cpus} CPUs finds only {resources.get('CPU', 0):g}; give a smaller cpus=")
        if options.device not in (None, "cpu") and not gpus:
            raise BatchError(f"device={options.device}: the Ray cluster has no GPU; give device=cpu")
        with _quiet():
            yield share
    finally:
        if ours:
            ray.shutdown()


def _start(address: str, how: dict[str, object]) -> None:
    """Start or join Ray."""
    if not how:  # a cluster's processes are not ours and inherit nothing
        how = {"runtime_env": {"env_vars": {name: os.environ[name] for name in PASSED if name in os.environ}}}
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **how)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise BatchError(f"address={address}: Ray cannot be reached or started ({error})") from error


def _local_gpus(device: str | None) -> int:
    """Return how many GPUs of this machine to use; Ultralytics checks the choice, and hides the others."""
    if select_device(device or "", verbose=False).type != "cuda":
        return 0
    return len(device.split(",")) if device else torch.cuda.device_count()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Ray Data's own bars and plans, and let it go on where a part is lost."""
    context = DataContext.get_current()
    before = {name: getattr(context, name) for name in _QUIET}
    levels = {logger: logger.level for logger in map(logging.getLogger, _LEVELS)}
    for name, value in _QUIET.items():
        setattr(context, name, value)
    for logger in levels:
        logger.setLevel(_LEVELS[logger.name])
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")  # limits of retries have no other way
            yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)
        for logger, level in levels.items():
            logger.setLevel(level)

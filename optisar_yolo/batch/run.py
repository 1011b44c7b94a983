"""A batch from the manifest to Parquet files.

1. :func:`run_batch` reads the manifest, leaves out the rows that are done, and cuts the rest into parts.
2. Workers of Ray Data ground the parts (:func:`_ground`) in a Ray session that is joined or started (:func:`session`).
   Where a machine of a cluster was lost, another session grounds what is left: workers end with their session, and
   would otherwise keep their cores for minutes.
3. At the end every row of the manifest is looked for in the folder of results (:func:`_result`).
"""

from __future__ import annotations

import gc
import logging
import os
import time
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import ray.data
import torch
from ray.data import DataContext
from ray.exceptions import RayError
from ultralytics.utils import LOGGER, TQDM
from ultralytics.utils.torch_utils import select_device

from optisar_yolo.batch.cluster import Share, largest_machine, machines_watched, wait_for_cores
from optisar_yolo.batch.manifest import IMAGES, cut, pack, read_manifest
from optisar_yolo.batch.options import BatchError, BatchOptions
from optisar_yolo.batch.rasters import DEGREES, RasterWorker
from optisar_yolo.batch.storage import BatchFolder, is_uri, parent
from optisar_yolo.batch.watch import watched
from optisar_yolo.batch.worker import Worker, WorkerSettings, open_grounder
from optisar_yolo.engine import KnownExpressions, find_weights
from optisar_yolo.export import is_export
from optisar_yolo.language import read_notes
from optisar_yolo.serve import Grounder
from optisar_yolo.utils import file_sha256, fingerprint
from optisar_yolo.version import __version__

DEATHS = 3  # times that a part is retried after its worker died, so that a part that kills workers ends
NOTICED = 60  # seconds within which Ray knows that a machine is gone; its health checks fail after about 30
PAUSE = 5  # seconds between two sessions, in which processes end: a worker that got an ending one started after 140 s
LOST = 10  # parts that may be given up for this reason before the run ends
NAMED = 10  # images that could not be read, in the summary
STORE = 256 * 1024**2  # bytes of shared memory of a session that is started here, beside the manifest's
PASSED = ("YOLO_OFFLINE", "YOLO_AUTOINSTALL", "YOLO_CONFIG_DIR", "HF_HUB_OFFLINE", "OPTISAR_AUTOLOAD")
"""Environment variables that the workers of a cluster get from the driver."""

_LEVELS = {"ray.data": logging.WARNING, "ray.data._internal.progress": logging.ERROR}
_QUIET = {"enable_progress_bars": False, "print_on_execution_start": False, "max_errored_blocks": LOST}


@dataclass(frozen=True)
class BatchResult:
    """What a folder holds after a run.

    Attributes:
        folder: The folder.
        rows: Rows of the manifest.
        answered: Rows with a box.
        unanswered: Rows whose best box is below the threshold.
        failed: Rows whose image could not be read.
        problems: Those images, and why.
        new: Rows that were grounded in this run.
        images: Images that were encoded in this run.
        seconds: Duration, including the start of the workers.
        restarts: Workers that replaced dead ones and finished a part.
    """

    folder: str
    rows: int
    answered: int
    unanswered: int
    failed: int
    problems: dict[str, str] = field(default_factory=dict)
    new: int = 0
    images: int = 0
    seconds: float = 0.0
    restarts: int = 0

    @property
    def pictures(self) -> int:
        """Former name of :attr:`images`."""
        warnings.warn("BatchResult.pictures is now BatchResult.images", FutureWarning, stacklevel=2)
        return self.images

    def summary(self) -> str:
        """Return the result as lines for the log."""
        lines = [f"{self.rows} rows: {self.answered} with a box, {self.unanswered} without, {self.failed} failed"]
        lines += [f"failed: {problem}" for problem in list(self.problems.values())[:NAMED]]
        if len(self.problems) > NAMED:
            lines.append(f"… and {len(self.problems) - NAMED} more images: see the column error")
        if self.restarts:
            lines.append(f"{self.restarts} workers died and were replaced; their rows were grounded again")
        if self.new:
            duration = f"{self.seconds:.1f} s with the start of the workers"
            lines.append(f"{self.images} images in {duration}, {self.images / self.seconds:.2f} a second")
        else:
            lines.append("nothing to do: every row is done already")
        return "\n".join([*lines, f"Results saved to {self.folder}"])


@dataclass
class _Work:
    """What was done in this run."""

    images: int = 0
    seconds: float = 0.0
    replaced: set[str] = field(default_factory=set)  # processes that replaced dead ones


def run_batch(manifest: str, out: str, model: str, options: BatchOptions | None = None, **kwargs: Any) -> BatchResult:
    """Ground all rows of a manifest that have no result in a folder yet.

    Args:
        manifest: Table of images and expressions, path or URI (see :func:`~optisar_yolo.batch.manifest.read_manifest`).
        out: Folder of results, path or URI.
        model: Weights or an export; on a cluster, a path that all machines have.
        options: See :class:`~optisar_yolo.batch.options.BatchOptions`.
        **kwargs: Fields of the options, where none are given.

    Returns:
        What the folder holds now.

    Raises:
        FileNotFoundError: No such manifest or weights.
        BatchError: A manifest, a folder or a cluster that cannot be used, or rows that remain without a result.
        SettingError: An option out of range.
    """
    options = options or BatchOptions(**kwargs)
    table = read_manifest(manifest)
    if taken := [c for c in table.column_names if options.rasters and c in DEGREES]:
        raise BatchError(f"{manifest}: the column '{taken[0]}' has the name of a result column; rename it")
    grounder = open_grounder(  # fails before Ray starts
        model, options.imgsz, options.batch, options.text_weights, engine=options.engine
    )
    _check_known(grounder, table)
    folder = BatchFolder(out if is_uri(out) else str(Path(out).expanduser().absolute()))
    folder.begin(_run_settings(grounder, model, options))
    ids = table["id"].to_pylist()
    done = folder.count(set(ids)).ids
    todo = table.filter(pa.array([key not in done for key in ids])) if done else table
    if len(todo) < len(table):
        LOGGER.info(f"{len(table) - len(todo)} of {len(table)} rows are done already")
    settings = WorkerSettings(
        model=str(Path(model).absolute()) if Path(model).exists() else model,  # or the bare name of packaged weights
        text_weights=options.text_weights and str(Path(options.text_weights).expanduser().absolute()),
        base=parent(manifest),
        out=folder.name,
        conf=options.conf if options.rasters or options.conf is not None else grounder.conf,
        topk=options.topk,
        imgsz=grounder.imgsz,
        batch=options.batch,
        engine=options.engine,
        gsd=options.gsd,
    )
    del grounder
    work = _ground(todo, settings, options) if len(todo) else _Work()
    return _result(folder, table, work, len(todo))


def _warn_of_wording(texts: Sequence[str], conf: float | None, topk: int) -> None:
    """Say which expressions get no box because of what they ask for, such as a negation."""
    read = [read_notes(text, topk, several=topk > 1) for text in texts]
    beyond = [] if conf == 0 else [found for found in read if not found.grounded]
    if beyond:
        LOGGER.warning(
            f"{len(beyond)} of {len(texts)} expressions get no box unless the training of the weights had such ones, "
            f"for instance '{beyond[0].text}': {beyond[0].message(1)}"
        )


def _ground(todo: pa.Table, settings: WorkerSettings, options: BatchOptions) -> _Work:
    """Have rows grounded and written by workers; once more where a machine of the cluster was lost meanwhile."""
    work = _Work()
    _warn_of_wording(todo["text"].unique().to_pylist(), settings.conf, settings.topk)
    started = time.perf_counter()
    workers = min(options.workers, len(todo["image"].unique()))
    lost = True
    while lost:
        with session(options, workers, todo.nbytes) as share:
            settings = replace(settings, cpus=share.cpus, gpu=share.gpus > 0)
            wait_for_cores(share, settings.out)
            before = _machines()
            problem = _round(todo, settings, options, share, work)
            todo = _left(todo, settings)
            lost = len(todo) > 0 and _lost_machines(before, len(todo))
        gc.collect()  # in the caller's own session, workers end with what refers to them
        time.sleep(PAUSE if lost else 0)
    if problem is not None and len(todo):
        raise problem
    work.seconds = time.perf_counter() - started
    return work


def _round(
    todo: pa.Table, settings: WorkerSettings, options: BatchOptions, share: Share, work: _Work
) -> BatchError | None:
    """Have rows grounded once; returns the reason where the workers failed."""
    parts = [pack(part) for part in cut(todo, options.workers, 1 if options.rasters else IMAGES)]  # of rasters, hours
    # not `from_arrow`, which needs a core of the cluster, and waits for it without end
    data = ray.data.from_items([{"rows": rows} for rows in parts], override_num_blocks=len(parts))
    counted = data.map(
        RasterWorker if options.rasters else Worker,
        fn_constructor_kwargs={"settings": settings},
        compute=ray.data.ActorPoolStrategy(size=min(options.workers, len(parts))),
        num_cpus=share.cpus,
        num_gpus=share.gpus or None,
        max_restarts=-1,
        max_task_retries=DEATHS,
    )
    bar = TQDM(total=len(todo), desc="grounding", unit="row")
    batches = iter(counted.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0))
    try:
        with machines_watched(share, settings.out, partial(_end, counted)):
            for batch in batches:
                for part in batch.to_pylist():
                    work.images += part["images"]
                    if part["again"]:
                        work.replaced.add(part["worker"])
                    bar.update(part["rows"])
    except RayError as error:
        problem = BatchError(
            f"the workers failed: {_reason(error)}\nThe results until then are in {settings.out}; the same command "
            "continues from there"
        )
        problem.__cause__ = error.with_traceback(None)  # whose frames would keep the workers, and their cores
        return problem
    finally:
        bar.close()
        _end(counted)
        if isinstance(batches, Generator):
            batches.close()
    return None


def _end(data: ray.data.Dataset) -> None:
    """End the execution of a data set and its workers, which would live as long as something refers to them."""
    with suppress(AttributeError):  # not public: Ray has no other way
        data._synchronize_progress_bar()


def _machines() -> set[str]:
    """Return the machines of the cluster that live, as Ray knows them."""
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def _left(todo: pa.Table, settings: WorkerSettings) -> pa.Table:
    """Return the rows that have no result."""
    done = BatchFolder(settings.out).count(set(todo["id"].to_pylist())).ids
    return todo.filter(pa.array([key not in done for key in todo["id"].to_pylist()], pa.bool_()))


def _lost_machines(before: set[str], rows: int) -> bool:
    """Tell whether a machine was lost, which may be why rows were not done; waits until Ray can know it.

    Ray retries the parts of a machine that does not answer within a second or so, and gives them up before it knows
    that the machine is gone.
    """
    ends = time.monotonic() + (NOTICED if len(before) > 1 else 0)
    while not (lost := before - _machines()) and time.monotonic() < ends:
        time.sleep(1)
    if lost:
        LOGGER.warning(f"{len(lost)} of {len(before)} machines were lost; {rows} rows are grounded by the others")
    return bool(lost)


def _reason(error: BaseException) -> str:
    """Return the last line of Ray's message, which is the error itself."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _result(folder: BatchFolder, table: pa.Table, work: _Work, new: int) -> BatchResult:
    """Read back what the folder holds, and check that every row of the manifest is there once."""
    images = dict(zip(table["id"].to_pylist(), table["image"].to_pylist(), strict=True))
    counts = folder.count(set(images))
    if counts.doubled:
        LOGGER.warning(
            f"{len(counts.doubled)} rows are in more than one file of {folder.name}, such as '{min(counts.doubled)}': "
            "two runs wrote into it at the same time"
        )
    if missing := [key for key in images if key not in counts.ids]:
        without = list(dict.fromkeys(images[key] for key in missing))
        raise BatchError(
            f"{len(missing)} of {len(images)} rows have no result, as their worker failed or died {DEATHS + 1} times "
            f"(the reason is above): they are of {len(without)} images, among them {', '.join(without[:NAMED])}. "
            "A smaller batch= and fewer workers= need less memory; the same command tries these rows again, in smaller "
            f"parts. The other results are in {folder.name}"
        )
    return BatchResult(
        folder.name, len(images), counts.answered, counts.unanswered, counts.failed, counts.problems, new, work.images,
        round(work.seconds, 2), len(work.replaced),
    )  # fmt: skip


def _run_settings(grounder: Grounder, model: str, options: BatchOptions) -> dict[str, Any]:
    """Return everything that results depend on beside the images."""
    rasters = {"rasters": True, "gsd": options.gsd} if options.rasters else {}
    return {
        **rasters,
        "version": __version__,
        "model": Path(grounder.name).name,
        "weights": _digest(Path(model) if is_export(model) else find_weights(model)),
        "text": getattr(getattr(grounder.bank, "encoder", None), "fingerprint", ""),
        "conf": round(grounder.conf if options.conf is None else options.conf, 6),
        "topk": options.topk,
        "imgsz": grounder.imgsz or ("by training" if options.rasters else "by image"),
    }


def _digest(path: Path) -> str:
    """Return a hash of a weights file, or of all files of an export's folder."""
    if path.is_file():
        return file_sha256(path)[:12]
    return fingerprint([file_sha256(f) for f in sorted(path.rglob("*")) if f.is_file()], digits=12)


def _check_known(grounder: Grounder, table: pa.Table) -> None:
    """Reject expressions that an export with fixed expressions does not have."""
    if isinstance(grounder.bank, KnownExpressions):
        known = set(grounder.bank.texts)
        for text in table["text"].unique().to_pylist():
            if text not in known:
                raise BatchError(f"the model was exported with fixed expressions, and '{text}' is none of them")


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def session(options: BatchOptions, workers: int, size: int) -> Iterator[Share]:
    """Join a Ray session, or start one that ends with the block.

    Args:
        options: `address`, `cpus` and `device` of them.
        workers: Number of workers.
        size: Bytes of the manifest.

    Yields:
        The resources of each worker.

    Raises:
        BatchError: The cluster cannot be reached or has no room for a worker.
        ValueError: No such device.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray 2.60 warns otherwise
    ours = not ray.is_initialized()
    local = ours and not options.address
    gpus = _local_gpus(options.device) if local else 0
    cpus = options.cpus or (max(1, cores() // workers) if local else 1)
    if local:
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # or Ray's core logs on every start
    with watched() if local else nullcontext("") as folder:
        if ours:
            own = {"num_cpus": workers * cpus, "num_gpus": gpus, "object_store_memory": STORE + 2 * size}
            here: dict[str, object] = own | {"include_dashboard": False, "_temp_dir": folder}
            _start(options.address or "local", here if local else {})
        try:
            resources = ray.cluster_resources()
            if not local:
                gpus = 0 if options.device == "cpu" else int(resources.get("GPU", 0))
            share = Share(cpus, min(1.0, gpus / workers))
            if (there := largest_machine()) < cpus:
                raise BatchError(
                    f"a worker of {cpus} CPUs finds only {there:g} on a machine; give a smaller cpus="
                    if there
                    else "no machine of the Ray cluster has CPUs for a worker; add one"
                )
            if options.device not in (None, "cpu") and not gpus:
                raise BatchError(f"device={options.device}: the Ray cluster has no GPU; give device=cpu")
            with _quiet():
                yield share
        finally:
            if ours:
                ray.shutdown()


def _start(address: str, settings: dict[str, object]) -> None:
    """Start or join Ray."""
    if not settings:  # the processes of a cluster do not inherit this environment
        settings = {"runtime_env": {"env_vars": {name: os.environ[name] for name in PASSED if name in os.environ}}}
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **settings)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise BatchError(f"address={address}: Ray cannot be reached or started ({error})") from error


def _local_gpus(device: str | None) -> int:
    """Return how many GPUs of this machine to use; Ultralytics checks the choice and hides the others."""
    if select_device(device or "", verbose=False).type != "cuda":
        return 0
    return len(device.split(",")) if device else torch.cuda.device_count()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Ray Data's own progress bars and plans, and continue where a part is lost."""
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

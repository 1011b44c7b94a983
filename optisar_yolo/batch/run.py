"""A batch from manifest to Parquet: read, leave out what is done, cut into parts, ask, count."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.exceptions import RayError
from ultralytics.utils import LOGGER, TQDM

from optisar_yolo.batch.folder import AnswerFolder
from optisar_yolo.batch.manifest import read_manifest
from optisar_yolo.batch.options import BatchError, BatchOptions
from optisar_yolo.batch.parts import cut, pack
from optisar_yolo.batch.places import is_uri, parent
from optisar_yolo.batch.session import session
from optisar_yolo.batch.worker import Asking, Worker, open_engine
from optisar_yolo.engine import KnownExpressions, find_weights
from optisar_yolo.export import is_export
from optisar_yolo.serve import Engine
from optisar_yolo.version import __version__

DEATHS = 3  # of its worker that a part survives; one that kills its workers would otherwise be tried for ever
NAMED = 10  # images that could not be read, in the report


@dataclass(frozen=True)
class BatchResult:
    """What a folder holds after a run.

    Attributes:
        folder: Where the answers are.
        rows: Rows of the manifest.
        answered: Rows with a box.
        unanswered: Rows whose best box is not sure enough.
        failed: Rows whose image could not be read.
        problems: Those images, and why.
        new: Rows that were asked in this run.
        images: Images that were asked about in this run.
        seconds: Time of asking, with that of starting the workers.
        restarts: Workers that took the place of dead ones, as far as they finished a part.
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


@dataclass
class _Work:
    """What was done in this run."""

    images: int = 0
    seconds: float = 0.0
    replaced: set[str] = field(default_factory=set)  # processes that stood in for dead ones


def run_batch(manifest: str, out: str, model: str, options: BatchOptions | None = None, **kwargs: Any) -> BatchResult:
    """Ask all rows of a manifest that have no answer in a folder yet.

    Args:
        manifest: Table of images and expressions, path or URI (see :func:`~optisar_yolo.batch.manifest.read_manifest`).
        out: Folder of answers, path or URI.
        model: Weights or an export; on a cluster, a path that all machines have.
        options: How; see :class:`~optisar_yolo.batch.options.BatchOptions`.
        **kwargs: Attributes of the options, where none are given.

    Returns:
        What the folder holds now.

    Raises:
        FileNotFoundError: No such manifest or weights.
        BatchError: A manifest, a folder or a cluster that cannot be used, or rows that remain without an answer.
    """
    options = options or BatchOptions(**kwargs)
    table = read_manifest(manifest)
    engine = open_engine(model, options.imgsz, options.batch, options.text_weights)  # what is wrong shows up here
    _check_known(engine, table)
    folder = AnswerFolder(_absolute(out))
    folder.begin(_settings(engine, model, options))
    ids = table["id"].to_pylist()
    done = folder.tally(set(ids)).ids
    todo = table.filter(pa.array([key not in done for key in ids])) if done else table
    if len(todo) < len(table):
        LOGGER.info(f"{len(table) - len(todo)} of {len(table)} rows are done already")
    asking = Asking(
        _model_path(model), options.text_weights and str(Path(options.text_weights).expanduser().absolute()),
        parent(manifest), folder.name, options.conf if options.conf is not None else engine.conf, options.topk,
        engine.imgsz, options.batch,
    )  # fmt: skip
    del engine
    work = _ask(todo, asking, options) if len(todo) else _Work()
    return _result(folder, table, work, len(todo))


def _ask(todo: pa.Table, asking: Asking, options: BatchOptions) -> _Work:
    """Have rows answered and written by workers."""
    parts = cut(todo, options.workers)
    packed = [pack(part) for part in parts]
    workers = min(options.workers, len(parts))
    work = _Work()
    started = time.perf_counter()
    with session(options, workers, sum(map(len, packed))) as share:
        asking = replace(asking, cpus=share.cpus, gpu=share.gpus > 0)
        data = ray.data.from_arrow([pa.table({"rows": pa.array([rows], pa.large_binary())}) for rows in packed])
        counted = data.map(
            Worker,
            fn_constructor_kwargs={"asking": asking},
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=share.cpus,
            num_gpus=share.gpus or None,
            max_restarts=-1,
            max_task_retries=DEATHS,
        )
        bar = TQDM(total=len(todo), desc="asking", unit="row")
        try:
            for batch in counted.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                for part in batch.to_pylist():
                    work.images += part["pictures"]
                    if part["again"]:
                        work.replaced.add(part["worker"])
                    bar.update(part["rows"])
        except RayError as error:
            raise BatchError(
                f"the workers failed: {_reason(error)}\nWhat was answered until then is in {asking.out}; the same "
                "command goes on from there"
            ) from error
        finally:
            bar.close()
            work.seconds = time.perf_counter() - started
    return work


def _reason(error: BaseException) -> str:
    """Return the last line of Ray's long account: the error itself."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _result(folder: AnswerFolder, table: pa.Table, work: _Work, new: int) -> BatchResult:
    """Read back what the folder holds, and check that every row of the manifest is there once."""
    counted = dict(zip(table["id"].to_pylist(), table["image"].to_pylist(), strict=True))
    wanted = set(counted)
    tally = folder.tally(wanted)
    if tally.doubled:
        LOGGER.warning(
            f"{len(tally.doubled)} rows are in more than one file of {folder.name}, such as '{min(tally.doubled)}': "
            "two runs wrote into it at the same time"
        )
    if missing := [key for key in counted if key not in tally.ids]:
        images = list(dict.fromkeys(counted[key] for key in missing))
        raise BatchError(
            f"{len(missing)} of {len(wanted)} rows have no answer, as their worker failed or died {DEATHS + 1} times "
            f"(the reason is above): they are of {len(images)} images, among them {', '.join(images[:NAMED])}. "
            "A smaller batch= and fewer workers= need less memory; the same command asks these rows again, in smaller "
            f"parts. The other answers are in {folder.name}"
        )
    return BatchResult(
        folder.name, len(wanted), tally.answered, tally.unanswered, tally.failed, tally.problems, new, work.images,
        round(work.seconds, 2), len(work.replaced),
    )  # fmt: skip


def _settings(engine: Engine, model: str, options: BatchOptions) -> dict[str, Any]:
    """Return all that answers depend on, but for the images."""
    return {
        "version": __version__,
        "model": Path(engine.name).name,
        "weights": _digest(Path(model) if is_export(model) else find_weights(model)),
        "text": getattr(getattr(engine.bank, "encoder", None), "fingerprint", ""),
        "conf": round(engine.conf if options.conf is None else options.conf, 6),
        "topk": options.topk,
        "imgsz": engine.imgsz,
    }


def _digest(path: Path) -> str:
    """Return a hash of a weights file, or of all files of an export's folder."""
    files = sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _model_path(model: str) -> str:
    """Return what workers open: a bare name of packaged weights as it is, a path made absolute."""
    return str(Path(model).absolute()) if Path(model).exists() else model


def _absolute(name: str) -> str:
    return name if is_uri(name) else str(Path(name).expanduser().absolute())


def _check_known(engine: Engine, table: pa.Table) -> None:
    """Refuse expressions that an export with fixed ones does not have."""
    if isinstance(engine.bank, KnownExpressions):
        known = set(engine.bank.texts)
        for text in table["text"].unique().to_pylist():
            if text not in known:
                raise BatchError(f"the model was exported with fixed expressions, and '{text}' is none of them")


def report(result: BatchResult) -> str:
    """Return a result as lines for the log."""
    lines = [
        f"{result.rows} rows: {result.answered} answered, {result.unanswered} without an answer, {result.failed} failed"
    ]
    if result.failed:
        named = list(result.problems.items())[:NAMED]
        lines += [f"failed: {problem}" for _, problem in named]
        if len(result.problems) > NAMED:
            lines.append(f"… and {len(result.problems) - NAMED} more images: see the column error")
    if result.restarts:
        lines.append(f"{result.restarts} workers died and were replaced; their rows were asked again")
    if result.new:
        rate = result.images / result.seconds
        took = f"{result.seconds:.1f} s with the start of the workers"
        lines.append(f"{result.images} images in {took}, {rate:.2f} a second")
    else:
        lines.append("nothing to do: every row has an answer already")
    return "\n".join([*lines, f"Results saved to {result.folder}"])

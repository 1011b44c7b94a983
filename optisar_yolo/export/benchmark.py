"""``yolo benchmark``: the same weights in every format, each validated and timed on the same split."""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ultralytics.engine.model import Model
from ultralytics.utils import LOGGER, TQDM
from ultralytics.utils.files import file_size

from optisar_yolo.export.engines import TITLE, can_leave_torch, fastest, key_of, make_graph, try_engines
from optisar_yolo.export.export import check_format, run_export
from optisar_yolo.export.graph_cache import GraphCache

PYTORCH = "-"  # as ultralytics' benchmark calls it
NAMES = {PYTORCH: "PyTorch", "torchscript": "TorchScript", "onnx": "ONNX", "openvino": "OpenVINO"}
METRIC = "metrics/meanIoU(all)"
COLUMNS = ["Format", "Status❔", "Size (MB)", METRIC, "Inference time (ms/im)", "FPS"]  # ultralytics', our metric


def run_benchmark(model: Model, args: Any, verbose: bool | float) -> Any:
    """Export to every format, validate and time each.

    Args:
        model: The model.
        args: Ultralytics' configuration. These have an effect: ``format``, ``data``, ``imgsz``, ``fraction``,
            ``quantize`` and ``device``.
        verbose: As of :meth:`optisar_yolo.api.OptiSAR.benchmark`.

    Returns:
        A polars ``DataFrame`` of strings, one row per format. A format that fails has a row too; the log says why.

    Raises:
        ValueError: A format that is not written.
        AssertionError: ``verbose`` is a number and a meanIoU is below it.
    """
    import polars

    rows = []
    for name, own in TQDM(chosen(args), desc="benchmark", unit="format"):
        size, status = 0.0, "❌"
        figures: Sequence[float | None] = (None, None, None)
        try:
            with tempfile.TemporaryDirectory() as folder:
                opened = exported(model, own, Path(folder))
                size, status = file_size(opened.ckpt_path or ""), "❎"
                figures = validated(opened, own, folder)
                status = "✅"
        except Exception as error:  # the other formats may still succeed
            if verbose:
                raise
            LOGGER.error(f"{name}: {error}")
        rows.append([name, status, size, *figures])
    table = polars.DataFrame(rows, schema=COLUMNS, orient="row", infer_schema_length=None).with_columns(
        polars.col("Size (MB)").round(1), polars.col(METRIC).round(4), polars.col(COLUMNS[-2:]).round(2)
    )
    shown = table.with_columns(polars.all().cast(polars.String).fill_null("-"))
    with polars.Config(tbl_cols=-1, tbl_rows=-1, tbl_width_chars=-1, tbl_hide_column_data_types=True):
        LOGGER.info(f"{model.model_name} on {args.data} at imgsz={args.imgsz}, {torch.get_num_threads()} threads")
        LOGGER.info(f"✅ validated, all figures should agree   ❎ exported, not validated   ❌ not exported\n{shown}")
    if not args.format:
        LOGGER.info(engine_line(model, args))
    if verbose and not isinstance(verbose, bool):
        measured = [row[COLUMNS.index(METRIC)] for row in rows if row[COLUMNS.index(METRIC)] is not None]
        assert all(value >= verbose for value in measured), f"a meanIoU is below {verbose}: {measured}"
    return shown


def engine_line(model: Model, args: Any) -> str:
    """Return what the engines of `engine=` take for an image with one expression on this machine, and which one runs.

    The graph and the times are kept, as by ``optisar cache make``.
    """
    net = model.model
    threads = torch.get_num_threads()
    try:
        if not can_leave_torch(net, "auto", args.device):
            return "engine=auto: PyTorch, or the export's own engine; no other one takes its place here"
        key, cache = key_of(net), GraphCache()
        make_graph(net, key, cache, Path(model.ckpt_path or "model").name, args.imgsz)
        times = try_engines(net, key, cache, args.imgsz, threads)
    except (OSError, ValueError, RuntimeError, ImportError) as error:  # no engine, no room, or another result
        return f"engine=auto: PyTorch, as no other engine can run this network here ({error})"
    shown = ", ".join(f"{TITLE[engine]} {ms:.1f} ms" for engine, ms in times.items())
    return f"engine=auto: {TITLE[fastest(times)]}; an image with one expression, {threads} threads: {shown}"


def chosen(args: Any) -> list[tuple[str, Namespace]]:
    """Return the rows of the table, in order: name, and the configuration of the export.

    Raises:
        ValueError: A format that is not written.
    """
    wanted = str(args.format or "").lower()
    eight = args.quantize == 8
    options = {
        **vars(args),
        "quantize": None,
        "parts": False,
        "topk": 1,
        "text": None,
        "text_graph": False,
        "nms": None,
    }
    if wanted and wanted not in NAMES:
        check_format(Namespace(**{**options, "format": wanted}))
    formats = [f for f in NAMES if wanted in ("", f)]
    rows = [(NAMES[f], Namespace(**{**options, "format": f})) for f in formats]
    if eight and wanted in ("", "openvino"):
        rows.append(("OpenVINO, 8 bits", Namespace(**{**options, "format": "openvino", "quantize": 8})))
    return rows


def exported(model: Model, args: Namespace, folder: Path) -> Model:
    """Export the model and open the export; for PyTorch, return the model itself."""
    if args.format == PYTORCH:
        return model
    source = folder / Path(model.ckpt_path or "model").with_suffix(".pt").name
    return type(model)(run_export(model.model, args, str(source)))


def validated(opened: Model, args: Namespace, folder: str) -> tuple[float, float, float]:
    """Return meanIoU, milliseconds per image with all of its expressions, and images a second."""
    metrics = opened.val(
        data=args.data, imgsz=args.imgsz, fraction=args.fraction, device=args.device, batch=1, plots=False,
        project=folder, verbose=False, reason=False,  # exports have the network alone
    )  # fmt: skip
    speed = metrics.speed["inference"]
    return metrics.results_dict[METRIC], speed, 1000 / max(speed, 1e-3)

"""Export: the network as a graph for other programs, checked against PyTorch before anything is put in its place.

What the graphs take and give stands in :mod:`optisar_yolo.export.exported`. Everything is written into a folder beside
the target first, opened as a user will open it and compared on other numbers of images, expressions and pixels than it
was traced with; only then does it take the place of an older export.
"""

from __future__ import annotations

import copy
import tempfile
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from ultralytics.utils import LOGGER
from ultralytics.utils.checks import check_imgsz

from optisar_yolo.engine import ATTRIBUTE, BUNDLED, KnownExpressions, calibration_of
from optisar_yolo.export.exported import ENCODER, FORMAT, INPUTS, OUTPUTS, QUERY, ExportedModel
from optisar_yolo.export.formats import check_options
from optisar_yolo.export.graphs import Answers, Baked, Encoder, Exportable, Query, answers, example
from optisar_yolo.export.tracing import OPSET, read_openvino, write_onnx, write_openvino, write_torchscript
from optisar_yolo.nn import GroundingModel, fused_copy
from optisar_yolo.text import TextBank
from optisar_yolo.utils import need
from optisar_yolo.version import __version__

ENDING = {"onnx": ".onnx", "openvino": "_openvino_model", "torchscript": ".torchscript"}
TOLERANCE = 2e-3  # of a confidence's logit, between the export and PyTorch; rounding alone stays far below
SURE = (1e-9, 1 - 1e-4)  # confidences beyond are all the same: single precision has too few numbers near 1
ROUNDING = 2e-7  # of a confidence: ONNX Runtime's sigmoid is off by up to 1.3e-7, which is much of a logit of -12


class ExportError(RuntimeError):
    """The written graph does not give what the network gives."""


@dataclass(frozen=True)
class Wanted:
    """What is to be exported, and how.

    Attributes:
        format: A key of `ENDING`.
        imgsz: Long side, in pixels, that a program should use unless told otherwise; kept in the metadata.
        opset: Version of the ONNX operators.
        parts: Two graphs, one for images and one for questions.
        texts: Expressions to bake in.
        features: Theirs [T, D].
        quantise: Turns OpenVINO's model of a graph into one of 8 bits; None leaves 32.
    """

    format: str = "onnx"
    imgsz: Any = 640
    opset: int | None = None
    parts: bool = False
    texts: Sequence[str] = ()
    features: Tensor | None = None
    quantise: Callable[[Any, Exportable], Any] | None = None


def target_of(model: GroundingModel, source: str | None, format: str = "onnx") -> Path:
    """Where an export goes: beside the weights, or into the working folder for packaged or new ones.

    Args:
        model: The network.
        source: The file that it was loaded from.
        format: A key of `ENDING`.
    """
    path = Path(source or model.yaml.get("yaml_file", "optisar++.yaml"))
    if not source or path.parent == BUNDLED:
        path = Path(path.name)
    return path.with_name(path.stem + ENDING[format])


def export(model: GroundingModel, path: str | Path, wanted: Wanted) -> Path:
    """Write the network, and compare what was written with it.

    Args:
        model: The network; it is left as it is.
        path: The file or folder to write; of two parts, what their names are made of. Each is replaced as a whole or,
            on any error, stays as it was.
        wanted: What is wanted.

    Returns:
        The path; of two parts that of the first.

    Raises:
        MissingExtraError: The packages of the extra ``export`` or ``openvino`` are not installed.
        ExportError: The graph does not reproduce the network; nothing is written.
        OSError: The folder cannot be written.
    """
    path, ending = Path(path), ENDING[wanted.format]
    for package in {"onnx": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino")}.get(wanted.format, ()):
        need(package)
    plain = copy.deepcopy(model).cpu().float().eval()  # all of it: PyTorch's exporter restores the mode
    fused = fused_copy(plain)
    # Where every expression has its own maps, one anchor's box is cheaper than all. Elsewhere it depends on the number
    # of expressions, which a graph leaves open.
    fused.head.windows = bool(fused.guided) and fused.head.reranker is None
    meta = metadata(plain, wanted)
    if wanted.parts:
        encoder = Encoder(fused).eval()
        pair = {"pair": uuid.uuid4().hex}
        graphs: list[tuple[str, Exportable, dict[str, Any]]] = [
            (ENCODER, encoder, {**meta, **pair, "part": "encoder", "outputs": encoder.outputs}),
            (QUERY, Query(encoder).eval(), {**meta, **pair, "part": "query"}),
        ]
    else:
        net = Answers(fused) if wanted.features is None else Baked(fused, wanted.features)
        graphs = [("", net.eval(), meta)]
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.name.removesuffix(ending)
    with tempfile.TemporaryDirectory(prefix=".optisar-export-", dir=path.parent) as folder:
        made = [Path(folder) / f"{before}{name}{ending}" for name, _, _ in graphs]
        for file, (_, part, about) in zip(made, graphs, strict=True):
            _write(part, file, {**about, "inputs": part.inputs}, wanted)
        compare(plain, ExportedModel(made[0]), wanted)
        for file in made:
            _replace(file, path.with_name(file.name))
    return path.with_name(made[0].name)


def export_onnx(model: GroundingModel, path: str | Path, imgsz: Any = 640, opset: int | None = None) -> Path:
    """Write the network as one ONNX graph; see :func:`export`."""
    return export(model, path, Wanted(imgsz=imgsz, opset=opset))


def metadata(model: GroundingModel, wanted: Wanted) -> dict[str, Any]:
    """What a program has to know about an export."""
    stride = int(model.stride.max())
    long_side = check_imgsz(wanted.imgsz, stride=stride, min_dim=1)
    calibration = calibration_of(model)
    names = dict(enumerate(wanted.texts)) or model.names
    return {
        "format": FORMAT,
        "version": __version__,
        "names": {str(k): v for k, v in names.items()},
        "texts": list(wanted.texts),
        "text_model": model.text_model or "pocket",  # what an untrained network is asked with too
        "text_fingerprint": model.text_fingerprint,
        "text_dim": model.text_dim,
        "guided": bool(model.guided),
        "imgsz": long_side if isinstance(long_side, int) else max(long_side),
        "stride": stride,
        "inputs": INPUTS,
        "outputs": OUTPUTS,
        **({"quantize": 8} if wanted.quantise else {}),
        **({ATTRIBUTE: calibration.to_dict()} if calibration else {}),
    }


def _write(net: Exportable, path: Path, meta: dict[str, Any], wanted: Wanted) -> None:
    """Write one graph."""
    if wanted.format == "torchscript":
        write_torchscript(net, path, meta)
        return
    file = path if wanted.format == "onnx" else path.with_name("graph.onnx")
    write_onnx(net, file, meta, wanted.opset)
    if wanted.format == "openvino":
        graph = read_openvino(file)
        write_openvino(wanted.quantise(graph, net) if wanted.quantise else graph, path, meta)
        file.unlink()


def compare(model: GroundingModel, written: ExportedModel, wanted: Wanted) -> None:
    """Check an export against the network on sizes that no trace has seen.

    Args:
        model: The network.
        written: The export.
        wanted: How it was made; of 8 bits the difference is logged, not judged.

    Raises:
        ExportError: A confidence differs by more than rounding.
    """
    worst = 0.0
    for b, t, height, width in ((1, 1, 7, 5), (3, 2, 4, 8)):
        given = example(b, t, height * written.stride, width * written.stride, model.text_dim)
        text = given["text"]
        if wanted.features is not None:
            text = wanted.features.expand(b, -1, -1)
            t = text.shape[1]
        with torch.inference_mode():
            expected = answers(model, model.encode(given["images"], given["extent"]), text)[1]
            asked = text.reshape(b * t, -1)
            if written.texts:
                asked = KnownExpressions(written.texts, written.path)(written.texts).repeat(b, 1)
            rows = torch.arange(b).repeat_interleave(t)
            found = written.ground(written.encode(given["images"], given["extent"]), rows, asked)[1]
        # on logits: the images are noise, to which a trained network answers with next to no confidence
        conf, other = (c.double().clamp(*SURE) for c in (expected.reshape(-1), found[:, 0]))
        apart = (conf.logit() - other.logit()).abs()
        worst = max(worst, float((apart * ((conf - other).abs() > ROUNDING)).max()))
    if wanted.quantise is None and not worst <= TOLERANCE:
        raise ExportError(
            f"the exported graph gives other confidences than the network (logits differ by {worst:.2g}), so no file "
            f"was written; try opset={OPSET} or another version of torch or of what runs the graph"
        )
    LOGGER.info(f"{written.format} graph against PyTorch: logits of confidences differ by at most {worst:.1g}")


def _replace(new: Path, old: Path) -> None:
    """Put a file or folder in the place of another; a folder that stands there is moved away first."""
    if old.is_dir():
        old.rename(new.with_name(f"old-{new.name}"))  # goes with the temporary folder
    new.replace(old)


def run_export(model: GroundingModel, args: Any, source: str | None) -> str:
    """Do what ``optisar export`` asks for.

    Args:
        model: The network.
        args: Ultralytics' configuration and ours: ``format``, ``imgsz``, ``opset``, ``quantize``, ``data``,
            ``fraction``, ``parts``, ``text``, ``text_graph`` and ``text_weights`` count; ``simplify``, ``batch``,
            ``dynamic`` and ``device`` change nothing: sizes and counts are always free.
        source: File that the network was loaded from.

    Returns:
        Path of the file or folder, as ultralytics' export gives it.

    Raises:
        ValueError: An option that cannot be met.
    """
    format = check_options(args)
    wanted = Wanted(format, args.imgsz, args.opset, bool(args.parts))
    if args.text is not None or args.text_graph:
        from optisar_yolo.engine import checked_bank, checked_expressions

        bank = checked_bank(model, args.text_weights, None)
        if args.text is not None:
            texts = list(dict.fromkeys(checked_expressions(args.text)))
            wanted = replace(wanted, texts=texts, features=bank(texts))
    if args.quantize == 8:
        from optisar_yolo.export.quantise import quantiser

        wanted = replace(wanted, quantise=quantiser(model, args))
    target = target_of(model, source, format)
    if args.text_graph:
        from optisar_yolo.export.textgraph import export_text

        assert isinstance(bank, TextBank)
        export_text(bank.encoder, target.with_name(target.name.removesuffix(ENDING[format])), args.opset)
    path = export(model, target, wanted)
    written = ExportedModel(path)
    size = sum(f.stat().st_size for f in ([path] if path.is_file() else path.iterdir())) / 1e6
    LOGGER.info(
        f"Exported to {path} ({size:.1f} MB), inputs {', '.join(written.graph.inputs)}; text features from the "
        f"encoder {written.text_model}, {written.text_dim} wide"
    )
    return str(path)

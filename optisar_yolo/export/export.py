"""Export: writes a network as a graph for other programs and checks it against PyTorch before it replaces a file.

1. :func:`check_format` refuses options that cannot be met, before any work is done.
2. The network, or each of its two parts, is written into a folder beside the target.
3. What was written is opened as a user opens it, and compared with PyTorch on other numbers of images, expressions and
   pixels than it was traced with.
4. Only then it takes the place of an older export.

Inputs and outputs of the graphs are described in :mod:`optisar_yolo.export.exported`.
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
import torch.nn.functional as F
from torch import Tensor
from ultralytics.utils import LOGGER
from ultralytics.utils.checks import check_imgsz

from optisar_yolo.engine import (
    BUNDLED,
    FACTS,
    KnownExpressions,
    calibrations,
    checked_expressions,
    facts_of,
    model_vocabulary,
    text_features_for,
)
from optisar_yolo.export.exported import (
    ENCODER,
    FORMAT,
    INPUTS,
    OUTPUTS,
    QUERY,
    SEVERAL,
    SEVERAL_FORMAT,
    ExportedModel,
)
from optisar_yolo.export.graphs import (
    LOWEST_OPSET,
    OPSET,
    Encoder,
    Exportable,
    FixedExpressions,
    Query,
    WholeNetwork,
    best_per_expression,
    example,
    highest_opset,
    onnx_of,
    write_onnx,
    write_openvino,
    write_torchscript,
)
from optisar_yolo.export.quantise import quantiser
from optisar_yolo.export.runtimes import OnnxGraph, openvino_core
from optisar_yolo.nn import WINDOW_COST, GroundingModel, fused_copy
from optisar_yolo.text import PocketEncoder, TextEncoder, TextFeatureCache
from optisar_yolo.utils import naming, need, write_atomic
from optisar_yolo.version import __version__

ENDING = {"onnx": ".onnx", "openvino": "_openvino_model", "torchscript": ".torchscript"}
PACKAGES = {"onnx": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino"), "torchscript": ()}
TEXT, TOKENIZER = "-text.onnx", "-tokenizer.json"  # endings of the text encoder's files
TOLERANCE = 2e-3  # of a confidence's logit, between the export and PyTorch; rounding alone stays far below
TEXT_TOLERANCE = 1e-5  # of an entry of a text feature; a feature has length 1
BOX_TOLERANCE = 0.05  # pixels, likewise
GAP = 1e-3  # relative difference of two confidences from which on rounding cannot exchange them
SURE = (1e-9, 1 - 1e-4)  # confidences beyond are all the same: single precision has too few numbers near 1
ROUNDING = 2e-7  # of a confidence: ONNX Runtime's sigmoid is off by up to 1.3e-7, which is much of a logit of -12


class ExportError(RuntimeError):
    """The written graph gives other results than the network."""


@dataclass(frozen=True)
class ExportSettings:
    """What is exported, and how.

    Attributes:
        format: A key of `ENDING`.
        imgsz: Long side of images, in pixels, that the export suggests; kept in the metadata.
        opset: Version of the ONNX operators.
        parts: Two graphs, one for images and one for expressions.
        texts: Fixed expressions.
        features: Their features [T, D].
        topk: Boxes per expression; None makes their number an input of the graph.
        routing: In two parts: the first also gives the routing of the experts.
        quantise: Turns OpenVINO's model of a graph into one of 8 bits; None keeps 32 bits.
    """

    format: str = "onnx"
    imgsz: Any = 640
    opset: int | None = None
    parts: bool = False
    texts: Sequence[str] = ()
    features: Tensor | None = None
    topk: int | None = 1
    routing: bool = False
    quantise: Callable[[Any, Exportable], Any] | None = None


def check_format(args: Any) -> str:
    """Return the format of an export, and refuse options that cannot be met.

    Args:
        args: Ultralytics' configuration of an export, and our keys.

    Raises:
        ValueError: A format that is not written, or options that exclude each other.
    """
    name = str(args.format).lower()
    if name not in ENDING:
        raise ValueError(
            f"format={args.format} is not supported; formats here are {', '.join(ENDING)}. For another program use "
            "format=onnx and convert the file with the tools of that program"
        )
    if args.opset is not None and not LOWEST_OPSET <= args.opset <= highest_opset():
        raise ValueError(
            f"opset={args.opset} is not possible: the network needs operators of opset {LOWEST_OPSET}, and this torch "
            f"writes up to {highest_opset()}; leave opset out ({OPSET}) or give a number between"
        )
    if args.quantize == 8:
        if name != "openvino":
            raise ValueError(
                f"int8 is not supported with format={name}: 8 bits are written and checked with format=openvino alone"
            )
        if not args.data:
            raise ValueError(
                "int8 needs data=<dataset config>: the ranges of 8-bit numbers are measured on its images and "
                "expressions; give the dataset config that the model was trained on"
            )
        if args.parts:
            raise ValueError("int8 with parts=True is not supported: leave one of them out")
    elif args.quantize not in (None, 32, "32", "fp32"):
        raise ValueError(
            f"quantize={args.quantize} is not supported: an export has 32 bits, or with format=openvino 8 (int8=True)"
        )
    if args.text is not None and args.parts:
        raise ValueError(
            "text= with parts=True is not supported: with fixed expressions one graph is enough; leave one out"
        )
    return name


def target_of(model: GroundingModel, source: str | None, format: str = "onnx") -> Path:
    """Return where an export goes: beside the weights, or into the working folder for packaged or new ones.

    Args:
        model: The network.
        source: The file that it was loaded from.
        format: A key of `ENDING`.
    """
    path = Path(source or model.yaml.get("yaml_file", "optisar++.yaml"))
    if not source or path.parent == BUNDLED:
        path = Path(path.name)
    return path.with_name(path.stem + ENDING[format])


def run_export(model: GroundingModel, args: Any, source: str | None) -> str:
    """Export a network as ``optisar export`` does.

    Args:
        model: The network.
        args: Ultralytics' configuration and ours. These have an effect: ``format``, ``imgsz``, ``opset``, ``quantize``,
            ``data``, ``fraction``, ``parts``, ``text``, ``topk``, ``text_graph`` and ``text_weights``. ``simplify``,
            ``batch``, ``dynamic`` and ``device`` have none: sizes and counts are always free.
        source: File that the network was loaded from.

    Returns:
        Path of the file or folder, as Ultralytics' export gives it.

    Raises:
        ValueError: An option that cannot be met.
    """
    format = check_format(args)
    settings = ExportSettings(format, args.imgsz, args.opset, bool(args.parts), topk=int(args.topk or 1))
    if args.text is not None:
        texts = list(dict.fromkeys(checked_expressions(args.text)))
        settings = replace(settings, texts=texts, features=text_features_for(model, args.text_weights)(texts))
    if args.quantize == 8:
        settings = replace(settings, quantise=quantiser(model, args))
    target = target_of(model, source, format)
    if args.text_graph:
        cache = text_features_for(model, args.text_weights)
        assert isinstance(cache, TextFeatureCache)  # the model is no export
        export_text(cache.encoder, target.with_name(target.name.removesuffix(ENDING[format])), args.opset)
    path = export(model, target, settings)
    written = ExportedModel(path)
    size = sum(f.stat().st_size for f in ([path] if path.is_file() else path.iterdir())) / 1e6
    LOGGER.info(
        f"Exported to {path} ({size:.1f} MB), inputs {', '.join(written.graph.inputs)}; text features from the "
        f"encoder {written.text_model}, {written.text_dim} wide"
    )
    return str(path)


def export(model: GroundingModel, path: str | Path, settings: ExportSettings) -> Path:
    """Write the network, and compare what was written with it.

    Args:
        model: The network; it is not changed.
        path: The file or folder to write; of two parts, what their names are made of. Each is replaced as a whole or,
            on any error, stays as it was.
        settings: What is exported, and how.

    Returns:
        The path; of two parts that of the first.

    Raises:
        MissingExtraError: The packages of the extra ``export`` or ``openvino`` are not installed.
        ExportError: The graph does not reproduce the network; nothing is written.
        OSError: The folder cannot be written.
    """
    path, ending = Path(path), ENDING[settings.format]
    for package in PACKAGES[settings.format]:
        need(package)
    plain = copy.deepcopy(model).cpu().float().eval()  # all of it: PyTorch's exporter restores the mode
    fused = fused_copy(plain)
    fused.head.windows = windows_pay(plain, settings)
    meta = metadata(plain, settings)
    if settings.parts:
        encoder = Encoder(fused, settings.routing).eval()
        pair = {"pair": uuid.uuid4().hex}
        graphs: list[tuple[str, Exportable, dict[str, Any]]] = [
            (ENCODER, encoder, {**meta, **pair, "part": "encoder", "outputs": encoder.outputs}),
            (QUERY, Query(encoder, settings.topk).eval(), {**meta, **pair, "part": "query"}),
        ]
    else:
        net: Exportable
        if settings.features is None:
            net = WholeNetwork(fused, settings.topk)
        else:
            net = FixedExpressions(fused, settings.features, settings.topk or 1)
        graphs = [("", net.eval(), meta)]
    path.parent.mkdir(parents=True, exist_ok=True)
    stem = path.name.removesuffix(ending)
    with tempfile.TemporaryDirectory(prefix=".optisar-export-", dir=path.parent) as folder:
        made = [Path(folder) / f"{stem}{name}{ending}" for name, _, _ in graphs]
        for file, (_, part, about) in zip(made, graphs, strict=True):
            with naming(path):
                _write(part, file, {**about, "inputs": part.inputs}, settings)
        compare(plain, ExportedModel(made[0]), settings)
        for file in made:
            old = path.with_name(file.name)
            if old.is_dir():  # a folder cannot be replaced in one step
                old.rename(file.with_name(f"old-{file.name}"))  # deleted with the temporary folder
            file.replace(old)
    return path.with_name(made[0].name)


def windows_pay(model: GroundingModel, settings: ExportSettings) -> bool:
    """Tell whether the boxes of the wanted cells alone are cheaper than those of all cells.

    They are where every expression has its own maps. Elsewhere it depends on the number of expressions, which a graph
    leaves open.
    """
    if not model.guided or model.head.reranker is not None:
        return False
    if settings.topk in (1, None):  # of an open number, most runs want one box
        return True
    side = long_side_of(model, settings)
    return settings.topk * WINDOW_COST < sum((side // int(stride)) ** 2 for stride in model.stride)


def long_side_of(model: GroundingModel, settings: ExportSettings) -> int:
    """Return the long side of images that an export suggests, a multiple of the stride."""
    side = check_imgsz(settings.imgsz, stride=int(model.stride.max()), min_dim=1)
    return side if isinstance(side, int) else max(side)


def metadata(model: GroundingModel, settings: ExportSettings) -> dict[str, Any]:
    """Return what a program has to know about an export."""
    stride = int(model.stride.max())
    names = dict(enumerate(settings.texts)) or model.names
    wordings = getattr(model, "wordings", None)  # older checkpoints have none
    return {
        "format": FORMAT if settings.topk == 1 else SEVERAL_FORMAT,
        "version": __version__,
        "names": {str(k): v for k, v in names.items()},
        "texts": list(settings.texts),
        "text_model": model.text_model or "pocket",  # the encoder of an untrained network too
        "text_fingerprint": model.text_fingerprint,
        "text_dim": model.text_dim,
        "guided": bool(model.guided),
        "imgsz": long_side_of(model, settings),
        "stride": stride,
        "channels": model.channels,
        "inputs": INPUTS,
        "outputs": OUTPUTS if settings.topk == 1 else SEVERAL,
        **({} if settings.topk in (1, None) else {"topk": settings.topk}),
        **({"quantize": 8} if settings.quantise else {}),
        **({} if wordings is None else {"wordings": list(wordings)}),
        **({FACTS: facts} if (facts := facts_of(model)) else {}),
        "nouns": model_vocabulary(model).to_dict(),
        **calibrations(model),
    }


def _write(net: Exportable, path: Path, meta: dict[str, Any], settings: ExportSettings) -> None:
    """Write one graph."""
    if settings.format == "torchscript":
        write_torchscript(net, path, meta)
        return
    file = path if settings.format == "onnx" else path.with_name("graph.onnx")
    write_onnx(net, file, meta, settings.opset)
    if settings.format == "openvino":
        # not `convert_model`, which reports its use over the network
        graph = openvino_core().read_model(str(file))
        write_openvino(settings.quantise(graph, net) if settings.quantise else graph, path, meta)
        file.unlink()


def compare(model: GroundingModel, written: ExportedModel, settings: ExportSettings) -> None:
    """Check an export against the network on sizes that no trace has seen.

    Args:
        model: The network.
        written: The export.
        settings: How it was made; for 8 bits the difference is logged, and no error is raised.

    Raises:
        ExportError: A confidence differs by more than rounding.
    """
    worst = pixels = 0.0
    for b, t, height, width in ((1, 1, 7, 5), (3, 2, 4, 8)):
        k = settings.topk or (1 if b == 1 else 12)
        given = example(b, t, height * written.stride, width * written.stride, model.text_dim, model.channels)
        text = given["text"]
        if settings.features is not None:
            text = settings.features.expand(b, -1, -1)
            t = text.shape[1]
        with torch.inference_mode():
            around, expected = best_per_expression(model, model.encode(given["images"], given["extent"]), text, k)
            features = text.reshape(b * t, -1)
            if written.texts:
                features = KnownExpressions(written.texts, written.path)(written.texts).repeat(b, 1)
            rows = torch.arange(b).repeat_interleave(t)
            boxes, actual = written.ground(written.encode(given["images"], given["extent"]), rows, features, k)
        # on logits: the images are noise, on which the confidences of a trained network are next to 0
        conf, other = (c.double().clamp(*SURE) for c in (expected.reshape(actual.shape), actual))
        apart = (conf.logit() - other.logit()).abs()
        worst = max(worst, float((apart * ((conf - other).abs() > ROUNDING)).max()))
        if k > 1:  # boxes in the same order, where that is certain
            gap = (conf[:, 1:] - conf[:, :-1]).abs() / conf[:, 1:] > GAP
            sure = F.pad(gap, (1, 0), value=True) & F.pad(gap, (0, 1), value=False)
            pixels = max(pixels, float(((boxes - around.reshape(boxes.shape)).abs().amax(-1) * sure).max()))
    if settings.quantise is None and not (worst <= TOLERANCE and pixels <= BOX_TOLERANCE):
        raise ExportError(
            f"the exported graph gives other results than the network (logits of confidences differ by {worst:.2g}, "
            f"boxes by {pixels:.2g} pixels), so no file was written; try opset={OPSET} or another version of torch or "
            "of what runs the graph"
        )
    LOGGER.info(f"{written.format} graph against PyTorch: logits of confidences differ by at most {worst:.1g}")


def export_text(encoder: TextEncoder, stem: Path, opset: int | None = None) -> Path:
    """Write a text encoder as ONNX and its tokenizer beside it, for programs without PyTorch and without this package.

    Input ``ids`` int64 [N, L]: token ids of N expressions with start and end marks, padded with the metadata's ``pad``;
    L is at most its ``max_tokens``. Output ``features`` [N, D]: unit vectors, the ``text`` of a network's graph.

    Args:
        encoder: The encoder; only `pocket` can be written.
        stem: Path without the endings: ``best`` gives ``best-text.onnx`` and ``best-tokenizer.json``.
        opset: Version of the ONNX operators.

    Returns:
        The graph's path.

    Raises:
        ValueError: Another encoder.
        MissingExtraError: The packages of the extra ``export`` are not installed.
        ExportError: The graph gives other features than the encoder; nothing is written.
    """
    if not isinstance(encoder, PocketEncoder):
        raise ValueError(
            f"text_graph=True writes the text encoder pocket alone, and this model's is {encoder.name}: encode the "
            "expressions where it is installed, or fix them with text=[…]"
        )
    need("onnxruntime")
    net = copy.deepcopy(encoder.net).eval()
    tokenizer, path = stem.with_name(stem.name + TOKENIZER), stem.with_name(stem.name + TEXT)
    meta = {
        "format": FORMAT,
        "version": __version__,
        "part": "text",
        "text_model": encoder.name,
        "text_fingerprint": encoder.fingerprint,
        "text_dim": encoder.width,
        "max_tokens": encoder.max_tokens,
        "pad": net.config.pad,
        "tokenizer": tokenizer.name,
    }
    axes = {"ids": {0: "texts", 1: "tokens"}, "features": {0: "texts"}}
    sample = (_token_ids(net.config.vocab, 3, 7),)
    content = onnx_of(net, sample, ["ids"], ["features"], axes, meta, opset).SerializeToString()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "text.onnx"
        file.write_bytes(content)
        graph = OnnxGraph(file)
        worst = 0.0
        for n, length in ((1, 4), (4, net.config.max_tokens)):
            ids = _token_ids(net.config.vocab, n, length)
            with torch.inference_mode():
                expected = net(ids)
            worst = max(worst, float((graph({"ids": ids})["features"] - expected).abs().max()))
        del graph  # its file is open on some systems
    if not worst <= TEXT_TOLERANCE:
        raise ExportError(f"the exported text encoder gives other features (by {worst:.2g}), so no file was written")
    write_atomic(tokenizer, encoder.tokenizer.to_str())
    write_atomic(path, content)
    LOGGER.info(f"Text encoder exported to {path} ({len(content) / 1e6:.1f} MB), its tokenizer to {tokenizer.name}")
    return path


def _token_ids(vocab: int, n: int, length: int) -> Tensor:
    """Return token ids [n, length] of expressions of different lengths, the same in every call."""
    ids = torch.randint(1, vocab, (n, length), generator=torch.Generator().manual_seed(0))
    return ids.where(torch.arange(length) < length - torch.arange(n)[:, None], 0)

"""The text encoder as a graph of its own: a program then needs ONNX Runtime and the package ``tokenizers`` alone.

* ``ids`` int64 [N, L]: token ids of N expressions with start and end marks, padded with the metadata's ``pad``; L is at
  most its ``max_tokens``.
* ``features`` [N, D]: unit vectors, the ``text`` of a network's graph.
"""

from __future__ import annotations

import copy
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from ultralytics.utils import LOGGER

from optisar_yolo.export.exported import FORMAT
from optisar_yolo.export.runtimes import OnnxGraph
from optisar_yolo.export.tracing import OPSET, onnx_options, tracing
from optisar_yolo.plugin import MARK
from optisar_yolo.text import PocketEncoder, TextEncoder
from optisar_yolo.utils import need, write_atomic
from optisar_yolo.version import __version__

TEXT, TOKENIZER = "-text.onnx", "-tokenizer.json"
TOLERANCE = 1e-5  # of a feature; a vector has length 1


def export_text(encoder: TextEncoder, stem: Path, opset: int | None = None) -> Path:
    """Write a text encoder as ONNX, its tokenizer beside it, and compare it with PyTorch.

    Args:
        encoder: The encoder; only `pocket` can be written.
        stem: Path without the endings: ``best`` gives ``best-text.onnx`` and ``best-tokenizer.json``.
        opset: Version of the ONNX operators.

    Returns:
        The graph's path.

    Raises:
        ValueError: Another encoder.
        MissingExtraError: The packages of the extra ``export`` are not installed.
        RuntimeError: The graph gives other vectors than the encoder; nothing is written.
    """
    if not isinstance(encoder, PocketEncoder):
        raise ValueError(
            f"text_graph=True writes the text encoder pocket alone, and this model's is {encoder.name}: encode the "
            "expressions where it is installed, or fix them with text=[…]"
        )
    onnx = need("onnx")
    need("onnxruntime")
    net = copy.deepcopy(encoder.net).eval()
    buffer = io.BytesIO()
    with tracing():
        torch.onnx.export(
            net,
            (_ids(net.config.vocab, 3, 7),),
            buffer,  # type: ignore[arg-type]
            input_names=["ids"],
            output_names=["features"],
            dynamic_axes={"ids": {0: "texts", 1: "tokens"}, "features": {0: "texts"}},
            opset_version=opset or OPSET,
            **onnx_options(),
        )
    graph = onnx.load_from_string(buffer.getvalue())
    tokenizer = stem.with_name(stem.name + TOKENIZER)
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
    onnx.helper.set_model_props(graph, {MARK: json.dumps(meta)})
    onnx.checker.check_model(graph)
    content = graph.SerializeToString()
    path = stem.with_name(stem.name + TEXT)
    _compare(net, content)
    write_atomic(tokenizer, encoder.tokenizer.to_str())
    write_atomic(path, content)
    LOGGER.info(f"Text encoder exported to {path} ({len(content) / 1e6:.1f} MB), its tokenizer to {tokenizer.name}")
    return path


def _ids(vocab: int, n: int, length: int) -> Tensor:
    """Token ids [n, length] of expressions of different lengths, the same in every call."""
    ids = torch.randint(1, vocab, (n, length), generator=torch.Generator().manual_seed(0))
    return ids.where(torch.arange(length) < length - torch.arange(n)[:, None], 0)


def _compare(net: Any, content: bytes) -> None:
    """Check the graph against the encoder on other numbers of expressions and tokens than it was traced with."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "text.onnx"
        file.write_bytes(content)
        graph = OnnxGraph(file)
        worst = 0.0
        for n, length in ((1, 4), (4, net.config.max_tokens)):
            ids = _ids(net.config.vocab, n, length)
            with torch.inference_mode():
                expected = net(ids)
            worst = max(worst, float((graph({"ids": ids})["features"] - expected).abs().max()))
        del graph  # its file is open on some systems
    if not worst <= TOLERANCE:
        raise RuntimeError(f"the exported text encoder gives other vectors (by {worst:.2g}), so no file was written")

"""Other detectors that take text, as contestants of the speed benchmarks, each asked its own way, with random weights.

* YOLOE-11 and YOLO-Worldv2 (ultralytics) are told their classes once and then look for all of them in one forward: the
  expressions are the classes. Telling is not timed. YOLOE is measured with the classes folded into its weights, as
  ultralytics' own export does. All boxes are decoded; the best of each class is the answer, without suppression.
* Grounding DINO-T (transformers) reads one caption with the image, its text encoder included: for expressions that
  is a forward each. OWLv2-B (transformers) looks for all queries in one forward; their embeddings are kept from before.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import torch
from engines import (
    ONNX,
    OPENVINO,
    PYTORCH,
    Ask,
    Contestant,
    Graph,
    best_of,
    expressions as features,
    image,
    onnx_graph,
    openvino_graph,
    settle,
)
from torch import Tensor, nn
from ultralytics import YOLOE, YOLOWorld
from ultralytics.nn.tasks import WorldModel, YOLOEModel

DIM = 512  # width of both models' text features
WORDS = 12  # tokens of an expression, first and last included
WORLD_SCALES = "sm"  # those that the benchmark compares with
NEED = "Grounding DINO and OWLv2 need the package transformers: pip install 'optisar-yolo[peers]'"


class Stock:
    """A model of ultralytics that is told its classes before it sees the image.

    Args:
        yaml: ``yoloe-11m.yaml``, ``yolov8m-worldv2.yaml`` and the like.
        scale: One of n, s and m.
        folder: Where exports are written; those found there are used as they are.
        threads: Threads of every engine.
    """

    def __init__(self, yaml: str, scale: str, folder: Path, threads: int) -> None:
        self.yaml, self.scale, self.folder, self.threads = yaml, scale, folder, threads
        self.name = f"YOLOE-11{scale}" if "yoloe" in yaml else f"YOLO-Worldv2-{scale}"
        self.fused, self.graph = cache(self._fused), cache(self._graph)

    def _told(self, texts: int) -> Any:
        """A model in evaluation mode with random expressions as classes, and ultralytics' object around it."""
        torch.manual_seed(0)
        model = YOLOE(self.yaml, verbose=False) if "yoloe" in self.yaml else YOLOWorld(self.yaml, verbose=False)
        net: Any = model.model
        told = features(texts, DIM)
        if isinstance(net, YOLOEModel):
            settle(net, lambda: net.predict(torch.rand(2, 3, 128, 128), tpe=features(80, DIM).repeat(2, 1, 1)))
            net.set_classes([f"class{i}" for i in range(texts)], told)
        else:
            assert isinstance(net, WorldModel)
            settle(net, lambda: net.predict(torch.rand(2, 3, 128, 128), txt_feats=features(80, DIM)))
            net.txt_feats, net.model[-1].nc = told, texts
            net.names = {i: f"class{i}" for i in range(texts)}
        return model

    def _fused(self, texts: int) -> nn.Module:
        """The network as it is exported: batch normalisation and, of YOLOE, the classes in the weights."""
        net: Any = self._told(texts).model
        net.fuse(verbose=False)
        if isinstance(net, YOLOEModel):
            net.model[-1].fuse(net.pe)
        return net  # type: ignore[no-any-return]

    def _graph(self, engine: str, imgsz: int, texts: int) -> Graph:
        """The model exported by ultralytics for one image size and these classes."""
        path = self.folder / f"{Path(self.yaml).stem}-{imgsz}-{texts}.onnx"
        if not path.exists():
            model = self._told(texts)
            model.model.pt_path = path.with_suffix(".pt")  # the file is written beside it
            written = Path(model.export(format="onnx", imgsz=imgsz, simplify=False, device="cpu", verbose=False))
            if written != path:
                written.replace(path)
        return onnx_graph(path, self.threads) if engine == ONNX else openvino_graph(path, self.threads)

    def in_pytorch(self, imgsz: int, texts: int) -> Ask:
        """One forward and the best box of each class."""
        net, img = self.fused(texts), image(imgsz)

        def call() -> tuple[Tensor, Tensor]:
            with torch.inference_mode():
                return best_of(net(img)[0])

        return call

    def exported(self, engine: str, imgsz: int, texts: int) -> Ask:
        """One run of the exported network and the best box of each class."""
        run, img = self.graph(engine, imgsz, texts), image(imgsz)
        return lambda: best_of(run(images=img)[0])

    def contestants(self) -> list[Contestant]:
        """The network in every engine."""
        own = "sentences are classes, told beforehand; an export holds one set of classes and one picture size"
        found = [Contestant(self.name, PYTORCH, self.scale, self.in_pytorch, own, network=lambda _, t: self.fused(t))]
        for engine in (ONNX, OPENVINO):
            found.append(Contestant(self.name, engine, self.scale, lambda s, t, e=engine: self.exported(e, s, t), own))
        return found


def stock(scale: str, folder: Path, threads: int) -> list[Stock]:
    """The models of ultralytics at a scale."""
    found = [Stock(f"yoloe-11{scale}.yaml", scale, folder, threads)]
    if scale in WORLD_SCALES:
        found.append(Stock(f"yolov8{scale}-worldv2.yaml", scale, folder, threads))
    return found


def has_transformers() -> bool:
    """Whether the models of transformers can be built."""
    return importlib.util.find_spec("transformers") is not None


def caption(index: int = 0) -> Tensor:
    """Token ids [1, WORDS] of a made-up caption as BERT's tokeniser writes one: [CLS] words . [SEP]."""
    generator = torch.Generator().manual_seed(index)
    words = torch.randint(2000, 20000, (WORDS - 3,), generator=generator).tolist()
    return torch.tensor([[101, *words, 1012, 102]])


def dino_config() -> Any:
    """Grounding DINO-T: Swin-T, BERT-base, 900 queries; what ``IDEA-Research/grounding-dino-tiny`` is built like."""
    from transformers import GroundingDinoConfig

    config = GroundingDinoConfig(disable_custom_kernels=True)  # the custom ones are for GPUs
    swin, bert = config.backbone_config, config.text_config
    built = (list(swin.depths), swin.embed_dim, bert.num_hidden_layers, bert.hidden_size, config.num_queries)
    assert built == ([2, 2, 6, 2], 96, 12, 768, 900), f"transformers' default is not Grounding DINO-T: {built}"
    return config


@cache
def grounding_dino() -> nn.Module:
    """Grounding DINO-T with random weights."""
    from transformers import GroundingDinoForObjectDetection

    torch.manual_seed(0)
    return GroundingDinoForObjectDetection(dino_config()).eval()


def ask_grounding_dino(imgsz: int, texts: int) -> Ask:
    """A forward per caption; the box whose best token scores highest."""
    net, img = grounding_dino(), image(imgsz)
    captions = [caption(i) for i in range(texts)]

    def call() -> tuple[Tensor, Tensor]:
        boxes, confs = [], []
        with torch.inference_mode():
            for ids in captions:
                found = net(pixel_values=img, input_ids=ids)
                conf, best = found.logits[0].max(-1).values.sigmoid().max(0)
                boxes.append(found.pred_boxes[0, best])
                confs.append(conf)
        return torch.stack(boxes), torch.stack(confs)

    return call


def owlv2_config(imgsz: int) -> Any:
    """OWLv2-B/16: what ``google/owlv2-base-patch16-ensemble`` is built like, for images of one size."""
    from transformers import Owlv2Config

    config = Owlv2Config(vision_config={"image_size": imgsz})
    vision, text = config.vision_config, config.text_config
    built = (vision.hidden_size, vision.num_hidden_layers, vision.patch_size, text.hidden_size)
    assert built == (768, 12, 16, DIM), f"transformers' default is not OWLv2-B/16: {built}"
    return config


@cache
def owlv2(imgsz: int) -> nn.Module:
    """OWLv2-B/16 with random weights, for images of one size."""
    from transformers import Owlv2ForObjectDetection

    torch.manual_seed(0)
    return Owlv2ForObjectDetection(owlv2_config(imgsz)).eval()


def ask_owlv2(imgsz: int, texts: int) -> Ask:
    """One forward of the image, scored against all queries' embeddings; the best patch of each query."""
    net: Any = owlv2(imgsz)
    img, queries = image(imgsz), features(texts, DIM)

    def call() -> tuple[Tensor, Tensor]:
        with torch.inference_mode():
            grid = net.image_embedder(pixel_values=img)[0]  # [1, H, W, C]
            tokens = grid.flatten(1, 2)
            conf, best = net.class_predictor(tokens, queries)[0][0].sigmoid().max(0)  # [T]
            boxes = net.box_predictor(tokens, grid)[0]
        return boxes[best], conf

    return call


def of_transformers(own_sizes: bool = True) -> list[Contestant]:
    """Grounding DINO-T and OWLv2-B, measured beside scale m.

    Args:
        own_sizes: At the image sizes of their releases as well.
    """
    dino, owl = ((800,), (960,)) if own_sizes else ((), ())
    return [
        Contestant(
            "Grounding DINO-T", PYTORCH, "m", ask_grounding_dino, "a forward per sentence, its text encoder included",
            dino, one_by_one=True, network=lambda *_: grounding_dino(),
        ),
        Contestant(
            "OWLv2-B/16", PYTORCH, "m", ask_owlv2, "embeddings of the queries kept from before",
            owl, network=lambda size, _: owlv2(size),
        ),
    ]  # fmt: skip

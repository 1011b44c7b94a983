"""The grounding network: image features are computed once, then one pass of neck and head per expression.

OptiSAR-Net++, Sect. III and Fig. 2. For B images, N expressions with an image index each, and text width D:

1. What needs no text: backbone and top-down neck (rows 0-15, YOLO11 with :mod:`~optisar_yolo.nn.plmoe` in row 8), and
   the shuffle attention and bottlenecks of row 16, images [B, 3, H, W] to maps of stride 8, 16 and 32:
   :meth:`GroundingModel.encode`.
2. Each expression gets its own copy of its image's maps: :meth:`Encoded.rows`, B to N rows.
3. The text-guided rest (fusion of row 16, rows 17-22): :mod:`~optisar_yolo.nn.tgdf` in rows 16, 19 and 22 weighs the
maps by the text
   [N, 1, D], giving P3, P4 and P5: :meth:`GroundingModel.head_inputs`.
4. The head (row 23, :mod:`~optisar_yolo.nn.head`) scores every cell against the text: logits [N, 1, A]. The box of the
   best cell is the prediction.

In training all T expressions of an image are scored on one pyramid, guided by one of them
(:meth:`GroundingModel.predict`); the loss is in :mod:`~optisar_yolo.nn.loss`.

Deviations of the parts are listed in their files. Here: neck and scores use the same adapted text, in training as in
inference, and each expression has its own pass of the text-guided neck, so that a prediction does not depend on the
other expressions. A network without text-guided rows runs once per image, whatever the number of expressions.
"""

from __future__ import annotations

import copy
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER
from ultralytics.utils.torch_utils import initialize_weights

from optisar_yolo.nn.fuse import fuse_parts
from optisar_yolo.nn.head import GroundingDetect, HeadFeatures
from optisar_yolo.nn.plmoe import MoEBlock
from optisar_yolo.nn.tgdf import TGDFSSA
from optisar_yolo.nn.transfer import Transfer, transfer
from optisar_yolo.nn.yaml import load_model_yaml, parse_rows

SCALES = "nsmlx"
Kind = TypeVar("Kind", bound=nn.Module)


class Encoded(NamedTuple):
    """Features of B images that do not depend on an expression."""

    maps: dict[int, Tensor]  # [B, C, H, W] by row number: what the text-guided rows use
    first: Tensor  # shared part of the first text-guided row; of a network without such rows its last map
    extent: Tensor  # [B, 4] left, top, right, bottom of the unpadded images as shares of the canvas
    head: HeadFeatures | None = None  # the head's features, of a network without text-guided rows

    def rows(self, index: Tensor | slice) -> Encoded:
        """Select (and repeat) images: index [N] gives N rows. A lone image is expanded without a copy."""
        alone = not torch.jit.is_tracing() and len(self.extent) == 1
        if alone and isinstance(index, Tensor) and self.head is None:
            maps = {k: v.expand(len(index), -1, -1, -1) for k, v in self.maps.items()}
            return Encoded(maps, self.first.expand(len(index), -1, -1, -1), self.extent.expand(len(index), 4))
        maps = {k: v[index] for k, v in self.maps.items()}
        return Encoded(maps, self.first[index], self.extent[index], self.head and self.head.rows(index))


class GroundingModel(DetectionModel):
    """OptiSAR-Net++ as an ultralytics detection model.

    Args:
        cfg: Model YAML (path or bare name) or its content.
        ch: Channels of the image; those that `cfg` names by default, else 3.
        nc: Ignored, part of ultralytics' signature: expressions take the place of classes.
        verbose: Log a summary.
        text_dim: Width of the text features; the YAML's by default.
    """

    def __init__(
        self,
        cfg: str | Path | dict[str, Any] = "optisar++.yaml",
        ch: int | None = None,
        nc: int | None = None,
        verbose: bool = True,
        text_dim: int | None = None,
    ) -> None:
        nn.Module.__init__(self)  # DetectionModel.__init__ would parse the rows with the stock parser
        self.yaml = dict(cfg) if isinstance(cfg, dict) else load_model_yaml(cfg)
        if text_dim is not None:
            self.yaml["text_dim"] = int(text_dim)
        ch = int(self.yaml.get("channels", 3) if ch is None else ch)
        self.yaml["channels"] = ch
        self.model, self.save = parse_rows(self.yaml, ch)
        self.names = {0: "object"}
        self.nc = 1
        self.inplace = True
        self.bf16 = False  # train under bfloat16 on a CPU (on a GPU ultralytics' own mixed precision does it)
        self.text_model = ""  # name and fingerprint of the encoder the model was trained with
        self.text_fingerprint = ""
        self.wordings: tuple[str, ...] | None = None  # kinds of expressions in training, see `language.notes`
        self.facts: dict[str, Any] | None = None  # what the weights know, see `engine.facts`
        self.nouns: dict[str, Any] | None = None  # of the training's data set, see `Vocabulary.to_dict`
        self.head.inplace = True
        self.guided: list[int] = [i for i, m in enumerate(self.model) if isinstance(m, TGDFSSA)]
        self.eval()
        side = 256
        try:
            with torch.no_grad():
                f = self.head_inputs(self.encode(torch.zeros(1, ch, side, side)), torch.zeros(1, 1, self.text_dim))
        except (RuntimeError, IndexError, KeyError, TypeError) as error:
            where = self.yaml.get("yaml_file", "the model description")
            raise ValueError(f"{where}: its rows do not fit each other ({str(error).splitlines()[0]})") from error
        self.stride = self.head.stride = torch.tensor([side / m.shape[-2] for m in f])
        self.train()
        self.head.bias_init()
        initialize_weights(self)
        if verbose:
            self.info()
            LOGGER.info("")

    @property
    def head(self) -> GroundingDetect:
        """The head, which is the last row."""
        head = self.model[-1]
        if not isinstance(head, GroundingDetect):
            raise ValueError(
                f"{self.yaml.get('yaml_file', 'the model description')}: its last row is no GroundingDetect"
            )
        return head

    @property
    def channels(self) -> int:
        """Bands of the images."""
        return int(self.yaml.get("channels", 3))

    @property
    def text_dim(self) -> int:
        """Width D of the text features."""
        return self.head.text_dim

    def _run(self, start: int, stop: int, x: Any, y: dict[int, Tensor], text: Tensor | None) -> Tensor:
        """Run rows start to stop - 1 and store the outputs that later rows use in y."""
        m: Any
        for m in self.model[start:stop]:
            if m.f != -1:
                x = y[m.f] if isinstance(m.f, int) else [x if j == -1 else y[j] for j in m.f]
            x = m(x, text) if isinstance(m, TGDFSSA) else m(x)
            if m.i in self.save:
                y[m.i] = x
        return x

    def encode(self, img: Tensor, extent: Tensor | None = None) -> Encoded:
        """Compute the features of images that do not depend on an expression.

        Args:
            img: Images [B, channels, H, W] in 0..1, H and W multiples of 32.
            extent: [B, 4] of the unpadded images in the canvas, as shares of it; all of it by default.
        """
        if not torch.jit.is_tracing() and img.shape[1] != self.channels:
            raise ValueError(
                f"images of {img.shape[1]} bands, and the network takes {self.channels} (channels: of the dataset "
                "config that it was trained on)"
            )
        y: dict[int, Tensor] = {}
        first = self.guided[0] if self.guided else len(self.model) - 1
        x = self._run(0, first, img, y, None)
        rows: Any = self.model[first:]
        needed = {j for m in rows for j in (m.f if isinstance(m.f, list) else [m.f])}
        if extent is None:
            extent = x.new_tensor([0.0, 0.0, 1.0, 1.0]).expand(img.shape[0], 4)
        maps = {k: v for k, v in y.items() if k in needed}
        if not self.guided:
            return Encoded(maps, x, extent, self.head.features([y[j] for j in self.head.f], extent))
        fusion: Any = self.model[first]
        return Encoded(maps, fusion.shared(x), extent)

    def head_inputs(self, encoded: Encoded, guide: Tensor) -> list[Tensor]:
        """Run the text-guided rows: B rows of features and adapted texts [B, T, D] (T = 1) to the maps P3-P5."""
        y = dict(encoded.maps)
        if self.guided:
            first = self.guided[0]
            fusion: Any = self.model[first]
            x = y[first] = fusion.guided(encoded.first, guide)
            self._run(first + 1, len(self.model) - 1, x, y, guide)
        return [y[j] for j in self.head.f]

    def fuse(self, verbose: bool = True, imgsz: int = 640) -> GroundingModel:
        """Fuse the layers for inference, in place (see :mod:`optisar_yolo.nn.fuse`).

        The weights also go to the channels-last memory format, in which convolutions compute on CPUs and GPUs alike, so
        that maps are not converted back and forth.

        Args:
            verbose: Log a summary.
            imgsz: Image side for the summary's count of operations.

        Returns:
            The network. It can no longer be trained, nor saved as shared weights.
        """
        if not self.is_fused():
            self.eval()
            super().fuse(verbose=False)
            fuse_parts(self)
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            self.info(verbose=verbose, imgsz=imgsz)
        return self

    def match(self, encoded: Encoded, text: Tensor) -> dict[str, Any]:
        """Ground expression i in row i.

        Args:
            encoded: B rows; :meth:`Encoded.rows` repeats an image for each of its expressions.
            text: Encoder features [B, D].

        Returns:
            The head's output with T = 1.
        """
        t = self.head.adapt(text[:, None])
        return self._match(encoded, t, t)

    def match_all(self, encoded: Encoded, text: Tensor) -> dict[str, Any]:
        """Ground T expressions in each image, with a network without text-guided rows.

        Args:
            encoded: B images.
            text: Encoder features [B, T, D].

        Returns:
            The head's output, the same as that of :meth:`match` one by one.
        """
        assert not self.guided, "with text-guided rows each expression needs its own pyramid"
        return self._match(encoded, self.head.adapt(text))

    def _match(self, encoded: Encoded, text: Tensor, guide: Tensor | None = None) -> dict[str, Any]:
        """Score adapted texts [B, T, D] on the pyramid that the adapted texts guide [B, 1, D] give."""
        if encoded.head is not None:
            return self.head.match(encoded.head, text, encoded.extent)
        assert guide is not None
        return self.head(self.head_inputs(encoded, guide), text, encoded.extent)

    def predict(  # type: ignore[override]
        self, x: Tensor, text: Tensor | None = None, extent: Tensor | None = None, guide: Tensor | None = None, **_: Any
    ) -> dict[str, Any]:
        """Score texts against images.

        Args:
            x: Images [B, 3, H, W] in 0..1.
            text: Encoder features [B, T, D].
            extent: [B, 4] of the unpadded images.
            guide: [B] index of the text that guides each image's neck while all T are scored (training); -1: all
                T together (the maximum of Eq. 5, as the authors train). Without it each text has its own row, as if it
                were the only one.

        Returns:
            The head's output: boxes [B, 4 * reg_max, A] and scores [B, T, A] with ``guide``, otherwise [B * T, 4 *
            reg_max, A] and [B * T, 1, A].
        """
        if text is None:  # ultralytics probes a model with a bare image to count operations and strides
            text = x.new_zeros(x.shape[0], 1, self.text_dim)
        encoded = self.encode(x, extent)
        if guide is None:
            b, t, d = text.shape
            index = torch.arange(b, device=x.device).repeat_interleave(t)
            return self.match(encoded if t == 1 else encoded.rows(index), text.reshape(b * t, d))
        adapted = self.head.adapt(text)
        guides = text if self.training and self.yaml.get("raw_guide") else adapted
        union = bool((guide < 0).any())
        chosen = guides if union else guides[torch.arange(len(guide), device=x.device), guide][:, None]  # [B, 1, D]
        return self._match(encoded, adapted, chosen)

    def loss(self, batch: dict[str, Any], preds: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a training batch (see :class:`optisar_yolo.nn.loss.GroundingLoss`)."""
        if getattr(self, "criterion", None) is None:
            self.criterion = self.init_criterion()
        if preds is None:
            img = batch["img"]
            with torch.autocast(img.device.type, torch.bfloat16) if self.bf16 else nullcontext():
                preds = self.predict(img, batch["txt_feats"], batch["extent"], batch["guide"])
        return self.criterion(preds, batch)

    def init_criterion(self) -> Any:
        """The training loss."""
        from optisar_yolo.nn.loss import GroundingLoss

        return GroundingLoss(self)

    def load(self, weights: Any, verbose: bool = True) -> Transfer:
        """Take over the weights of another network, of ours or of Ultralytics, where they mean the same.

        A network that has learned no words yet and takes nearly all of one that has also takes its names, the kinds of
        its expressions and what else is known of it.

        Args:
            weights: A model, or a checkpoint dictionary with one under ``model``.
            verbose: Log how much fitted, and what did not.

        Returns:
            What was taken and what was not (see :mod:`optisar_yolo.nn.transfer`).

        Raises:
            TransferError: Nothing of it fits, or it is of another scale.
        """
        source = weights["model"] if isinstance(weights, dict) else weights
        found = transfer(self, source)
        if isinstance(source, GroundingModel) and not self.text_fingerprint:
            self.text_model = self.text_model or source.text_model
            if found.goes_on:
                self.text_fingerprint, self.names = source.text_fingerprint, source.names
                self.wordings, self.facts = getattr(source, "wordings", None), getattr(source, "facts", None)
                self.nouns = getattr(source, "nouns", None)
        if verbose:
            LOGGER.info(found.line())
        return found

    def balance(self) -> Tensor:
        """Return the sum of the load-balance losses of the last training forward."""
        terms = [m.balance for m in self.modules() if isinstance(m, MoEBlock) and m.balance is not None]
        return torch.stack(terms).sum() if terms else next(self.parameters()).new_zeros(())

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the tensors of the last training step."""
        for m in self.modules():
            if isinstance(m, MoEBlock):
                m.balance = m.gates = None
        return self.__dict__ | {"criterion": None}


def fused_copy(model: GroundingModel) -> GroundingModel:
    """Return a copy of a network in single precision, fused for inference."""
    return copy.deepcopy(model).float().fuse(verbose=False)


def trainable_parameters(model: GroundingModel) -> int:
    """Return the number of a network's trainable parameters."""
    return sum(p.numel() for n, p in model.named_parameters() if ".dfl." not in n)  # the DFL's weights are fixed


def count_table() -> str:
    """Return a table of the trainable parameters of the scales, at the text widths of ``pocket`` and MobileCLIP2-B."""
    lines = ["scale   text_dim=384   text_dim=512   (trainable parameters)"]
    for s in SCALES:
        counts = [
            trainable_parameters(GroundingModel(f"optisar++{s}.yaml", verbose=False, text_dim=d)) for d in (384, 512)
        ]
        lines.append(f"{s:<5}" + "".join(f"{c / 1e6:13.2f} M" for c in counts))
    return "\n".join(lines)


def named_parts(net: Any, kind: type[Kind], prefix: str) -> dict[str, Kind]:
    """Return the modules of a kind in a network, named by prefix and number of their row: ``moe8``, then ``moe8.1``."""
    found: dict[str, Kind] = {}
    for row in net.model:
        for n, part in enumerate(m for m in row.modules() if isinstance(m, kind)):
            found[f"{prefix}{row.i}" + (f".{n}" if n else "")] = part
    return found

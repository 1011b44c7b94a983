"""What a user holds: the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ultralytics.cfg import get_cfg
from ultralytics.engine.model import Model
from ultralytics.utils import DEFAULT_CFG_DICT, RANK

from optisar_yolo.data import read_image
from optisar_yolo.engine import (
    Calibration,
    CalibrationError,
    CheckpointError,
    EncodedImage,
    GroundingPredictor,
    GroundingTrainer,
    GroundingValidator,
    KnownExpressions,
    attach,
    calibration_of,
    checked_bank,
    checked_expressions,
    default_conf,
    find_weights,
    load_shared,
    readable,
    save_shared,
    store_calibration,
)
from optisar_yolo.export import ExportedModel, is_export, run_benchmark, run_export
from optisar_yolo.nn import GroundingModel, fused_copy
from optisar_yolo.plugin import OPTISAR_DEFAULTS, config_keys
from optisar_yolo.text import TextBank


class OptiSAR(Model):
    """A grounding model with ultralytics' interface: ``train``, ``val``, ``predict`` and ``export``.

    Args:
        model: Model YAML (``optisar++n.yaml``), checkpoint (``best.pt``) or shared weights
            (``optisar++n-pocket.safetensors``, by
            bare name if it travels with the package). An export (``best.onnx``, ``best_openvino_model``,
            ``best.torchscript``) can ``predict``, ``encode`` and ``val``.
        task: Only ``None`` and ``"detect"``: ultralytics' name of the family.
        verbose: Log the layers of a new model.

    Raises:
        FileNotFoundError: No such file.
        CheckpointError: A file that cannot be used.

    Example:
        >>> from optisar_yolo import OptiSAR
        >>> OptiSAR("optisar++n-pocket.safetensors").predict("port.jpg", text="the SAR ship in the upper left")
    """

    model: Any  # GroundingModel, or ExportedModel where an export is open
    ckpt: Any

    def __init__(self, model: Any = "optisar++.yaml", task: str | None = None, verbose: bool = False) -> None:
        if isinstance(model, Path):
            model = str(model)
        with config_keys():
            super().__init__(
                model=model, task=task or (None if isinstance(model, Model) else "detect"), verbose=verbose
            )
        self._bank: TextBank | KnownExpressions | None = None
        self._fused: tuple[tuple[Any, ...], GroundingModel] | None = None  # what it is a copy of, the copy

    @property
    def task_map(self) -> dict[str, dict[str, Any]]:
        """Our classes for ultralytics' modes."""
        return {
            "detect": {
                "model": GroundingModel,
                "trainer": GroundingTrainer,
                "validator": GroundingValidator,
                "predictor": GroundingPredictor,
            }
        }

    def _new(self, cfg: str, task: str | None = None, model: Any = None, verbose: bool = False) -> None:
        self.cfg = self.model_name = cfg
        self.task = "detect"
        self.model = GroundingModel(cfg, verbose=verbose and RANK == -1)
        self.overrides |= {"model": cfg, "task": self.task}
        self.model.args = {**DEFAULT_CFG_DICT, **OPTISAR_DEFAULTS, **self.overrides}
        self.model.task = self.task

    def _load(self, weights: str, task: str | None = None) -> None:
        if is_export(weights):
            self.model, self.ckpt, self.task = ExportedModel(weights), None, "detect"
            self.overrides = {"imgsz": self.model.imgsz, "model": str(weights), "task": self.task}
            self.ckpt_path = self.model_name = str(weights)
            return
        path = find_weights(weights)
        if path.suffix == ".safetensors":
            self.model = load_shared(path)
            self.ckpt = {"model": self.model}
            self.task = "detect"
            self.overrides = {"imgsz": self.model.args["imgsz"], "model": str(path), "task": self.task}
            self.model.args = {**DEFAULT_CFG_DICT, **OPTISAR_DEFAULTS, **self.overrides}
            self.ckpt_path = self.model_name = str(path)
            return
        with readable(path):
            super()._load(str(path), task)
        if not isinstance(self.model, GroundingModel):
            raise CheckpointError(f"{path}: not a checkpoint of an OptiSAR model; open it with ultralytics' YOLO")

    @config_keys()
    def train(self, trainer: Any = None, **kwargs: Any) -> Any:
        """Train; keys are ultralytics' and those of ``optisar help``. Returns the metrics of the best epoch."""
        return super().train(trainer, **kwargs)

    @config_keys()
    def val(self, validator: Any = None, **kwargs: Any) -> Any:
        """Validate on a split of a card. Returns :class:`~optisar_yolo.engine.metrics.GroundingMetrics`."""
        return super().val(validator, **kwargs)

    @config_keys()
    def predict(self, source: Any = None, stream: bool = False, predictor: Any = None, **kwargs: Any) -> Any:
        """Ask expressions of images.

        Args:
            source: File, folder, URL, array, PIL image, tensor, or a list of them, as ultralytics takes them.
            stream: Return a generator.
            predictor: Another predictor class.
            **kwargs: ``text`` (an expression or a list of them), ``conf`` (least confidence of a box; by default the
                threshold of the model's calibration, 0.05 without one), ``topk``, ``imgsz``, ``save`` and
                ultralytics' other keys.

        Returns:
            One ``Results`` per image: ``boxes.cls`` is the index of the expression, ``names[cls]`` the expression.

        Raises:
            ValueError: No usable expression.
        """
        if kwargs.get("conf") is None:
            kwargs["conf"] = default_conf(self.model)
        baked = self.model.texts if isinstance(self.model, ExportedModel) else []
        text = kwargs.get("text")
        kwargs["text"] = checked_expressions((baked or None) if text is None else text)  # before anything is loaded
        if stream:
            return self._stream(source, predictor, kwargs)
        return super().predict(source, stream, predictor, **kwargs)

    def _stream(self, source: Any, predictor: Any, kwargs: dict[str, Any]) -> Any:
        with config_keys():  # open until the last image
            yield from super().predict(source, True, predictor, **kwargs)

    @config_keys()
    def export(self, **kwargs: Any) -> str:
        """Write the network for other programs (see :mod:`optisar_yolo.export.exported` for inputs and outputs).

        Args:
            **kwargs: ``format`` (``"onnx"``, the default, ``"openvino"`` or ``"torchscript"``), ``imgsz``, ``opset``;
                ``parts=True`` for two graphs, ``text=[…]`` for fixed expressions, ``text_graph=True`` for the text
                encoder's graph too; ``int8=True`` with ``data`` and ``fraction`` for a quantised OpenVINO model.

        Returns:
            Path of the file or folder, beside the weights; of two parts that of the first, which opens both.

        Raises:
            ValueError: Another format or an option that an export cannot have.
            MissingExtraError: The packages of the extra ``export`` or ``openvino`` are not installed.
        """
        self._check_is_pytorch_model()
        custom = {"format": "onnx", "imgsz": self.overrides.get("imgsz") or 640, "data": None, "device": None}
        args = get_cfg(overrides={**self.overrides, **custom, **kwargs, "mode": "export"})
        return run_export(self.model, args, self.ckpt_path)

    @config_keys()
    def benchmark(self, data: Any = None, format: str = "", verbose: bool | float = False, **kwargs: Any) -> Any:
        """Export to every format, and validate each: the same answers, at what size and speed?

        Args:
            data: Dataset config whose validation split is asked; the rendered ``demo.yaml`` by default.
            format: One format alone.
            verbose: Raise where a format fails; a number is also the least meanIoU that each must reach.
            **kwargs: ``imgsz``, ``fraction``; ``int8=True`` adds a row of 8 bits.

        Returns:
            The table, a polars ``DataFrame`` of strings as ultralytics gives it.

        Raises:
            ValueError: A format that is not written.
        """
        self._check_is_pytorch_model()
        custom = {"format": format, "imgsz": self.imgsz, "data": data or "demo.yaml", "rect": True}
        args = get_cfg(overrides={**self.overrides, **custom, **kwargs, "mode": "benchmark"})
        return run_benchmark(self, args, verbose)

    @config_keys()
    def calibrate(
        self, data: str | Path, split: str = "val", save: str | Path | None = None, **kwargs: Any
    ) -> Calibration:
        """Fit confidences that are probabilities, and a threshold (see :mod:`optisar_yolo.engine.calibrate`).

        Every expression is asked, and for each that has one a reworded expression that the boxes prove false. Unlike
        boxes, confidences and what gets an answer change from here on; training ends with this by itself.

        Args:
            data: Dataset config.
            split: A split that the model was not trained on.
            save: Weights file to write: what was opened, and the calibration. By default the model in memory alone
                changes.
            **kwargs: ``imgsz`` and other keys of ``val``.

        Returns:
            The calibration.

        Raises:
            CalibrationError: The answers allow none.
            ValueError: The model has no weights file to write anew.
        """
        self._check_is_pytorch_model()
        if save is not None and not self.ckpt_path:
            raise ValueError("save= needs a model that was opened from a weights file; save this one first")
        args = {**self.overrides, "rect": True, "plots": False, **kwargs}
        args |= {"data": str(data), "split": split, "mode": "val"}
        validator = GroundingValidator(args=args, _callbacks=self.callbacks)
        validator.fit = True
        validator(model=self.model)
        self.metrics = validator.metrics
        if validator.calibration is None:
            raise CalibrationError(f"{data} {split}: {validator.problem}")
        attach(self.model, validator.calibration)
        self.predictor = None  # it holds a copy of the network without the calibration
        if save is not None:
            store_calibration(self.ckpt_path, save, validator.calibration)
        return validator.calibration

    @property
    def imgsz(self) -> int:
        """Long side of images in the network, pixels: that of training, or Ultralytics' default."""
        return int(self.overrides.get("imgsz") or 640)

    def encode(self, source: Any, imgsz: int | None = None) -> EncodedImage:
        """Encode an image once, to ask it many expressions.

        Args:
            source: File, array (BGR) or PIL image.
            imgsz: Long side in the network; that of training by default.

        Returns:
            The scene. Of an export in one part, each question encodes the image anew.
        """
        if self._bank is None:
            self._bank = checked_bank(self.model, self.overrides.get("text_weights"), None)
        image = read_image(source)
        return EncodedImage(
            self._for_inference(),
            self._bank,
            image,
            int(imgsz or self.imgsz),
            str(source)[:200] if isinstance(source, (str, Path)) else "image0.jpg",
        )

    def _for_inference(self) -> GroundingModel | ExportedModel:
        """The network in its exact form for inference, copied anew when the network has changed."""
        if isinstance(self.model, ExportedModel):
            return self.model
        tensors = [*self.model.parameters(), *self.model.buffers()]
        state = (self.model, tensors[0].device, sum(t._version for t in tensors), calibration_of(self.model))
        if self._fused is None or self._fused[0] != state:
            self._fused = state, fused_copy(self.model)
        return self._fused[1]

    def save_shared(self, path: str | Path, **info: Any) -> Path:
        """Write the weights as safetensors, for sharing (see :func:`optisar_yolo.engine.checkpoint.save_shared`)."""
        self._check_is_pytorch_model()
        return save_shared(self.model, path, info)

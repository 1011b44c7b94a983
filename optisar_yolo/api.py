"""The public classes: :class:`OptiSAR`, a model, and :class:`EncodedImage`, an image that the model has encoded."""

from __future__ import annotations

import weakref
from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ultralytics.cfg import get_cfg
from ultralytics.engine.model import Model
from ultralytics.engine.results import Results
from ultralytics.utils import DEFAULT_CFG_DICT, LOGGER, RANK

from optisar_yolo.data import ImageRendering, read_image
from optisar_yolo.engine import (
    FINE_TUNING,
    MATCH_ATTRIBUTE,
    TRAIN_DEFAULTS,
    TUNE_SPACE,
    Calibration,
    CalibrationError,
    CheckpointError,
    EncodedImage,
    GroundingMetrics,
    GroundingPredictor,
    GroundingTrainer,
    GroundingValidator,
    KnownExpressions,
    ModelModes,
    NetworkRunner,
    PredictorPool,
    attach,
    calibrations,
    check_finite,
    check_resumable,
    checked_expressions,
    default_conf,
    describe_model,
    find_weights,
    is_trained,
    load_shared,
    log_notes,
    notes_of,
    open_start,
    readable,
    save_shared,
    shrink_note,
    side_for,
    store_calibration,
    text_features_for,
    tracking_settings,
    with_file,
)
from optisar_yolo.export import EngineNetwork, ExportedModel, can_leave_torch, is_export, run_benchmark, run_export
from optisar_yolo.hub import HubModel
from optisar_yolo.nn import GroundingModel, fused_copy
from optisar_yolo.plugin import OPTISAR_DEFAULTS, SETTINGS, config_keys, name_ignored
from optisar_yolo.text import TextFeatureCache
from optisar_yolo.utils import BUNDLED_MODEL


class OptiSAR(ModelModes, HubModel):
    """A grounding model with Ultralytics' interface: ``train``, ``val``, ``predict``, ``track`` and ``export``.

    Args:
        model: Model YAML (``optisar++n.yaml``), checkpoint (``best.pt``) or shared weights
            (``optisar++n-pocket.safetensors``; the bare name suffices for weights of the package, and ``hf://user/name``
            for weights of the Hugging Face Hub). An export
            (``best.onnx``, ``best_openvino_model``, ``best.torchscript``) can ``predict``, ``encode`` and ``val``.
        task: ``None`` or ``"detect"``, Ultralytics' name of the task.
        verbose: Log the layers of a new model.

    Raises:
        FileNotFoundError: No such file.
        CheckpointError: A file that cannot be used.

    ``predict``, ``encode``, ``val`` and :meth:`EncodedImage.ground` may run in several threads at once, also inside the
    loop over ``predict(…, stream=True)`` of the same model. ``track`` with ``persist=True`` needs a model per thread.

    Example:
        >>> from optisar_yolo import OptiSAR
        >>> OptiSAR("optisar++n-pocket.safetensors").predict("port.jpg", text="the SAR ship in the upper left")
    """

    model: Any  # GroundingModel, or ExportedModel where an export is open
    ckpt: Any

    def __init__(self, model: Any = "optisar++.yaml", task: str | None = None, verbose: bool = False) -> None:
        if isinstance(model, Path):
            model = str(model)
        self._engine: tuple[tuple[Any, ...], EngineNetwork] | None = None  # state and engine, what runs the network
        self._predictors = PredictorPool()  # before `super().__init__`, which sets `predictor`
        self._text_features: tuple[tuple[Any, ...], TextFeatureCache | KnownExpressions] | None = None  # encoder, cache
        self._fused: tuple[tuple[Any, ...], GroundingModel] | None = None  # state of the network, its fused copy
        self._expressions: list[str] | None = None  # of `set_classes`
        with config_keys():
            super().__init__(
                model=model, task=task or (None if isinstance(model, Model) else "detect"), verbose=verbose
            )

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what runs the network: a copy finds its own."""
        return {**self.__dict__, "_engine": None}

    @property
    def predictor(self) -> Any:
        """The predictor of the last call of ``predict`` in this thread, or in any thread where this one made none.

        Calls that run at the same time have different predictors, which share one fused network. ``None`` before the
        first call; setting ``None`` makes the next call copy and fuse the network anew.
        """
        return self._predictors.current

    @predictor.setter
    def predictor(self, predictor: Any) -> None:
        if predictor is None:
            self._engine = None
        self._predictors.current = predictor

    @property
    def task_map(self) -> dict[str, dict[str, Any]]:
        """The classes of Ultralytics' modes."""
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
        check_finite(self.model, path)

    def set_classes(self, classes: Sequence[str], embeddings: Any = None) -> None:
        """Set the expressions of calls without ``text``, as the classes of Ultralytics' YOLO-World and YOLOE.

        Args:
            classes: Expressions, such as ``["ship", "the tank at the top"]``; each is grounded as with ``text=``.
            embeddings: Not available: the text encoder of the model computes them.

        Raises:
            ValueError: No usable expression, embeddings, or an export whose expressions are fixed.
        """
        if embeddings is not None:
            raise ValueError("set_classes: embeddings= is not available; the model's text encoder computes them")
        if isinstance(self.model, ExportedModel) and self.model.texts:
            raise ValueError(f"{self.ckpt_path}: its expressions are fixed ({', '.join(self.model.texts)})")
        self._expressions = checked_expressions(classes)

    def load(self, weights: Any = BUNDLED_MODEL) -> OptiSAR:
        """Take over the weights of another network where they mean the same, and say how many.

        Args:
            weights: A file (``.pt`` of Ultralytics or of ours, ``.safetensors``), a checkpoint or a network.

        Returns:
            This model.

        Raises:
            FileNotFoundError: No such file.
            CheckpointError: A file that cannot be used.
            TransferError: Weights of another scale, or of which nothing fits.
        """
        self._check_is_pytorch_model()
        source = open_start(weights) if isinstance(weights, (str, Path)) else weights
        super().load(source)
        return self

    def __repr__(self) -> str:
        """Return what a caller has to know, in a few lines; ``print(model.model)`` lists the layers."""
        return describe_model(self.model, str(self.model_name or ""), self.imgsz)

    @config_keys()
    def _train(self, trainer: Any, kwargs: dict[str, Any]) -> GroundingMetrics:
        if kwargs.get("resume") is True:
            check_resumable(self.ckpt, self.ckpt_path)  # Ultralytics would start another training
        start = with_file(kwargs).get("pretrained")
        if _is_file(start) and isinstance(kwargs.get("data"), (list, tuple)):  # one training after the other
            self.load(start)
            start = kwargs["pretrained"] = True
        if not _is_file(start):
            return Model.train(self, trainer, **kwargs)
        # Without a checkpoint of its own, Ultralytics leaves network and weights to the trainer, which opens all forms.
        before, self.ckpt = self.ckpt, None
        try:
            return Model.train(self, trainer, **kwargs)
        except BaseException:
            self.ckpt = before
            raise

    @config_keys()
    def tune(self, use_ray: bool = False, iterations: int = 300, *args: Any, **kwargs: Any) -> Any:
        """Search for better settings, beginning with those of a training of this model.

        Args:
            use_ray: Use Ray Tune.
            iterations: Trainings.
            *args: For Ray Tune.
            **kwargs: Settings of :meth:`train`; ``space`` maps keys to ranges (by default :data:`TUNE_SPACE`).

        Returns:
            As Ultralytics' ``tune``.
        """
        kwargs = self._for_training(kwargs)
        if _is_file(start := kwargs.get("pretrained")):
            self.load(kwargs.pop("pretrained"))
        defaults = TRAIN_DEFAULTS | {"nbs": kwargs.get("batch", 16)}
        if is_trained(self.model) and start is not False:
            defaults |= FINE_TUNING
        return Model.tune(
            self,
            use_ray,
            iterations,
            *args,
            **defaults | {"space": dict(TUNE_SPACE)} | kwargs,
        )

    @config_keys()
    def _val(self, validator: Any, kwargs: dict[str, Any]) -> GroundingMetrics:
        return Model.val(self, validator, **kwargs)

    @config_keys()
    def _track(self, source: Any, stream: bool, persist: bool, kwargs: dict[str, Any]) -> Any:
        return Model.track(self, source, stream, persist, **tracking_settings(self.model, kwargs))  # calls `predict`

    @config_keys()
    def _predict(self, source: Any, stream: bool, predictor: Any, kwargs: dict[str, Any]) -> Any:
        if source is None:  # Ultralytics would take its sample images, from the network for some tasks
            raise ValueError('predict needs a source: an image, a folder or a list, such as source="port.jpg"')
        if kwargs.get("conf") is None:
            kwargs["conf"] = default_conf(self.model)
        baked = (self.model.texts if isinstance(self.model, ExportedModel) else []) or self._expressions
        text = kwargs.get("text")
        kwargs["text"] = checked_expressions((baked or None) if text is None else text)  # before anything is loaded
        given = {**self.overrides, **kwargs}
        if given.get("verbose", True):
            reason = given.get("reason", True) is not False
            log_notes(notes_of(self.model, kwargs["text"], given.get("topk") or 1, reason), kwargs["conf"])
        if stream:
            return self._stream(source, predictor, kwargs)
        found, ticket = self._begin(source, predictor, kwargs, stream)
        try:
            return found if ticket is None else list(found)
        finally:
            self._predictors.give_back(ticket)

    def _begin(self, source: Any, predictor: Any, kwargs: dict[str, Any], stream: bool) -> tuple[Any, object]:
        """Set a call up; returns the generator of its results, and the ticket of its predictor.

        Ultralytics' command has run all of it by then: there is no ticket.
        """
        with self._predictors.lock:
            self._predictors.choose()
            start = kwargs.pop("track_start", None)
            fits_size = kwargs.get("imgsz") is None
            engine = {"engine": "auto", **self.overrides, **kwargs}["engine"]
            if self.predictor is not None and getattr(self.predictor.args, "engine", engine) != engine:
                self.predictor = None  # it keeps its network
            found = Model.predict(self, source, True, predictor, **kwargs)
            if not isinstance(found, Generator):
                return found, None
            used = self.predictor
            used.track_start, used.fits_size = start, fits_size
            used.stream = stream  # Ultralytics warns of long lists of results
            if isinstance(used, GroundingPredictor):
                used.text_features = self._features_of(used.args.text_weights)
            return found, self._predictors.take(used)

    def _stream(self, source: Any, predictor: Any, kwargs: dict[str, Any]) -> Any:
        """Set a call up, and return the generator of its results."""
        found, ticket = self._begin(source, predictor, kwargs, True)
        if ticket is None:
            return found
        results = self._results(found, ticket)
        weakref.finalize(results, self._predictors.give_back, ticket).atexit = False  # also if it never starts
        return results

    def _results(self, found: Generator[Results, None, None], ticket: object) -> Generator[Results, None, None]:
        """Yield results; our keys are accepted while one is computed, not while the caller uses it."""
        try:
            while True:
                with config_keys():
                    result = next(found, None)
                if result is None:
                    return
                yield result
        finally:
            with config_keys():
                found.close()
            self._predictors.give_back(ticket)

    @config_keys()
    def _export(self, kwargs: dict[str, Any]) -> str:
        self._check_is_pytorch_model()
        if self._expressions and not any(kwargs.get(key) for key in ("text", "parts", "text_graph")):
            LOGGER.info(f"export: text={self._expressions}, as set_classes has it, becomes part of the graph")
            kwargs["text"] = self._expressions
        custom = {"format": "onnx", "imgsz": self.overrides.get("imgsz") or 640, "data": None, "device": None}
        args = get_cfg(overrides={**self.overrides, **custom, **kwargs, "mode": "export"})
        return run_export(self.model, args, self.ckpt_path)

    @config_keys()
    def benchmark(self, data: Any = None, format: str = "", verbose: bool | float = False, **kwargs: Any) -> Any:
        """Export to every format, and compare their figures, file sizes and speed.

        Args:
            data: Dataset config whose validation split is used; the rendered ``demo.yaml`` by default.
            format: One format alone.
            verbose: Raise an error where a format fails; a number is also the meanIoU that each must reach.
            **kwargs: ``imgsz``, ``fraction``; ``int8=True`` adds a quantised model.

        Returns:
            The table, a polars ``DataFrame`` of strings as in Ultralytics.

        Raises:
            ValueError: An unknown format.
        """
        self._check_is_pytorch_model()
        name_ignored("benchmark", kwargs)
        custom = {"format": format, "imgsz": self.imgsz, "data": data or "demo.yaml"}
        args = get_cfg(overrides={**self.overrides, **custom, **kwargs, "mode": "benchmark"})
        return run_benchmark(self, args, verbose)

    @config_keys()
    def calibrate(
        self, data: str | Path, split: str = "val", save: str | Path | None = None, **kwargs: Any
    ) -> Calibration:
        """Fit confidences that are probabilities, and a threshold (see :mod:`optisar_yolo.engine.calibrate`).

        The model grounds every expression of the split and, for each that has one, a reworded expression that the boxes
        prove false. Afterwards confidences and the default threshold differ; boxes do not. Training does this at its
        end.

        Args:
            data: Dataset config.
            split: A split that the model was not trained on.
            save: Weights file to write: a copy of the opened file with the calibration. By default only the model in
                memory changes.
            **kwargs: ``imgsz`` and other keys of ``val``.

        Returns:
            The calibration.

        Raises:
            CalibrationError: No calibration can be fitted to the boxes found.
            ValueError: `save` is given and the model was not opened from a weights file.
        """
        self._check_is_pytorch_model()
        if save is not None and not self.ckpt_path:
            raise ValueError("save= needs a model that was opened from a weights file; save this one first")
        args = {**self.overrides, "rect": True, "plots": False, **kwargs}
        args = self._here(args) | {"data": str(data), "split": split, "mode": "val"}
        validator = GroundingValidator(args=args, _callbacks=self.callbacks)
        validator.fit = True
        validator(model=self.model)
        self.metrics = validator.metrics
        if validator.calibration is None:
            raise CalibrationError(f"{data} {split}: {validator.problem}")
        attach(self.model, validator.calibration)
        if validator.match_calibration is not None:
            attach(self.model, validator.match_calibration, MATCH_ATTRIBUTE)
        self.predictor = None  # it holds a copy of the network without the calibration
        if save is not None:
            store_calibration(self.ckpt_path, save, validator.calibration, validator.match_calibration)
        return validator.calibration

    @property
    def imgsz(self) -> int:
        """Long side of images in the network, pixels: that of training, or Ultralytics' default."""
        return int(self.overrides.get("imgsz") or 640)

    def encode(
        self, source: Any, imgsz: int | None = None, engine: str | None = None, bands: Any = None, stretch: str = "auto"
    ) -> EncodedImage:
        """Encode an image once, to ground many expressions in it.

        Args:
            source: File, array (BGR) or PIL image.
            imgsz: Long side in the network; chosen by the image by default (:mod:`optisar_yolo.engine.sizes`).
            engine: As in :meth:`predict`; ``auto`` by default.
            bands: As in :meth:`predict`.
            stretch: Likewise.

        Returns:
            The encoded image. An export of one graph encodes it anew in each call of ``ground``.
        """
        given = SETTINGS["bands"].check(bands), SETTINGS["stretch"].check(stretch), self.model.channels
        image = read_image(source, ImageRendering(*given))
        path, size = str(source)[:200] if isinstance(source, (str, Path)) else "image0.jpg", image.shape[:2]
        side = side_for(self.model, size, self.imgsz) if imgsz is None else int(imgsz)
        if note := shrink_note(size, side):
            LOGGER.warning(f"{path}: {note}")
        with self._predictors.lock:
            network, text_features = self._for_inference(engine), self._features_of(self.overrides.get("text_weights"))
        return EncodedImage(network, text_features, image, side, path)

    def _features_of(self, weights: Any) -> TextFeatureCache | KnownExpressions:
        """Return the one cache of text features of all calls; another for another encoder. The lock is held."""
        key = (self.model, self.model.text_model, self.model.text_fingerprint, weights)
        if self._text_features is None or self._text_features[0] != key:
            self._text_features = key, text_features_for(self.model, weights)
        return self._text_features[1]

    def _for_inference(self, engine: str | None = None) -> GroundingModel | NetworkRunner:
        """Return what runs the network, made anew when the network has changed."""
        chosen = self.engine_network(engine)
        if chosen is not None:
            return chosen
        if isinstance(self.model, ExportedModel):
            return self.model
        state = self._state()
        if self._fused is None or self._fused[0] != state:
            self._fused = state, fused_copy(self.model)
        return self._fused[1]

    def _state(self) -> tuple[Any, ...]:
        """Return what changes when the network changes."""
        tensors = [*self.model.parameters(), *self.model.buffers()]
        return self.model, tensors[0].device, sum(t._version for t in tensors), calibrations(self.model)

    def engine_network(self, engine: str | None = None, device: Any = None, reason: str = "") -> EngineNetwork | None:
        """Return what takes PyTorch's place on a CPU (see :mod:`optisar_yolo.export.engines`).

        Args:
            engine: ``torch``, ``onnx``, ``openvino`` or ``auto``, the default.
            device: Where the network runs, as in Ultralytics; by default where it is.
            reason: What else keeps the network in PyTorch.

        Returns:
            None where PyTorch runs the network: it is asked for, or something needs it.

        Raises:
            ValueError: An unknown engine, or one that cannot run the network; the message says why.
            MissingExtraError: The engine is not installed.
        """
        engine = engine or self.overrides.get("engine") or "auto"
        if not can_leave_torch(self.model, engine, device, reason):
            return None
        state = (*self._state(), engine, torch.get_num_threads())
        if self._engine is None or self._engine[0] != state:
            self._engine = state, EngineNetwork(self.model, engine, self.ckpt_path, self.imgsz)
        return self._engine[1]

    def _smart_load(self, key: str) -> Any:
        """Return the class of a mode; prediction and validation get what chooses the engine."""
        found = super()._smart_load(key)
        if key not in ("predictor", "validator"):
            return found

        def choose(args: Any) -> EngineNetwork | None:
            reason = "half precision is PyTorch's" if args.quantize == 16 else ""
            if args.compile or args.channels_last:
                reason = "compile= and channels_last= are PyTorch's"
            if key == "validator" and args.sensitivity:
                reason = "sensitivity= needs the scores of all anchors, which PyTorch alone gives"
            return self.engine_network(args.engine, args.device, reason)

        return partial(found, choose=choose)

    def save_shared(self, path: str | Path, **info: Any) -> Path:
        """Write the weights as safetensors, for sharing (see :func:`optisar_yolo.engine.checkpoint.save_shared`)."""
        self._check_is_pytorch_model()
        return save_shared(self.model, path, info)


def _is_file(weights: Any) -> bool:
    """Tell whether ``pretrained=`` names a file, as opposed to a switch."""
    return isinstance(weights, (str, Path))

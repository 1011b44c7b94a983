"""Validation: grounds every expression of a split and compares the boxes with the labelled objects.

1. ``_prepare`` opens network, data and text encoder.
2. ``_ground`` encodes images of one canvas size once, grounds all their expressions, maps the boxes to the images and
   adds them to :class:`~optisar_yolo.engine.metrics.GroundingMetrics`. Where they are wanted, reworded expressions
   (:class:`~optisar_yolo.engine.sensitivity.SensitivityProbe`) and the experts' use are recorded as well.
3. ``_gather`` merges the results of a parallel training's processes.
4. ``_calibrate`` calibrates the confidences, with a calibration that it may fit itself.
5. ``_save`` writes tables, predictions and plots.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from ultralytics.engine.validator import BaseValidator
from ultralytics.utils import LOGGER, RANK, TQDM, callbacks, colorstr
from ultralytics.utils.torch_utils import select_device, smart_inference_mode, unwrap_model

from optisar_yolo.data import (
    DatasetConfig,
    EpochSampler,
    EvaluationDataset,
    GroundingLoader,
    ImageRecord,
    load_dataset_config,
    load_split,
    to_image,
)
from optisar_yolo.engine.calibrate import ATTRIBUTE, DEFAULT_CONF, Calibration, CalibrationError, calibration_of
from optisar_yolo.engine.checkpoint import load_model
from optisar_yolo.engine.grounding import KnownExpressions, NetworkRunner, ground, text_features_for
from optisar_yolo.engine.metrics import GroundingMetrics, expression_indices, score_image
from optisar_yolo.engine.predictions import write_predictions
from optisar_yolo.engine.sensitivity import RULES, SensitivityProbe, flat, table
from optisar_yolo.nn import GroundingModel, fused_copy, mixed
from optisar_yolo.text import TextFeatureCache
from optisar_yolo.utils import gather_objects, process_rank, world_size
from optisar_yolo.visualize import EvaluatedExpression

SECTIONS = ("modality", "difficulty", "kind", "category")  # of the table after a validation outside training

_FOLDERS = threading.Lock()  # two validations at once must not write to one folder


class GroundingValidator(BaseValidator):
    """Validator of :class:`~optisar_yolo.nn.GroundingModel`; takes the arguments of Ultralytics' validator.

    Attributes:
        metrics: The figures.
        cases: One per expression.
        fit: Fit a calibration to the results and report with it, in the place of the model's own.
        calibration: The model's calibration or the fitted one; confidences in metrics and cases are calibrated with it.
        problem: Why no calibration could be fitted.
    """

    def __init__(
        self,
        dataloader: Any = None,
        save_dir: Path | None = None,
        args: Any = None,
        _callbacks: dict[str, Any] | None = None,
        choose: Callable[[Any], NetworkRunner | None] | None = None,
    ) -> None:
        given = args.get("conf") if isinstance(args, dict) else getattr(args, "conf", None)
        self.conf: float | None = given  # Ultralytics replaces None by a number of its own
        with _FOLDERS:  # Ultralytics numbers the folder first and makes it later
            super().__init__(dataloader, save_dir, args, _callbacks)
        self.args.task = "detect"
        self.choose = choose  # from the arguments to what takes PyTorch's place, or None
        self.metrics = GroundingMetrics(self.save_dir)
        self.config: DatasetConfig | None = None
        self.images: list[ImageRecord] = []
        self.text_features: TextFeatureCache | KnownExpressions | None = None
        self.cases: list[EvaluatedExpression] = []
        self.fit = False
        self.calibration: Calibration | None = None
        self.problem = ""
        self.probe: SensitivityProbe | None = None
        self.routing: Any = None  # records the experts' use, for plots

    @smart_inference_mode()
    def __call__(self, trainer: Any = None, model: Any = None, **_: Any) -> dict[str, float] | None:
        """Validate a trainer's averaged model, or a given one.

        Args:
            trainer: The trainer, during training.
            model: A model or checkpoint file, otherwise.

        Returns:
            The figures under ``metrics/…`` and ``fitness`` (meanIoU of all); None on ranks above 0.
        """
        self.training = trainer is not None
        net = self._prepare(trainer, model)
        self.metrics.clear()
        self.cases.clear()
        self.probe, self.routing = self._probe_of(net), self._routing_of(net)
        self.run_callbacks("on_val_start")
        seconds = dict.fromkeys(self.metrics.speed, 0.0)
        loader = self.dataloader if self.training else self._loader()
        for i, groups in enumerate(TQDM(loader, desc=f"{'Grounding':>22}", total=len(loader), disable=RANK > 0)):
            self.batch_i = i
            self.run_callbacks("on_val_batch_start")
            with mixed(self.args.quantize == 16, self.device):
                for index, img, extent in groups:
                    self._ground(net, index, img, extent, seconds)
            self.run_callbacks("on_val_batch_end")
        if not self._gather(seconds):
            return None
        self.speed = self.metrics.speed = {k: 1e3 * s / max(len(self.images), 1) for k, s in seconds.items()}
        LOGGER.info(self.metrics.table() if self.training else self.metrics.table(SECTIONS))
        if not self.training:
            self._calibrate(net)
            self._save()
        self.run_callbacks("on_val_end")
        return dict(self.metrics.results_dict)

    def _gather(self, seconds: dict[str, float]) -> bool:
        """Merge the results of all processes of a parallel training, in the order of the images.

        Args:
            seconds: Time by stage, of this process; afterwards of all.

        Returns:
            Whether this is the first process, which has the merged results.
        """
        scores, use = self.probe.scores if self.probe else None, self.routing.use if self.routing else None
        parts = gather_objects((self.metrics, self.cases, scores, use, seconds))
        if parts is None:
            return False
        for metrics, cases, other_scores, other_use, spent in parts[1:]:
            self.metrics.merge(metrics)
            self.cases += cases
            if scores is not None and other_scores is not None:
                scores.merge(other_scores)
            if use is not None:
                use.merge(other_use)
            for stage, s in spent.items():
                seconds[stage] += s
        return True

    def _prepare(self, trainer: Any, model: Any) -> GroundingModel | NetworkRunner:
        """Set device, data and texts, and return the network in evaluation mode."""
        if trainer is not None:
            self.device = trainer.device
            return fused_copy(unwrap_model(trainer.ema.ema or trainer.model))
        callbacks.add_integration_callbacks(self)
        if world_size() == 1 or self.device is None:  # a process of a parallel training keeps its device
            self.device = select_device(self.args.device, verbose=False)
        if not isinstance(model, (GroundingModel, NetworkRunner)):
            model = load_model(model if model is not None else self.args.model)
        if isinstance(model, GroundingModel) and self.choose is not None:
            model = self.choose(self.args) or model
        if isinstance(model, NetworkRunner):
            net: GroundingModel | NetworkRunner = model.to(self.device)
            self.device = torch.device("cpu")  # where exports take and return their arrays
        else:
            net = fused_copy(model.to(self.device))
        if self.config is None:
            self.config = load_dataset_config(self.args.data)
            self.images = load_split(self.config, self.args.split or "val", self.args.fraction or 1.0, self.args.seed)
        if isinstance(net, NetworkRunner):
            net.expect(len(self.images))
        if self.text_features is None:
            self.text_features = text_features_for(net, self.args.text_weights, self.config.root)
        return net

    def _probe_of(self, net: GroundingModel | NetworkRunner) -> SensitivityProbe | None:
        """Return what grounds reworded expressions, where they are wanted; None between the epochs of a training."""
        full = bool(getattr(self.args, "sensitivity", False))
        if self.training or not (full or self.fit):
            return None
        assert self.config is not None and self.text_features is not None
        return SensitivityProbe(net, self.text_features, self.config.names, self.device, full, self.config.vocabulary)

    def _routing_of(self, net: GroundingModel | NetworkRunner) -> Any:
        """Return what records the experts' use for the plots; None between the epochs of a training."""
        if self.training or not self.args.plots or not isinstance(net, GroundingModel):
            return None
        from optisar_yolo.engine.routing import ExpertUseRecorder  # with matplotlib

        assert self.config is not None
        return ExpertUseRecorder(net, self.config.names)

    def _calibrate(self, net: GroundingModel | NetworkRunner) -> None:
        """Calibrate the confidences, and add the figures of sensitivity."""
        assert self.config is not None
        self.calibration = calibration_of(net)
        if self.fit and self.probe is not None:
            about = {"data": self.config.path.name, "split": self.args.split or "val", "imgsz": int(self.args.imgsz)}
            try:
                self.calibration = self.probe.scores.fit(**about)
                LOGGER.info(str(self.calibration))
            except CalibrationError as error:
                self.calibration, self.problem = None, str(error)
                LOGGER.warning(self.problem)
        if self.calibration is not None:
            conf = self.calibration(self.metrics.column("conf").astype(float))
            self.metrics.set_confidence(conf)
            self.cases = [case._replace(conf=float(c)) for case, c in zip(self.cases, conf, strict=True)]
            self.metrics.sections[ATTRIBUTE] = self.calibration.to_dict()
        if self.probe is not None and self.probe.full:
            default = DEFAULT_CONF if self.calibration is None else self.calibration.threshold
            figures = self.probe.scores.figures(default if self.conf is None else self.conf, self.calibration)
            self.metrics.sections["sensitivity"] = {"rules": RULES, **figures}
            self.metrics.extra |= flat(figures)
            LOGGER.info(table(figures))

    def _loader(self) -> GroundingLoader:
        dataset = EvaluationDataset(self.images, self.args.imgsz)
        workers = self.args.workers if self.device.type != "cpu" else 0
        sampler = EpochSampler(len(dataset), 0, process_rank(), world_size(), shuffle=False)
        return GroundingLoader(dataset, self.args.batch, sampler, workers)

    def _ground(
        self,
        net: GroundingModel | NetworkRunner,
        index: list[int],
        img: Tensor,
        extents: Tensor,
        seconds: dict[str, float],
    ) -> None:
        """Ground and score all expressions of B images that share a canvas size.

        Args:
            net: The network.
            index: [B] numbers of the images in the split.
            img: uint8 [B, 3, H, W] RGB.
            extents: [B, 4] of the images in their canvases.
            seconds: Time by stage, added to.
        """
        assert self.config is not None and self.text_features is not None
        images = [self.images[i] for i in index]
        pairs = [expression_indices(image) for image in images]
        if not any(pairs):
            return
        start = time.perf_counter()
        captions = [image.captions[obj][n] for image, own in zip(images, pairs, strict=True) for obj, n in own]
        texts = self.text_features(captions).to(self.device)
        x = img.to(self.device).float() / 255
        ready = time.perf_counter()
        encoded = net.encode(x, extents.to(self.device))
        rows = torch.tensor([row for row, own in enumerate(pairs) for _ in own], device=self.device)
        boxes, conf = (best[:, 0].float().cpu().numpy() for best in ground(net, encoded, rows, texts))
        done = time.perf_counter()
        canvas = (img.shape[2], img.shape[3])
        slices: list[slice] = []
        for image, own, extent in zip(images, pairs, extents.numpy(), strict=True):
            first = slices[-1].stop if slices else 0
            slices.append(mine := slice(first, first + len(own)))
            if own:
                pred = to_image(boxes[mine], (image.width, image.height), extent, canvas)
                self.cases += score_image(self.metrics, image, self.config.names, own, pred, conf[mine])
        seconds["preprocess"] += ready - start
        seconds["inference"] += done - ready
        seconds["postprocess"] += time.perf_counter() - done
        iou = np.array([case.iou for case in self.cases[-len(captions) :]])
        for row, (image, own, mine) in enumerate(zip(images, pairs, slices, strict=True)):  # not part of the speed
            if own and self.routing is not None:
                self.routing.add(row, image, extents[row].numpy(), canvas)
            if own and self.probe is not None:
                self.probe(encoded, row, image, own, conf[mine], iou[mine], extents[row].numpy(), canvas)

    def _save(self) -> None:
        """Write the figures and, where set, predictions and plots."""
        if self.args.save_json:
            assert self.config is not None
            write_predictions(self.save_dir / "predictions.json", self.cases, self.config, self.args.split or "val")
        if self.args.plots:
            from optisar_yolo.engine.report import confident_sheets, write_report  # with matplotlib

            files = write_report(self.metrics, self.cases, self.save_dir)
            files += confident_sheets(self.cases, list(self.metrics.column("modality")), self.save_dir)
            files += self.routing.write(self.save_dir) if self.routing is not None else []
            for path in files:
                self.on_plot(path)
        else:
            self.metrics.to_json(self.save_dir / "metrics.json")
            self.metrics.to_csv(self.save_dir / "metrics.csv")
        speed = ", ".join(f"{v:.1f} ms {k}" for k, v in self.speed.items() if v)
        LOGGER.info(f"Speed: {speed} per image. Results saved to {colorstr('bold', self.save_dir)}")

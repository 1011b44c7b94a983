"""Validation: grounds every expression of a split and compares the boxes with the labelled objects.

1. ``_prepare`` opens network, data and text encoder.
2. ``_ground`` encodes images of one canvas size once, grounds all their expressions, maps the boxes to the images and
   adds them to :class:`~optisar_yolo.engine.metrics.GroundingMetrics`. As in prediction, an ordinal, a superlative or a
   relation gets the box of :mod:`optisar_yolo.engine.reasoning`, except between the epochs of a training, while a
   calibration is fitted, and in exports: there the network decides alone. Where they are wanted, reworded expressions
   (:class:`~optisar_yolo.engine.sensitivity.SensitivityProbe`), all boxes of categories and the experts' use are
   recorded as well.
3. ``_gather`` merges the results of a parallel training's processes.
4. ``_calibrate`` calibrates the confidences, with a calibration that it may fit itself.
5. ``_add_matches`` and ``_add_sources`` add the figures of all boxes of each category
   (:class:`~optisar_yolo.engine.matches.MatchProbe`) and of the expressions that the dataset config names beside its
   splits (:class:`~optisar_yolo.engine.source_scores.SourceScores`).
6. ``_save`` writes tables, predictions and plots.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from ultralytics.cfg import get_cfg, get_save_dir
from ultralytics.engine.validator import BaseValidator
from ultralytics.utils import LOGGER, RANK, TQDM, callbacks, colorstr
from ultralytics.utils.torch_utils import select_device, smart_inference_mode, unwrap_model

from optisar_yolo.data import (
    DatasetConfig,
    EpochSampler,
    EvaluationDataset,
    GroundingLoader,
    ImageRecord,
    load_source,
    load_split,
    to_image,
    validation_config,
)
from optisar_yolo.engine.calibrate import (
    ATTRIBUTE,
    DEFAULT_CONF,
    MATCH_ATTRIBUTE,
    Calibration,
    CalibrationError,
    calibration_of,
    match_calibration_of,
)
from optisar_yolo.engine.checkpoint import load_model
from optisar_yolo.engine.grounding import (
    CanvasImages,
    ExportedNetwork,
    KnownExpressions,
    NetworkRunner,
    ground,
    text_features_for,
)
from optisar_yolo.engine.matches import MATCH_RULE, MatchProbe, flat_matches, match_table
from optisar_yolo.engine.metrics import GroundingMetrics, expression_indices, overlap, score_image
from optisar_yolo.engine.predictions import write_predictions
from optisar_yolo.engine.reasoning import reconsider
from optisar_yolo.engine.sensitivity import RULES, SensitivityProbe, flat, table
from optisar_yolo.engine.source_scores import SourceScores, flat_sources, source_table
from optisar_yolo.nn import Encoded, GroundingModel, fused_copy, mixed
from optisar_yolo.text import TextFeatureCache
from optisar_yolo.utils import gather_objects, missing_folders, process_rank, remove_empty, world_size
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
        match_calibration: The fitted calibration of all boxes of an expression; None where none is or can be fitted.
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
            folder = Path(save_dir or get_save_dir(get_cfg(overrides=args)))
            self._made = missing_folders(folder)
            super().__init__(dataloader, folder, args, _callbacks)
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
        self.match_calibration: Calibration | None = None
        self.probe: SensitivityProbe | None = None
        self.matches: MatchProbe | None = None
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
        try:
            net = self._prepare(trainer, model)
        except BaseException:
            remove_empty(self._made)
            raise
        self.metrics.clear()
        self.cases.clear()
        self.probe, self.routing = self._probe_of(net), self._routing_of(net)
        self.matches = self._match_probe_of(net)
        self.run_callbacks("on_val_start")
        seconds = dict.fromkeys(self.metrics.speed, 0.0)
        loader = self.dataloader if self.training else self._loader()
        for i, groups in enumerate(
            TQDM(loader, desc=f"{'Grounding':>22}", total=len(loader), disable=RANK > 0 or None)
        ):
            self.batch_i = i
            self.run_callbacks("on_val_batch_start")
            with mixed(self.args.quantize == 16, self.device):
                for index, img, extent in groups:
                    self._ground(net, index, img, extent, seconds)
            self.run_callbacks("on_val_batch_end")
        if not self._gather(seconds):
            return None
        self.speed = self.metrics.speed = {k: 1e3 * s / max(len(self.images), 1) for k, s in seconds.items()}
        LOGGER.info(self.metrics.table(SECTIONS if self.args.verbose and not self.training else SECTIONS[:1]))
        if not self.training:
            self._calibrate(net)
            self._add_matches(net)
            self._add_sources(net)
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
        matches = self.matches.scores if self.matches else None
        parts = gather_objects((self.metrics, self.cases, scores, use, matches, seconds))
        if parts is None:
            return False
        for metrics, cases, other_scores, other_use, other_matches, spent in parts[1:]:
            self.metrics.merge(metrics)
            self.cases += cases
            if scores is not None and other_scores is not None:
                scores.merge(other_scores)
            if use is not None:
                use.merge(other_use)
            if matches is not None and other_matches is not None:
                matches.merge(other_matches)
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
            self.config = validation_config(self.args.data, self.args.split or "val")
            self.images = load_split(self.config, self.args.split or "val", self.args.fraction or 1.0, self.args.seed)
        if isinstance(net, NetworkRunner):
            net.expect(len(self.images))
        self.metrics.modalities = tuple(self.config.modalities)
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

    def _source_probe(self, net: GroundingModel | NetworkRunner) -> SensitivityProbe | None:
        """Return what grounds the reworded expressions of a source, where sensitivity is measured."""
        if self.probe is None or not self.probe.full:
            return None
        assert self.config is not None and self.text_features is not None
        return SensitivityProbe(net, self.text_features, self.config.names, self.device, True, self.config.vocabulary)

    def _match_probe_of(self, net: GroundingModel | NetworkRunner) -> MatchProbe | None:
        """Return what finds all boxes of each category, where they are wanted; None between the epochs of a training.

        Raises:
            ValueError: The export gives only the best box of fixed expressions.
        """
        wanted = bool(getattr(self.args, "matches", False))
        if self.training or not (wanted or self.fit):
            return None
        if isinstance(net, ExportedNetwork):
            raise ValueError(
                f"matches=True: {net.path} gives one box per expression; validate the weights file instead"
            )
        assert self.config is not None and self.text_features is not None
        return MatchProbe(net, self.text_features, self.config.names, self.device, self.config.vocabulary)

    def _routing_of(self, net: GroundingModel | NetworkRunner) -> Any:
        """Return what records the experts' use for the plots; None between the epochs of a training."""
        if self.training or not self.args.plots or (isinstance(net, NetworkRunner) and net.torch_copy() is None):
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
            figures = self.probe.scores.figures(self._threshold(self.calibration), self.calibration)
            self.metrics.sections["sensitivity"] = {"rules": RULES, **figures}
            self.metrics.extra |= flat(figures)
            LOGGER.info(table(figures))

    def _threshold(self, calibration: Calibration | None) -> float:
        """Return the confidence threshold: the user's, else that of a calibration, else the default."""
        default = DEFAULT_CONF if calibration is None else calibration.threshold
        return default if self.conf is None else self.conf

    def _add_matches(self, net: GroundingModel | NetworkRunner) -> None:
        """Fit the calibration of all boxes where one is fitted, and add their figures where they are wanted."""
        assert self.config is not None
        self.match_calibration = None
        if self.matches is None:
            return
        if self.fit:
            about = {"data": self.config.path.name, "split": self.args.split or "val", "imgsz": int(self.args.imgsz)}
            try:
                if self.calibration is None:  # a model has it beside that of best boxes, never alone
                    raise CalibrationError(self.problem)
                self.match_calibration = self.matches.scores.fit(**about)
                LOGGER.info(f"all boxes of an expression: {self.match_calibration}")
            except CalibrationError as error:
                LOGGER.warning(f"all boxes of an expression: {error}")
        if not getattr(self.args, "matches", False):
            return
        refused = self.fit and self.calibration is None
        calibration = self.match_calibration or (None if refused else match_calibration_of(net))
        figures = self.matches.scores.figures(self._threshold(calibration), calibration)
        self.metrics.sections["matches"] = {"rule": MATCH_RULE, **figures}
        if calibration is not None:
            self.metrics.sections[MATCH_ATTRIBUTE] = calibration.to_dict()
        self.metrics.extra |= flat_matches(figures)
        self.metrics.more_rows += [{"section": "matches", **row} for row in figures["rows"]]
        self.metrics.tables.append(match_table(figures))
        LOGGER.info(self.metrics.tables[-1])

    def _add_sources(self, net: GroundingModel | NetworkRunner) -> None:
        """Ground the expressions that the dataset config names beside its splits, and add their figures."""
        assert self.config is not None
        found: dict[str, dict[str, Any]] = {}
        for source in self.config.sources:
            split = load_source(self.config, source, self.args.split or "val")
            if split is None or not split.images:
                continue
            scores, probe = SourceScores(split, self.config), self._source_probe(net)
            dataset = EvaluationDataset(split.images, self.args.imgsz)
            sampler = EpochSampler(len(dataset), 0, shuffle=False)
            for groups in GroundingLoader(dataset, self.args.batch, sampler):
                with mixed(self.args.quantize == 16, self.device):
                    for index, img, extents in groups:
                        x = img.to(self.device).float() / 255
                        encoded = net.encode(x, extents.to(self.device))
                        canvas = (img.shape[2], img.shape[3])
                        for row, i in enumerate(index):
                            size = (split.images[i].width, split.images[i].height)
                            extent = extents[row].numpy()
                            reword = partial(_probe, probe, encoded, row, extent, canvas) if probe else None
                            scores(i, partial(self._boxes, net, encoded, row, size, extent, canvas, x[row]), reword)
            threshold = self._threshold(self.calibration)
            found[source.name] = scores.figures(threshold, self.calibration)
            if probe is not None:
                figures = probe.scores.figures(threshold, self.calibration)
                found[source.name]["sensitivity"] = figures
                LOGGER.info(f"sensitivity on the expressions '{source.name}':\n{table(figures)}")
        if found:
            self.metrics.sections["expressions"] = found
            self.metrics.extra |= flat_sources(found)
            self.metrics.more_rows += [
                {"section": "expressions", **row} for figures in found.values() for row in figures["rows"]
            ]
            self.metrics.tables.append(source_table(found))
            LOGGER.info(self.metrics.tables[-1])

    def _boxes(
        self,
        net: GroundingModel | NetworkRunner,
        encoded: Encoded | CanvasImages,
        row: int,
        size: tuple[int, int],
        extent: np.ndarray,
        canvas: tuple[int, int],
        pixels: Tensor,
        texts: list[str],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the boxes [N, 4] of N expressions as `predict` gives them, xyxy in the image, and raw confidences [N].

        The image is one row of the encoded ones; its pixels are those on its canvas, [bands, H, W] in 0..1.
        """
        assert self.text_features is not None
        rows = torch.full((len(texts),), row, device=self.device)
        found = ground(net, encoded, rows, self.text_features(texts).to(self.device))
        boxes, conf = (best[:, 0].float().cpu().numpy() for best in found)
        own = (to_image(boxes, size, extent, canvas), conf)
        return self._reason(net, encoded, row, texts, own, canvas, size, pixels)

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
        if not any(pairs) and self.matches is None:
            return
        start = time.perf_counter()
        captions = [image.captions[obj][n] for image, own in zip(images, pairs, strict=True) for obj, n in own]
        texts = self.text_features(captions).to(self.device) if captions else None
        x = img.to(self.device).float() / 255
        ready = time.perf_counter()
        encoded = net.encode(x, extents.to(self.device))
        boxes, conf = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
        if texts is not None:
            rows = torch.tensor([row for row, own in enumerate(pairs) for _ in own], device=self.device)
            boxes, conf = (best[:, 0].float().cpu().numpy() for best in ground(net, encoded, rows, texts))
        done = time.perf_counter()
        canvas = (img.shape[2], img.shape[3])
        slices: list[slice] = []
        iou = np.zeros(len(captions))  # of the network's own boxes, which the sensitivity is about
        for image, own, extent in zip(images, pairs, extents.numpy(), strict=True):
            first = slices[-1].stop if slices else 0
            slices.append(mine := slice(first, first + len(own)))
            if own:
                pred = to_image(boxes[mine], (image.width, image.height), extent, canvas)
                size = np.tile((image.width, image.height), (len(own), 1))
                inter, union = overlap(pred, image.boxes[[obj for obj, _ in own]], size)
                iou[mine] = inter / union
                row, own_size = len(slices) - 1, (image.width, image.height)
                pred, sure = self._reason(
                    net, encoded, row, captions[mine], (pred, conf[mine]), canvas, own_size, x[row]
                )
                self.cases += score_image(self.metrics, image, self.config.names, own, pred, sure)
        seconds["preprocess"] += ready - start
        seconds["inference"] += done - ready
        seconds["postprocess"] += time.perf_counter() - done
        for row, (image, own, mine) in enumerate(zip(images, pairs, slices, strict=True)):  # not part of the speed
            if own and self.routing is not None:
                self.routing.add(row, image, extents[row].numpy(), canvas, encoded)
            if own and self.probe is not None:
                self.probe(encoded, row, image, own, conf[mine], iou[mine], extents[row].numpy(), canvas)
            if self.matches is not None:
                self.matches(encoded, row, image, extents[row].numpy(), canvas)

    def _reason(
        self,
        net: GroundingModel | NetworkRunner,
        encoded: Any,
        row: int,
        texts: list[str],
        network: tuple[np.ndarray, np.ndarray],
        canvas: tuple[int, int],
        size: tuple[int, int],
        pixels: Tensor,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes and raw confidences as `predict` gives them; the network's own in training and calibration.

        The arguments are those of :func:`~optisar_yolo.engine.reasoning.reconsider`, of one row of the encoded images.
        """
        if self.training or self.fit or not getattr(self.args, "reason", True) or isinstance(net, ExportedNetwork):
            return network
        assert self.text_features is not None
        one = encoded.rows(slice(row, row + 1))
        return reconsider(net, one, texts, network, self.text_features, canvas, size, pixels)

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


def _probe(
    probe: SensitivityProbe,
    encoded: Encoded | CanvasImages,
    row: int,
    extent: np.ndarray,
    canvas: tuple[int, int],
    image: ImageRecord,
    pairs: list[tuple[int, int]],
    conf: np.ndarray,
    iou: np.ndarray,
) -> None:
    """Ground the reworded expressions of an image; the arguments in the order in which they become known."""
    probe(encoded, row, image, pairs, conf, iou, extent, canvas)

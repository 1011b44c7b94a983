"""Validation: every expression of a split asked of its image, which is encoded once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from ultralytics.engine.validator import BaseValidator
from ultralytics.utils import LOGGER, RANK, TQDM, callbacks, colorstr
from ultralytics.utils.torch_utils import select_device, smart_inference_mode, unwrap_model

from optisar_yolo.data import (
    Case,
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
from optisar_yolo.engine.grounding import ExportedNetwork, KnownExpressions, checked_bank, ground
from optisar_yolo.engine.judging import judge
from optisar_yolo.engine.metrics import GroundingMetrics
from optisar_yolo.engine.predictions import write_predictions
from optisar_yolo.engine.sensitivity import Probe
from optisar_yolo.engine.wordscore import RULES, flat, table
from optisar_yolo.nn import GroundingModel, fused_copy, mixed
from optisar_yolo.text import TextBank
from optisar_yolo.utils import gather_objects, process_rank, world_size

SECTIONS = ("modality", "difficulty", "kind", "category")  # of the table after a validation of its own


class GroundingValidator(BaseValidator):
    """Validator of :class:`~optisar_yolo.nn.model.GroundingModel`; arguments are those of ultralytics' validator.

    Attributes:
        metrics: The figures.
        cases: One per expression.
        fit: Fit a calibration to the answers, which takes the place of the model's own in what is reported.
        calibration: That of the model, or the one fitted; confidences in metrics and cases are calibrated with it.
        problem: Why none could be fitted.
    """

    def __init__(
        self,
        dataloader: Any = None,
        save_dir: Path | None = None,
        args: Any = None,
        _callbacks: dict[str, Any] | None = None,
    ) -> None:
        given = args.get("conf") if isinstance(args, dict) else getattr(args, "conf", None)
        self.conf: float | None = given  # ultralytics puts a number of its own in the place of None
        super().__init__(dataloader, save_dir, args, _callbacks)
        self.args.task = "detect"
        self.metrics = GroundingMetrics(self.save_dir)
        self.config: DatasetConfig | None = None
        self.images: list[ImageRecord] = []
        self.bank: TextBank | KnownExpressions | None = None
        self.cases: list[Case] = []
        self.fit = False
        self.calibration: Calibration | None = None
        self.problem = ""
        self.probe: Probe | None = None
        self.watch: Any = None  # follows the experts, where plots are wanted

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
        self.probe, self.watch = self._probe(net), self._watch(net)
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
            self._judge(net)
            self._save()
        self.run_callbacks("on_val_end")
        return dict(self.metrics.results_dict)

    def _gather(self, seconds: dict[str, float]) -> bool:
        """Add what the other processes of a parallel training have found, in the order of the images.

        Args:
            seconds: By stage, of this process; of all afterwards.

        Returns:
            Whether this is the process that goes on: the first.
        """
        scores, use = self.probe.scores if self.probe else None, self.watch.use if self.watch else None
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

    def _prepare(self, trainer: Any, model: Any) -> GroundingModel | ExportedNetwork:
        """Set device, data and texts, and return the network in evaluation mode."""
        if trainer is not None:
            self.device = trainer.device
            return fused_copy(unwrap_model(trainer.ema.ema or trainer.model))
        callbacks.add_integration_callbacks(self)
        if world_size() == 1 or self.device is None:  # a process of a parallel training stays on its own
            self.device = select_device(self.args.device, verbose=False)
        if not isinstance(model, (GroundingModel, ExportedNetwork)):
            from optisar_yolo.engine.checkpoint import load_model

            model = load_model(model if model is not None else self.args.model)
        if isinstance(model, ExportedNetwork):
            net: GroundingModel | ExportedNetwork = model.to(self.device)
            self.device = torch.device("cpu")  # where exports take and leave their arrays
        else:
            net = fused_copy(model.to(self.device))
        if self.config is None:
            self.config = load_dataset_config(self.args.data)
            self.images = load_split(self.config, self.args.split or "val", self.args.fraction or 1.0, self.args.seed)
        if self.bank is None:
            self.bank = checked_bank(net, self.args.text_weights, self.config.root)
        return net

    def _probe(self, net: GroundingModel | ExportedNetwork) -> Probe | None:
        """Return what asks false expressions too, where they are wanted; never between the epochs of a training."""
        full = bool(getattr(self.args, "sensitivity", False))
        if self.training or not (full or self.fit):
            return None
        assert self.config is not None and self.bank is not None
        return Probe(net, self.bank, self.config.names, self.device, full)

    def _watch(self, net: GroundingModel | ExportedNetwork) -> Any:
        """Return what follows the experts, for the plots; never between the epochs of a training."""
        if self.training or not self.args.plots or isinstance(net, ExportedNetwork):
            return None
        from optisar_yolo.engine.routing_survey import Watch

        assert self.config is not None
        return Watch(net, self.config.names)

    def _judge(self, net: GroundingModel | ExportedNetwork) -> None:
        """Calibrate the confidences, and add what the false expressions show."""
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
            least = DEFAULT_CONF if self.calibration is None else self.calibration.threshold
            figures = self.probe.scores.figures(least if self.conf is None else self.conf, self.calibration)
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
        net: GroundingModel | ExportedNetwork,
        index: list[int],
        img: Tensor,
        extent: Tensor,
        seconds: dict[str, float],
    ) -> None:
        """Ask all expressions of images that share a canvas size."""
        assert self.config is not None and self.bank is not None
        asked = [
            (row, obj, n)
            for row, i in enumerate(index)
            for obj, captions in enumerate(self.images[i].captions)
            for n in range(len(captions))
        ]
        if not asked:
            return
        start = time.perf_counter()
        texts = self.bank([self.images[index[row]].captions[obj][n] for row, obj, n in asked]).to(self.device)
        x = img.to(self.device).float() / 255
        ready = time.perf_counter()
        scene = net.encode(x, extent.to(self.device))
        best = ground(net, scene, torch.tensor([row for row, _, _ in asked], device=self.device), texts)
        boxes, conf = (b[:, 0].float().cpu().numpy() for b in best)
        done = time.perf_counter()
        iou = np.zeros(len(asked))
        shares = [(row, i, [j for j, a in enumerate(asked) if a[0] == row]) for row, i in enumerate(index)]
        shares = [(row, i, mine) for row, i, mine in shares if mine]
        for row, i, mine in shares:
            own = [asked[j][1:] for j in mine]
            iou[mine] = self._score(self.images[i], own, boxes[mine], conf[mine], extent[row], img.shape)
        seconds["preprocess"] += ready - start
        seconds["inference"] += done - ready
        seconds["postprocess"] += time.perf_counter() - done
        for row, i, mine in shares:  # after the clock has stopped: speed is that of the expressions
            where = (extent[row].numpy(), (img.shape[2], img.shape[3]))
            if self.watch is not None:
                self.watch.add(row, self.images[i], *where)
            if self.probe is not None:
                own = [asked[j][1:] for j in mine]
                self.probe(scene, row, self.images[i], own, conf[mine], iou[mine], *where)

    def _score(
        self,
        image: ImageRecord,
        asked: list[tuple[int, int]],
        boxes: NDArray[np.float32],
        conf: NDArray[np.float32],
        extent: Tensor,
        canvas: torch.Size,
    ) -> NDArray[np.float64]:
        """Compare an image's answers with its objects, and return the IoU of each."""
        assert self.config is not None
        size = (image.width, image.height)
        pred = to_image(boxes, size, extent.numpy(), (canvas[2], canvas[3]))
        return judge(self.metrics, self.cases, image, self.config.names, asked, pred, conf)

    def _save(self) -> None:
        """Write table, record and, where asked for, plots and the answers themselves."""
        if self.args.save_json:
            assert self.config is not None
            write_predictions(self.save_dir / "predictions.json", self.cases, self.config, self.args.split or "val")
        if self.args.plots:
            from optisar_yolo.engine.answer_sheets import write_sheets
            from optisar_yolo.engine.report import write_report

            files = write_report(self.metrics, self.cases, self.save_dir)
            files += write_sheets(self.cases, list(self.metrics.column("modality")), self.save_dir)
            files += self.watch.write(self.save_dir) if self.watch is not None else []
            for path in files:
                self.on_plot(path)
        else:
            self.metrics.to_json(self.save_dir / "metrics.json")
            self.metrics.to_csv(self.save_dir / "metrics.csv")
        speed = ", ".join(f"{v:.1f} ms {k}" for k, v in self.speed.items() if v)
        LOGGER.info(f"Speed: {speed} per image. Results saved to {colorstr('bold', self.save_dir)}")

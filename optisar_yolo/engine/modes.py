"""What a caller of a model may write: the named, typed arguments of train, val, predict, track and export.

Each method here hands what was given (not None) to the method of the same name with an underscore, which the model has,
together with every other key of Ultralytics. Editors complete the names, and type checkers know what comes back.

Results go where the user stands: ``project`` starts from the working folder and is ``runs/detect`` there by default
(:func:`~optisar_yolo.utils.results_folder`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, overload

import torch
from ultralytics.engine.model import Model
from ultralytics.utils import YAML
from ultralytics.utils.checks import check_yaml

from optisar_yolo.engine.before import check_batch
from optisar_yolo.engine.metrics import GroundingMetrics
from optisar_yolo.plugin import NO_DATA, name_ignored
from optisar_yolo.utils import naming, results_folder
from optisar_yolo.visualize import GroundingResults

Device: TypeAlias = str | int | Sequence[int] | torch.device
Texts: TypeAlias = str | Sequence[str]
Folder: TypeAlias = str | Path


class ModelModes(Model, ABC):  # Model first: an object of YOLO becomes one of ours, which needs the same layout
    """The public methods of :class:`optisar_yolo.OptiSAR` that run Ultralytics' modes.

    Attributes:
        overrides: Settings of the model that hold for every call.
    """

    overrides: dict[str, Any]

    @abstractmethod
    def _train(self, trainer: Any, kwargs: dict[str, Any]) -> GroundingMetrics: ...

    @abstractmethod
    def _val(self, validator: Any, kwargs: dict[str, Any]) -> GroundingMetrics: ...

    @abstractmethod
    def _predict(self, source: Any, stream: bool, predictor: Any, kwargs: dict[str, Any]) -> Any: ...

    @abstractmethod
    def _track(self, source: Any, stream: bool, persist: bool, kwargs: dict[str, Any]) -> Any: ...

    @abstractmethod
    def _export(self, kwargs: dict[str, Any]) -> str: ...

    def _here(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Check the batch size, and name the folder of the runs as an absolute path."""
        check_batch(kwargs)
        project = kwargs.get("project") or self.overrides.get("project")
        return kwargs | {"project": str(results_folder("detect", project))}

    def _for_training(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Check what a training was given, and add data set and folder."""
        name_ignored("train", with_file(kwargs))
        return self._here(self._with_data(kwargs))

    def _with_data(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Add the dataset config of the weights' training where none is given; Ultralytics has one of its own."""
        data = kwargs.get("data") or self.overrides.get("data")
        if data:
            return kwargs | {"data": data}
        if kwargs.get("cfg") or kwargs.get("resume"):
            return kwargs
        raise ValueError(NO_DATA)

    def train(
        self,
        trainer: Any = None,
        *,
        data: str | Path | None = None,
        epochs: int | None = None,
        imgsz: int | None = None,
        batch: int | None = None,
        device: Device | None = None,
        workers: int | None = None,
        lr0: float | None = None,
        patience: int | None = None,
        fraction: float | None = None,
        amp: bool | str | None = None,
        resume: bool | str | None = None,
        text_model: str | None = None,
        project: Folder | None = None,
        name: str | None = None,
        exist_ok: bool | None = None,
        **kwargs: Any,
    ) -> GroundingMetrics:
        """Train, then calibrate confidences on the validation split.

        Args:
            trainer: Another trainer class.
            data: Dataset config.
            epochs: Passes over the training split.
            imgsz: Long side of images in the network, pixels.
            batch: Images per step.
            device: ``"cpu"``, ``0``, ``[0, 1]`` …
            workers: Processes that read images.
            lr0: Learning rate at the start.
            patience: Epochs without improvement after which the training ends.
            fraction: Share of the training split that is used.
            amp: Mixed precision; ``"bf16"`` for processors with bfloat16 arithmetic.
            resume: Go on with the run of this checkpoint.
            text_model: Text encoder, such as ``"pocket"``.
            project: Folder of the runs; ``runs/detect`` in the working folder by default.
            name: Folder of the run.
            exist_ok: Write into a run folder that is there already.
            **kwargs: Ultralytics' other keys, and those of ``optisar train --help``.

        Returns:
            The metrics of the best epoch.

        Raises:
            ValueError: A setting that cannot be used.
            DataError: A dataset config that cannot be used.
        """
        given = _given(
            data=data, epochs=epochs, imgsz=imgsz, batch=batch, device=device, workers=workers, lr0=lr0,
            patience=patience, fraction=fraction, amp=amp, resume=resume, text_model=text_model, project=project,
            name=name, exist_ok=exist_ok,
        )  # fmt: skip
        here = self._for_training(given | kwargs)
        with naming(Path(here["project"]), disk=True):  # some files are Ultralytics' own
            return self._train(trainer, here)

    def val(
        self,
        validator: Any = None,
        *,
        data: str | Path | None = None,
        split: str | None = None,
        imgsz: int | None = None,
        batch: int | None = None,
        device: Device | None = None,
        fraction: float | None = None,
        sensitivity: bool | None = None,
        plots: bool | None = None,
        save_json: bool | None = None,
        project: Folder | None = None,
        name: str | None = None,
        exist_ok: bool | None = None,
        **kwargs: Any,
    ) -> GroundingMetrics:
        """Validate on a split of a dataset config.

        Args:
            validator: Another validator class.
            data: Dataset config; that of the training by default. A folder of images with YOLO labels or COCO boxes,
                or a detector's dataset config: expressions are derived from the boxes.
            split: ``"val"`` (the default), ``"test"`` or ``"train"``.
            imgsz: Long side of images in the network, pixels; that of training by default.
            batch: Images at once.
            device: As in :meth:`train`.
            fraction: Share of the split that is used.
            sensitivity: Also measure the sensitivity to the expression, with expressions of which a word is exchanged.
            plots: Draw best, worst and confident cases.
            save_json: Write the predictions, for ``optisar score``.
            project: As in :meth:`train`.
            name: Folder of the run.
            exist_ok: Write into a run folder that is there already.
            **kwargs: Ultralytics' other keys.

        Returns:
            The metrics: ``table()``, ``results_dict``, ``to_json()``.

        Raises:
            DataError: A dataset config that cannot be used.
        """
        given = _given(
            data=data, split=split, imgsz=imgsz, batch=batch, device=device, fraction=fraction,
            sensitivity=sensitivity, plots=plots, save_json=save_json, project=project, name=name, exist_ok=exist_ok,
        )  # fmt: skip
        name_ignored("val", given | kwargs)
        here = self._here(self._with_data(given | kwargs))
        with naming(Path(here["project"]), disk=True):
            return self._val(validator, here)

    # fmt: off
    @overload
    def predict(
        self, source: Any = None, stream: Literal[False] = False, predictor: Any = None, *, text: Texts | None = None,
        conf: float | None = None, topk: int | str | None = None, imgsz: int | None = None, iou: float | None = None,
        max_det: int | None = None, classes: int | Sequence[int] | None = None, batch: int | None = None,
        device: Device | None = None, save: bool | None = None, save_txt: bool | None = None,
        save_conf: bool | None = None, save_crop: bool | None = None, project: Folder | None = None,
        name: str | None = None, exist_ok: bool | None = None, verbose: bool | None = None, **kwargs: Any,
    ) -> list[GroundingResults]: ...

    @overload
    def predict(
        self, source: Any = None, *, stream: Literal[True], predictor: Any = None, text: Texts | None = None,
        conf: float | None = None, topk: int | str | None = None, imgsz: int | None = None, iou: float | None = None,
        max_det: int | None = None, classes: int | Sequence[int] | None = None, batch: int | None = None,
        device: Device | None = None, save: bool | None = None, save_txt: bool | None = None,
        save_conf: bool | None = None, save_crop: bool | None = None, project: Folder | None = None,
        name: str | None = None, exist_ok: bool | None = None, verbose: bool | None = None, **kwargs: Any,
    ) -> Iterator[GroundingResults]: ...
    # fmt: on

    def predict(
        self,
        source: Any = None,
        stream: bool = False,
        predictor: Any = None,
        *,
        text: Texts | None = None,
        conf: float | None = None,
        topk: int | str | None = None,
        imgsz: int | None = None,
        iou: float | None = None,
        max_det: int | None = None,
        classes: int | Sequence[int] | None = None,
        batch: int | None = None,
        device: Device | None = None,
        save: bool | None = None,
        save_txt: bool | None = None,
        save_conf: bool | None = None,
        save_crop: bool | None = None,
        project: Folder | None = None,
        name: str | None = None,
        exist_ok: bool | None = None,
        verbose: bool | None = None,
        **kwargs: Any,
    ) -> list[GroundingResults] | Iterator[GroundingResults]:
        """Ground expressions in images.

        Args:
            source: File, folder, URL, array (BGR), PIL image, tensor, or a list of them, as in Ultralytics.
            stream: Return a generator, for sources that do not fit in memory.
            predictor: Another predictor class.
            text: An expression or a list of them.
            conf: Confidence threshold; that of the model's calibration by default, 0.05 without one.
            topk: Boxes per expression, or "all"; 1 by default. "All ships" needs none.
            imgsz: Long side of images in the network, pixels; chosen by the image by default: that of training, and
                more for images that it would shrink more than twice.
            iou: Overlap from which two boxes of an expression are duplicates.
            max_det: Boxes per image, the most confident ones.
            classes: Indices of expressions whose boxes are wanted.
            batch: Images at once.
            device: ``"cpu"``, ``0`` …
            save: Write the images with their boxes.
            save_txt: Write the boxes as text files.
            save_conf: With confidences.
            save_crop: Write the image inside each box.
            project: Folder of the runs; ``runs/detect`` in the working folder by default.
            name: Folder of the run; ``predict`` by default.
            exist_ok: Write into a run folder that is there already.
            verbose: Log what is found.
            **kwargs: ``reason=False`` for the network alone, and Ultralytics' other keys.

        Returns:
            One result per image: ``boxes.cls`` is the index of the expression, ``names[cls]`` the expression,
            ``to_df()`` a table. By expression, ``count`` has the number of boxes, ``query`` how it was read, and
            ``notes`` what a box cannot answer, such as a negation (:mod:`optisar_yolo.language`).

        Raises:
            ValueError: No usable expression.
        """
        given = _given(
            text=text, conf=conf, topk=topk, imgsz=imgsz, iou=iou, max_det=max_det, classes=classes, batch=batch,
            device=device, save=save, save_txt=save_txt, save_conf=save_conf, save_crop=save_crop, project=project,
            name=name, exist_ok=exist_ok, verbose=verbose,
        )  # fmt: skip
        name_ignored(str(kwargs.get("mode", "predict")), given | kwargs)  # `track` comes here with its mode
        return self._predict(source, stream, predictor, self._here(given | kwargs))

    # fmt: off
    @overload
    def track(
        self, source: Any = None, stream: Literal[False] = False, persist: bool = False, *, text: Texts | None = None,
        conf: float | None = None, topk: int | str | None = None, imgsz: int | None = None,
        tracker: str | Path | None = None, device: Device | None = None, vid_stride: int | None = None,
        save: bool | None = None, project: Folder | None = None, name: str | None = None,
        exist_ok: bool | None = None, verbose: bool | None = None, **kwargs: Any,
    ) -> list[GroundingResults]: ...

    @overload
    def track(
        self, source: Any = None, *, stream: Literal[True], persist: bool = False, text: Texts | None = None,
        conf: float | None = None, topk: int | str | None = None, imgsz: int | None = None,
        tracker: str | Path | None = None, device: Device | None = None, vid_stride: int | None = None,
        save: bool | None = None, project: Folder | None = None, name: str | None = None,
        exist_ok: bool | None = None, verbose: bool | None = None, **kwargs: Any,
    ) -> Iterator[GroundingResults]: ...
    # fmt: on

    def track(
        self,
        source: Any = None,
        stream: bool = False,
        persist: bool = False,
        *,
        text: Texts | None = None,
        conf: float | None = None,
        topk: int | str | None = None,
        imgsz: int | None = None,
        tracker: str | Path | None = None,
        device: Device | None = None,
        vid_stride: int | None = None,
        save: bool | None = None,
        project: Folder | None = None,
        name: str | None = None,
        exist_ok: bool | None = None,
        verbose: bool | None = None,
        **kwargs: Any,
    ) -> list[GroundingResults] | Iterator[GroundingResults]:
        """Follow what expressions mean through a video.

        Args:
            source: Video, stream, or folder of frames.
            stream: Return a generator.
            persist: Keep the tracks of the call before, for frames that are given one by one.
            text: An expression or a list of them.
            conf: Confidence from which boxes are followed. By default tracks start at the threshold of the model's
                calibration, and go on with boxes down to 0.1.
            topk: Boxes per expression and frame.
            imgsz: Long side of frames in the network, pixels.
            tracker: ``"botsort.yaml"``, ``"bytetrack.yaml"``, ``"ocsort.yaml"``, ``"fasttrack.yaml"`` or a file.
            device: As in :meth:`predict`.
            vid_stride: Take every n-th frame.
            save: Write the video with its boxes.
            project: As in :meth:`predict`.
            name: Folder of the run; ``track`` by default.
            exist_ok: Write into a run folder that is there already.
            verbose: Log what is found.
            **kwargs: Ultralytics' other keys.

        Returns:
            One result per frame, as of :meth:`predict`; ``boxes.id`` numbers the tracks, apart for each expression.

        Raises:
            ValueError: No usable expression, or a tracker that cannot be used.
            MissingExtraError: The extra ``track`` is not installed.
        """
        given = _given(
            text=text, conf=conf, topk=topk, imgsz=imgsz, tracker=tracker, device=device, vid_stride=vid_stride,
            save=save, project=project, name=name, exist_ok=exist_ok, verbose=verbose,
        )  # fmt: skip
        return self._track(source, stream, persist, self._here(given | kwargs))

    def export(
        self,
        *,
        format: str | None = None,
        imgsz: int | None = None,
        text: Texts | None = None,
        parts: bool | None = None,
        text_graph: bool | None = None,
        int8: bool | None = None,
        data: str | Path | None = None,
        fraction: float | None = None,
        opset: int | None = None,
        **kwargs: Any,
    ) -> str:
        """Write the network for other programs (see :mod:`optisar_yolo.export.exported` for inputs and outputs).

        Args:
            format: ``"onnx"`` (the default), ``"openvino"`` or ``"torchscript"``.
            imgsz: Size that the file suggests, pixels; all sizes stay free.
            text: Fixed expressions inside the graph.
            parts: Write two graphs, one that encodes images and one that grounds expressions.
            text_graph: Write the text encoder's graph too.
            int8: Quantise to 8 bits (OpenVINO); needs `data`.
            data: Dataset config whose images give the ranges of numbers.
            fraction: Share of them that is used.
            opset: Operator set of ONNX.
            **kwargs: Ultralytics' other keys.

        Returns:
            Path of the file or folder, beside the weights. Of two graphs it is that of the first, which opens both.

        Raises:
            ValueError: An unknown format, or an option that does not apply to exports.
            MissingExtraError: The extra ``export`` or ``openvino`` is not installed.
        """
        given = _given(
            format=format, imgsz=imgsz, text=text, parts=parts, text_graph=text_graph, int8=int8, data=data,
            fraction=fraction, opset=opset,
        )  # fmt: skip
        name_ignored("export", given | kwargs)
        return self._export(given | kwargs)


def with_file(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return what was given, and the content of the file that ``cfg=`` names."""
    content = YAML.load(check_yaml(kwargs["cfg"])) if kwargs.get("cfg") else {}
    return (content if isinstance(content, dict) else {}) | kwargs


def _given(**named: Any) -> dict[str, Any]:
    """Return the arguments that were given."""
    return {key: value for key, value in named.items() if value is not None}

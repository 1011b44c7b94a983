"""What Ultralytics' experiment loggers are told otherwise; all of them work as for its own models.

1. TensorBoard gets no graph: Ultralytics traces ``model(image)``, and these networks take expressions too. The failed
   trace would print the network's outputs, hundreds of lines of numbers.
2. Ray Tune is told nothing outside of a search of its own, where it would warn of every training.
3. MLflow refuses all metrics of an epoch where one name holds a character that it does not allow, such as the ``@`` of
   ``metrics/Pr@0.5(all)``. Such characters become ``_``. Other loggers, files and ``results_dict`` keep the names.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

REFUSED = re.compile(r"[^\w\-./: ()]", re.ASCII)
"""What MLflow does not allow in a name; Ultralytics removes the parentheses."""


def _no_graph(trainer: Any) -> None:
    """Stand in for TensorBoard's drawing of the graph."""


def _mlflow_epoch(trainer: Any) -> None:
    """Log the metrics of an epoch under names that MLflow takes."""
    from ultralytics.utils.callbacks import mlflow

    metrics = trainer.metrics
    trainer.metrics = {REFUSED.sub("_", name): value for name, value in metrics.items()}
    try:
        mlflow.on_fit_epoch_end(trainer)
    finally:
        trainer.metrics = metrics


def _ray_epoch(trainer: Any) -> None:
    """Report an epoch to Ray Tune's search, where the training is part of one."""
    from ultralytics.utils.callbacks import raytune

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`get_trial_id` is meant to only be called", category=UserWarning)
        raytune.on_fit_epoch_end(trainer)


_OURS: dict[tuple[str, str], Callable[[Any], None]] = {
    ("tensorboard", "on_train_start"): _no_graph,
    ("mlflow", "on_fit_epoch_end"): _mlflow_epoch,
    ("raytune", "on_fit_epoch_end"): _ray_epoch,
}


def suit_loggers(callbacks: dict[str, list[Callable[[Any], None]]]) -> None:
    """Replace what Ultralytics' loggers do otherwise for these networks, in place.

    Args:
        callbacks: Event to the functions that a trainer calls. A second training of one model gets the list of the
            first, to which Ultralytics has added its own functions again; each of ours stays once.
    """
    for (logger, event), ours in _OURS.items():
        module = f"ultralytics.utils.callbacks.{logger}"
        calls = (ours if getattr(c, "__module__", "") == module else c for c in callbacks.get(event, []))
        callbacks[event] = list(dict.fromkeys(calls))

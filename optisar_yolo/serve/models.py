"""The models that the app may open: those it was started with, and safetensors files where the user sits at it."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from optisar_yolo.serve.answers import Engine
from optisar_yolo.serve.limits import Limits, Refusal
from optisar_yolo.serve.session import Remembered

OPEN = 2  # models in memory at once


class Models:
    """Opens models by name.

    Opening a ``.pt`` executes what is in it, so that such a file must be named at the start: who reaches the page, and
    may have uploaded it, must not make the server open one.

    Args:
        names: Weights and exports that may be chosen; the first is the default.
        paths: Whether any ``.safetensors`` file of this computer may be chosen, too.
        limits: How many images each keeps.
    """

    def __init__(self, names: Sequence[str], paths: bool, limits: Limits) -> None:
        self.names, self.paths, self.limits = list(dict.fromkeys(names)), paths, limits
        self._open: Remembered[Engine] = Remembered(OPEN)
        self._lock = threading.Lock()

    def get(self, name: str) -> Engine:
        """Return a model, opened if it is not.

        Raises:
            Refusal: It may not be opened, does not exist or cannot be used.
        """
        if name not in self.names and not (self.paths and name.endswith(".safetensors")):
            others = ", or the path of a .safetensors file" if self.paths else ""
            raise Refusal(
                403, "this model is not open to choice", f"choose {', '.join(self.names)}{others}; name others at start"
            )
        with self._lock:
            engine = self._open.get(name)
            if engine is None:
                try:
                    engine = Engine(name, remembered=self.limits.remembered)
                except (FileNotFoundError, ValueError) as error:
                    raise Refusal(404, f"the model cannot be opened: {error}", "choose another") from error
                self._open.put(name, engine)
            return engine

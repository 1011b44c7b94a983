"""The part of :class:`~optisar_yolo.api.OptiSAR` that opens weights of the Hub and publishes its own."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from optisar_yolo.hub.download import fetch_weights
from optisar_yolo.hub.upload import publish

Opened = TypeVar("Opened", bound="HubModel")


class HubModel:
    """Adds the Hub to a model that is opened by a file's path and has ``save_shared``."""

    __slots__ = ()  # an object of Ultralytics' YOLO becomes one of OptiSAR, which needs the same layout

    @classmethod
    def from_pretrained(
        cls: type[Opened], name: str, revision: str | None = None, file: str | None = None, token: str | None = None
    ) -> Opened:
        """Open weights of the Hugging Face Hub, as ``OptiSAR("hf://user/name")`` does.

        Args:
            name: ``user/name``.
            revision: Branch, tag or commit; the main branch by default.
            file: File in the repository, where it has several; it must be a ``.safetensors``.
            token: Key of an account; by default that which huggingface_hub finds (``HF_TOKEN``, a stored login).

        Raises:
            HubError: No such weights, or neither network nor cached file.
            MissingExtraError: The extra ``hub`` is not installed.
        """
        return cls(fetch_weights(name, revision, file, token))  # type: ignore[call-arg]

    def push_to_hub(self, repo: str, **kwargs: Any) -> str:
        """Publish the weights on the Hugging Face Hub, as safetensors with a model card of what they know.

        Args:
            repo: ``user/name``; it is made if it does not exist.
            **kwargs: ``private``, ``revision``, ``license``, ``message``, ``token``: see :func:`publish`.

        Returns:
            The address of the commit.

        Raises:
            HubError: The Hub refuses or cannot be reached.
            MissingExtraError: The extra ``hub`` is not installed.
        """
        with TemporaryDirectory(prefix="optisar-") as folder:
            weights = self.save_shared(Path(folder) / "model.safetensors")  # type: ignore[attr-defined]
            return publish(weights, repo, **kwargs)

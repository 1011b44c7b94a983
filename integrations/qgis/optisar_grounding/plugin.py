"""Puts the provider into QGIS' Processing toolbox."""

from __future__ import annotations

from qgis.core import QgsApplication

from .provider import GroundingProvider


class GroundingPlugin:
    """What QGIS loads. ``initProcessing`` alone is called by ``qgis_process``."""

    def __init__(self) -> None:
        self.provider: GroundingProvider | None = None

    def initProcessing(self) -> None:  # noqa: N802
        """Register the provider."""
        self.provider = GroundingProvider()
        QgsApplication.processingRegistry().addProvider(self.provider)

    def initGui(self) -> None:  # noqa: N802
        """Register the provider in a QGIS with windows."""
        self.initProcessing()

    def unload(self) -> None:
        """Take the provider out again."""
        if self.provider is not None:
            QgsApplication.processingRegistry().removeProvider(self.provider)

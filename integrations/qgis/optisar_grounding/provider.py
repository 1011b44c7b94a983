"""The provider ``optisar`` of the Processing toolbox, with one algorithm."""

from __future__ import annotations

from qgis.core import QgsProcessingProvider

from .algorithm import GroundAlgorithm


class GroundingProvider(QgsProcessingProvider):
    """Lists the algorithm."""

    def id(self) -> str:
        """Return the name that scripts use."""
        return "optisar"

    def name(self) -> str:
        """Return the name in the toolbox."""
        return "OptiSAR"

    def loadAlgorithms(self) -> None:  # noqa: N802
        """Add the algorithm."""
        self.addAlgorithm(GroundAlgorithm())

    def supportedOutputVectorLayerExtensions(self) -> list[str]:  # noqa: N802
        """Return the formats that the command writes."""
        return ["gpkg", "fgb"]

    def defaultVectorFileExtension(self, hasGeometry: bool = True) -> str:  # noqa: N802, N803
        """Return the format of temporary layers."""
        return "gpkg"

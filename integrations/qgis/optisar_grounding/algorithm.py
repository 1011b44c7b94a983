"""The Processing algorithm: raster layer, expressions and options in, a styled vector layer out."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingException,
    QgsProcessingLayerPostProcessorInterface,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterExtent,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorDestination,
)

from . import command

MODALITIES = ("auto", "optical", "sar")
HELP = """Finds what an expression means in a raster of any size, and returns a box for each object.

Write one expression a line: "the northernmost ship", "the storage tank in the upper left". With "all matches" each
expression returns every object that it means, otherwise the best one. Confidence is between 0 and 1; without a value
the threshold of the model is used.

An XYZ tile layer needs an extent and a zoom level.

The algorithm runs the program "optisar", which is installed apart: pip install "optisar-yolo[geo]".
"""


class Styled(QgsProcessingLayerPostProcessorInterface):
    """Gives the layer its style when QGIS has loaded it."""

    def __init__(self, style: str) -> None:
        super().__init__()
        self.style = style

    def postProcessLayer(self, layer: Any, context: Any, feedback: Any) -> None:  # noqa: N802
        """Load the style."""
        layer.loadNamedStyle(self.style)
        layer.triggerRepaint()


class GroundAlgorithm(QgsProcessingAlgorithm):
    """Runs ``optisar scene``."""

    def name(self) -> str:
        """Return the name that scripts use."""
        return "ground"

    def displayName(self) -> str:  # noqa: N802
        """Return the name in the toolbox."""
        return "Find objects by expressions"

    def shortDescription(self) -> str:  # noqa: N802
        """Return one line for lists and for ``qgis_process``."""
        return "Finds what an expression means in a raster, and returns a box for each object."

    def shortHelpString(self) -> str:  # noqa: N802
        """Return the help beside the dialog."""
        return HELP

    def createInstance(self) -> GroundAlgorithm:  # noqa: N802
        """Return a new one; QGIS asks for one per run."""
        return GroundAlgorithm()

    def initAlgorithm(self, configuration: Any = None) -> None:  # noqa: N802
        """Declare the parameters."""
        number = QgsProcessingParameterNumber
        real = number.Double
        self.addParameter(QgsProcessingParameterRasterLayer("INPUT", "Raster layer"))
        self.addParameter(QgsProcessingParameterString("TEXT", "Expressions, one a line", multiLine=True))
        self.addParameter(QgsProcessingParameterBoolean("ALL", "All matches of each expression", defaultValue=False))
        self.addParameter(number("CONF", "Lowest confidence", type=real, optional=True, minValue=0.0, maxValue=1.0))
        self.addParameter(QgsProcessingParameterExtent("EXTENT", "Part of the raster", optional=True))
        advanced = [
            QgsProcessingParameterEnum("MODALITY", "Modality", options=list(MODALITIES), defaultValue=0),
            number("GSD", "Metres per pixel of the network", type=real, optional=True, minValue=0.001),
            number("ZOOM", "Zoom level of a tile layer", optional=True, minValue=0, maxValue=24),
            QgsProcessingParameterString("MODEL", "Weights; those of the package by default", optional=True),
            QgsProcessingParameterString("OPTIONS", "Further options, key=value", optional=True),
            QgsProcessingParameterString("COMMAND", "Program", defaultValue="optisar"),
        ]
        for parameter in advanced:
            parameter.setFlags(parameter.flags() | QgsProcessingParameterDefinition.FlagAdvanced)
            self.addParameter(parameter)
        self.addParameter(
            QgsProcessingParameterVectorDestination("OUTPUT", "Objects", type=QgsProcessing.TypeVectorPolygon)
        )

    def processAlgorithm(self, parameters: Any, context: Any, feedback: Any) -> dict[str, Any]:  # noqa: N802
        """Run the command; QGIS calls this in a thread."""
        layer = self.parameterAsRasterLayer(parameters, "INPUT", context)
        if layer is None:
            raise QgsProcessingException(self.invalidRasterError(parameters, "INPUT"))
        output = Path(self.parameterAsOutputLayer(parameters, "OUTPUT", context))
        form = command.FORMATS.get(output.suffix.lower())
        if form is None:
            raise QgsProcessingException(f"{output.name}: choose a .gpkg or .fgb file")
        with tempfile.TemporaryDirectory(prefix="optisar-") as folder:
            try:
                texts = command.expressions_of(self.parameterAsString(parameters, "TEXT", context))
                source = command.source_of(layer.providerType(), layer.source())
                options = self._options(parameters, context)
                more = self.parameterAsString(parameters, "OPTIONS", context)
                words = command.words_of(source, texts, folder, form, options, more)
                start = command.program(self.parameterAsString(parameters, "COMMAND", context))
            except ValueError as error:  # CommandError, and quotes that do not close
                raise QgsProcessingException(str(error)) from error
            self._run([*start, *words], feedback)
            if feedback.isCanceled():
                return {}
            made = Path(folder) / command.RUN / f"objects.{form}"
            if not made.is_file():
                raise QgsProcessingException("The command ended without an error and without a layer.")
            shutil.copyfile(made, output)
            style = output.with_suffix(".qml")
            shutil.copyfile(made.with_name("objects.qml"), style)
        if context.willLoadLayerOnCompletion(str(output)):
            self.styled = Styled(str(style))  # QGIS does not keep it
            context.layerToLoadOnCompletionDetails(str(output)).setPostProcessor(self.styled)
        return {"OUTPUT": str(output)}

    def _options(self, parameters: Any, context: Any) -> dict[str, Any]:
        """Return the options of the command that have parameters of their own."""
        options: dict[str, Any] = {
            "topk": "all" if self.parameterAsBool(parameters, "ALL", context) else None,
            "modality": MODALITIES[self.parameterAsEnum(parameters, "MODALITY", context)],
            "model": self.parameterAsString(parameters, "MODEL", context).strip(),
        }
        for name, read in (
            ("CONF", self.parameterAsDouble),
            ("GSD", self.parameterAsDouble),
            ("ZOOM", self.parameterAsInt),
        ):
            if parameters.get(name) not in (None, ""):
                options[name.lower()] = read(parameters, name, context)
        if parameters.get("EXTENT") not in (None, ""):
            degrees = QgsCoordinateReferenceSystem("EPSG:4326")
            part = self.parameterAsExtent(parameters, "EXTENT", context, degrees)
            sides = (part.xMinimum(), part.yMinimum(), part.xMaximum(), part.yMaximum())
            options["extent"] = ",".join(f"{side:.9f}" for side in sides)
        return options

    def _run(self, words: list[str], feedback: Any) -> None:
        """Run the command, and show what it says.

        Raises:
            QgsProcessingException: It ended with an error.
        """
        feedback.pushCommandInfo(" ".join(words))
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
            encoding="utf-8", errors="replace", env=command.environment(os.environ),
        )  # fmt: skip
        lines: list[str] = []
        assert process.stdout is not None
        with process:
            for line in process.stdout:
                if feedback.isCanceled():
                    process.terminate()
                    return
                said = command.plain(line)
                done = command.percent_of(said)
                if done is not None:
                    feedback.setProgress(done)
                elif said:
                    lines.append(said)
                    feedback.pushInfo(said)
        if process.returncode:
            raise QgsProcessingException(command.reason_of(lines))

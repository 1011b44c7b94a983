"""Looking into a grounding model: score, activation and routing maps of a picture, and surveys of a data split."""

from optisar_yolo.explain.command import explain
from optisar_yolo.explain.explanation import Answer, Explanation
from optisar_yolo.explain.look import Explainer, ExplainError

__all__ = ["Answer", "ExplainError", "Explainer", "Explanation", "explain"]

"""What tests of the browser app share."""

from typing import Any

import pytest
from serving import grounder

from optisar_yolo.serve.limits import Limits
from optisar_yolo.utils import BUNDLED_MODEL


@pytest.fixture
def handlers() -> Any:
    """The app's handlers, with the bundled weights open."""
    from optisar_yolo.serve.app import AppHandlers, ModelChoice  # with gradio

    models = ModelChoice([BUNDLED_MODEL], True, Limits())
    models._open.put(BUNDLED_MODEL, grounder())
    made = AppHandlers(models, Limits())
    yield made
    made.folder.remove()

"""What tests of exports and engines share."""

from typing import Any

import pytest

from optisar_yolo.export import graph_cache
from optisar_yolo.export.graph_cache import GraphCache


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A cache of graphs for the tests of a file alone."""
    patch = pytest.MonkeyPatch()
    patch.setattr(graph_cache, "USER_CONFIG_DIR", tmp_path_factory.mktemp("config"))
    yield GraphCache()
    patch.undo()

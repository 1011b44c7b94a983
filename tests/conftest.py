"""Fixtures shared by all tests, and the settings that must stand before ultralytics is imported."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
os.environ["YOLO_OFFLINE"] = "1"
os.environ["YOLO_AUTOINSTALL"] = "false"
# A folder of its own keeps the tests from reading or changing the user's ultralytics settings.
_SETTINGS = tempfile.mkdtemp(prefix="optisar-tests-")
os.environ["YOLO_CONFIG_DIR"] = _SETTINGS
atexit.register(shutil.rmtree, _SETTINGS, ignore_errors=True)
sys.path.insert(0, str(Path(__file__).parent))  # for make_tiny

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402
from make_tiny import make  # noqa: E402

# Property tests have the same examples in every run: a check that fails once in fifty runs stops right changes.
# `make search` draws others.
settings.register_profile("same", derandomize=True)
settings.register_profile("search", derandomize=False, print_blob=True)
settings.load_profile("same")
torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)  # two processes share a small machine


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the dataset config of a tiny data set in the released layout; do not write into its folder."""
    return make(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def optsar_real() -> Path:
    """Return the folder of real optical and SAR images beside the checkout; skip the test where there is none."""
    root = REPOSITORY.parent / "shared" / "data" / "optsar-real"
    if not (root / "train.json").is_file():
        pytest.skip(f"real images are not part of the repository, and {root} does not exist")
    return root


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Catch what Ultralytics' logger says; it does not pass its records on by itself."""
    from ultralytics.utils import LOGGER

    LOGGER.addHandler(caplog.handler)
    caplog.set_level(logging.INFO)
    yield caplog
    LOGGER.removeHandler(caplog.handler)


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 40_000  # milliseconds; loaded machines start browsers slowly


@pytest.fixture
def page() -> Iterator[Any]:
    """Open a page of a real browser; the test skips where there is none."""
    if CHROMIUM is None:
        pytest.skip("no Chromium or Chrome is installed")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(PATIENCE)
        api.expect.set_options(timeout=PATIENCE)
        page.expect = api.expect
        yield page
        browser.close()

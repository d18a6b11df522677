"""What every test shares."""

import os
from collections.abc import Callable

import pytest

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "1")


@pytest.fixture(scope="session")
def count() -> Callable[[int, int], int]:
    """Choose how often a simulation or kill is repeated: `count(reduced, stated)`.

    `make test` uses the reduced count, `make test-all` (VISIONOPS_FULL_COUNTS=1) the stated one.
    """
    full = os.environ.get("VISIONOPS_FULL_COUNTS") == "1"
    return lambda reduced, stated: stated if full else reduced

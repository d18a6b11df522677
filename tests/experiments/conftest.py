"""What the tests of experiments share."""

import sys
from collections.abc import Iterator

import pytest
from bench import Bench

from tests.world import World


@pytest.fixture
def bench(promoted: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """The project as it is tested everywhere, week-01 is champion."""
    for name in ("LAKEFS_ENDPOINT", "MLFLOW_TRACKING_URI", "VISIONOPS_ARTIFACTS", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VISIONOPS_HOME", str(promoted.root))
    monkeypatch.setenv("VISIONOPS_PROJECTS", str(promoted.root / "projects"))
    made = Bench(promoted)
    made.declare()
    yield made
    sys.modules.pop("definitions", None)

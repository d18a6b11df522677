"""A champion whose file is gone or altered is not loaded, and stays champion."""

from collections.abc import Callable
from pathlib import Path

import pytest

from resources.model_records import ONNX_ARTIFACT
from tests.world import World


def alter(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"!")


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [(Path.unlink, f"no artifact {ONNX_ARTIFACT}"), (alter, "the champion, was altered: its SHA-256 is")],
)
def test_a_champion_that_cannot_be_trusted_stops_the_decision(
    world: World, spoil: Callable[[Path], None], complaint: str
) -> None:
    world.publish("week-01", 90, seed=1)
    assert world.tick().outcome == "promoted"
    run = world.registry.models.version("shapes", 1).run_id
    (file,) = world.root.glob(f"**/{run}/artifacts/{ONNX_ARTIFACT}")
    spoil(file)
    world.publish("week-02", 60, seed=2)
    ticked = world.tick()
    assert ticked.outcome == "error"
    assert complaint in ticked.reason
    assert run in ticked.reason
    assert world.champion() == 1

"""A champion whose file is gone or altered is not loaded, and stays champion."""

from resources.models.records import ONNX_ARTIFACT
from tests.world import World


def test_a_champion_that_cannot_be_trusted_stops_the_decision(promoted: World) -> None:
    run = promoted.registry.models.version("shapes", 1).run_id
    (file,) = promoted.root.glob(f"**/{run}/artifacts/{ONNX_ARTIFACT}")
    promoted.publish("week-02", 60, seed=2)

    file.write_bytes(file.read_bytes() + b"!")
    altered = promoted.tick()
    file.unlink()
    gone = promoted.tick()

    for ticked, complaint in (
        (altered, "the champion, was altered: its SHA-256 is"),
        (gone, f"no artifact {ONNX_ARTIFACT}"),
    ):
        assert ticked.outcome == "error"
        assert complaint in ticked.reason
        assert run in ticked.reason
    assert promoted.champion() == 1

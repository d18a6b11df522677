"""A new release computes otherwise by its digest: the newest version is trained once more, and nothing is spent."""

import pytest

from resources.models.records import TAG_CODE
from tests.world import World
from visionops_assets.evaluation.verdict_store import read_ledger
from visionops_assets.training import challenge, challenger

OTHER = "c" * 64


@pytest.mark.slow
def test_the_newest_version_is_trained_once_more_to_the_same_weights(
    promoted: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = promoted
    world.publish("week-02", 60, seed=2, wrong=0.9)
    assert world.tick().outcome == "refused"
    spent = read_ledger(world.registry.models.get("shapes").tags)
    before = {run.id for run in world.registry.runs.search("shapes")}

    for module in (challenge, challenger):
        monkeypatch.setattr(module, "loaded_code_digest", lambda *_: OTHER)
    _, newest = world.partitions()
    ticked = world.tick()
    assert ticked.partition == newest

    (again,) = [run for run in world.registry.runs.search("shapes") if run.id not in before]
    assert again.tags[TAG_CODE] == OTHER
    made = challenger.challenger_of(again, world.project)
    judged = {turn.challenger_sha256 for turn in spent}
    assert made.weights_sha256 in judged
    assert read_ledger(world.registry.models.get("shapes").tags) == spent
    assert world.champion() == 1
    assert world.tick().run_id is None, "once"

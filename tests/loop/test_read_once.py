"""A decision reads a dataset version as often as it has steps that need one, however many checks look at it."""

import dagster as dg
import pytest

from resources.storage import ArtifactStore
from tests.world import World
from visionops_assets.common import run_tags
from visionops_assets.common.keys import asset_key
from visionops_assets.common.tables import fragment_key

pytestmark = pytest.mark.slow

BEFORE_TRAINING = {"images_readable", "labels_known", "groups_whole", "classes_in_splits"}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is read of an artifact store, key by key."""
    found, read = [], ArtifactStore.read

    def noted(store: ArtifactStore, key: str) -> bytes:
        found.append(key)
        return read(store, key)

    monkeypatch.setattr(ArtifactStore, "read", noted)
    return found


def checked(world: World, run_id: str) -> dict[str, bool]:
    """Which checks of the manifest a run made, and whether each passed."""
    entries = world.instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    made = [entry.dagster_event.asset_check_evaluation_data for entry in entries if entry.dagster_event]
    return {each.check_name: each.passed for each in made if each.asset_key.path[-1] == "manifest"}


def test_a_decision_reads_its_version_for_the_checks_the_training_and_the_evaluation(
    promoted: World, reads: list[str]
):
    promoted.publish("week-02", 60, seed=2)
    ticked = promoted.tick()
    assert checked(promoted, ticked.run_id or "") == dict.fromkeys(BEFORE_TRAINING, True)
    manifest = asset_key("shapes", "manifest", promoted.partitions()[-1])
    assert reads.count(manifest) == 3
    for fragment in promoted.artifacts.read_json(manifest)["fragments"]:
        # Besides, the manifest is put together, and compared with what the champion was trained on.
        assert reads.count(fragment_key(fragment["digest"])) <= 5


def test_the_daily_sample_is_read_alone(promoted: World, reads: list[str]):
    (partition,) = promoted.partitions()
    found = promoted.definitions.get_repository_def()
    with dg.build_schedule_context(instance=promoted.instance, repository_def=found) as context:
        ticked = found.get_schedule_def("shapes_daily_sample").evaluate_tick(context)
    (request,) = ticked.run_requests or []
    reads.clear()
    job = found.get_job("shapes_verify_sample")
    done = job.execute_in_process(instance=promoted.instance, tags=dict(request.tags))
    assert checked(promoted, done.run_id) == {"images_intact": True}
    assert reads.count(asset_key("shapes", "manifest", partition)) == 1


def test_a_check_that_is_asked_for_alone_is_made_alone(promoted: World):
    tags = {run_tags.PARTITION: promoted.partitions()[0]}
    for name in sorted(BEFORE_TRAINING):
        chosen = dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey(["shapes", "manifest"]), name))
        jobs = dg.Definitions(jobs=[dg.define_asset_job("alone", selection=chosen)])
        job = dg.Definitions.merge(promoted.definitions, jobs).resolve_job_def("alone")
        done = job.execute_in_process(instance=promoted.instance, tags=tags)
        assert checked(promoted, done.run_id) == {name: True}


def test_what_a_check_finds_is_told_beside_what_the_others_find(promoted: World):
    (partition,) = promoted.partitions()
    promoted.projects = [promoted.project.model_copy(update={"classes": ("bar", "ring", "star")})]
    done = promoted.run("manifest", "challenger", partition=partition)
    assert not done.success
    assert checked(promoted, done.run_id) == {
        "images_readable": True,
        "labels_known": False,
        "groups_whole": True,
        "classes_in_splits": False,
        "images_intact": True,
    }
    made = {event.asset_key.path[-1] for event in done.get_asset_materialization_events() if event.asset_key}
    assert made == {"manifest"}, "nothing is trained on what a check blocks"

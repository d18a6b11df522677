"""A service that goes away costs no model, and MLflow no attempt: the run is asked for again without a human."""

from collections.abc import Callable
from typing import Any

import pytest
from lakefs_sdk.exceptions import ApiException

from resources.drop import Drop
from resources.lakefs.client import LakeFSResource
from resources.lakefs.replies import error_from
from resources.models.records import RegistryUnavailable
from resources.models.registry import ModelRegistry
from resources.storage import ArtifactStore
from sensors.unfinished_runs import owed
from tests.operations_table import require_told
from tests.s3 import CREDENTIALS
from tests.world import World, shapes_project, write_batch
from visionops.tick import tick
from visionops_assets.common import run_tags
from visionops_assets.dataset.cache.samples import load_samples
from visionops_assets.promotion import promote as promoting
from visionops_assets.training import recording

pytestmark = pytest.mark.slow

NOBODY = "http://127.0.0.1:9"


def test_services_that_go_away_one_after_the_other_and_then_promoted_without_a_human(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    """MLflow from the start, lakeFS in the middle of the training, MLflow at the promotion."""
    world.projects = [shapes_project(trigger={"attempts": 4})]
    world.publish("week-01", 90, seed=1)

    there = world.registry
    world.registry = ModelRegistry(tracking_uri=NOBODY)
    down = world.tick()
    assert (down.outcome, NOBODY in down.reason) == ("error", True)
    require_told("MLflow does not answer, or its database", f"{down.outcome}: {down.reason}")
    world.registry = there

    lakefs = LakeFSResource(endpoint=NOBODY, access_key_id="key", secret_access_key="secret")

    def load_from_nowhere(_lakefs: LakeFSResource, repository: str, commit: str, *arguments: Any):
        lakefs.head(repository, commit)
        return load_samples(_lakefs, repository, commit, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(recording, "load_samples", load_from_nowhere)
        down = world.tick()
    assert (down.outcome, NOBODY in down.reason) == ("error", True)

    def gone(*_: object, **__: object) -> None:
        raise RegistryUnavailable("MLflow at http://mlflow does not answer: start it")

    with monkeypatch.context() as patched:
        patched.setattr(promoting, "promote", gone)
        down = world.tick()
    assert (down.outcome, "MLflow" in down.reason) == ("error", True)
    assert world.champion() is None

    decisions = {name for name in world.registry.models.get("shapes").tags if "decision" in name}
    assert world.tick().outcome == "promoted"
    model = world.registry.models.get("shapes")
    assert {name for name in model.tags if "decision" in name} == decisions, "the verdict is spent once"
    assert world.champion() == 1


def test_after_the_stated_number_of_errors_it_waits_for_a_human_and_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    world.publish("week-01", 90, seed=1)

    def refused(*_: object) -> None:
        raise ValueError("the recipe cannot be trained")

    monkeypatch.setattr(recording, "load_samples", refused)
    outcomes = [world.tick().outcome for _ in range(world.project.trigger.attempts)]
    waiting = world.tick()
    assert outcomes == ["error"] * 3
    assert waiting.run_id is None
    assert "failed 3 times" in waiting.reason


def damaged(world: World) -> ModelRegistry:
    file = world.root / "damaged" / "mlflow.db"
    file.parent.mkdir()
    file.write_bytes(b"no database" * 500)
    return ModelRegistry(tracking_uri=f"sqlite:///{file}")


@pytest.mark.parametrize(
    "away", [lambda _: ModelRegistry(tracking_uri=NOBODY), pytest.param(damaged, marks=pytest.mark.stated)]
)
def test_nothing_is_asked_for_while_mlflow_does_not_answer(
    world: World, away: Callable[[World], ModelRegistry]
):
    """Neither for a commit nor for a batch of the drop, however often it is looked."""
    world.publish("week-01", 90, seed=1)
    dropped = write_batch(world.root / "dropped" / "shapes" / "week-02", 45, seed=2)
    (dropped / "_SUCCESS").touch()
    there = world.registry
    world.registry = away(world)
    for _ in range(world.project.trigger.attempts + 1):
        ticks = tick(world.definitions, world.instance, [world.project])
        assert {(found.outcome, found.run_id) for found in ticks} == {("error", None)}
        assert all("MLflow" in found.reason for found in ticks)
        assert len({found.reason for found in ticks}) == len(ticks), "what several wait for is told once"
    assert world.instance.get_runs_count() == 0
    world.registry = there
    ticks = tick(world.definitions, world.instance, [world.project])
    assert [found.outcome for found in ticks] == ["published", "promoted"]
    assert {run.tags[run_tags.ATTEMPT] for run in world.instance.get_runs()} == {"1"}


def ask_mlflow() -> None:
    ModelRegistry(tracking_uri=NOBODY).models.get("shapes")


def ask_lakefs() -> None:
    LakeFSResource(endpoint=NOBODY, access_key_id="key", secret_access_key="secret").head("shapes")


def ask_bucket() -> None:
    ArtifactStore(root="s3://artifacts").read("manifest")


# That MLflow and lakeFS are told as gone, the first test has; one of the three here, beside them in `make test-all`.
@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(ask_mlflow, marks=pytest.mark.stated),
        pytest.param(ask_lakefs, marks=pytest.mark.stated),
        ask_bucket,
    ],
)
def test_a_run_that_a_service_left_alone_is_no_attempt(
    world: World, ask: Callable[[], None], monkeypatch: pytest.MonkeyPatch
):
    """Whatever of it was done by then, as the verdict before a promotion."""
    world.projects = [shapes_project(trigger={"attempts": 1})]
    world.publish("week-01", 90, seed=1)
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": NOBODY, "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(name, value)

    def gone(*_: object, **__: object) -> None:
        ask()

    with monkeypatch.context() as patched:
        patched.setattr(promoting, "promote", gone)
        for _ in range(2):
            found = world.tick()
            assert found.outcome == "error" and NOBODY in found.reason
            require_told("lakeFS, MLflow or a bucket goes away", f"{found.outcome}: {found.reason}")
            assert not any(
                "failed" in each and "times" in each
                for each in owed(world.instance, world.project, Drop.from_environment())
            )
    assert world.tick().outcome == "promoted"
    assert {run.tags[run_tags.ATTEMPT] for run in world.instance.get_runs()} == {"1"}


def test_a_service_that_answers_and_cannot_do_what_is_asked_is_not_asked_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    world.projects = [shapes_project(trigger={"attempts": 1})]
    world.publish("week-01", 90, seed=1)

    def broken(*_: object, **__: object) -> None:
        raise error_from(ApiException(status=500, reason="Internal Server Error"), "object", "http://lakefs")

    monkeypatch.setattr(promoting, "promote", broken)
    assert world.tick().outcome == "error"
    assert "mend the cause" in world.tick().reason

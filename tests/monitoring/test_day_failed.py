"""A production day whose run failed is failed: it is told, never counted as logged, and redone once it can be."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test
from logged import file_of, row
from production_world import ProductionWorld

from resources.models.records import ONNX_ARTIFACT
from resources.models.registry import ModelRegistry
from sensors.production_log import Cursor, look
from tests.operations_table import require_told
from tests.world import World, shapes_project
from visionops.serving.metric_records import run_samples
from visionops.tick import Tick, tick
from visionops_assets.common import run_tags
from visionops_assets.shells.run_outcomes import run_outcome

NOW = datetime.now(UTC)
DAY = f"{NOW - timedelta(days=1):%Y-%m-%d}"


@pytest.fixture
def world(promoted: World) -> ProductionWorld:
    """Rows of yesterday in the spool, answered by a champion that was promoted."""
    project = shapes_project(production={"since": DAY}, drift={"min_rows": 30})
    world = ProductionWorld(promoted.root, promoted.lakefs, promoted.registry, promoted.instance, [project])
    champion = world.registry.models.version("shapes", 1)
    when = NOW - timedelta(days=1)
    rows = [row(n, timestamp=when, model_sha256=champion.weights_sha256) for n in range(40)]
    world.spool.put("shapes", "camera-1", file_of(*rows))
    return world


@contextmanager
def without_file(world: ProductionWorld) -> Iterator[None]:
    """The champion's file is somewhere else for a while."""
    run = world.registry.models.version("shapes", 1).run_id
    (path,) = [found for found in world.root.rglob(Path(ONNX_ARTIFACT).name) if run in found.parts]
    away = world.root / "away"
    path.rename(away)
    yield
    away.rename(path)


def ticked(world: ProductionWorld) -> list[Tick]:
    return [found for found in tick(world.definitions, world.instance, [world.project]) if found.outcome]


def errors_counted(world: ProductionWorld) -> float:
    found = run_samples(world.instance, ["shapes"])
    (value,) = [each.value for each in found if each.labels == ("shapes", run_tags.ERROR)]
    return value


@pytest.mark.slow
def test_a_day_whose_later_steps_fail_is_an_error_and_is_redone_once_they_can(world: ProductionWorld):
    attempts = world.project.production.attempts
    with without_file(world):
        for number in range(attempts):
            (found,) = ticked(world)
            assert (found.partition, found.outcome) == (DAY, run_tags.ERROR)
            assert ONNX_ARTIFACT in found.reason
            require_told("a production day's run fails after its log", f"{found.outcome}: {found.reason}")
            run = world.instance.get_run_by_id(found.run_id or "")
            assert run is not None and run.tags[run_tags.OUTCOME] == run_tags.ERROR
            assert errors_counted(world) == number + 1
        (given_up,) = ticked(world)
        assert (given_up.run_id, given_up.outcome) == (None, run_tags.ERROR)
        assert DAY in given_up.reason and f"{attempts} times" in given_up.reason
    later = NOW + 2 * world.project.production.look_every
    asked = look(world.project, world.lakefs, world.instance, Cursor(pending={DAY: "?"}), later, "")
    (request,) = asked.run_requests or []
    done = world.definitions.resolve_job_def("shapes_days").execute_in_process(
        instance=world.instance, partition_key=DAY, tags=dict(request.tags)
    )
    run = world.instance.get_run_by_id(done.run_id)
    assert run is not None and run_outcome(run) == run_tags.LOGGED
    assert ticked(world) == []


def test_while_mlflow_does_not_answer_rows_are_collected_and_no_day_is_tried(world: ProductionWorld) -> None:
    there, runs = world.registry, world.instance.get_runs_count()
    world.registry = ModelRegistry(tracking_uri="http://127.0.0.1:9")
    for _ in range(world.project.production.attempts + 1):
        found = ticked(world)
        assert {each.run_id for each in found} == {None}
        assert any("127.0.0.1:9" in each.reason for each in found)
    assert not list(world.spool.files("shapes")) and world.instance.get_runs_count() == runs
    world.registry = there
    assert [(each.partition, each.outcome) for each in ticked(world)] == [(DAY, run_tags.LOGGED)]


def test_each_attempt_beyond_the_stated_ones_waits_longer_and_none_is_the_last(world: ProductionWorld):
    ticked(world)
    head = world.lakefs.head("shapes-production", "main").id
    tags = {run_tags.PROJECT: "shapes", run_tags.DAY: DAY, run_tags.COMMIT: "later"}
    waits = []
    for _ in range(world.project.production.attempts + 6):
        run = create_run_for_test(world.instance, job_name="shapes_days", tags=tags)
        world.instance.report_run_failed(run, message="killed")
        begun = world.instance.get_run_records(dg.RunsFilter(run_ids=[run.run_id]))[0].create_timestamp
        hours = 0
        cursor = Cursor(commit=head, pending={DAY: "later"})
        while not look(
            world.project, world.lakefs, world.instance, cursor, begun + timedelta(hours=hours), ""
        ).run_requests:
            hours += 1
        waits.append(hours)
    attempts = world.project.production.attempts
    assert waits[: attempts - 1] == [0] * (attempts - 1)
    assert waits[attempts - 1 :] == sorted(waits[attempts - 1 :])
    assert waits[-1] == 24


@pytest.mark.slow
@pytest.mark.parametrize(
    "content",
    [
        b"garbage",
        pytest.param(b"", marks=pytest.mark.stated),
        pytest.param(b"PAR1 cut short", marks=pytest.mark.stated),
    ],
)
def test_a_spooled_file_that_cannot_be_used_is_named_by_the_tick(
    world: ProductionWorld, content: bytes
) -> None:
    world.spool.put("shapes", "camera-2", content)
    (named,) = [file for file in world.spool.files("shapes") if "camera-2" in file]
    said = [found.reason for found in ticked(world)]
    (told,) = [reason for reason in said if named in reason]
    assert "is no Parquet file" in told and "kept as it came under" in told and "\n" not in told
    assert any("40 rows" in reason for reason in said)
    require_told("a file in the spool is no Parquet file", f"{run_tags.LOGGED}: {told}")

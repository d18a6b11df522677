"""Errors go to one webhook and verdicts to another: each at least once, none for ever, and no address is ever shown."""

import json
import logging
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test
from hook import SECRET, Hook, hook

from resources.models.registry import ModelRegistry
from resources.service_clients import Services
from resources.webhooks import Webhooks
from sensors import announcements
from sensors.announced_events import Event, announcement_payload
from sensors.announcements import announcement_sensor, project_of
from tests.world import World, copy_registry, shapes_project
from visionops_assets.common import run_tags
from visionops_assets.graph import project_graph
from visionops_assets.monitoring.response.actions import Action, Kind, record_once
from visionops_assets.rollout.rollouts import ROLLOUT_ENTRIES, Entry


@pytest.fixture(scope="module")
def sensor() -> dg.SensorDefinition:
    return announcement_sensor(project_graph(shapes_project()))


@pytest.fixture
def told() -> Iterator[Hook]:
    with hook() as found:
        yield found


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


class Watch:
    """The sensor, its cursor and what it logged."""

    def __init__(
        self,
        sensor: dg.SensorDefinition,
        instance: dg.DagsterInstance,
        webhooks: Webhooks,
        registry: ModelRegistry,
    ) -> None:
        self.sensor, self.instance, self.webhooks, self.registry = sensor, instance, webhooks, registry
        self.cursor: str | None = None

    def tick(self) -> str:
        with dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            resources={"webhooks": self.webhooks, "registry": self.registry},
        ) as context:
            found = self.sensor.evaluate_tick(context)
        assert not found.run_requests
        self.cursor = found.cursor or self.cursor
        return found.skip_message or ""

    def end(
        self, outcome: str | None = None, *, ok: bool = False, project: str = "shapes", **tags: str
    ) -> str:
        """A run that ended; one that failed without an outcome is an error."""
        tags = {run_tags.PROJECT: project, **{f"visionops/{name}": value for name, value in tags.items()}}
        if outcome is not None:
            tags[run_tags.OUTCOME] = outcome
        run = create_run_for_test(self.instance, job_name="shapes_decide", tags=tags)
        if ok:
            self.instance.report_dagster_event(
                dg.DagsterEvent(dg.DagsterEventType.RUN_SUCCESS.value, run.job_name), run.run_id
            )
        else:
            self.instance.report_run_failed(run, message="process 7 of this run is gone; it was killed")
        return run.run_id


@pytest.fixture
def watch(
    sensor: dg.SensorDefinition,
    instance: dg.DagsterInstance,
    told: Hook,
    tmp_path: Path,
    mlflow_template: Path,
) -> Watch:
    webhooks = Webhooks(errors_url=told.url("errors"), verdicts_url=told.url("verdicts"), timeout_seconds=2)
    copy_registry(mlflow_template, tmp_path)
    registry = ModelRegistry(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    watched = Watch(sensor, instance, webhooks, registry)
    assert watched.tick() == "tells of what happens from now on"
    return watched


def test_errors_and_verdicts_go_apart_each_once(watch: Watch, told: Hook):
    error = watch.end(day="2026-06-10")
    watch.end(run_tags.REFUSED, batch="week-03")
    watch.end(run_tags.PROMOTED, ok=True)
    watch.end(run_tags.LOGGED, ok=True)
    watch.end(project="somebody_else")
    watch.tick()
    watch.tick()
    (first,) = told.texts("errors")
    assert first.splitlines()[:2] == [
        "shapes, 2026-06-10: ended with an error",
        "process 7 of this run is gone; it was killed",
    ]
    assert first.endswith(f"/runs/{error}")
    assert [text.partition("\n")[0] for text in told.texts("verdicts")] == [
        "shapes, week-03: refused",
        "shapes, shapes_decide: promoted",
    ]
    named = {"project": "shapes", "kind": "error", "concerns": "2026-06-10", "identity": error}
    assert told.fields("errors") == [named]


def test_after_a_clock_was_set_back_what_ends_is_told(watch: Watch, told: Hook):
    before = json.loads(watch.cursor or "")
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    watch.cursor = json.dumps({**before, "since": tomorrow.isoformat()})
    watch.end()
    watch.tick()
    assert len(told.texts("errors")) == 1
    watch.end()
    watch.tick()
    assert len(told.texts("errors")) == 2


def test_a_lost_cursor_tells_nothing_twice(watch: Watch, told: Hook):
    watch.end()
    watch.tick()
    watch.cursor = None
    watch.tick()
    watch.tick()
    assert len(told.received) == 1


def test_a_webhook_that_is_away_is_tried_again_and_the_other_is_told(watch: Watch, told: Hook):
    watch.end()
    watch.end()
    told.status = 500
    assert "2 messages wait" in watch.tick()
    assert len(told.received) == 1, "one that is refused keeps the others back"
    told.status = 200
    watch.end(run_tags.REFUSED)
    watch.tick()
    assert (len(told.texts("errors")), len(told.texts("verdicts"))) == (3, 1)
    identities = [found["identity"] for found in told.fields("errors") + told.fields("verdicts")]
    assert (len(identities), len(set(identities))) == (4, 3)


def act(watch: Watch, kind: Kind, **changes: Any) -> None:
    """Record that something was done about production."""
    action = Action(
        number=0,
        identity=f"{kind} {changes}",
        kind=kind,
        signal="realised",
        group="all",
        day=date(2026, 6, 10),
        when=datetime(2026, 6, 11, tzinfo=UTC),
        who="the day's run",
        why="accuracy 0.61 below 0.85",
        done="Promotion is on hold",
    )
    record_once(watch.registry, "shapes", action.model_copy(update=changes))


def test_what_was_done_about_production_is_told_in_order(watch: Watch, told: Hook):
    act(watch, "rollback")
    act(watch, "labels", group="line-2")
    act(watch, "rollback", dry_run=True)
    watch.tick()
    watch.tick()
    assert told.texts("errors") == [
        "shapes, 2026-06-10: rolled back\naccuracy 0.61 below 0.85. Promotion is on hold"
    ]
    assert [text.partition("\n")[0] for text in told.texts("verdicts")] == [
        "shapes, 2026-06-10 on line-2: labels were asked for",
        "shapes, 2026-06-10: would roll back",
    ]
    told.status = 500
    act(watch, "hold")
    assert "1 messages wait" in watch.tick()
    told.status = 200
    watch.tick()
    watch.tick()
    assert [text.partition("\n")[0] for text in told.texts("errors")[1:]] == 2 * [
        "shapes, 2026-06-10: promotion was put on hold"
    ]
    assert [fields["identity"] for fields in told.fields("errors")[1:]] == 2 * ["hold {}"]


def test_what_rollouts_come_to_is_told_with_the_way_back(watch: Watch, told: Hook):
    first = Entry("r", "line-1", "start", datetime.now(UTC), "ada", "so", version=2, base=1, waves=(1.0,))
    kinds: list[Any] = ["pause", "hold", "resume", "fail"]
    steps = [
        Entry("r", "line-1", kind, datetime.now(UTC), "VisionOps", "its devices crash") for kind in kinds
    ]
    for number, entry in enumerate([first, *steps], 1):
        watch.registry.models.set_tag("shapes", f"{ROLLOUT_ENTRIES}{number:06d}", entry.to_json())
    watch.tick()
    watch.tick()
    texts = told.texts("errors")
    assert [each.splitlines()[0] for each in texts] == [
        "shapes, line-1: rollout of version 2 is undecided beyond its time, and waits for a person",
        "shapes, line-1: rollout of version 2 failed, and its devices go back",
    ]
    assert "its devices crash; undo: `visionops release shapes --group line-1 --why TEXT`" in texts[1]


def test_without_mlflow_runs_are_told_all_the_same_and_actions_later(watch: Watch, told: Hook):
    there, watch.registry = watch.registry, ModelRegistry(tracking_uri="sqlite:////proc/nowhere/mlflow.db")
    watch.end()
    watch.tick()
    assert len(told.texts("errors")) == 1
    watch.registry = there
    act(watch, "alert")
    watch.tick()
    assert len(told.texts("errors")) == 2


def test_what_is_never_taken_is_dropped_and_said_without_the_address(
    watch: Watch,
    told: Hook,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(announcements, "ATTEMPTS", 3)
    told.status = 404
    run = watch.end()
    with caplog.at_level(logging.DEBUG):
        for _ in range(3):
            watch.tick()
        told.status = 200
        watch.tick()
    assert len(told.received) == 3
    found = watch.instance.get_run_by_id(run)
    assert found is not None and found.tags[run_tags.ANNOUNCED] == "dropped"
    logged = capfd.readouterr().err
    assert f"{run} was told to nobody, 3 times: the webhook for errors answered 404" in logged
    # The webhook's own server says what it was asked.
    said = [each.getMessage() for each in caplog.records if each.name != "uvicorn.access"]
    assert SECRET not in "\n".join([logged, *said])
    assert SECRET not in (watch.cursor or "")


def test_nothing_configured_and_half_of_it(watch: Watch, told: Hook):
    watch.end()
    watch.webhooks = Webhooks()
    assert "VISIONOPS_ERROR_WEBHOOK" in watch.tick()
    watch.webhooks = Webhooks(verdicts_url=told.url("verdicts"))
    watch.tick()
    assert told.received == []


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://127.0.0.1:{closed}/" + SECRET, "cannot be reached (ConnectError)"),
        (f"ftp://example.com/{SECRET}", "no http or https address"),
        (f"http://example.com:port/{SECRET}", "is no address"),
        (SECRET, "no http or https address"),
    ],
)
def test_an_address_that_cannot_be_used_is_named_by_its_variable(
    address: str, said: str, caplog: pytest.LogCaptureFixture
):
    with socket.socket() as closed, caplog.at_level(logging.DEBUG):
        closed.bind(("127.0.0.1", 0))
        wrong = Webhooks(errors_url=address.replace("{closed}", str(closed.getsockname()[1])))
        problem = wrong.post("errors", {"text": "hello"})
    assert problem is not None and said in problem
    assert SECRET not in problem + caplog.text


def test_a_webhook_that_does_not_answer_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/{SECRET}"
        problem = Webhooks(verdicts_url=address, timeout_seconds=0.1).post("verdicts", {"text": "hello"})
    assert problem == "the webhook for verdicts did not answer within 0.1 s"


def test_what_a_batch_is_called_rings_no_bell_and_a_long_reason_is_cut():
    event = Event("verdicts", "shapes", "refused", "<!channel> & co", "refused", "x" * 5000, "id")
    found: dict[str, Any] = json.loads(json.dumps(announcement_payload(event)))
    assert found["text"].startswith("shapes, &lt;!channel&gt; &amp; co: refused\nxxx")
    assert len(found["text"]) < 1100
    assert "<" not in json.dumps(found)


def test_a_run_put_together_by_hand_is_its_assets_project(instance: dg.DagsterInstance):
    selected = frozenset({dg.AssetKey(["shapes", "features"]), dg.AssetKey(["shapes", "drift_report"])})
    assert project_of(create_run_for_test(instance, asset_selection=selected)) == "shapes"
    assert project_of(create_run_for_test(instance)) is None


@dataclass
class Announcing(World):
    """A world that also tells of runs."""

    told: Hook = field(default_factory=Hook)

    @property
    def services(self) -> Services:
        webhooks = Webhooks(errors_url=self.told.url("errors"), verdicts_url=self.told.url("verdicts"))
        return replace(super().services, webhooks=webhooks)

    @property
    def definitions(self) -> dg.Definitions:
        sensors = [announcement_sensor(project_graph(project)) for project in self.projects]
        return dg.Definitions.merge(super().definitions, dg.Definitions(sensors=sensors))


def test_a_tick_tells_at_once_of_the_error_it_met(world: World, told: Hook, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise dg.Failure("no space is left on the disk", allow_retries=False)

    monkeypatch.setattr("visionops_assets.dataset.assets.clear_failures", fail)
    announcing = Announcing(world.root, world.lakefs, world.registry, world.instance, told=told)
    announcing.publish("week-01", 12, seed=1)
    failed = announcing.tick()
    assert failed.outcome == "error"
    (text,) = told.texts("errors")
    head, why, link = text.splitlines()
    assert head == f"shapes, {failed.partition}: ended with an error"
    assert why == failed.reason == "shapes__manifest: no space is left on the disk"
    assert link.endswith(f"/runs/{failed.run_id}")
    assert not told.texts("verdicts")

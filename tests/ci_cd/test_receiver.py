"""What lakeFS calls after a commit: only itself, each event once, and nothing runs twice."""

import json
import logging
import queue
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import httpx
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    InProcessCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from resources.environ import LAKEFS_ACTION_TOKEN
from tests.world import World
from visionops.serving.commit_look import Job, Looking, launch_through
from visionops.serving.prediction_server import in_thread
from visionops.serving.webhook import (
    CallRefused,
    Event,
    SensorNotTicked,
    WebhookGuard,
    action_file,
    install_action,
    receiver_app,
)
from visionops_assets.common import run_tags

TOKEN = "a-secret-of-this-test-9f2c"
GENUINE = f"Bearer {TOKEN}"
NOW = datetime(2026, 3, 2, 8, 0, 30, 500_000, tzinfo=UTC)


def told(when: datetime | None = None, **changes: str) -> dict[str, str]:
    """What lakeFS says after a commit."""
    return {
        "event_type": "post-commit",
        "event_time": (when or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "repository_id": "shapes",
        "branch_id": "main",
        "commit_id": "c" * 64,
        **changes,
    }


@pytest.mark.parametrize(
    ("authorization", "body", "status", "why"),
    [
        (None, told(NOW), 401, "no valid token"),
        ("Bearer ", told(NOW), 401, "no valid token"),
        (f"Bearer {TOKEN}x", told(NOW), 401, "no valid token"),
        (f"Basic {TOKEN}", told(NOW), 401, "no valid token"),
        ("Bearer \xe9", told(NOW), 401, "no valid token"),
        (GENUINE, ["no", "object"], 400, "no JSON object"),
        (GENUINE, b"[" * 60_000, 400, "no JSON"),
        (GENUINE, {"event_type": "post-commit"}, 400, "says no repository_id"),
        (GENUINE, told(NOW, event_time="yesterday"), 400, "event_time is no time"),
        (GENUINE, told(NOW - timedelta(minutes=6)), 409, "too old"),
        (GENUINE, told(NOW - timedelta(seconds=2)), 409, "too old"),
        (GENUINE, told(NOW + timedelta(minutes=6)), 409, "still to come"),
    ],
)
def test_what_is_no_event_of_ours_is_refused(
    authorization: str | None, body: object, status: int, why: str
) -> None:
    guard = WebhookGuard(TOKEN, lambda: NOW)
    with pytest.raises(CallRefused, match=why) as refused:
        guard.admit(authorization, body if isinstance(body, bytes) else json.dumps(body).encode())
    assert refused.value.status == status


def test_an_event_is_let_in_once_and_again_only_if_nothing_came_of_it() -> None:
    times = [NOW]
    guard = WebhookGuard(TOKEN, lambda: times[-1])
    body = json.dumps(told(NOW)).encode()
    event = guard.admit(GENUINE, body)
    spaced = json.dumps(told(NOW), indent=2).encode()
    for again in (body, spaced):
        with pytest.raises(CallRefused, match="taken already") as refused:
            guard.admit(GENUINE, again)
        assert refused.value.status == 409
    guard.forget(event)
    assert guard.admit(GENUINE, body) == event
    times.append(NOW + timedelta(minutes=4))
    with pytest.raises(CallRefused, match="taken already"):
        guard.admit(GENUINE, body)
    times.append(NOW + timedelta(minutes=6))
    with pytest.raises(CallRefused, match="too old"):
        guard.admit(GENUINE, body)


def test_a_token_that_can_be_guessed_is_refused() -> None:
    with pytest.raises(ValueError, match="VISIONOPS_WEBHOOK_TOKEN has 5 characters"):
        WebhookGuard("short")


def test_forged_and_repeated_calls_start_nothing_and_log_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    looked: list[Event] = []

    def look(event: Event) -> str:
        looked.append(event)
        if event.repository == "broken":
            raise SensorNotTicked("Dagster is away")
        return "run 1 requested"

    caplog.set_level(logging.INFO, "visionops.webhook")
    with (
        in_thread(receiver_app(WebhookGuard(TOKEN), look)) as server,
        httpx.Client(base_url=server.address) as client,
    ):
        event = told()

        def post(body: Any, token: str = TOKEN) -> httpx.Response:
            return client.post("/lakefs", json=body, headers={"Authorization": f"Bearer {token}"})

        assert post(event, "forged-token-1234567").status_code == 401
        assert client.post("/lakefs", content=b"x" * (65 << 10)).status_code == 413
        assert not looked
        assert post(event).json() == {"said": "run 1 requested"}
        assert post(event).status_code == 409
        assert "ignored" in post(told(event_type="pre-commit")).json()
        assert len(looked) == 1
        failing = told(repository_id="broken")
        assert [post(failing).status_code for _ in range(2)] == [503, 503]
        assert client.get("/health").is_success
    assert "refused a call from 127.0.0.1" in caplog.text
    assert TOKEN not in caplog.text and "forged-token" not in caplog.text


@dataclass
class Queue:
    """Stands for Dagster's webserver: a run is made and waits, as the daemon's queue has it."""

    world: World
    requested: "queue.Queue[Mapping[str, str]]" = field(default_factory=queue.Queue)

    def __call__(self, job: Job, tags: Mapping[str, str]) -> str:
        run = self.world.instance.create_run_for_job(
            self.world.definitions.resolve_job_def(job.name),
            tags=dict(tags),
            status=dg.DagsterRunStatus.NOT_STARTED,
        )
        self.requested.put(run.tags)
        return run.run_id


@pytest.fixture
def looking(world: World) -> Iterator[tuple[Looking, Queue]]:
    waiting = Queue(world)
    yield Looking(world.instance, lambda: (world.definitions, world.projects), waiting), waiting


def event_on(repository: str = "shapes", branch: str = "main") -> Event:
    return Event("post-merge", repository, branch, "c" * 64, datetime.now(UTC), "x")


def test_a_commit_to_main_has_its_run_requested_once(
    world: World, looking: tuple[Looking, Queue], monkeypatch: pytest.MonkeyPatch
) -> None:
    sensor, waiting = looking
    monkeypatch.setenv(LAKEFS_ACTION_TOKEN, TOKEN)
    with in_thread(receiver_app(WebhookGuard(TOKEN), sensor.look)) as server:
        url = f"{server.address}/lakefs"
        assert install_action(world.lakefs, "shapes", url) is not None
        assert install_action(world.lakefs, "shapes", url) is None, "it is there already"
        world.publish("week-01", 30, seed=1)
        tags = waiting.requested.get(timeout=20)
    (partition,) = world.partitions()
    assert tags["dagster/partition"] == partition
    assert tags[run_tags.INTENT] == run_tags.DECISION
    assert tags["dagster/run_key"].startswith(f"shapes/{tags[run_tags.COMMIT]}/")
    assert tags["dagster/sensor_name"] == "shapes_commits"
    assert world.latest("images").partition == partition

    # A genuine but redundant call, a lost cursor, and the sensor itself find the run that waits.
    assert "is in progress" in sensor.look(event_on())
    world.instance.daemon_cursor_storage.set_cursor_values({"visionops/tick/shapes_commits": ""})
    assert "is in progress" in sensor.look(event_on())
    assert world.tick().run_id is None
    assert len(world.instance.get_runs()) == 1 and waiting.requested.empty()


def test_what_no_project_watches_is_left_alone(world: World, looking: tuple[Looking, Queue]) -> None:
    sensor, _ = looking
    assert "no project watches others" in sensor.look(event_on("others"))
    assert "ingest-1 is not main" in sensor.look(event_on(branch="ingest-1"))
    assert "week" not in sensor.look(event_on()), "a repository that is not there is the sensor's to explain"
    assert not world.instance.get_runs()


def known_to_daemon(world: World, status: InstigatorStatus) -> InstigatorState:
    """What Dagster's daemon keeps of the commit sensor once it has looked."""
    location = InProcessCodeLocationOrigin(LoadableTargetOrigin(python_file="definitions.py"))
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, "__repository__"), "shapes_commits")
    data = SensorInstigatorData(min_interval=30, cursor="its own", last_tick_start_timestamp=1.0)
    return world.instance.add_instigator_state(InstigatorState(origin, InstigatorType.SENSOR, status, data))


def test_a_sensor_that_was_switched_off_stays_off(world: World, looking: tuple[Looking, Queue]) -> None:
    world.publish("week-01", 30, seed=1)
    known_to_daemon(world, InstigatorStatus.STOPPED)
    assert "switched off" in looking[0].look(event_on())
    assert looking[1].requested.empty()


def test_the_daemon_is_put_off_and_its_look_under_way_waited_for(
    world: World, looking: tuple[Looking, Queue], monkeypatch: pytest.MonkeyPatch
) -> None:
    sensor, waiting = looking
    world.publish("week-01", 30, seed=1)
    state = known_to_daemon(world, InstigatorStatus.RUNNING)
    tick = world.instance.create_tick(
        TickData(
            instigator_origin_id=state.instigator_origin_id,
            instigator_name="shapes_commits",
            instigator_type=InstigatorType.SENSOR,
            status=TickStatus.STARTED,
            timestamp=time.time(),
            selector_id=state.selector_id,
        )
    )
    slept: list[float] = []

    def the_daemon_goes_on(seconds: float) -> None:
        # Meanwhile it requests the run, then ends its look.
        slept.append(seconds)
        world.instance.update_tick(tick.with_status(TickStatus.SUCCESS))
        (key,) = world.instance.get_dynamic_partitions("shapes_dataset_versions")
        commit = world.lakefs.head("shapes").id
        from visionops_assets.training.challenger import training_version

        tags = {
            run_tags.PROJECT: "shapes",
            run_tags.COMMIT: commit,
            run_tags.TRAINING_VERSION: training_version(world.project),
            run_tags.INTENT: run_tags.DECISION,
            "dagster/partition": key,
        }
        waiting(Job("shapes_decide"), tags)

    monkeypatch.setattr("visionops.serving.commit_look.time.sleep", the_daemon_goes_on)
    assert "is in progress" in sensor.look(event_on())
    assert len(slept) == 1 and len(world.instance.get_runs()) == 1
    (kept,) = world.instance.all_instigator_state()
    data = kept.instigator_data
    assert isinstance(data, SensorInstigatorData) and data.cursor == "its own"
    assert data.last_tick_start_timestamp == pytest.approx(time.time(), abs=60)


def test_a_dagster_that_is_away_is_named() -> None:
    with pytest.raises(SensorNotTicked, match=r"Dagster at 127.0.0.1 did not take the run of shapes_decide"):
        launch_through("http://127.0.0.1:9")(Job("shapes_decide"), {})
    with pytest.raises(ValueError, match="no http address"):
        launch_through("localhost:3000")


def test_an_action_calls_http_addresses_only() -> None:
    assert b"url: https://ops.example.com/visionops/lakefs\n" in action_file(
        "https://ops.example.com/visionops/lakefs"
    )
    for url in ("ftp://host/lakefs", "http://host/a b", 'http://host/"\nevil: yes'):
        with pytest.raises(ValueError, match="no http address"):
            action_file(url)

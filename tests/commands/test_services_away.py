"""Dagster, MLflow and lakeFS are away, one after the other: devices go on, nothing is lost, and all catch up."""

import io
import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from desk import Desk
from test_delivery_follows import assigned, declare, ticked
from test_device_reports import opened, photograph

from edge.agent import Surroundings
from edge.device import Device
from edge.runner import OpenedHere
from edge.selftest import examine
from edge.settings import Settings
from resources import home
from resources.lakefs.client import MAIN
from tests.devices.agent_process import agent
from tests.operations_table import require_told
from visionops_assets.monitoring.inference_log import production_repository

NOBODY = "http://127.0.0.1:9"
# What is told of each where it is away.
SETTINGS = {
    "MLflow": {"MLFLOW_TRACKING_URI": NOBODY},
    "lakeFS": {
        "LAKEFS_ENDPOINT": NOBODY,
        "LAKEFS_ACCESS_KEY_ID": "key",
        "LAKEFS_SECRET_ACCESS_KEY": "secret",
    },
}
# Look, update, answer this image, report, as the agent's `once` does.
Once = Callable[[Path], None]


def in_this_process(folder: Path) -> None:
    around = Surroundings(open_runner=OpenedHere, examine=examine)
    with closing(Device(Settings.read(folder), around)) as device:
        assert device.once(), device.agent.problems


def as_a_process(folder: Path) -> None:
    agent("once", folder)


@pytest.mark.parametrize(
    ("once", "number"),
    [
        pytest.param(in_this_process, 1, marks=pytest.mark.slow),
        pytest.param(as_a_process, 3, marks=pytest.mark.stated),
    ],
)
def test_services_away_one_by_one_lose_nothing_and_all_catch_up(
    desk_of_two: Desk,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    once: Once,
    number: int,
) -> None:
    desk = desk_of_two
    desk.run("fleet", "keys", "init", "shapes")
    desk.run("fleet", "publish", "shapes", "--group", "line-1", "--model-version", "1")
    declare(desk, {"line-1": {"observe": 1}})
    ticked(desk)
    devices, seeds = [tmp_path / f"cam-{each}" for each in range(number)], iter(range(1000))
    for each in devices:
        opened(desk, each.name, each).close()
        told = {
            "source": {"folder": str(each / "camera"), "then": "remove"},
            "sink": {"lines": "answers.jsonl"},
        }
        (each / "camera").mkdir()
        (each / "device.json").write_text(json.dumps(json.loads((each / "device.json").read_text()) | told))

    def work() -> set[int]:
        """The versions that answered an image on each device."""
        for each in devices:
            (each / "camera" / "image.png").write_bytes(photograph(next(seeds)))
            once(each)
        return {json.loads(answers(each)[-1])["model"]["version"] for each in devices}

    assert work() == {2}
    # Dagster: nobody ticks. A rollback is on record, and devices go on with what they have.
    desk.run("rollback", "shapes", "--why", "misses scratches")
    assert work() == {2}
    assert len(spooled()) >= 2 * number

    # MLflow: what should run is not known, so nothing changes; what devices told is taken all the same.
    with away(monkeypatch, "MLflow"):
        assert work() == {2}
        assert NOBODY in " ".join(each["reason"] for each in ticked(desk, code=1))
        assert spooled() == []
    assert assigned(desk)["line-1"][0] == 2

    # lakeFS: reports wait, and the rollback reaches every device at its next look: what ran was signed before.
    with away(monkeypatch, "lakeFS"):
        assert work() == {2}
        said = [f"error: {each['reason']}" for each in ticked(desk, code=1)]
        require_told("Dagster, MLflow or lakeFS are away", *said)
        assert assigned(desk)["line-1"][0] == 1
        assert work() == {1}, "one look later"
        assert len(spooled()) >= 2 * number

    ticked(desk)
    assert spooled() == [] and work() == {1}
    ticked(desk)

    told = desk.json("fleet", "status", "shapes")
    assert {each["state"] for each in told["devices"]} == {"current"} and told["did_not_count"] == {}
    assert desk.json("status", "shapes")["wrong"] == []
    answered = sum(len(answers(each)) for each in devices)
    assert sum(each["frames"] for each in told["devices"]) == answered == logged(desk)


def answers(folder: Path) -> list[str]:
    """What the sink of a device was given."""
    return (folder / "answers.jsonl").read_text().splitlines()


@contextmanager
def away(monkeypatch: pytest.MonkeyPatch, service: str) -> Iterator[None]:
    with monkeypatch.context() as patched:
        for name, value in SETTINGS[service].items():
            patched.setenv(name, value)
        yield


def spooled() -> list[Path]:
    return list((Path(home.spool()) / "shapes").rglob("*.jsonl.gz"))


def logged(desk: Desk) -> int:
    """The rows that are committed of what production logged."""
    repository = production_repository("shapes")
    paths = [
        each.path
        for each in desk.world.lakefs.objects(repository, MAIN, "project=shapes/")
        if each.path.endswith(".parquet")
    ]
    found = desk.world.lakefs.read_many(repository, MAIN, paths)
    return sum(pq.read_metadata(io.BytesIO(content)).num_rows for _, content in found)

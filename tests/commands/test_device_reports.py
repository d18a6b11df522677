"""From what devices answer to a production day and `fleet status`: real agents, collector and assets."""

import io
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from desk import LENIENT, Desk
from PIL import Image

from edge.agent import Surroundings
from edge.device import Device
from edge.reports import name_of
from edge.runner import OpenedHere
from edge.selftest import examine
from edge.settings import Settings
from resources.home import spool
from resources.storage import ArtifactStore
from tests.operations_table import require_told
from tests.world import CLASSES, draw, shapes_project
from visionops import services
from visionops.serving.exporter import assignment_samples, device_samples
from visionops_assets.monitoring.production_day import stored_day, stored_log

pytestmark = pytest.mark.slow


def photograph(seed: int) -> bytes:
    buffer = io.BytesIO()
    pixels = draw(CLASSES[seed % len(CLASSES)], np.random.default_rng(seed + 1000))
    Image.fromarray(pixels[..., 0]).save(buffer, "PNG")
    return buffer.getvalue()


def opened(desk: Desk, name: str, folder: Path) -> Device:
    """A device that is provisioned, answers in this process, and reports to the spool."""
    desk.run("fleet", "provision", "shapes", "--group", "line-1", "--device", name, "--to", str(folder))
    return Device(Settings.read(folder), Surroundings(open_runner=OpenedHere, examine=examine))


@pytest.fixture
def devices(desk_of_promoted: Desk, tmp_path: Path) -> Iterator[list[Device]]:
    desk = desk_of_promoted
    desk.run("fleet", "keys", "init", "shapes")
    gate = {**desk.world.project.gate.model_dump(mode="json"), **LENIENT}
    desk.world.projects = [
        shapes_project(
            gate=gate,
            delivery={"groups": {"line-1": {"observe": 2}}},
            production={"captures": {"share": 0.5, "below_confidence": 0.0}},
        )
    ]
    desk.save()
    desk.run("tick", "shapes")
    found = [opened(desk, f"cam-{number}", tmp_path / f"cam-{number}") for number in range(2)]
    yield found
    for each in found:
        each.close()


def rows(value: object) -> list[dict[str, object]]:
    assert isinstance(value, dg.TableMetadataValue)
    return [dict(each.data) for each in value.records]


def shows_devices(desk: Desk) -> None:
    """The pages of the UI: by group and by device what runs, and links both ways."""
    page = desk.world.latest("devices").metadata
    (group,) = rows(page["groups"])
    assert (group["group"], group["devices"], group["states"]) == ("line-1", "3", "1 never, 2 current")
    assert [(row["device"], row["state"], row["version"]) for row in rows(page["devices"])] == [
        ("cam-9", "never", ""),
        ("cam-0", "current", "1"),
        ("cam-1", "current", "1"),
    ]
    assert page["given"].value == dg.AssetKey(["shapes", "edge_bundle"])
    assert desk.world.latest("edge_bundle").metadata["devices"].value == dg.AssetKey(["shapes", "devices"])
    groups = rows(desk.world.latest("in_production").metadata["groups"])
    assert {row["group"]: row["devices run"] for row in groups} == {"all": "", "line-1": "version 1"}
    told = len(materialisations(desk))
    desk.run("tick", "shapes")
    assert len(materialisations(desk)) == told, "the same is told once"


def materialisations(desk: Desk) -> list[object]:
    keys = [dg.AssetKey(["shapes", name]) for name in ("devices", "in_production")]
    return [
        each for key in keys for each in desk.world.instance.fetch_materializations(key, limit=100).records
    ]


def test_a_day_of_devices_is_one_as_of_servers_and_their_state_is_seen(
    desk_of_promoted: Desk, devices: list[Device], tmp_path: Path
) -> None:
    desk = desk_of_promoted
    opened(desk, "cam-9", tmp_path / "cam-9").close()
    images = [photograph(seed) for seed in range(12)]
    for device in devices:
        device.agent.look()
        device.agent.settle()
        for image in images:
            device.answer(image)
        device.agent.settle()
        device.agent.deliver()
    forged = Path(spool()) / "shapes" / "cam-0" / name_of(7)
    forged.write_bytes(next((Path(spool()) / "shapes" / "cam-1").glob("*.jsonl.gz")).read_bytes())
    waiting = len(list(Path(spool()).rglob("*.jsonl.gz")))
    assert f"{waiting} reports wait in the spool: `visionops tick shapes`" in desk.run(
        "fleet", "status", "shapes"
    )
    ticks = desk.json("tick", "shapes")
    assert [each["outcome"] for each in ticks if each["outcome"]] == ["logged"]

    store, today = ArtifactStore(root=str(desk.world.root / "artifacts")), f"{datetime.now(UTC):%Y-%m-%d}"
    log = stored_log(store, "shapes", today)
    assert log is not None
    assert log.groupby("device").size().to_dict() == {"cam-0": 12, "cam-1": 12}
    assert set(log["device_group"]) == {"line-1"} and log["model_sha256"].nunique() == 1
    assert log[["brightness", "entropy", "width"]].notna().all(axis=None)
    captured = log.groupby("image_sha256")["capture"].count()
    assert set(captured) == {0, 2}, "a share of the images, the same on every device"
    for asset in ("drift_report", "performance"):
        table = stored_day(store, "shapes", asset, today)
        assert table is not None and set(table["device_group"]) == {"line-1"}

    told = desk.json("fleet", "status", "shapes")
    (row,) = told["groups"]
    assert row["runs"] == "version 1 on 2, nothing known of 1"
    assert row["states"]["current"] == 2 and row["states"]["never"] == 1 and row["silent"] == []
    assert {each["device"]: each["frames"] for each in told["devices"]} == {
        "cam-0": 12,
        "cam-1": 12,
        "cam-9": 0,
    }
    shows_devices(desk)
    said = desk.run("fleet", "status", "shapes")
    assert "2 current" in said and "1 never" in said and "wait in the spool" not in said
    require_told("a device reports by a key that is not its own", said)
    assert "is signed by another key" in " ".join(said.split())
    assert "assigned version 1, answers version 1 on 2" in " ".join(desk.run("status", "shapes").split())
    project, registry = services.project("shapes"), services.registry()
    samples = {
        (each.family.name, *each.labels[1:]): each.value
        for each in (*device_samples(project), *assignment_samples(project, registry))
    }
    assert samples["visionops_fleet_devices", "line-1", "current"] == 2
    assert samples["visionops_fleet_version_devices", "line-1", "1", "fp32"] == 2
    assert samples["visionops_fleet_silent_devices", "line-1"] == 0
    assert samples["visionops_edge_assignment_behind", "line-1"] == 0

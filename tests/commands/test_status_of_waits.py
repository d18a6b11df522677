"""What `status` says of what is still to be done."""

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from desk import Desk, ways_back

from tests.world import shapes_project, write_batch
from visionops_assets.common.keys import asset_key
from visionops_assets.common.tables import write_table
from visionops_assets.dataset.batch_publishing import BatchRefused
from visionops_assets.monitoring.labels_wanted import WANTED_COLUMNS
from visionops_assets.monitoring.production_day import typed_table


@pytest.mark.slow
def test_a_dataset_version_that_waits_for_a_tick_is_told_until_it_is_decided(desk: Desk):
    (nothing,) = desk.json("status", "shapes")["waits"]
    assert "there is no batch yet: `visionops import shapes SOURCE --batch NAME`" in nothing
    desk.world.publish("week-01", 60, seed=1)
    (waits,) = desk.json("status", "shapes")["waits"]
    assert "(week-01) is not judged yet: `visionops tick shapes`" in waits
    assert f"waits: {waits}" in desk.run("status", "shapes")
    assert not desk.world.partitions() and not desk.world.instance.get_runs(), "it was only looked at"
    desk.world.tick()
    assert desk.json("status", "shapes")["waits"] == []


def test_a_dataset_version_that_the_trigger_holds_back_says_what_it_waits_for(desk: Desk):
    desk.world.projects = [shapes_project(trigger={"quiet_for": 86_400})]
    desk.save()
    desk.world.publish("week-01", 30, seed=1)
    (waits,) = desk.json("status", "shapes")["waits"]
    assert "waiting for 86400 s of quiet" in waits
    desk.run("retract", "shapes", "week-01", "--why", "labels of another camera")
    desk.world.projects = [shapes_project()]
    desk.save()
    (waits,) = desk.json("status", "shapes")["waits"]
    assert "(without week-01) is not judged yet" in waits


def test_a_refused_batch_is_told_until_it_is_published(desk: Desk, tmp_path: Path):
    desk.world.publish("week-01", 30, seed=1)
    source = write_batch(tmp_path / "week-02", 30, seed=2)
    image = sorted(source.glob("*.png"))[0]
    content = image.read_bytes()
    image.write_bytes(b"no image")
    with pytest.raises(BatchRefused):
        desk.run("import", "shapes", str(source), "--batch", "week-02")
    _, refused = desk.json("status", "shapes")["waits"]
    assert refused.startswith("batch week-02 was refused on ") and "branch ingest-week-02" in refused
    assert ways_back(refused) == [["findings", "shapes", "week-02"]]
    assert image.name in desk.run(*ways_back(refused)[0])
    image.write_bytes(content)
    desk.run("import", "shapes", str(source), "--batch", "week-02")
    assert len(desk.json("status", "shapes")["waits"]) == 1


def test_images_that_wait_for_a_label_are_counted_as_they_would_be_exported(desk_of_promoted: Desk):
    desk = desk_of_promoted
    assert desk.json("status", "shapes")["images_wanted"] == 0
    rows = [
        {
            **dict.fromkeys(WANTED_COLUMNS),
            "image_sha256": f"{n % 3:064x}",
            "capture": f"{n}.png",
            "worth": 1.0,
        }
        for n in range(4)
    ]
    store = desk.world.artifacts
    table = write_table(store, typed_table(pd.DataFrame(rows), WANTED_COLUMNS))
    store.write_json(asset_key("shapes", "labels_wanted", f"{datetime.now(UTC).date()}"), table)
    assert desk.json("status", "shapes")["images_wanted"] == 3
    told = desk.run("status", "shapes")
    assert "waits: 3 images of the last 7 days for a label: `visionops labels export shapes --to" in told

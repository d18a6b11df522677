"""Labels of a batch join the production days that captured its images, once, and are taken back with it."""

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from logged import file_of, project, row, sha256
from production_world import ProductionWorld
from test_log_asset import NOW, Watched, day, stored_log

from tests.world import CLASSES, write_batch
from visionops_assets.dataset.batch_publishing import Publisher
from visionops_assets.dataset.retraction import retract
from visionops_assets.monitoring.collection import collect
from visionops_assets.monitoring.response.labels_of_batches import BatchLabels, changed_labels, spool_labels
from visionops_assets.monitoring.validation import join_labels

WHEN = datetime(2026, 6, 10, 12, tzinfo=UTC)


def test_a_label_goes_to_every_day_that_captured_the_image_and_only_where_it_changed():
    found = BatchLabels(
        "c" * 40,
        WHEN,
        before={"gone": "ring", "same": "bar", "other": "bar"},
        after={"same": "bar", "other": "cross", "new": "ring", "never seen": "ring"},
    )
    captured = {
        "gone": ["2026-06-01"],
        "same": ["2026-06-01"],
        "other": ["2026-06-01"],
        "new": ["2026-06-01", "2026-06-03"],
    }
    rows = [(each["image_sha256"], str(each["day"]), each["label"]) for each in found.rows(captured)]
    assert rows == [
        ("gone", "2026-06-01", None),
        ("new", "2026-06-01", "ring"),
        ("new", "2026-06-03", "ring"),
        ("other", "2026-06-01", "cross"),
    ]
    assert {each["labelled_at"] for each in found.rows(captured)} == {WHEN}


def test_a_label_that_is_null_takes_back_those_before_it_and_gives_way_to_those_after():
    rows = pd.DataFrame({"image_sha256": ["a", "b"], "label": [None, None]})

    def labels(hours: int, **given: str | None) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "image_sha256": list(given),
                "label": list(given.values()),
                "labelled_at": WHEN + timedelta(hours=hours),
            }
        )

    said = labels(0, a="ring", b="bar")
    taken_back, findings = join_labels(
        rows, [labels(1, a=None), said, labels(2, b="ring")], "classification", CLASSES
    )
    assert taken_back["label"].where(taken_back["label"].notna(), None).tolist() == [None, "ring"]
    assert findings.empty
    again, _ = join_labels(rows, [labels(1, a=None), said, labels(2, a="bar")], "classification", CLASSES)
    assert again["label"].tolist() == ["bar", "bar"]


def captured_batch(world: ProductionWorld, folder: Path, *backs: int) -> dict[str, str]:
    """A batch whose images production captured, in turn on these days; the true label by digest."""
    model = world.register(1).weights_sha256
    labels = dict(line.split(",") for line in (folder / "labels.csv").read_text().splitlines()[1:])
    rows, truths = [], {}
    for number, (name, label) in enumerate(sorted(labels.items())):
        frame = (folder / name).read_bytes()
        when = NOW - timedelta(days=backs[number % len(backs)], seconds=number)
        changes = {"image_sha256": sha256(frame), "frame": frame, "model_sha256": model}
        rows.append(row(number, timestamp=when, **changes))
        truths[sha256(frame)] = label
    world.spool.put("shapes", "camera-1", file_of(*rows))
    return truths


@pytest.mark.slow
def test_the_sensor_joins_them_asks_for_these_days_and_the_newest_day_last(
    production: ProductionWorld, tmp_path: Path
):
    production.publish("week-01", 12, seed=1)
    folder = write_batch(tmp_path / "labelled", 9, seed=2)
    truths = captured_batch(production, folder, 3, 2)
    captured_batch(production, production.root / "drop" / "week-01-1", 1)
    watched = Watched(production)
    assert watched.tick() == [day(3), day(2), day(1)]
    seen = production.lakefs.head("shapes", "main").id

    Publisher(production.project, production.lakefs, production.artifacts).publish(folder, "labelled")
    assert watched.tick() == [day(3), day(2)]
    logs = [stored_log(production.artifacts, "shapes", day(back)) for back in (3, 2)]
    found = pd.concat([log for log in logs if log is not None])
    assert dict(zip(found["image_sha256"], found["label"], strict=True)) == truths
    assert watched.tick() == [day(1)], "what to do is decided once the labels are counted"
    old = stored_log(production.artifacts, "shapes", day(1))
    assert old is not None and old["label"].isna().all(), (
        "what was there before production teaches nothing of it"
    )
    assert watched.tick() == []

    labels = changed_labels(production.lakefs, production.project, seen)
    assert set(labels.after) == set(truths) and set(labels.batches.values()) == {"labelled"}
    for _ in range(2):
        assert spool_labels(production.lakefs, production.project, production.spool, labels) == 9
    assert len(production.spool.files("shapes")) == 1, "done again, it is one file"
    collect(production.project, lakefs=production.lakefs, spool=production.spool, lock=nullcontext(), now=NOW)

    published = production.lakefs.head("shapes", "main").id
    retract(production.lakefs, production.project, "labelled", who="ada", why="wrong labels")
    taken_back = changed_labels(production.lakefs, production.project, published)
    assert set(taken_back.before) == set(truths) and not taken_back.after
    rows = taken_back.rows({digest: [day(3)] for digest in truths})
    assert [each["label"] for each in rows] == [None] * 9


def test_without_a_repository_or_captures_there_is_nothing_to_tell(production: ProductionWorld):
    production.projects = [project()]
    production.publish("week-01", 12, seed=1)
    everything = changed_labels(production.lakefs, production.project, None)
    assert len(everything.after) == 12
    assert spool_labels(production.lakefs, production.project, production.spool, everything) == 0
    nothing = changed_labels(production.lakefs, production.project, everything.commit)
    assert not nothing.before and not nothing.after

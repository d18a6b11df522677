"""A batch goes from the drop through its audit to `main`, or stays on its branch with its findings."""

import errno
import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from places import Bucket, FolderDrop, fill

from lakefs_local import discovery
from resources import clocks
from resources.drop_places import DropUnavailable
from resources.lakefs.client import MAIN
from tests.world import GATE, RECIPE, World, shapes_project, write_batch
from visionops.tick import Tick, tick
from visionops_assets.dataset.batch_publishing import Publisher
from visionops_assets.dataset.checks import SHOWN

# These tests are about the drop: what is published waits, and nothing is trained.
NO_TRAINING = {"trigger": {"quiet_for": 86_400}}


@pytest.fixture
def labelling_team(world: World) -> FolderDrop:
    """The drop of the world's project, as its labelling team sees it."""
    world.projects = [shapes_project(**NO_TRAINING)]
    return FolderDrop(world.root / "dropped" / "shapes")


def take(world: World) -> list[Tick]:
    """Evaluate the sensors; what was taken."""
    ticks = tick(world.definitions, world.instance, world.projects)
    return [found for found in ticks if found.run_id]


def checks(world: World, batch: str) -> dict[str, dg.AssetCheckEvaluation]:
    """The newest evaluation of each check of `incoming_batch` for a batch."""
    found: dict[str, dg.AssetCheckEvaluation] = {}
    for entry in world.instance.all_logs(
        take_run(world, batch), of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
    ):
        assert entry.dagster_event is not None
        evaluation = entry.dagster_event.asset_check_evaluation_data
        found[evaluation.check_name] = evaluation
    return found


def take_run(world: World, batch: str) -> str:
    """The last run that took a batch."""
    (record,) = world.instance.get_run_records(dg.RunsFilter(tags={"visionops/batch": batch}), limit=1)
    return record.dagster_run.run_id


def test_a_complete_batch_is_published_once(world: World, labelling_team: FolderDrop, tmp_path: Path):
    fill(labelling_team, "week-01", write_batch(tmp_path / "week", 30, seed=1))

    (taken,) = take(world)

    assert (taken.partition, taken.outcome) == ("week-01", "published")
    assert taken.reason == "batch week-01: 30 images are on main now"
    shown = world.latest("incoming_batch", "week-01").metadata
    assert (shown["outcome"].value, shown["images"].value) == ("published", 30)
    merge = world.lakefs.head("shapes")
    assert merge.metadata["visionops.batch"] == "week-01"
    assert merge.metadata["dagster.run_id"] == taken.run_id
    assert merge.metadata["::lakefs::Dagster::url[url:ui]"].endswith(f"/runs/{taken.run_id}")
    assert set(checks(world, "week-01")) == set(SHOWN)
    assert all(check.passed for check in checks(world, "week-01").values())
    assert take(world) == []
    assert world.partitions(), "its commit became a dataset version"


def test_what_is_told_of_a_batch_is_told_by_the_tick(
    world: World, labelling_team: FolderDrop, tmp_path: Path
):
    source = write_batch(tmp_path / "week", 30, seed=1)
    rows = (source / "labels.csv").read_text().splitlines()
    for row in rows[1:4]:
        name = row.partition(",")[0]
        (source / f"copy-{name}").write_bytes((source / name).read_bytes())
        rows.append(f"copy-{row}")
    (source / "labels.csv").write_text("\n".join(rows))
    fill(labelling_team, "week-01", source)

    (taken,) = take(world)

    assert taken.outcome == "published" and "33 images are on main now; " in taken.reason
    assert "no copies 3" in taken.reason
    assert taken.reason.endswith("`visionops findings shapes week-01` shows them")


@pytest.mark.slow
def test_a_batch_dropped_again_changes_nothing(world: World, labelling_team: FolderDrop, tmp_path: Path):
    folder = write_batch(tmp_path / "week", 30, seed=1)
    fill(labelling_team, "week-01", folder)
    take(world)
    before = world.lakefs.head("shapes").id
    labelling_team.put("week-01/_SUCCESS", b"once more")

    (again,) = take(world)

    assert again.outcome == "unchanged"
    assert "were on main already" in again.reason
    assert world.lakefs.head("shapes").id == before


@pytest.mark.slow
def test_a_refused_batch_stays_on_its_branch_with_its_findings_until_it_is_corrected(
    world: World, labelling_team: FolderDrop, tmp_path: Path
):
    fill(labelling_team, "week-00", write_batch(tmp_path / "first", 30, seed=1))
    take(world)
    before = world.lakefs.head("shapes").id
    bad = write_batch(tmp_path / "bad", 30, seed=2, labels={3: "blob"})
    good = (bad / "0004.png").read_bytes()
    (bad / "0004.png").write_bytes(good[:40])
    fill(labelling_team, "week-01", bad)

    (refused,) = take(world)

    assert refused.outcome == "refused"
    assert "blob" in refused.reason
    assert world.lakefs.head("shapes").id == before, "main is as it was"
    assert not world.instance.get_run_by_id(refused.run_id or "").is_success  # type: ignore[union-attr]
    found = pd.read_csv(io.BytesIO(world.lakefs.read("shapes", "ingest-week-01", "findings/week-01.csv")))
    assert {"labels known", "readable"} <= set(found["check"])
    facts = world.lakefs.head("shapes", "ingest-week-01").metadata
    assert facts["visionops.errors"] == str((found["severity"] == "ERROR").sum()) == "2"
    shown = checks(world, "week-01")
    failed = {name for name, check in shown.items() if not check.passed}
    assert failed == {"labels_known", "decodable"}
    assert shown["labels_known"].severity == dg.AssetCheckSeverity.ERROR
    assert "data:image/png" in str(shown["labels_known"].metadata["examples"].value)
    assert take(world) == [], "a refusal is not tried again"

    (bad / "0004.png").write_bytes(good)
    labels = (bad / "labels.csv").read_text().replace("blob", "bar")
    (bad / "labels.csv").write_text(labels)
    fill(labelling_team, "week-01", bad)

    (corrected,) = take(world)

    assert corrected.outcome == "published"
    assert world.lakefs.branches("shapes", "ingest-") == []
    assert world.lakefs.head("shapes").parents[0] == before


@pytest.mark.slow
def test_batches_that_wait_are_taken_one_after_the_other(
    world: World, labelling_team: FolderDrop, tmp_path: Path
):
    for number in (1, 2, 3):
        fill(labelling_team, f"week-0{number}", write_batch(tmp_path / str(number), 12, seed=number))
    assert [(one.partition, one.outcome) for one in take(world)] == [
        ("week-01", "published"),
        ("week-02", "published"),
        ("week-03", "published"),
    ]


def test_a_batch_without_marker_is_taken_when_it_was_quiet(
    world: World, labelling_team: FolderDrop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fill(labelling_team, "week-01", write_batch(tmp_path / "week", 12, seed=1), marked=False)
    now = clocks.now()
    monkeypatch.setattr("resources.clocks.now", lambda: now)
    assert take(world) == []
    monkeypatch.setattr("resources.clocks.now", lambda: now + timedelta(minutes=10))
    assert [one.outcome for one in take(world)] == ["published"]


def test_a_drop_that_changes_while_it_is_read_publishes_nothing_and_is_taken_later(
    world: World, labelling_team: FolderDrop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = write_batch(tmp_path / "week", 12, seed=1)
    fill(labelling_team, "week-01", folder)

    disturbances = iter([b"late"])

    class Disturbed(Publisher):
        def _write(self, *arguments: Any) -> str:
            branch = super()._write(*arguments)
            for content in disturbances:
                labelling_team.put("week-01/late.txt", content)
            return branch

    monkeypatch.setattr("visionops_assets.dataset.batch_publishing.Publisher", Disturbed)
    monkeypatch.setattr("visionops_assets.dataset.batch_publishing.Publisher", Disturbed)

    (disturbed,) = take(world)

    assert disturbed.outcome == "error"
    assert "week-01 changed while it was read (late.txt): nothing was published" in disturbed.reason
    assert not list(world.lakefs.objects("shapes", MAIN, "batches/"))
    assert [one.outcome for one in take(world)] == ["published"]


def test_a_folder_that_may_not_be_read_is_said_and_taken_once_it_may(
    world: World, labelling_team: FolderDrop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fill(labelling_team, "week-01", write_batch(tmp_path / "week", 12, seed=1))

    def denied(path: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        # Tests may run as root, who may read everything.
        patched.setattr("resources.drop_places.os.scandir", denied)
        looked = tick(world.definitions, world.instance, world.projects)
    assert not any(one.run_id for one in looked)
    (denial,) = (one for one in looked if one.outcome == "error")
    assert "permission denied; allow the user" in denial.reason, (
        "a drop that cannot be looked at is not an empty one"
    )
    assert [one.outcome for one in take(world)] == ["published"]


@pytest.mark.slow
def test_a_batch_comes_from_s3_and_an_outage_in_the_middle_costs_an_attempt(
    world: World, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from resources.drop_places import DropBucket

    world.projects = [shapes_project(**NO_TRAINING, drop={"address": bucket.address})]
    fill(bucket, "week-01", write_batch(tmp_path / "week", 20, seed=1))
    download, calls = DropBucket._download, []

    def breaking(self: DropBucket, *arguments: Any) -> None:
        calls.append(1)
        if len(calls) > 9:
            raise DropUnavailable("s3://…: the connection was lost")
        download(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(DropBucket, "_download", breaking)
        (broken,) = take(world)
    assert (broken.outcome, "the connection was lost" in broken.reason) == ("error", True)
    downloaded: list[str] = []

    def counting(self: DropBucket, key: str, *arguments: Any) -> None:
        downloaded.append(key)
        download(self, key, *arguments)

    monkeypatch.setattr(DropBucket, "_download", counting)
    (taken,) = take(world)
    assert taken.outcome == "published"
    assert len(downloaded) == 21 - 9, "what was copied before the outage is not copied again"
    assert len(list(world.lakefs.objects("shapes", MAIN, "batches/week-01/images/"))) == 20
    assert not [path for path in (world.root / "staging").rglob("*") if path.is_file()]


@pytest.mark.slow
def test_labels_that_the_champion_doubts_are_listed_and_too_many_refuse_the_batch(
    world: World, tmp_path: Path
):
    sure = {"confidence": 0.5}
    gate = {**GATE, "require": "non_inferior", "min_improvement": 0.6}
    recipe = {**RECIPE, "epochs": 12}
    world.projects = [shapes_project(gate=gate, audit=sure, recipe=recipe)]
    world.publish("week-01", 120, seed=1)
    assert world.tick().outcome == "promoted"
    team = FolderDrop(world.root / "dropped" / "shapes")

    world.projects = [shapes_project(gate=gate, audit={**sure, "max_disagreement": 0.2}, recipe=recipe)]
    fill(team, "week-02", write_batch(tmp_path / "poisoned", 60, seed=2, wrong=0.6))
    refused = take(world)
    assert [one.outcome for one in refused] == ["refused"]
    assert "the champion confidently disagrees with" in refused[0].reason
    listed = checks(world, "week-02")["labels_plausible"]
    assert listed.severity == dg.AssetCheckSeverity.ERROR
    found = listed.metadata["findings"].value
    assert isinstance(found, int)
    assert found > 12

    world.projects = [shapes_project(gate=gate, audit=sure, recipe=recipe, **NO_TRAINING)]
    fill(team, "week-03", write_batch(tmp_path / "same-again", 60, seed=3, wrong=0.6))
    taken = take(world)
    assert [one.outcome for one in taken] == ["published"], "where no limit is declared they are only listed"
    listed = checks(world, "week-03")["labels_plausible"]
    assert (listed.passed, listed.severity) == (False, dg.AssetCheckSeverity.WARN)


def test_an_immutable_drop_is_referred_to_and_not_copied(
    world: World, labelling_team: FolderDrop, tmp_path: Path
):
    discovery.ensure_running(world.root / "lakefs", import_from=[labelling_team.folder])
    world.projects = [shapes_project(**NO_TRAINING, source_is_immutable=True)]
    fill(labelling_team, "week-01", write_batch(tmp_path / "week", 12, seed=1))
    (taken,) = take(world)
    assert taken.outcome == "published", taken.reason
    images = list(world.lakefs.objects("shapes", MAIN, "batches/week-01/images/"))
    assert len(images) == 12
    assert all(one.physical_address.startswith(f"local://{labelling_team.folder}") for one in images)

"""Batches by hand: retract one, and read a dataset version's images again."""

from pathlib import Path

import pytest
from desk import Desk
from typer.testing import CliRunner

from tests.dataset.as_people_have_it import Files, coco
from tests.world import shapes_project
from visionops_assets.common.errors import ReasonMissing
from visionops_assets.dataset.batch_publishing import BatchRefused
from visionops_assets.dataset.retraction import RetractionRefused
from visionops_assets.dataset.versions.annotations import read_annotations, write_annotations
from visionops_assets.dataset.versions.dataset_version import EmptyVersion, read_version
from visionops_assets.dataset.versions.layout import annotations_path


def batches_on_main(desk: Desk) -> list[str]:
    """The batches whose objects main has."""
    return sorted(
        {entry.path.split("/")[1] for entry in desk.world.lakefs.objects("shapes", "main", "batches/")}
    )


@pytest.mark.slow
def test_a_retracted_batch_is_missing_from_the_next_dataset_version(desk: Desk):
    world = desk.world
    # Nothing is trained: what counts is which images the next version has.
    world.projects = [shapes_project(trigger={"quiet_for": 86_400})]
    desk.save()
    world.publish("week-01", 60, seed=1)
    world.publish("week-02", 60, seed=2)
    world.tick()
    before = world.partitions()

    told = desk.json("retract", "shapes", "week-02", "--why", "labels of another camera")

    assert (told["batch"], len(told["reverted"])) == ("week-02", 1)
    head = world.lakefs.head("shapes")
    assert head.message == "Retract batch week-02: labels of another camera"
    assert (head.metadata["visionops.by"], head.metadata["visionops.why"]) == (
        "ada@example.com",
        "labels of another camera",
    )
    world.tick()
    (following,) = set(world.partitions()) - set(before)
    assert world.run("manifest", partition=following).success
    manifest = read_version(world.lakefs, world.artifacts, world.project, following).samples
    assert set(manifest["batch"]) == {"week-01"}
    with pytest.raises(RetractionRefused, match="week-02 was retracted already"):
        desk.run("retract", "shapes", "week-02", "--why", "again")
    world.publish("week-02", 60, seed=3)
    assert batches_on_main(desk) == ["week-01", "week-02"], "corrected, it can be imported again"


def test_a_batch_that_was_corrected_is_retracted_with_what_it_was_before(desk: Desk):
    world = desk.world
    world.publish("week-01", 30, seed=1)
    world.publish("week-02", 30, seed=2)
    world.publish("week-02", 30, seed=3)
    world.publish("week-03", 30, seed=4)
    told = desk.json("retract", "shapes", "week-02", "--why", "both were wrong")
    assert len(told["reverted"]) == 2
    assert batches_on_main(desk) == ["week-01", "week-03"]


def test_what_cannot_be_retracted_says_why_and_leaves_main(desk: Desk):
    world = desk.world
    world.publish("week-01", 30, seed=1)
    head = world.lakefs.head("shapes").id
    with pytest.raises(RetractionRefused, match=r"never published.*shapes/main has .* batches: week-01"):
        desk.run("retract", "shapes", "week-09", "--why", "it is bad")
    with pytest.raises(RetractionRefused, match="--why TEXT"):
        desk.run("retract", "shapes", "week-01", "--why", "")
    assert world.lakefs.head("shapes").id == head


def test_a_batch_relabelled_since_is_not_half_retracted(desk: Desk):
    world = desk.world
    world.publish("week-01", 30, seed=1)
    file = annotations_path("week-01", "shapes")
    table = read_annotations(world.lakefs.read("shapes", "main", file), file).to_pandas()
    table.loc[0, "label"] = "ring"
    world.lakefs.write("shapes", "main", file, write_annotations(table, file))
    head = world.lakefs.save("shapes", "main", "relabel by hand").id
    with pytest.raises(RetractionRefused, match="week-01 was changed on shapes/main after merge"):
        desk.run("retract", "shapes", "week-01", "--why", "it is bad")
    assert world.lakefs.head("shapes").id == head


def test_nobody_retracts_without_a_name(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    desk.world.publish("week-01", 30, seed=1)
    monkeypatch.delenv("VISIONOPS_ACTOR")
    with pytest.raises(ReasonMissing, match="set VISIONOPS_ACTOR"):
        desk.run("retract", "shapes", "week-01", "--why", "because")


def test_verify_names_every_image_that_is_gone_or_altered(desk: Desk):
    world = desk.world
    world.publish("week-01", 30, seed=1)
    good = world.lakefs.head("shapes").id
    assert "30 images are there, as they were audited" in desk.run("verify", "shapes", good)
    gone, altered, *_ = (
        entry.path for entry in world.lakefs.objects("shapes", "main", "batches/week-01/images/")
    )
    world.lakefs.delete_many("shapes", "main", [gone])
    world.lakefs.write("shapes", "main", altered, b"other bytes")
    world.lakefs.save("shapes", "main", "damage by hand")

    code, told = failing(desk, "verify", "shapes")

    assert code == 1
    assert "2 of 30 images are not as audited" in told
    assert f"{gone}: is gone" in told
    assert f"{altered}: was altered" in told
    assert "30 images are there" in desk.run("verify", "shapes", good[:12]), "an earlier version is as it was"
    assert desk.json("verify", "shapes", good, "--sample", "5")["images"] == 5


def test_verify_of_nothing_is_no_success(desk: Desk):
    desk.world.lakefs.create_repository("shapes")
    with pytest.raises(EmptyVersion, match="has no samples of shapes"):
        desk.run("verify", "shapes", "main")


def failing(desk: Desk, *arguments: str) -> tuple[int, str]:
    """Exit code and output of a command that fails."""
    from visionops.cli.command_line import app

    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    return result.exit_code, result.stdout


def test_boxes_are_no_batch_of_a_project_of_whole_images(desk: Desk, tmp_path: Path):
    files = Files(tmp_path / "boxes")
    files.images(*(f"images/{n}.png" for n in range(4)))
    first, second = desk.world.project.classes[:2]
    entries = [(n, f"{n}.png", 32, 24) for n in range(4)]
    boxes = [(n, 1 + n % 2, [2, 3, 10, 8]) for n in range(4)]
    files.json("instances.json", coco(entries, boxes, [(1, first), (2, second)]))
    for more in ((), ("--leave-out-errors",)):
        with pytest.raises(BatchRefused, match="the source: has boxes; the project learns from") as refused:
            desk.run("import", "shapes", str(files.root), "--batch", "boxes", *more)
        assert "publishes the rest" not in str(refused.value)
    assert batches_on_main(desk) == []

"""Each kind of bad input ends in one clear message, and leaves champion and main as they were."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.world import World, copied_world, shapes_project, write_batch
from visionops_assets.dataset.batch_publishing import BatchRefused, Publisher
from visionops_assets.dataset.versions.annotations import read_annotations, write_annotations
from visionops_assets.dataset.versions.layout import annotations_path

FILE = annotations_path("week-01", "shapes")


@pytest.fixture(scope="module")
def published_template(tmp_path_factory: pytest.TempPathFactory, empty_template: Path) -> Path:
    """A closed world with one published batch that nothing was trained on yet."""
    folder = tmp_path_factory.mktemp("published")
    with copied_world(empty_template, folder) as world:
        world.publish("week-01", 120, seed=1)
    return folder


@pytest.fixture
def published(tmp_path: Path, published_template: Path) -> Iterator[World]:
    """A copy of that world."""
    with copied_world(published_template, tmp_path) as world:
        yield world


def change_annotations(world: World, change) -> None:
    """Rewrite the annotations on main behind the audit's back, as a person with lakectl might."""
    table = read_annotations(world.lakefs.read("shapes", "main", FILE), FILE).to_pandas()
    change(table)
    world.lakefs.write("shapes", "main", FILE, write_annotations(pd.DataFrame(table), FILE))
    world.lakefs.save("shapes", "main", "edited by hand")


def an_image(world: World) -> str:
    return next(entry.path for entry in world.lakefs.objects("shapes", "main", "batches/week-01/images/"))


@pytest.mark.slow
def test_an_unreadable_image_is_named_and_nothing_is_trained(published: World):
    path = an_image(published)
    published.lakefs.write("shapes", "main", path, b"\x89PNG not really")
    published.lakefs.save("shapes", "main", "break an image")
    ticked = published.tick()
    assert ticked.outcome == "refused"
    assert path in ticked.reason
    assert published.champion() is None


@pytest.mark.slow
def test_a_missing_image_is_named(published: World):
    path = an_image(published)
    published.lakefs.delete_many("shapes", "main", [path])
    published.lakefs.save("shapes", "main", "lose an image")
    ticked = published.tick()
    assert ticked.outcome == "refused"
    assert path in ticked.reason


def test_an_unknown_label_is_named_with_the_classes_there_are(published: World):
    def relabel(table: pd.DataFrame) -> None:
        table.loc[3, "label"] = "blob"

    change_annotations(published, relabel)
    ticked = published.tick()
    assert ticked.outcome == "refused"
    assert "blob" in ticked.reason
    assert "bar, ring, cross" in ticked.reason


@pytest.mark.slow
def test_a_class_missing_from_training_is_an_error_and_from_the_holdout_a_warning(world: World):
    world.projects = [shapes_project(classes=["bar", "ring", "cross", "star"])]
    world.publish("week-01", 120, seed=1)
    ticked = world.tick()
    assert ticked.outcome == "refused"
    assert "class star" in ticked.reason

    world.projects = [shapes_project()]

    def only_train(table: pd.DataFrame) -> None:
        table.loc[(table["label"] == "ring") & (table["split"] == "holdout"), "split"] = "train"

    change_annotations(world, only_train)
    assert world.tick().outcome == "promoted"


def test_a_group_on_two_sides_is_refused(published: World):
    def join(table: pd.DataFrame) -> None:
        table["group"] = "one camera"

    change_annotations(published, join)
    ticked = published.tick()
    assert ticked.outcome == "refused"
    assert "one camera" in ticked.reason


def test_a_repository_without_this_projects_annotations_says_so(published: World):
    published.projects = [shapes_project(annotations="defects")]
    ticked = published.tick()
    assert ticked.outcome == "error"
    assert "has no annotations called defects" in ticked.reason


def test_a_bad_batch_never_touches_main_and_its_branch_stays_with_the_findings(world: World):
    world.publish("week-01", 60, seed=1)
    head = world.lakefs.head("shapes")
    folder = write_batch(world.root / "bad", 30, 7, labels={4: "blob"})
    (folder / "0009.png").write_bytes(b"no image")
    publisher = Publisher(world.project, world.lakefs, world.artifacts)
    with pytest.raises(BatchRefused) as refused:
        publisher.publish(folder, "week-02")
    assert "0009.png" in str(refused.value)
    assert "blob" in str(refused.value)
    assert world.lakefs.head("shapes") == head
    findings = world.lakefs.read("shapes", "ingest-week-02", "findings/week-02.csv").decode()
    assert "0009.png" in findings
    assert world.lakefs.head("shapes", "ingest-week-02").metadata["visionops.errors"] == "2"


def test_the_corrected_batch_is_taken_and_its_branch_is_gone(world: World):
    world.publish("week-01", 60, seed=1)
    folder = write_batch(world.root / "week", 30, 7, labels={4: "blob"})
    publisher = Publisher(world.project, world.lakefs, world.artifacts)
    with pytest.raises(BatchRefused):
        publisher.publish(folder, "week-02")
    labels = (folder / "labels.csv").read_text().replace("blob", "ring")
    (folder / "labels.csv").write_text(labels)
    assert publisher.publish(folder, "week-02").outcome == "published"
    assert world.lakefs.branches("shapes", "ingest-") == []


def test_a_corrected_batch_replaces_the_images_it_no_longer_has(world: World):
    folder = write_batch(world.root / "week", 60, 7)
    publisher = Publisher(world.project, world.lakefs, world.artifacts)
    publisher.publish(folder, "week-01")
    (folder / "0001.png").unlink()
    lines = [line for line in (folder / "labels.csv").read_text().splitlines() if "0001.png" not in line]
    (folder / "labels.csv").write_text("\n".join(lines))
    publisher.publish(folder, "week-01")
    paths = [entry.path for entry in world.lakefs.objects("shapes", "main", "batches/week-01/images/")]
    assert len(paths) == 59
    assert not any(path.endswith("0001.png") for path in paths)


def test_an_image_altered_after_its_audit_is_refused_by_its_digest(published: World):
    path = an_image(published)
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8), 99, np.uint8)).save(buffer, "PNG")
    published.lakefs.write("shapes", "main", path, buffer.getvalue())
    published.lakefs.save("shapes", "main", "swap an image")
    ticked = published.tick()
    assert ticked.outcome == "refused"
    assert path in ticked.reason
    assert "SHA-256" in ticked.reason

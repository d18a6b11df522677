"""Projects that share a repository: none deletes, replaces or hides what another one has labelled."""

import hashlib
import itertools
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from desk import Desk
from PIL import Image

from resources.lakefs.client import MAIN
from resources.lakefs.replies import LakeFSNotFound
from tests.operations_table import require_told
from tests.world import CLASSES, World, shapes_project, write_batch
from visionops.tick import tick
from visionops_assets.config.project import Project, clashes
from visionops_assets.dataset.batch_publishing import BatchRefused, Publisher
from visionops_assets.dataset.integrity import unreadable_images
from visionops_assets.dataset.retraction import RetractionRefused, retract
from visionops_assets.dataset.versions.annotations import AnnotationsError, read_annotations
from visionops_assets.dataset.versions.dataset_version import manifest_at, named_version
from visionops_assets.dataset.versions.layout import annotations_name, annotations_prefix
from visionops_assets.dataset.versions.manifest import manifest_frame, read_manifest

# What is published waits: nothing is trained.
WAITS = {"trigger": {"quiet_for": 86_400}}
SIDES = ("light", "dark")


def shapes() -> Project:
    return shapes_project(**WAITS)


def shades() -> Project:
    """Another project about images of the same repository."""
    return shapes_project(project="shades", annotations="shades", classes=list(SIDES), **WAITS)


@pytest.fixture
def shared(desk: Desk) -> Desk:
    desk.world.projects = [shapes(), shades()]
    desk.save()
    return desk


def relabelled(folder: Path, to: Path, leave_out: tuple[str, ...] = ()) -> Path:
    """The same images with the labels of the other project."""
    shutil.copytree(folder, to)
    names = sorted(file.name for file in to.glob("*.png") if file.name not in leave_out)
    for name in leave_out:
        (to / name).unlink()
    rows = [f"{name},{SIDES[int(name[:4]) % 2]}" for name in names]
    (to / "labels.csv").write_text("\n".join(["path,label", *rows]))
    return to


def without(folder: Path, to: Path, *names: str) -> Path:
    """A batch with some images less."""
    shutil.copytree(folder, to)
    rows = (to / "labels.csv").read_text().splitlines()
    for name in names:
        (to / name).unlink()
    (to / "labels.csv").write_text("\n".join(row for row in rows if row.partition(",")[0] not in names))
    return to


def samples(world: World, project: Project) -> dict[str, str]:
    """SHA-256 by path of what main has of a project."""
    table = manifest_frame(
        read_manifest(manifest_at(world.lakefs, world.artifacts, project, MAIN), world.artifacts)
    )
    return dict(zip(table["path"], table["sha256"], strict=True))


def assert_whole(world: World) -> None:
    """Every image that any annotations on main are about is there, with the bytes that were labelled."""
    for entry in world.lakefs.objects("shapes", MAIN, "batches/"):
        if annotations_name(entry.path) is None:
            continue
        rows = read_annotations(world.lakefs.read("shapes", MAIN, entry.path), entry.path)
        for path, content in world.lakefs.read_many("shapes", MAIN, rows["path"].to_pylist()):
            place = rows["path"].to_pylist().index(path)
            assert hashlib.sha256(content).hexdigest() == rows["sha256"][place].as_py(), path


def images(world: World, batch: str) -> set[str]:
    found = world.lakefs.objects("shapes", MAIN, f"batches/{batch}/images/")
    return {entry.path.rpartition("/")[2] for entry in found}


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, 1])
def test_a_batch_with_other_images_under_a_taken_name_is_refused_by_name(
    shared: Desk, tmp_path: Path, first: int
):
    world = shared.world
    mine = write_batch(tmp_path / "mine", 30, seed=1)
    theirs = relabelled(write_batch(tmp_path / "seed", 24, seed=2), tmp_path / "theirs")
    orders = [("shapes", mine), ("shades", theirs)]
    (one, source), (other, another) = orders[first], orders[1 - first]
    shared.run("import", one, str(source), "--batch", "week-01")
    head = world.lakefs.head("shapes").id

    said = rf"has other images than annotations {one} \(project {one}\).*at 24 paths.*give the batch another name"
    with pytest.raises(BatchRefused, match=said) as refused:
        shared.run("import", other, str(another), "--batch", "week-01")
    require_told("another project of the repository has a batch of this name", str(refused.value))

    assert world.lakefs.head("shapes").id == head
    (finding,) = shared.json("findings", other, "week-01")["findings"]
    assert finding["check"] == "apart from other projects"
    shared.run("import", other, str(another), "--batch", "week-02")
    assert len(samples(world, shapes())) == 30 and len(samples(world, shades())) == 24
    assert_whole(world)


@pytest.mark.slow
def test_two_projects_label_the_same_images_and_correct_and_retract_only_their_own(
    shared: Desk, tmp_path: Path
):
    world = shared.world
    mine = write_batch(tmp_path / "mine", 30, seed=1)
    theirs = relabelled(mine, tmp_path / "theirs", leave_out=("0000.png", "0001.png"))
    shared.run("import", "shapes", str(mine), "--batch", "week-01")
    before = manifest_at(world.lakefs, world.artifacts, shapes(), MAIN).digest
    shared.run("import", "shades", str(theirs), "--batch", "week-01")
    assert manifest_at(world.lakefs, world.artifacts, shapes(), MAIN).digest == before
    for project, source in (("shapes", mine), ("shades", theirs)):
        assert "nothing changed" in shared.run("import", project, str(source), "--batch", "week-01")

    fewer = without(mine, tmp_path / "fewer", "0000.png", "0005.png")
    shared.run("import", "shapes", str(fewer), "--batch", "week-01")
    assert images(world, "week-01") == {f"{n:04d}.png" for n in range(1, 30)}, "the other one labels 0005.png"
    assert len(samples(world, shapes())) == 28 and len(samples(world, shades())) == 28
    assert_whole(world)
    for project in world.projects:
        version = named_version(world.lakefs, world.artifacts, project)
        assert unreadable_images(world.lakefs, project, version, world.resources["scratch"]).empty, (
            "nothing lacks"
        )

    told = shared.run("retract", "shapes", "week-01", "--why", "wrong camera")
    assert "28 images stay" not in told and "27 images stay: other annotations of shapes" in told
    require_told("a batch whose images another project has labelled", told)
    assert samples(world, shapes()) == {} and len(samples(world, shades())) == 28
    assert images(world, "week-01") == {f"{n:04d}.png" for n in range(2, 30)}
    assert_whole(world)
    shared.run("import", "shapes", str(mine), "--batch", "week-01")
    assert len(samples(world, shapes())) == 30
    assert_whole(world)
    shared.run("retract", "shades", "week-01", "--why", "not needed")
    assert len(samples(world, shapes())) == 30 and samples(world, shades()) == {}
    shared.run("retract", "shapes", "week-01", "--why", "not needed")
    assert images(world, "week-01") == set(), "nobody labels them any more"


def test_an_image_that_another_project_labelled_is_never_replaced(shared: Desk, tmp_path: Path):
    mine = write_batch(tmp_path / "mine", 30, seed=1)
    shared.run("import", "shapes", str(mine), "--batch", "week-01")
    shared.run("import", "shades", str(relabelled(mine, tmp_path / "theirs")), "--batch", "week-01")
    head = shared.world.lakefs.head("shapes").id
    noise = np.random.default_rng(0).integers(0, 255, (8, 8), np.uint8)
    Image.fromarray(noise).save(mine / "0007.png")
    said = (
        r"other images than annotations shades .project shades.*at 1 paths, first batches/week-01/images/0007"
    )
    with pytest.raises(BatchRefused, match=said):
        shared.run("import", "shapes", str(mine), "--batch", "week-01")
    assert shared.world.lakefs.head("shapes").id == head


def test_refused_batches_of_one_name_wait_apart(shared: Desk, tmp_path: Path):
    mine = write_batch(tmp_path / "mine", 30, seed=1, labels={3: "blob"})
    theirs = write_batch(tmp_path / "theirs", 20, seed=2, classes=(*SIDES, "grey"))
    for project, source in (("shapes", mine), ("shades", theirs)):
        with pytest.raises(BatchRefused):
            shared.run("import", project, str(source), "--batch", "week-01")
    found = {
        project: {one["label"] for one in shared.json("findings", project, "week-01")["findings"]}
        for project in ("shapes", "shades")
    }
    assert found == {"shapes": {"blob"}, "shades": {"grey"}}


def test_what_one_project_publishes_is_no_dataset_version_of_another(shared: Desk, tmp_path: Path):
    world = shared.world
    shared.run("import", "shapes", str(write_batch(tmp_path / "mine", 30, seed=1)), "--batch", "week-01")
    theirs = write_batch(tmp_path / "theirs", 20, seed=2, classes=SIDES)
    shared.run("import", "shades", str(theirs), "--batch", "week-02")
    shared.run("retract", "shades", "week-02", "--why", "again")
    tick(world.definitions, world.instance, world.projects)
    assert [len(world.partitions(project)) for project in world.projects] == [1, 2]
    with pytest.raises(RetractionRefused, match=r"week-01 was never published.*published batches: none"):
        shared.run("retract", "shades", "week-01", "--why", "not mine")


def test_projects_of_one_name_need_the_same_classes(shared: Desk, tmp_path: Path):
    world = shared.world
    world.projects = [shapes(), shapes_project(project="others", classes=list(SIDES), **WAITS)]
    shared.save()
    shared.run("import", "shapes", str(write_batch(tmp_path / "mine", 30, seed=1)), "--batch", "week-01")
    head = world.lakefs.head("shapes").id
    said = r"annotations shapes of repository shapes, which are project shapes's.*set `annotations: others`"
    with pytest.raises(BatchRefused, match=said):
        theirs = write_batch(tmp_path / "theirs", 20, seed=2, classes=SIDES)
        shared.run("import", "others", str(theirs), "--batch", "week-02")
    assert world.lakefs.head("shapes").id == head
    more = write_batch(tmp_path / "more", 30, seed=3)
    assert "published" in shared.run("import", "shapes", str(more), "--batch", "week-03"), "the first goes on"
    assert [(one.project, other.project) for one, other in clashes(world.projects)] == [("shapes", "others")]
    assert not list(clashes([shapes(), shades(), shapes_project(project="twin")]))


def test_projects_of_one_dataset_leave_each_other_their_batches(shared: Desk, tmp_path: Path):
    world = shared.world
    twin = shapes_project(project="twin", **WAITS)
    world.projects = [shapes(), twin]
    shared.save()
    mine = write_batch(tmp_path / "mine", 30, seed=1)
    shared.run("import", "shapes", str(mine), "--batch", "week-01")
    head = world.lakefs.head("shapes").id
    theirs = write_batch(tmp_path / "theirs", 30, seed=2)
    with pytest.raises(
        BatchRefused, match=r"batch of project shapes.*visionops import shapes SOURCE --batch week-01"
    ):
        shared.run("import", "twin", str(theirs), "--batch", "week-01")
    with pytest.raises(
        RetractionRefused, match=r"published by project shapes.*visionops retract shapes week-01"
    ):
        shared.run("retract", "twin", "week-01", "--why", "not mine")
    assert "nothing changed" in shared.run("import", "twin", str(mine), "--batch", "week-01")
    assert world.lakefs.head("shapes").id == head
    shared.run("import", "twin", str(theirs), "--batch", "week-02")
    assert samples(world, twin) == samples(world, shapes()) and len(samples(world, twin)) == 60

    world.projects = [twin]
    (world.root / "projects" / "shapes.yaml").unlink()
    shared.run("import", "twin", str(without(mine, tmp_path / "less", "0003.png")), "--batch", "week-01")
    assert len(samples(world, twin)) == 59, "the name that published it is no project's any more"


def test_annotations_that_cannot_be_read_stop_what_would_change_their_images(shared: Desk, tmp_path: Path):
    world, mine = shared.world, write_batch(tmp_path / "mine", 30, seed=1)
    shared.run("import", "shapes", str(mine), "--batch", "week-01")
    foreign = f"{annotations_prefix('week-01')}theirs.parquet"
    world.lakefs.write("shapes", MAIN, foreign, b"no Parquet")
    head = world.lakefs.save("shapes", MAIN, "by hand").id
    for command in (
        ("import", "shapes", str(without(mine, tmp_path / "less", "0003.png")), "--batch", "week-01"),
        ("retract", "shapes", "week-01", "--why", "not needed"),
    ):
        with pytest.raises(AnnotationsError, match=r"theirs\.parquet: belongs to other annotations"):
            shared.run(*command)
    assert world.lakefs.head("shapes").id == head
    more = write_batch(tmp_path / "more", 30, seed=2)
    assert "published" in shared.run("import", "shapes", str(more), "--batch", "week-02")


def test_references_to_a_drop_leave_the_images_of_others(shared: Desk, tmp_path: Path):
    world, mine = shared.world, write_batch(tmp_path / "mine", 30, seed=1)
    theirs = relabelled(mine, tmp_path / "theirs", leave_out=("0000.png",))
    refers = shades().model_copy(update={"source_is_immutable": True})
    world.publish("week-01", 30, seed=1)
    for _ in range(2):
        Publisher(refers, world.lakefs, world.artifacts).publish(theirs, "week-01")
        assert len(samples(world, shapes())) == 30 and len(samples(world, shades())) == 29
        assert_whole(world)


def test_the_drop_refuses_a_taken_name_once_and_says_whose_it_is(shared: Desk, tmp_path: Path):
    world = shared.world
    for project, classes in (("shapes", CLASSES), ("shades", SIDES)):
        folder = write_batch(
            world.root / "dropped" / project / "week-01", 24, 1 + len(classes), classes=classes
        )
        (folder / "_SUCCESS").write_bytes(b"")
    taken = [one for one in tick(world.definitions, world.instance, world.projects) if one.run_id]
    assert [one.outcome for one in taken] == ["published", "refused"]
    assert "has other images than annotations shapes (project shapes)" in taken[1].reason
    assert not [one for one in tick(world.definitions, world.instance, world.projects) if one.run_id]
    assert len(samples(world, shapes())) == 24 and samples(world, shades()) == {}


def test_whatever_projects_do_to_one_batch_every_labelled_image_stays(
    world: World, tmp_path: Path, count: Callable[[int, int], int]
):
    """Imports, corrections and retractions of three projects in any order, in one batch and in others."""
    projects = [shapes(), shades(), shapes_project(project="third", annotations="third", **WAITS)]
    everybody = {project.project: project for project in projects}
    numbers = itertools.count()
    for walk in range(count(1, 8)):
        chance = random.Random(walk)
        for _ in range(count(9, 20)):
            project = chance.choice(projects)
            batch = chance.choice((f"a{walk}", f"b{walk}"))
            others = {name: each for name, each in everybody.items() if each is not project}
            kept = {each.project: samples(world, each) for each in others.values()} if _there(world) else {}
            try:
                if chance.random() < 0.3:
                    retract(world.lakefs, project, batch, who="ada", why="a walk", neighbours=others)
                else:
                    folder = _any_batch(tmp_path / str(next(numbers)), project, chance)
                    Publisher(project, world.lakefs, world.artifacts, neighbours=others).publish(
                        folder, batch
                    )
            except (BatchRefused, RetractionRefused, LakeFSNotFound):
                pass
            if _there(world):
                assert_whole(world)
                assert {each.project: samples(world, each) for each in others.values()} == kept or not kept


def _there(world: World) -> bool:
    try:
        return bool(world.lakefs.head("shapes"))
    except LakeFSNotFound:
        return False


def _any_batch(folder: Path, project: Project, chance: random.Random) -> Path:
    """A few of the same images, now and then one that is another."""
    folder.mkdir()
    rows = ["path,label"]
    for number in chance.sample(range(6), chance.randint(2, 6)):
        seed = number if chance.random() < 0.95 else 100 + number
        pixels = np.random.default_rng(seed).integers(0, 255, (8, 8), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        rows.append(f"{number}.png,{project.classes[number % len(project.classes)]}")
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder

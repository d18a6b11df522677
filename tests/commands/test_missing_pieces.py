"""What is gone is named with what leads back, and blocks nothing else."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from desk import Desk, ways_back
from mlflow import MlflowClient

from edge.onnx_model import ModelFileError
from resources.lakefs.replies import LakeFSRefused
from resources.models import artifacts
from tests.operations_table import require_told
from tests.world import write_batch
from visionops.cli.overview import diagnose


def without_file(desk: Desk) -> None:
    run = desk.world.registry.models.version("shapes", 1).run_id
    for file in desk.world.root.rglob("model.onnx"):
        if run in file.parts:
            file.unlink()


def altered(desk: Desk) -> None:
    run = desk.world.registry.models.version("shapes", 1).run_id
    for file in desk.world.root.rglob("model.onnx"):
        if run in file.parts:
            file.write_bytes(b"something else")


def collected(desk: Desk) -> None:
    """What `mlflow gc` leaves of a run that somebody deleted."""
    run = desk.world.registry.models.version("shapes", 1).run_id
    client = MlflowClient(desk.world.registry.uri, desk.world.registry.uri)
    client.delete_run(run)
    client._tracking_client.store._hard_delete_run(run)
    # Each command is a process of its own, which has read no address yet.
    artifacts._run.cache_clear()


def without_any_file(desk: Desk) -> None:
    """As where the folder of MLflow's artifacts was not mounted, or only its database was restored."""
    run = desk.world.registry.models.version("shapes", 1).run_id
    for file in desk.world.root.rglob("model/*"):
        if run in file.parts:
            file.unlink()


def reset_main(desk: Desk, commit: str) -> None:
    """What lakeFS's `branch reset` of everything does."""
    desk.world.lakefs._connection.call(
        lambda client: client.experimental_api.hard_reset_branch("shapes", "main", commit)
    )


@pytest.mark.parametrize(
    "gone",
    [
        *(pytest.param(each, marks=pytest.mark.stated) for each in (without_file, collected)),
        altered,
    ],
)
def test_a_champion_that_is_gone_keeps_no_batch_out(
    desk_of_promoted: Desk, gone: Callable[[Desk], None], tmp_path: Path
) -> None:
    desk = desk_of_promoted
    assert desk.json("status", "shapes")["wrong"] == []
    gone(desk)
    if gone is not altered:
        (wrong,) = desk.json("status", "shapes")["wrong"]
        assert "version 1" in wrong and "`visionops rollback shapes --model-version none --why" in wrong
        said = desk.run("status", "shapes")
        assert f"wrong: {wrong}" in said
        require_told("files of the champion, the repository", said)
        row = next(row for row in diagnose() if row.subject == "state of shapes")
        assert (row.state, row.fix) == ("broken", "visionops status shapes") and "version 1" in row.what
    batch = write_batch(tmp_path / "week-02", 60, seed=2)
    said = desk.run("import", "shapes", str(batch), "--batch", "week-02")
    assert "60 images" in said
    assert "WARN labels plausible\n" in said and "the champion: could not be asked" in said
    assert "`visionops rollback shapes --model-version none --why" in said
    image = str(next(batch.glob("*.png")))
    with pytest.raises(Exception, match="visionops rollback shapes --model-version none --why") as refused:
        desk.run("predict", "shapes", image)
    if gone is not collected:
        assert isinstance(refused.value, ModelFileError)
        assert "visionops reproduce shapes --model-version 1 --register" in str(refused.value)
    desk.run("rollback", "shapes", "--model-version", "none", "--why", "its files are gone")
    assert desk.world.champion() is None and desk.json("status", "shapes")["wrong"] == []


def test_what_cannot_be_made_again_is_not_advised(desk_of_promoted: Desk) -> None:
    desk = desk_of_promoted
    without_any_file(desk)
    provenance, files = desk.json("status", "shapes")["wrong"]
    assert "model/provenance.json of version 1 is gone" in provenance and "or go on" in provenance
    assert ways_back(files) == [["rollback", "shapes", "--model-version", "none", "--why", "TEXT"]]
    desk.run(*ways_back(files)[0])
    assert desk.json("status", "shapes")["wrong"] == []


@pytest.mark.slow
def test_data_and_tables_that_are_gone_are_named_by_status(desk_of_promoted: Desk) -> None:
    desk = desk_of_promoted
    shutil.rmtree(desk.world.root / "artifacts")
    (tables,) = desk.json("status", "shapes")["wrong"]
    assert "no table of shapes is left" in tables
    desk.world.lakefs._connection.call(lambda client: client.repositories_api.delete_repository("shapes"))
    repository, _ = desk.json("status", "shapes")["wrong"]
    require_told("a repository of lakeFS was deleted", f"wrong: {repository}")
    assert "`visionops import shapes SOURCE --batch NAME`" in repository
    assert repository in desk.run("tick", "shapes", code=1)
    assert desk.world.champion() == 1
    batch = write_batch(desk.world.root / "again", 60, seed=7)
    assert "60 images" in desk.run("import", "shapes", str(batch), "--batch", "week-01")
    (commit,) = desk.json("status", "shapes")["wrong"][:1]
    assert "on which version 1 was trained, is not in shapes" in commit


@pytest.mark.stated
def test_main_that_was_reset_by_hand_is_told_and_the_batch_comes_back(desk_of_promoted: Desk) -> None:
    desk = desk_of_promoted
    lakefs = desk.world.lakefs
    before = lakefs.head("shapes")
    batch = write_batch(desk.world.root / "again", 60, seed=7)
    desk.run("import", "shapes", str(batch), "--batch", "week-02")
    desk.run("tick", "shapes")
    assert desk.json("status", "shapes")["champion"]["version"] == 2
    reset_main(desk, before.id)
    state = desk.json("status", "shapes")
    assert state["wrong"] == [] and state["champion"]["version"] == 2
    require_told("main was reset to an older commit", f"gone: {state['gone'][0]}")
    assert {each["outcome"] for each in desk.json("tick", "shapes")} == {None}
    assert ways_back(state["gone"][0])[0][:2] == ["import", "shapes"]
    assert "60 images" in desk.run("import", "shapes", str(batch), "--batch", "week-02")
    desk.run("tick", "shapes")
    (commit,) = re.findall("[0-9a-f]{64}", state["gone"][0])
    reset_main(desk, commit)
    assert desk.json("status", "shapes")["gone"] == []


@pytest.mark.stated
def test_a_project_file_that_names_other_data_than_the_champion_s_is_told(desk_of_promoted: Desk) -> None:
    desk = desk_of_promoted
    ours = desk.world.project
    desk.world.projects = [ours.model_copy(update={"repository": "others"})]
    desk.save()
    (wrong,) = desk.json("status", "shapes")["wrong"]
    require_told("a project file names another repository", f"wrong: {wrong}")
    assert wrong in desk.run("tick", "shapes", code=1)
    assert desk.world.champion() == 1
    desk.world.projects = [ours]
    desk.save()
    assert desk.json("status", "shapes")["wrong"] == []
    desk.world.projects = [ours.model_copy(update={"repository": "others"})]
    desk.save()
    batch = write_batch(desk.world.root / "others", 90, seed=2)
    desk.run("import", "shapes", str(batch), "--batch", "week-01")
    assert "promoted" in desk.run("tick", "shapes")
    assert desk.json("status", "shapes")["wrong"] == [] and desk.world.champion() == 2


@pytest.mark.slow
def test_what_somebody_left_uncommitted_on_main_is_told_and_blocks_no_longer_than_it_is_there(
    desk_of_promoted: Desk,
) -> None:
    desk, lakefs = desk_of_promoted, desk_of_promoted.world.lakefs
    lakefs.write("shapes", "main", "batches/week-01/images/left.png", b"by hand")
    (wrong,) = desk.json("status", "shapes")["wrong"]
    require_told("somebody changed main in lakeFS and did not commit", f"wrong: {wrong}")
    assert wrong in desk.run("tick", "shapes", code=1)
    batch = write_batch(desk.world.root / "week-02", 60, seed=2)
    command = ("import", "shapes", str(batch), "--batch", "week-02")
    with pytest.raises(LakeFSRefused, match="the same command again goes on"):
        desk.run(*command)
    lakefs.reset("shapes", "main")
    assert desk.json("status", "shapes")["wrong"] == []
    assert "60 images published" in desk.run(*command)


@pytest.mark.slow
def test_what_production_logged_is_missed_where_its_repository_was_deleted(desk_of_promoted: Desk) -> None:
    desk = desk_of_promoted
    images = write_batch(desk.world.root / "seen", 2, seed=9)
    desk.run("predict", "shapes", str(images), "--log")
    desk.run("tick", "shapes")
    desk.world.lakefs._connection.call(
        lambda client: client.repositories_api.delete_repository("shapes-production")
    )
    (wrong,) = desk.json("status", "shapes")["wrong"]
    require_told("the repository of what production logged was deleted", f"wrong: {wrong}")
    assert "shapes-production" in desk.run("tick", "shapes", code=1)
    (command,) = ways_back(wrong)
    desk.run(*[str(images) if word == "IMAGES" else word for word in command])
    desk.run("tick", "shapes")
    assert desk.json("status", "shapes")["wrong"] == []


@pytest.mark.slow
@pytest.mark.parametrize("removed", ["all", pytest.param("some", marks=pytest.mark.stated)])
def test_images_that_are_gone_from_storage_are_named_by_all_that_look(
    desk_of_promoted: Desk, removed: str
) -> None:
    desk = desk_of_promoted
    lakefs = desk.world.lakefs
    paths = [each.path for each in lakefs.objects("shapes", "main", "batches/") if each.path.endswith(".png")]
    assert lakefs.without_bytes("shapes", "main", paths) == []
    folder = desk.world.root / "lakefs" / "blobs"
    shutil.copytree(folder, desk.world.root / "backup")
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    lost = [file for file in files if file.read_bytes().startswith(b"\x89PNG")]
    for file in lost if removed == "all" else lost[::2]:
        file.unlink()
    gone = lakefs.without_bytes("shapes", "main", paths)
    assert len(gone) == len(lost if removed == "all" else lost[::2])
    (wrong,) = desk.json("status", "shapes")["wrong"]
    assert "is gone from lakeFS's storage" in wrong and "`visionops verify shapes`" in wrong
    row = next(row for row in diagnose() if row.subject == "state of shapes")
    assert row.state == "broken" and "is gone from lakeFS's storage" in row.what
    told = desk.json("verify", "shapes", code=1)
    assert sorted(each["image"] for each in told["wrong"]) == sorted(gone)
    assert {each["what"] for each in told["wrong"]} == {"is gone"}
    assert wrong in desk.run("tick", code=1)
    for said in (wrong, row.what, desk.run("tick", code=1)):
        require_told("images are gone from lakeFS's storage", said)
    shutil.copytree(desk.world.root / "backup", folder, dirs_exist_ok=True)
    assert desk.json("verify", "shapes")["wrong"] == [] == desk.json("status", "shapes")["wrong"]

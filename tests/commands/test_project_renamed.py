"""A project under another name keeps what it has, and one that was renamed in its file alone is told of."""

from pathlib import Path

import pytest
from desk import Desk

from resources.lakefs.client import LakeFSResource
from resources.models.memory import ModelMemory
from resources.models.registry import ModelRegistry
from resources.storage import ArtifactStore
from tests.world import write_batch
from visionops.cli import projects
from visionops.cli.overview import diagnose
from visionops.cli.projects import RenameRefused
from visionops_assets.common import run_tags


class Killed(BaseException):
    """A process that ends here."""


def rename_in_file(desk: Desk, name: str) -> None:
    folder = desk.world.root / "projects"
    text = (folder / "shapes.yaml").read_text()
    (folder / "shapes.yaml").unlink()
    (folder / f"{name}.yaml").write_text(text.replace("project: shapes", f"project: {name}"))


def log_something(desk: Desk) -> None:
    """Two rows of production, collected into a commit, and one that still waits in the spool."""
    images = write_batch(desk.world.root / "seen", 3, seed=9)
    for name in ("0000.png", "0001.png"):
        desk.run("predict", "shapes", str(images / name), "--log", "--device", "camera-1")
    desk.run("tick", "shapes")
    desk.run("predict", "shapes", str(images / "0002.png"), "--log", "--device", "camera-1")


def whole(desk: Desk, name: str) -> None:
    """What a renamed project has to have."""
    state = desk.json("status", name)
    assert state["champion"]["version"] == 1
    assert [entry["kind"] for entry in state["history"]] == ["promotion"]
    assert len(state["verdicts"]) == 1
    assert desk.world.registry.models.projects() == [name]
    ran = desk.json("tick", name)
    assert [
        found["outcome"] for found in ran if found["partition"] and "-" in found["partition"][:9]
    ] == [], "the newest dataset version was decided under the old name"
    runs = desk.world.instance.get_runs()
    assert {run.tags[run_tags.PROJECT] for run in runs} == {name}
    logged = [entry.path for entry in desk.world.lakefs.objects("shapes-production", "main")]
    assert [path for path in logged if path.startswith("project=shapes/")] == []
    assert [path for path in logged if path.startswith(f"project={name}/dt=")] != []
    assert ArtifactStore(root=str(desk.world.root / "spool")).names("shapes") in ([], ["camera-1"])
    batch = write_batch(desk.world.root / "next", 60, seed=4)
    assert "60 images" in desk.run("import", name, str(batch), "--batch", "week-02")


@pytest.mark.parametrize("first", ["the file", "the command"])
def test_a_renamed_project_keeps_its_champion_runs_and_log(desk_of_promoted: Desk, first: str) -> None:
    desk = desk_of_promoted
    log_something(desk)
    if first == "the file":
        rename_in_file(desk, "signs")
        said = desk.run("status", "signs")
        assert "no model in production" in said
        assert "`visionops project rename shapes NEW`" in said and "version 1" in said
        row = next(row for row in diagnose() if row.subject == "undeclared projects")
        assert row.state == "warning" and "no project file declares shapes" in row.what
    desk.run("project", "rename", "shapes", "signs")
    assert (desk.world.root / "projects" / "signs.yaml").is_file()
    whole(desk, "signs")
    assert [one["project"] for one in desk.json("project", "list")["projects"]] == ["signs"]


def test_the_challenger_of_a_project_renamed_in_its_file_alone_is_no_first_champion(
    desk_of_promoted: Desk,
) -> None:
    desk = desk_of_promoted
    rename_in_file(desk, "signs")
    (told,) = [found["reason"] for found in desk.json("tick", "signs", "--quiet", code=1) if found["outcome"]]
    assert "version 1 of shapes" in told and "`visionops project rename shapes signs` takes it over" in told
    assert desk.json("status", "signs")["champion"] is None
    desk.run("project", "rename", "shapes", "signs")
    assert desk.json("status", "signs")["champion"]["version"] == 1
    assert {found["outcome"] for found in desk.json("tick", "signs", "--quiet")} == {None}


def test_a_project_that_takes_the_annotations_of_another_anew_says_so(desk_of_promoted: Desk) -> None:
    desk = desk_of_promoted
    rename_in_file(desk, "signs")
    desk.json("tick", "signs", "--quiet", code=1)
    desk.run("rollback", "shapes", "--model-version", "none", "--why", "signs starts anew")
    (found,) = [each for each in desk.json("tick", "signs", "--quiet") if each["outcome"]]
    assert found["outcome"] == "promoted"


@pytest.mark.parametrize(
    "dies_at",
    [
        "_production",
        "rename",
        "save",
        "memory",
        "the file's name",
        pytest.param("_tables", marks=pytest.mark.stated),
        pytest.param("_runs", marks=pytest.mark.stated),
    ],
)
def test_a_rename_that_was_killed_goes_on(
    desk_of_promoted: Desk, dies_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = desk_of_promoted
    log_something(desk)

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        owner, name = {
            "rename": (type(ModelRegistry(tracking_uri="sqlite:///none").models), "rename"),
            "save": (LakeFSResource, "save"),
            "memory": (ModelMemory, "rename"),
            "the file's name": (Path, "rename"),
        }.get(dies_at, (projects.Renaming, dies_at))
        if name == "rename" and owner is Path:
            rename = Path.rename
            patched.setattr(
                Path, "rename", lambda path, to: die() if path.suffix == ".yaml" else rename(path, to)
            )
        else:
            patched.setattr(owner, name, die)
        with pytest.raises(Killed):
            desk.run("project", "rename", "shapes", "signs")
    desk.run("project", "rename", "shapes", "signs")
    assert [path.name for path in (desk.world.root / "projects").iterdir()] == ["signs.yaml"]
    assert desk.world.artifacts.names("registry") == ["signs.json"]
    whole(desk, "signs")


def test_a_rename_mixes_no_two_projects(desk_of_promoted: Desk) -> None:
    desk = desk_of_promoted
    folder = desk.world.root / "projects"
    other = (folder / "shapes.yaml").read_text().replace("project: shapes", "project: signs")
    (folder / "signs.yaml").write_text(other)
    for old, new, why in (
        ("shapes", "signs", "two projects"),
        ("shapes", "Signs", "lower-case"),
        ("shapes", "shapes", "already"),
        ("nothing", "boxes", "nothing was ever made"),
    ):
        with pytest.raises(RenameRefused, match=why):
            desk.run("project", "rename", old, new)
    assert desk.world.champion() == 1

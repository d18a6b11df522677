"""A project under another name keeps what it has, and one that was renamed in its file alone is told of."""

import json
from pathlib import Path

import pytest
import yaml
from desk import LENIENT, Desk

from resources.lakefs.client import LakeFSResource
from resources.models.memory import ModelMemory
from resources.models.registry import ModelRegistry
from resources.storage import ArtifactStore
from tests.devices.agent_process import agent
from tests.operations_table import require_told
from tests.world import shapes_project, write_batch
from visionops.cli import projects
from visionops.cli.overview import diagnose
from visionops.cli.projects import RenameRefused
from visionops_assets.common import run_tags
from visionops_assets.config.project import ProjectError


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_project_that_takes_the_annotations_of_another_anew_says_so(desk_of_promoted: Desk) -> None:
    desk = desk_of_promoted
    rename_in_file(desk, "signs")
    desk.json("tick", "signs", "--quiet", code=1)
    desk.run("rollback", "shapes", "--model-version", "none", "--why", "signs starts anew")
    (found,) = [each for each in desk.json("tick", "signs", "--quiet") if each["outcome"]]
    assert found["outcome"] == "promoted"


@pytest.mark.slow
@pytest.mark.parametrize(
    "dies_at",
    [
        "rename",
        "memory",
        *(
            pytest.param(each, marks=pytest.mark.stated)
            for each in ("_production", "save", "the file's name", "_tables", "_runs")
        ),
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


@pytest.mark.parametrize(
    "delivery",
    [
        "",
        "delivery:\n",
        "delivery: {}\n",
        "delivery: {check_every: 60}  # a minute\n",
        "delivery:  # of ours\n\n    # a line of its own\n    groups:\n        line-1: {}\n",
        "delivery:\n  groups: {line-1: {}}\n",
    ],
)
@pytest.mark.parametrize("after", ["", "owners: [ada@example.com]  # who\n"])
def test_a_project_file_says_what_devices_know_and_all_else_as_before(
    tmp_path: Path, delivery: str, after: str
) -> None:
    file = tmp_path / "signs.yaml"
    file.write_text(f"# Our signs.\nproject: signs\n{delivery}{after}")
    before = yaml.safe_load(file.read_text())
    changed = projects._known_as(file, "shapes")
    assert yaml.safe_load(changed) == {
        **before,
        "delivery": {**(before.get("delivery") or {}), "known_as": "shapes"},
    }
    for comment in ("# Our signs.", "# a minute", "# of ours", "# a line of its own", "# who"):
        assert (comment in changed) == (comment in file.read_text())


@pytest.mark.stated
def test_devices_of_a_renamed_project_go_on_and_get_what_is_promoted(
    desk_of_promoted: Desk, tmp_path: Path
) -> None:
    """A device takes nothing that is signed for another name than its own, and knows one address."""
    desk = desk_of_promoted
    gate = {**desk.world.project.gate.model_dump(mode="json"), **LENIENT}
    desk.world.projects = [shapes_project(gate=gate, delivery={"groups": {"line-1": {"observe": 1}}})]
    desk.save()
    desk.run("fleet", "keys", "init", "shapes")
    device, camera = tmp_path / "cam-17", write_batch(tmp_path / "seen", 2, seed=9)
    provision = ("--group", "line-1", "--to")
    desk.run("fleet", "provision", "shapes", "--device", "cam-17", *provision, str(device))
    settings = json.loads((device / "device.json").read_text())
    settings |= {"source": {"folder": str(camera)}, "sink": {"lines": "answers.jsonl"}}
    (device / "device.json").write_text(json.dumps(settings))
    desk.run("tick", "shapes")
    assert "release 1" in agent("once", device)

    rename_in_file(desk, "signs")
    assert "fleet keys init" not in desk.run("tick", "signs", code=1), "that would be another repository"
    desk.run("project", "rename", "shapes", "signs")
    said = desk.run("status", "signs")
    require_told("a project with devices was renamed", said)
    state = desk.json("status", "signs")
    assert state["known_to_devices_as"] == "shapes" and state["wrong"] == []
    row = next(row for row in diagnose() if row.subject == "state of signs")
    assert row.state == "ok" and "devices know it as shapes" in row.what
    batch = write_batch(tmp_path / "next", 90, seed=2)
    desk.run("import", "signs", str(batch), "--batch", "week-02")
    outcomes = [each["outcome"] for each in desk.json("tick", "signs") if each["outcome"]]
    assert outcomes == ["promoted", "logged", "delivered"], "what the device reported is taken on the way"
    assert "release 2" in agent("once", device)

    other = tmp_path / "cam-18"
    desk.run("fleet", "provision", "signs", "--device", "cam-18", *provision, str(other))
    assert "release 2" in agent("once", other)
    fleet = desk.json("fleet", "status", "signs")
    assert [(each["version"], each["devices"]) for each in fleet["groups"]] == [(2, ["cam-17", "cam-18"])]

    desk.run("project", "rename", "signs", "forms")
    assert desk.json("status", "forms")["known_to_devices_as"] == "shapes"
    folder = desk.world.root / "projects"
    taken = (folder / "forms.yaml").read_text().replace("project: forms", "project: shapes")
    (folder / "shapes.yaml").write_text(taken.replace("known_as: shapes", "check_every: 60"))
    with pytest.raises(ProjectError, match="devices know forms as shapes"):
        desk.run("status", "shapes")
    assert desk.json("status", "forms")["champion"]["version"] == 2

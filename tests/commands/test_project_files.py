"""What is wrong with one project file is that project's matter alone."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from desk import Desk
from typer.testing import CliRunner

from tests.operations_table import require_told
from tests.world import write_batch
from visionops.cli.overview import diagnose
from visionops_assets.config.project import ProjectError, load_projects


@contextmanager
def logged_of_projects() -> Iterator[list[str]]:
    """What the code location logs of project files while it is loaded."""
    import dagster as dg

    found: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    log = dg.get_dagster_logger("projects")
    log.addHandler(handler)
    try:
        yield found
    finally:
        log.removeHandler(handler)


@pytest.mark.slow
def test_a_project_file_with_a_typo_stops_only_its_own_project(desk: Desk) -> None:
    from visionops.cli.command_line import app

    folder = desk.world.root / "projects"
    bad = folder / "signs.yaml"
    bad.write_text(
        (folder / "shapes.yaml").read_text().replace("project: shapes", "project: signs\nwidth: 8")
    )
    batch = write_batch(desk.world.root / "week-01", 60, seed=1)
    assert "60 images" in desk.run("import", "shapes", str(batch), "--batch", "week-01")
    assert desk.json("status", "shapes")["champion"] is None
    assert [found["outcome"] for found in desk.json("tick", "shapes")] == ["promoted"]

    sys.modules.pop("definitions", None)
    everything = CliRunner().invoke(app, ["tick", "--json"])
    assert everything.exit_code == 1, "one of the projects was not looked at"
    shapes, signs = json.loads(everything.stdout)
    assert (shapes["project"], shapes["outcome"]) == ("shapes", None)
    assert (signs["project"], signs["outcome"]) == ("signs", "error")
    assert str(bad) in signs["reason"]

    for words in (("tick",), ("tick", "signs")):
        # A handler of the log beside what is printed, as a terminal shows both.
        sys.modules.pop("definitions", None)
        with logged_of_projects() as logged:
            ended = CliRunner().invoke(app, list(words))
        said = [
            *logged,
            ended.output,
            "" if isinstance(ended.exception, SystemExit) else str(ended.exception),
        ]
        assert ended.exit_code == 1 and "".join(said).count("width: is not a field") == 1, said

    named = CliRunner().invoke(app, ["status", "signs"])
    assert named.exit_code == 1 and str(bad) in str(named.exception)
    row = next(row for row in diagnose() if row.subject == "project signs")
    assert row.state == "broken" and str(bad) in row.what and "width" in row.what
    bad.write_text(bad.read_text().replace("\nwidth: 8", ""))
    assert desk.json("status", "signs")["wrong"] == []


def test_of_two_files_that_declare_one_project_neither_is_used_until_one_is_gone(
    desk_of_promoted: Desk,
) -> None:
    desk = desk_of_promoted
    folder = desk.world.root / "projects"
    (folder / "again.yaml").write_text((folder / "shapes.yaml").read_text())
    with pytest.raises(
        ProjectError, match=r"(again|shapes)\.yaml.*is declared in .*(again|shapes)\.yaml too"
    ):
        desk.run("status", "shapes")
    said = desk.run("tick", code=1)
    assert all(str(folder / name) in said for name in ("again.yaml", "shapes.yaml"))
    (folder / "again.yaml").unlink()
    assert desk.json("status", "shapes")["champion"]["version"] == 1 and desk.run("tick")


def test_the_demo_says_where_its_project_is_when_project_files_are_read_elsewhere(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "my projects"
    monkeypatch.setenv("VISIONOPS_PROJECTS", str(elsewhere))
    with pytest.raises(ProjectError, match=r"VISIONOPS_PROJECTS .*`mkdir -p ") as refused:
        desk.run("demo")
    command = str(refused.value).split("`")[1]
    subprocess.run(command, shell=True, check=True)
    assert [each.project for each in load_projects(elsewhere)] == ["digits"]
    with pytest.raises(ProjectError, match=f"project files are read from {elsewhere}"):
        desk.run("status", "shapes")


def test_a_champion_that_no_file_declares_ends_a_tick_of_nothing_with_an_error(
    desk_of_promoted: Desk,
) -> None:
    """A folder of projects that is not mounted looks like one without any."""
    from visionops.cli.command_line import app

    desk = desk_of_promoted
    file = desk.world.root / "projects" / "shapes.yaml"
    away = file.rename(desk.world.root / "shapes.yaml")
    ended = CliRunner().invoke(app, ["tick"], catch_exceptions=False)
    said = ended.stderr
    require_told("no project file declares what runs", said)
    assert (
        ended.exit_code == 1
        and "no project file declares shapes, of which version 1 is in production" in said
    )
    assert f"there is no project in {file.parent} yet" in said
    ended = CliRunner().invoke(app, ["tick", "--json"], catch_exceptions=False)
    assert ended.exit_code == 1 and json.loads(ended.stdout) == [], "a program reads JSON all the same"
    (file.parent / "other.yaml").write_text("project: other\n")
    ended = CliRunner().invoke(app, ["tick"], catch_exceptions=False)
    assert ended.exit_code == 1 and "no project file declares shapes" in ended.stderr
    assert "other: cannot be used" in desk.run("project", "list", code=1)
    (file.parent / "other.yaml").unlink()
    away.rename(file)
    assert CliRunner().invoke(app, ["tick"], catch_exceptions=False).exit_code == 0


def test_a_name_that_was_mistyped_brings_up_the_one_that_cannot_be_used(desk: Desk) -> None:
    folder = desk.world.root / "projects"
    for number in range(6):
        (folder / f"broken_{number}.yaml").write_text("project: [")
    with pytest.raises(ProjectError) as told:
        desk.run("status", "brokem_4")
    assert "did you mean broken_4" in str(told.value) and "nor can 3 more" in str(told.value)

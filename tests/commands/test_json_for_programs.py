"""What a program reads: with --json a verb prints one document, and nothing beside it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from desk import Desk
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from visionops.cli.command_line import app

# What serves until it is ended, draws pages or posts for people, asks at a terminal, or is told by its exit code.
WITHOUT = {
    "up",
    "serve",
    "metrics",
    "webhook serve",
    "comment",
    "fleet serve",
    "fleet up",
    "rollout sign",
}


def verbs(group: TyperGroup, before: str = "") -> Iterator[tuple[str, set[str]]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from verbs(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", {opt for parameter in command.params for opt in parameter.opts}


def test_every_verb_that_tells_of_something_has_json():
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    assert {name for name, options in verbs(group) if "--json" not in options} == WITHOUT


def test_why_diff_and_the_home_are_told_to_programs(desk_of_promoted: Desk):
    why = desk_of_promoted.json("why", "shapes")
    assert (why["project"], why["group"], why["version"], why["in_production"]) == ("shapes", "all", 1, True)
    assert why["dataset_version"] in desk_of_promoted.world.partitions()
    assert why["verdict"]["verdict"] == "PASS" and len(why["verdicts"]) == 1
    assert why["promoted"]["to"] == 1 and why["replaced"] is None

    nothing = desk_of_promoted.json("diff", "shapes", "main", "week-01")
    assert nothing["counts"] == [] and not any(nothing["images"].values())
    assert set(nothing["images"]) == {"added", "removed", "relabelled", "moved", "regrouped"}

    assert desk_of_promoted.json("home", "show")["home"] == desk_of_promoted.run("home", "show").strip()


def test_what_changes_devices_repositories_is_told_to_programs(desk: Desk, tmp_path: Path):
    made = desk.json("fleet", "keys", "init", "shapes")
    assert made["made"] and Path(made["keys"]).is_dir()
    (repository,) = made["repositories"]
    assert (repository["project"], repository["made"]) == ("shapes", True)
    again = desk.json("fleet", "keys", "init", "shapes")
    assert not again["made"] and not again["repositories"][0]["made"]
    fresh = desk.json("fleet", "refresh")
    assert [(each["project"], each["signed"]) for each in fresh["projects"]] == [("shapes", [])]
    assert not fresh["urgent"] and "root" in fresh["projects"][0]["expires"]
    written = desk.json("fleet", "export", "shapes", "--to", str(tmp_path / "stick"))
    assert written["written"] > 0 and Path(written["folder"]).is_dir()
    rotated = desk.json("fleet", "keys", "rotate", "assign")
    assert (rotated["role"], rotated["projects"]) == ("assign", ["shapes"])
    assert Path(rotated["file"]).is_file()


def test_what_is_renamed_and_calls_us_is_told_to_programs(desk: Desk):
    desk.world.publish("week-01", 30, seed=1)
    assert desk.json("project", "rename", "shapes", "forms") == {"project": "forms", "before": "shapes"}
    assert "forms" in {each["project"] for each in desk.json("project", "list")["projects"]}
    # Nobody listens there; the commit that installs it is made before lakeFS calls.
    first, again = (
        desk.json("webhook", "install", "forms", "--url", "http://127.0.0.1:9/x") for _ in range(2)
    )
    assert first["commit"] == desk.world.lakefs.head(first["repository"]).id
    assert again["commit"] is None and again["calls"] == "http://127.0.0.1:9/x"


def test_where_a_home_moved_to_is_told_to_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    home, target = tmp_path / "home", tmp_path / "moved"
    (home / "mlflow").mkdir(parents=True)
    monkeypatch.setenv("VISIONOPS_HOME", str(home))
    ended = CliRunner().invoke(app, ["home", "move", str(target), "--json"], catch_exceptions=False)
    assert json.loads(ended.stdout) == {"home": str(target), "before": str(home)}

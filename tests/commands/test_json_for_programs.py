"""What a program reads: with --json a verb prints one document, and nothing beside it."""

from collections.abc import Iterator

from desk import Desk
from typer.core import TyperGroup
from typer.main import get_command

from visionops.cli.command_line import app

# What serves until it is ended, draws pages or posts for people, asks at a terminal, or is told by its exit code.
WITHOUT = {
    "up",
    "serve",
    "metrics",
    "webhook serve",
    "webhook install",
    "comment",
    "fleet serve",
    "fleet refresh",
    "fleet export",
    "fleet keys init",
    "fleet keys rotate",
    "rollout sign",
    "project rename",
    "home move",
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

"""Whatever change of production a kill left unfinished, the command that `status` prints for it ends it."""

import sys
from collections.abc import Callable
from contextlib import suppress

import pytest
from desk import LENIENT, Desk, ways_back
from mlflow import MlflowClient
from typer.testing import CliRunner

from resources.models.model_versions import Models
from resources.models.records import alias_of
from tests.operations_table import require_told
from tests.world import shapes_project
from visionops.cli.command_line import app


class Killed(BaseException):
    """A process that ends here."""


def incomplete(desk: Desk) -> str:
    """What `status` says of the one change that did not complete, or that was not begun where a hand's is to be undone;
    beside it a run may be told that failed so."""
    told = desk.json("status", "shapes")["wrong"]
    (wrong,) = [each for each in told if "did not complete" in each] or told
    return str(wrong)


@pytest.fixture
def unfinished(
    desk_of_promoted: Desk, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Desk, str, str], list[str]]:
    """Types a command that is killed when it would change the alias; gives the one command that is printed then."""

    def killed(desk: Desk, line: str, before: str) -> list[str]:
        reached = []

        def die(*_: object) -> None:
            reached.append(line)
            raise Killed

        sys.modules.pop("definitions", None)
        with monkeypatch.context() as patched, suppress(Killed):
            patched.setattr(Models, before, die)
            CliRunner().invoke(app, line.split())
        assert reached, f"{line} did not come to {before}"
        wrong = incomplete(desk)
        if "did not complete" in wrong:
            require_told("a command that changes what runs was killed", f"wrong: {wrong}")
        (command,) = ways_back(wrong)
        return command

    return killed


def declare(desk: Desk, **gate: object) -> None:
    rules = {**desk.world.project.gate.model_dump(mode="json"), **LENIENT, **gate}
    desk.world.projects = [shapes_project(gate=rules, delivery={"groups": {"line-1": {"follow": "own"}}})]
    desk.save()


@pytest.mark.stated
@pytest.mark.parametrize("before", ["set_alias", "set_version_tags"])
def test_what_is_printed_of_an_unfinished_change_ends_it(
    desk_of_promoted: Desk, unfinished: Callable[[Desk, str, str], list[str]], before: str
) -> None:
    desk = desk_of_promoted
    models = desk.world.registry.models

    def ended(line: str, begins: str, at: str = before) -> None:
        command = unfinished(desk, line, at)
        assert " ".join(command).startswith(begins), command
        desk.run(*command)
        assert desk.json("status", "shapes")["wrong"] == []
        assert not any(each["outcome"] == "error" for each in desk.json("tick", "shapes")), line

    desk.world.publish("week-02", 90, seed=2)
    ended("tick shapes", "tick shapes")
    assert desk.world.champion() == 2

    declare(desk)
    desk.run("fleet", "keys", "init", "shapes")
    ended("promote shapes --group line-1 --why tried", "promote shapes --group line-1 --model-version 2")
    assert models.get("shapes").aliases[alias_of("line-1")] == 2
    ended("rollback shapes --group line-1 --why dark", "rollback shapes --model-version 1 --group line-1")
    assert models.get("shapes").aliases == {"champion": 2, alias_of("line-1"): 1}
    ended(
        "rollback shapes --group line-1 --model-version none --why follow",
        "rollback shapes --model-version none --group line-1",
        "delete_alias",
    )

    ended("rollback shapes --why scratches", "rollback shapes --model-version 1")
    assert desk.world.champion() == 1 and desk.json("status", "shapes")["hold"]["kind"] == "rollback"
    client = MlflowClient(desk.world.registry.uri, desk.world.registry.uri)
    client.set_registered_model_alias("shapes", alias_of("all"), "2")
    ended("rollback shapes --model-version 1 --why again", "rollback shapes --model-version 1")
    assert desk.json("status", "shapes")["history"][-1]["kind"] == "restoration"
    desk.run("release", "shapes", "--why", "seen to")
    ended(
        "rollback shapes --model-version none --why anew",
        "rollback shapes --model-version none",
        "delete_alias",
    )
    assert desk.world.champion() is None

    desk.world.publish("week-03", 90, seed=3, wrong=0.9)
    assert "refused" in desk.run("tick", "shapes")
    ended("override shapes --why known", "override shapes ")
    assert desk.world.champion() == 3

    # The labels of week-03 stay wrong.
    declare(desk, approval="manual", floors={})
    desk.world.publish("week-04", 90, seed=4)
    assert "awaiting approval" in desk.run("tick", "shapes")
    ended("approve shapes", "approve shapes ")
    assert desk.world.champion() == 4


@pytest.mark.slow
def test_a_promotion_that_a_newer_dataset_version_passed_over_is_ended_by_an_approval(
    desk_of_promoted: Desk, unfinished: Callable[[Desk, str, str], list[str]]
) -> None:
    """The next tick decides on the newest one: what was not completed before it stays so."""
    desk = desk_of_promoted
    desk.world.publish("week-02", 90, seed=2)
    unfinished(desk, "tick shapes", "set_alias")
    desk.world.publish("week-03", 90, seed=3, wrong=0.9)
    assert "was recorded and did not complete" in desk.run("tick", "shapes", code=1)
    (command,) = ways_back(incomplete(desk))
    assert command[:2] == ["approve", "shapes"]
    desk.run(*command)
    assert desk.json("status", "shapes")["wrong"] == [] and desk.world.champion() == 2

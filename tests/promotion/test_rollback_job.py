"""The rollback job, as the UI's launchpad starts it."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import pytest
import yaml
from promotion_world import PROJECT, hour, judged
from test_killed_on_mlflow import trained_on
from typer.testing import CliRunner

from tests.world import World, shapes_project
from visionops.cli import rollback
from visionops_assets.promotion.promote import promote


@pytest.fixture
def promoted(world: World) -> World:
    """A project whose versions 1, 2 and 3 were promoted one after the other."""
    world.projects = [shapes_project(project=PROJECT)]
    for number, name in enumerate(("one", "two", "three"), start=1):
        verdict = judged(world.registry, trained_on(world.registry, name))
        promote(world.registry, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(number))
    return world


def launch(world: World, tags: Mapping[str, str] | None = None, **config: Any) -> dg.ExecuteInProcessResult:
    """Run the job with what was typed into the launchpad."""
    return world.definitions.resolve_job_def(f"{PROJECT}_rollback").execute_in_process(
        instance=world.instance,
        run_config={"ops": {f"{PROJECT}_roll_back": {"config": config}}},
        tags=dict(tags or {}),
        raise_on_error=False,
    )


def running(world: World) -> int | None:
    return world.registry.models.get(PROJECT).aliases.get("champion")


def test_it_materialises_in_production_last_holds_no_check_and_refuses_in_words(promoted: World) -> None:
    result = launch(promoted, why="scratches", actor="ada")
    assert result.success and running(promoted) == 2
    kinds = [event.event_type_value for event in result.all_events]
    assert "ASSET_CHECK_EVALUATION" not in kinds
    (shown,) = [event for event in result.all_events if event.event_type_value == "ASSET_MATERIALIZATION"]
    assert shown.asset_key == dg.AssetKey([PROJECT, "in_production"])
    assert shown.materialization.metadata["version"].value == 2
    assert "scratches" in str(shown.materialization.metadata["why"].value)
    refused = launch(promoted, why="scratches", actor="ada", to=9)
    (event,) = [event for event in refused.all_events if event.is_step_failure]
    said = event.step_failure_data.user_failure_data
    assert said is not None and "was never in production" in str(said.description)
    assert running(promoted) == 2


def test_executed_again_it_does_not_go_back_twice(promoted: World) -> None:
    first = launch(promoted, why="scratches", actor="ada")
    run = promoted.instance.get_run_by_id(first.run_id)
    assert run is not None
    copied = {name: value for name, value in run.tags.items() if name.startswith("visionops/")}
    assert launch(promoted, tags=copied, why="scratches", actor="ada").success
    assert running(promoted) == 2


class Killed(BaseException):
    """A process that ends here."""


@pytest.mark.slow
def test_a_command_killed_before_it_told_dagster_does_not_go_back_twice_when_it_is_typed_again(
    promoted: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from visionops.cli.command_line import app

    for name in ("LAKEFS_ENDPOINT", "MLFLOW_TRACKING_URI", "VISIONOPS_ARTIFACTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VISIONOPS_HOME", str(promoted.root))
    monkeypatch.setenv("DAGSTER_HOME", str(promoted.root / "instance"))
    monkeypatch.setenv("VISIONOPS_PROJECTS", str(promoted.root / "projects"))
    monkeypatch.setenv("VISIONOPS_ACTOR", "ada@example.com")
    (promoted.root / "projects").mkdir()
    declared = promoted.project.model_dump(mode="json", exclude_none=True)
    (promoted.root / "projects" / f"{PROJECT}.yaml").write_text(yaml.safe_dump(declared))
    typed = ["rollback", PROJECT, "--why", "scratches"]

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(rollback, "_tell", die)
        CliRunner().invoke(app, typed, catch_exceptions=False)
    assert running(promoted) == 2
    again = CliRunner().invoke(app, typed, catch_exceptions=False)
    assert "it was so already" in again.stdout and running(promoted) == 2
    further = CliRunner().invoke(app, typed, catch_exceptions=False)
    assert further.exit_code == 0 and running(promoted) == 1, "it was told, so this is another one"

"""A rollback happens with labelled evidence and not without; every action is done once, whenever it is killed."""

import json
from unittest.mock import Mock

import pytest
import typer
from acting_world import NOW, ROWS, ActingWorld, acting_project, day, learnt
from production_world import ProductionWorld
from typer.testing import CliRunner

from visionops import services
from visionops.cli.overview import status_command as status_command
from visionops_assets.champions.history import production as in_production
from visionops_assets.champions.history import read_history
from visionops_assets.config.device_group_rules import DeliveryRules
from visionops_assets.monitoring.production_day import stored_day
from visionops_assets.monitoring.response import respond
from visionops_assets.monitoring.response.actions import actions_blocks, evidence_key
from visionops_assets.pages.page import Page
from visionops_assets.promotion.production_change import Attribution, deliver_to_group
from visionops_assets.promotion.rollback import release, rollback


def status(world: ProductionWorld, monkeypatch: pytest.MonkeyPatch, *options: str) -> str:
    """What `visionops status shapes` prints in this world."""
    monkeypatch.setattr(services, "project", lambda _: world.project)
    monkeypatch.setattr(services, "registry", lambda: world.registry)
    app = typer.Typer()
    app.command()(status_command)
    ran = CliRunner().invoke(app, ["shapes", *options])
    assert ran.exit_code == 0, ran.output
    return ran.output


@pytest.mark.parametrize("task", ["classification", pytest.param("detection", marks=pytest.mark.stated)])
def test_labelled_evidence_that_the_version_before_does_better_goes_back_to_it_once(
    production: ProductionWorld, task: str, monkeypatch: pytest.MonkeyPatch
):
    acting = ActingWorld(production, before=learnt(), task=task)
    acting.log()
    assert acting.respond(2).reported.endswith("are logged, and the newest decides")
    assert acting.actions() == [], "a past day acts on nothing"

    found = acting.respond()
    assert production.champion() == acting.before.version
    assert acting.done() == ["versions were compared", "rolled back"]
    compared, back = acting.actions()
    assert f"{2 * ROWS} rows, {2 * ROWS} with a capture" in compared.why
    assert compared.images == 2 * ROWS
    assert compared.done.startswith("Version 1 does better than version 2: ")
    now = in_production(production.registry.models.get("shapes"))
    assert now.since is not None and now.since.kind == "rollback" and now.on_hold
    assert f"action {back.identity[:12]}" in now.since.why
    assert "the same labelled captures" in now.since.why
    assert [entry.kind for entry in found.rollbacks] == ["rollback"]
    evidence = production.artifacts.read_json(evidence_key("shapes", back.identity))
    assert evidence["verdict"]["verdict"] == "PASS"

    said = status(production, monkeypatch)
    assert "What was done about production" in said and "rolled back" in said
    told = json.loads(status(production, monkeypatch, "--json"))
    assert [each["kind"] for each in told["actions"]] == ["comparison", "rollback"]
    assert told["hold"]["kind"] == "rollback"

    before = acting.actions()
    assert not acting.respond().actions
    assert acting.actions() == before
    release(production.registry, project="shapes", by=Attribution("ada", now.since.when, "seen"))
    assert not acting.respond().actions
    assert production.champion() == acting.before.version
    rollback(production.registry, project="shapes", by=Attribution("ada", now.since.when, "better so"), to=2)
    assert not acting.respond().actions
    assert production.champion() == acting.champion.version, "what a person undid stays undone"


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True])
def test_a_response_takes_along_the_groups_that_follow(
    production: ProductionWorld, monkeypatch: pytest.MonkeyPatch, killed: bool
):
    acting = ActingWorld(production, before=learnt())
    delivery = DeliveryRules.model_validate({"groups": {"line-1": {}, "line-2": {"follow": "own"}}})
    production.projects = [production.project.model_copy(update={"delivery": delivery})]
    for group in ("line-1", "line-2"):
        deliver_to_group(
            production.registry, project="shapes", group=group, by=Attribution("ada", NOW, "its own")
        )
    acting.log()
    if killed:
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(respond, "take_along", Mock(side_effect=KeyboardInterrupt))
            acting.respond()
        assert production.registry.models.get("shapes").aliases["champion-line-1"] == acting.champion.version
    acting.respond()
    assert acting.done() == ["versions were compared", "rolled back"]
    aliases = production.registry.models.get("shapes").aliases
    assert aliases == {
        "champion": acting.before.version,
        "champion-line-1": acting.before.version,
        "champion-line-2": acting.champion.version,
    }


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classification", "detection"])
def test_drift_that_also_hurts_the_version_before_is_no_reason_to_go_back(
    production: ProductionWorld, task: str
):
    acting = ActingWorld(production, before=learnt(), task=task)
    acting.log(nonsense=True)
    acting.respond()
    assert production.champion() == acting.champion.version
    assert acting.done() == ["versions were compared", "alert"]
    assert not acting.actions()[0].done.startswith("Version 1 does better")


def test_without_labels_drift_asks_for_them_by_name_and_rolls_nothing_back(production: ProductionWorld):
    acting = ActingWorld(production, before=learnt())
    acting.log(labelled=False)
    acting.respond()
    assert production.champion() == acting.champion.version
    assert acting.done() == ["labels were asked for", "alert"]
    asked, alert = acting.actions()
    wanted = production.artifacts.read_json(evidence_key("shapes", asked.identity))["images"]
    assert len(wanted) == asked.images == 40
    assert f"--day {day(2)} --day {day(1)}" in asked.done
    assert "`visionops rollback shapes --leaving 2 --why TEXT`" in alert.done
    page = Page("shapes", actions_blocks("shapes", acting.actions())).to_text()
    assert "LABELS ASKED FOR. 40 images" in page


@pytest.mark.slow
def test_a_dry_run_says_what_it_would_do_and_does_nothing_until_it_is_over(production: ProductionWorld):
    acting = ActingWorld(production, before=learnt(), dry_run=True)
    acting.log()
    acting.respond()
    acting.respond()
    assert acting.done() == ["versions were compared", "would roll back"]
    assert production.champion() == acting.champion.version
    assert not in_production(production.registry.models.get("shapes")).on_hold
    production.projects = [acting_project()]
    acting.respond()
    assert acting.done()[2:] == ["rolled back"]
    assert production.champion() == acting.before.version


def test_evidence_leads_to_what_is_declared(production: ProductionWorld):
    acting = ActingWorld(production, before=learnt(), on_decay={"realised": "hold", "drift": "hold"})
    acting.log()
    acting.respond()
    assert production.champion() == acting.champion.version
    assert acting.done() == ["versions were compared", "promotion was put on hold"]
    held = in_production(production.registry.models.get("shapes")).held_by
    assert held is not None and "the same labelled captures" in held.why
    release(production.registry, project="shapes", by=Attribution("ada", held.when, "seen"))
    acting.respond()
    assert [entry.kind for entry in read_history(production.registry.models.get("shapes").tags).entries][
        -2:
    ] == ["hold", "release"]


@pytest.mark.slow
def test_in_dagster_the_day_shows_what_it_led_to_and_what_runs_now(production: ProductionWorld):
    acting = ActingWorld(production, before=learnt())
    acting.log()
    assert production.run("response", partition=str(day(1))).success
    assert production.champion() == acting.before.version
    shown = production.latest("response", str(day(1))).metadata
    assert "alarm since" in str(shown["noticed"].value)
    assert "**rolled back:**" in str(shown["done"].value)
    assert shown["actions"].value == 2
    assert any(name.startswith("comparison_") for name in shown)
    table = stored_day(production.artifacts, "shapes", "response", str(day(1)))
    assert table is not None
    assert set(table["response"]) == {"versions were compared; rolled back"}
    running = production.latest("in_production")
    assert running.metadata["version"].value == 1
    assert "the same labelled captures" in str(running.metadata["why"].value)

    assert production.run("response", partition=str(day(2))).success
    past = production.latest("response", str(day(2))).metadata
    assert "the newest decides" in str(past["done"].value)
    assert production.run("response", partition=str(day(1))).success
    assert len(acting.actions()) == 2

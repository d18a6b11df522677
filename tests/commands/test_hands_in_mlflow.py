"""What people move and delete in MLflow is named, promotes nothing, and one printed command leads back."""

import json
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from dagster import AssetKey
from desk import Desk, ways_back
from mlflow import MlflowClient
from typer.testing import CliRunner

from resources.models import artifacts
from resources.models.records import HISTORY, ONNX_ARTIFACT, TAG_VERDICT, TAG_WEIGHTS, alias_of
from resources.models.training_runs import Runs
from tests.operations_table import require_told
from tests.world import copy_registry, write_batch
from visionops import services
from visionops.cli.overview import diagnose
from visionops_assets.champions.history import production
from visionops_assets.common.errors import ChampionUnclear
from visionops_assets.monitoring.prediction import NothingInProduction

ALIAS = alias_of("all")


class Killed(BaseException):
    """A process that ends here."""


def client(desk: Desk) -> MlflowClient:
    return MlflowClient(desk.world.registry.uri, desk.world.registry.uri)


def alias_removed(desk: Desk) -> None:
    client(desk).delete_registered_model_alias("shapes", ALIAS)


def version_deleted(desk: Desk) -> None:
    client(desk).delete_model_version("shapes", str(desk.world.champion()))


def model_deleted(desk: Desk) -> None:
    client(desk).delete_registered_model("shapes")


def emptied(desk: Desk, template: Path) -> None:
    """MLflow's folder was deleted, and the next command made an empty one."""
    for run in (desk.world.root / "mlflow" / "artifacts").glob("*/*"):
        shutil.rmtree(run)
    # Into the same file: connections of this process stay, where each command would have its own.
    copy_registry(template, desk.world.root / "mlflow")
    artifacts._run.cache_clear()


def database_lost(desk: Desk, template: Path) -> None:
    """MLflow's database was deleted and made anew by the next command; the files of its runs are still there."""
    copy_registry(template, desk.world.root / "mlflow")
    artifacts._run.cache_clear()


def moved(desk: Desk, version: int) -> None:
    client(desk).set_registered_model_alias("shapes", ALIAS, str(version))


def tick(desk: Desk) -> tuple[int, str]:
    from visionops.cli.command_line import app

    sys.modules.pop("definitions", None)
    result = CliRunner().invoke(app, ["tick", "shapes", "--quiet"], catch_exceptions=False)
    return result.exit_code, result.output


def named(desk: Desk) -> str:
    """What is wrong, by `status`; `doctor` and `tick` say it too."""
    wrong = desk.json("status", "shapes")["wrong"]
    assert wrong
    assert f"wrong: {wrong[0]}" in desk.run("status", "shapes")
    row = next(row for row in diagnose() if row.subject == "state of shapes")
    assert row.state == "broken" and wrong[0] in row.what
    code, said = tick(desk)
    assert code == 1 and wrong[0] in said
    return str(wrong[0])


@pytest.mark.stated
def test_the_next_challenger_is_no_first_champion_where_the_history_names_one(desk_of_promoted: Desk) -> None:
    desk = desk_of_promoted
    weights = desk.json("status", "shapes")["champion"]["sha256"]
    desk.world.publish("week-02", 90, seed=2)
    image = str(next(write_batch(desk.world.root / "seen", 3, seed=9).glob("*.png")))
    number = 1
    for hand, said, happens in (
        (alias_removed, "removed", "the alias `champion` was removed"),
        (version_deleted, "deleted", "the champion's version was deleted"),
        (model_deleted, "no registered", "the registered model was deleted"),
    ):
        hand(desk)
        told = named(desk)
        require_told(happens, told)
        assert said in told and f"version {number}" in told
        assert desk.world.champion() is None
        with pytest.raises(
            NothingInProduction, match=f"visionops rollback shapes --model-version {number} --why"
        ):
            desk.run("predict", "shapes", image)
        # A group that runs what all do is told the same.
        with pytest.raises(
            ChampionUnclear, match=f"visionops rollback shapes --model-version {number} --why"
        ):
            desk.run("fleet", "publish", "shapes", "--group", "line-1")
        (command,) = ways_back(told)
        assert "on hold" not in desk.run(*command)
        state = desk.json("status", "shapes")
        assert state["wrong"] == [] and state["champion"]["sha256"] == weights
        assert state["hold"] is None and state["history"][-1]["kind"] == "restoration"
        assert "by the history" not in desk.run("status", "shapes")
        number = state["champion"]["version"]
    assert "Judged" in desk.run("why", "shapes") and "prediction" in desk.run(
        "predict", "shapes", image, "--json"
    )
    assert next(row for row in diagnose() if row.subject == "state of shapes").state != "broken"
    assert tick(desk)[0] == 0
    after = desk.json("status", "shapes")
    assert after["verdicts"][-1]["champion"] == weights and len(after["verdicts"]) == 2
    assert [each["number"] for each in after["history"]] == [*range(1, len(after["history"]) + 1)]


@pytest.mark.stated
def test_a_renamed_model_and_a_deleted_experiment_lead_back(desk_of_promoted: Desk) -> None:
    """MLflow's pages offer both: the one takes the history to another name, the other the record of every run."""
    desk = desk_of_promoted
    weights = desk.json("status", "shapes")["champion"]["sha256"]
    client(desk).rename_registered_model("shapes", "forms")
    told = named(desk)
    assert "no registered model shapes" in told
    (command,) = ways_back(told)
    desk.run(*command)
    state = desk.json("status", "shapes")
    assert state["wrong"] == [] and state["champion"]["sha256"] == weights

    (experiment,) = [each for each in client(desk).search_experiments() if each.name == "shapes"]
    client(desk).delete_experiment(experiment.experiment_id)
    image = str(next(write_batch(desk.world.root / "seen", 3, seed=9).glob("*.png")))
    assert "prediction" in desk.run("predict", "shapes", image, "--json")
    assert tick(desk)[0] == 0, "what was decided stays decided"
    desk.world.publish("week-02", 90, seed=2)
    assert tick(desk)[0] == 0
    after = desk.json("status", "shapes")
    assert after["wrong"] == [] and len(after["verdicts"]) == 2
    assert after["verdicts"][-1]["champion"] == weights


@pytest.mark.slow
def test_a_version_that_was_deleted_keeps_its_number_for_ever(desk_of_two: Desk) -> None:
    desk = desk_of_two
    second = desk.json("status", "shapes")
    assert second["champion"]["version"] == 2
    model_deleted(desk)
    (command,) = ways_back(named(desk))
    desk.run(*command)
    state = desk.json("status", "shapes")
    assert state["champion"] == {**second["champion"], "since": state["champion"]["since"]}
    assert state["history"][:-1] == second["history"] and state["verdicts"] == second["verdicts"]
    # Version 1 was deleted with the project; it is still what can be gone back to.
    (gone,) = state["gone"]
    assert "version 1" in gone
    desk.run(*ways_back(gone)[0])
    assert desk.json("status", "shapes")["champion"]["sha256"] == second["verdicts"][0]["challenger"]


@pytest.mark.stated
def test_an_alias_moved_by_hand_is_told_as_that_in_every_direction(desk_of_two: Desk) -> None:
    desk = desk_of_two
    world = desk.world
    world.publish("week-03", 90, seed=3, wrong=0.9)
    desk.run("tick", "shapes")
    refused = desk.json("status", "shapes")["verdicts"][-1]
    assert refused["outcome"] == "FAIL"
    world.registry.models.create_version(
        "shapes", refused["run_id"], world.registry.runs.get(refused["run_id"]).tags
    )
    client(desk).create_model_version("shapes", "elsewhere", tags={"made": "by Bob"})

    def moved_and_back(to: int, before: int) -> None:
        moved(desk, to)
        told = named(desk)
        require_told("the alias was moved to an older", told)
        assert "MOVED BY HAND" in desk.run("status", "shapes")
        assert f"moved by hand to version {to}" in told and f"version {before} is in production" in told
        assert world.champion() == to, "nothing is promoted or dropped by itself"
        assert "What runs is not clear" in desk.run("why", "shapes", "--model-version", "1")
        (command,) = ways_back(told)
        desk.run(*command)
        state = desk.json("status", "shapes")
        assert state["wrong"] == [] and state["champion"]["version"] == before and not state["moved_by_hand"]

    for older_refused_and_never_judged in (1, 3, 4):
        moved_and_back(older_refused_and_never_judged, 2)
    desk.run("rollback", "shapes", "--model-version", "1", "--why", "scratches")
    newer = 2
    moved_and_back(newer, 1)
    assert tick(desk)[0] == 0


@pytest.mark.slow
def test_an_older_version_that_somebody_put_there_can_be_kept(desk_of_two: Desk) -> None:
    desk = desk_of_two
    moved(desk, 1)
    named(desk)
    assert "on hold" in desk.run("rollback", "shapes", "--model-version", "1", "--why", "Bob was right")
    state = desk.json("status", "shapes")
    assert state["wrong"] == [] and state["champion"]["version"] == 1 and state["hold"]["kind"] == "rollback"


@pytest.mark.slow
def test_retired_on_record_a_first_champion_is_right_again(desk_of_promoted: Desk) -> None:
    desk = desk_of_promoted
    model_deleted(desk)
    named(desk)
    assert "nothing is in production" in desk.run(
        "rollback", "shapes", "--model-version", "none", "--why", "starting over"
    )
    state = desk.json("status", "shapes")
    assert state["wrong"] == [] and state["champion"] is None
    assert [entry["kind"] for entry in state["history"]] == ["promotion", "retirement"]
    assert "(it was so already)" in desk.run(
        "rollback", "shapes", "--model-version", "none", "--why", "once more"
    )
    desk.world.publish("week-02", 90, seed=2)
    assert tick(desk)[0] == 0
    after = desk.json("status", "shapes")
    assert after["champion"]["version"] == 2 and after["verdicts"][-1]["champion"] is None
    assert after["verdicts"][-1]["outcome"] == "PASS"


@pytest.mark.stated
def test_a_pass_whose_registration_is_missing_is_asked_again(
    desk_of_promoted: Desk, mlflow_template: Path
) -> None:
    desk = desk_of_promoted
    before = desk.json("status", "shapes")
    emptied(desk, mlflow_template)
    told = named(desk)
    assert ways_back(told) == [["rollback", "shapes", "--model-version", "none", "--why", "TEXT"]]
    assert "cannot be registered again" in told and "none of its files is left" in told
    desk.run(*ways_back(told)[0])
    code, said = tick(desk)
    assert code == 0 and "promoted" in said
    state = desk.json("status", "shapes")
    assert (state["champion"]["version"], state["champion"]["sha256"]) == (1, before["champion"]["sha256"])
    assert state["wrong"] == [] and tick(desk)[0] == 0
    assert state["verdicts"][-1]["champion"] is None
    for file in (desk.world.root / "mlflow").glob("mlflow.db*"):
        file.unlink()
    row = next(row for row in diagnose() if row.subject == "state of shapes")
    assert row.state == "broken" and "mlflow.db is gone" in row.what


@pytest.mark.slow
def test_a_lost_database_comes_back_from_the_files_by_one_command(
    desk_of_two: Desk, mlflow_template: Path
) -> None:
    desk = desk_of_two
    before, runs = desk.json("status", "shapes"), desk.world.registry.runs
    versions = desk.world.registry.models.versions("shapes")
    was = {each.run_id: runs.get(each.run_id) for each in versions}
    explained = desk.run("why", "shapes")
    assert "open while `visionops up` runs" in explained
    database_lost(desk, mlflow_template)
    (command,) = ways_back(named(desk))
    assert command[:4] == ["rollback", "shapes", "--model-version", "2"]
    assert "recorded again from their files" in desk.run(*command)
    state = desk.json("status", "shapes")
    assert state["wrong"] == [] and state["verdicts"] == before["verdicts"]
    assert state["champion"] == {**before["champion"], "since": state["champion"]["since"]}
    for run_id, run in was.items():
        now = runs.get(run_id)
        assert now.finished and now.artifact_uri == run.artifact_uri
        assert now.params.keys() == run.params.keys()
        assert {key: value for key, value in run.tags.items() if key.startswith("visionops.")}.items() - (
            now.tags.items()
        ) <= {(TAG_VERDICT, "PASS")}
    again = desk.run("why", "shapes")
    facts = ("labelled images", "training images", "holdout images", "commit ", "model ", "code revision")
    for line in explained.splitlines():
        assert not line.startswith(facts) or line in again
    assert "cannot be compared" not in again and "PASS" in again
    desk.run("reproduce", "shapes", "--inputs-only")
    assert tick(desk)[0] == 0, "nothing is trained or asked again"
    assert len(desk.json("status", "shapes")["verdicts"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("spoilt", ["altered", "deleted"])
def test_files_that_do_not_suffice_are_named_and_the_version_before_is_advised(
    desk_of_two: Desk, mlflow_template: Path, spoilt: str
) -> None:
    desk = desk_of_two
    run = desk.world.registry.models.version("shapes", 2).run_id
    (file,) = (desk.world.root / "mlflow" / "artifacts").glob(f"*/{run}/artifacts/{ONNX_ARTIFACT}")
    file.write_bytes(b"another") if spoilt == "altered" else file.unlink()
    database_lost(desk, mlflow_template)
    told = named(desk)
    assert ONNX_ARTIFACT in told and "version 2 cannot be registered again" in told
    (command,) = ways_back(told)
    desk.run(*command)
    state = desk.json("status", "shapes")
    assert state["champion"]["version"] == 1 and state["wrong"] == []
    assert ONNX_ARTIFACT in state["gone"][0] and "visionops rollback" not in state["gone"][0]


@pytest.mark.slow
def test_a_run_that_was_purged_is_recorded_again_from_its_files_after_a_kill_too(
    desk_of_promoted: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = desk_of_promoted
    run = desk.world.registry.models.version("shapes", 1).run_id
    with closing(sqlite3.connect(desk.world.root / "mlflow" / "mlflow.db")) as database, database:
        for table in ("tags", "params", "metrics", "latest_metrics"):
            database.execute(f"DELETE FROM {table} WHERE run_uuid = ?", (run,))
        database.execute("DELETE FROM runs WHERE run_uuid = ?", (run,))
    artifacts._run.cache_clear()
    (wrong,) = desk.json("status", "shapes")["wrong"]
    require_told("the record of a champion's run was purged", wrong)
    command = ways_back(wrong)[0]
    assert command[:4] == ["rollback", "shapes", "--model-version", "1"]

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Runs, "log_params", die)
        desk.run(*command)
    desk.run(*command)
    assert desk.json("status", "shapes")["wrong"] == []
    assert desk.world.registry.runs.get(run).params["batch_size"] == "16"
    assert "lost" not in desk.run(*command), "it is found now"


@pytest.mark.slow
def test_what_a_registry_lost_of_a_project_without_champion_is_named(
    desk: Desk, mlflow_template: Path
) -> None:
    desk.use(floors={"overall": 0.999999, "batch": 0.4, "min_samples": 10})
    desk.world.publish("week-01", 90, seed=1, wrong=0.2)
    assert desk.json("tick", "shapes", "--quiet")[0]["outcome"] == "refused"
    database_lost(desk, mlflow_template)
    state = desk.json("status", "shapes")
    assert state["wrong"] == [] and "no registered model shapes any more" in state["gone"][0]
    assert len(state["verdicts"]) == 1
    row = next(row for row in diagnose() if row.subject == "state of shapes")
    assert row.state == "warning" and state["gone"][0] in row.what
    require_told("MLflow lost a project that has decisions", desk.run("status", "shapes"))


@pytest.mark.slow
@pytest.mark.parametrize("hand", ["removed", pytest.param("moved", marks=pytest.mark.stated)])
def test_an_alias_moved_before_anything_was_remembered_is_not_believed(
    desk_of_promoted: Desk, hand: str
) -> None:
    """A home of an earlier release has a history and no memory of it."""
    desk = desk_of_promoted
    if hand == "moved":
        desk.world.publish("week-02", 90, seed=2)
        desk.run("tick", "shapes")
        moved(desk, 1)
    else:
        alias_removed(desk)
    named_by_history = 2 if hand == "moved" else 1
    (desk.world.root / "artifacts" / "registry" / "shapes.json").unlink()
    told = named(desk)
    require_told("the alias was removed or moved before this release", told)
    assert hand in told and "or that change never reached it" in told
    assert "NOT COMPLETED" not in desk.run("status", "shapes")
    (command,) = ways_back(told)
    assert command[3] == str(named_by_history)
    desk.run(*command)
    state = desk.json("status", "shapes")
    assert state["wrong"] == [] and state["champion"]["version"] == named_by_history
    alias_removed(desk)
    assert "or that change" not in named(desk), "by then it was seen"


@pytest.mark.parametrize("killed", [False, True])
def test_that_nothing_runs_is_told_in_dagster(
    desk_of_promoted: Desk, killed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the command, or where it was killed before by the next tick."""
    desk = desk_of_promoted
    line = ("rollback", "shapes", "--model-version", "none", "--why", "starting over")
    if killed:

        def die(*_: object) -> None:
            raise Killed

        with monkeypatch.context() as patched, pytest.raises(Killed):
            patched.setattr("visionops.cli.rollback._tell", die)
            desk.run(*line)
        assert tick(desk)[0] == 0
    else:
        desk.run(*line)
    with services.dagster() as instance:
        event = instance.get_latest_materialization_event(AssetKey(["shapes", "in_production"]))
    assert event is not None and event.asset_materialization is not None
    assert "judged by the floors alone" in desk.run("status", "shapes")
    told = event.asset_materialization
    assert "no model in production" in (told.description or "") and "starting over" in (
        told.description or ""
    )
    assert "version" not in told.metadata


def test_what_else_is_deleted_in_mlflow_is_named_and_stays_known(desk_of_promoted: Desk) -> None:
    desk = desk_of_promoted
    before = desk.json("status", "shapes")
    for key in list(client(desk).get_registered_model("shapes").tags):
        client(desk).delete_registered_model_tag("shapes", key)
    state = desk.json("status", "shapes")
    assert state["history"] == before["history"] and state["verdicts"] == before["verdicts"]
    assert state["wrong"] == [] and "were deleted in MLflow" in state["gone"][0]
    require_told("an old version, or tags of the registered model", desk.run("status", "shapes"))
    assert "was so already" in desk.run(
        "rollback", "shapes", "--model-version", "1", "--why", "write them back"
    )
    assert desk.json("status", "shapes")["gone"] == []
    client(desk).delete_model_version_tag("shapes", "1", "visionops.weights_sha256")
    assert desk.json("status", "shapes")["champion"] == before["champion"]


def test_entries_and_digests_that_somebody_alters_are_read_as_they_were_written(
    desk_of_promoted: Desk,
) -> None:
    desk = desk_of_promoted
    desk.run("hold", "shapes", "--why", "seen to")
    before = desk.json("status", "shapes")
    tags = dict(client(desk).get_registered_model("shapes").tags)
    held = max(key for key in tags if key.startswith(HISTORY))
    decided = next(key for key in tags if key.startswith("visionops.decision."))
    client(desk).set_registered_model_tag("shapes", held, tags[held].replace('"hold"', '"release"'))
    client(desk).set_registered_model_tag("shapes", decided, "{")
    client(desk).set_model_version_tag("shapes", "1", TAG_WEIGHTS, "0" * 64)
    state = desk.json("status", "shapes")
    digests, entries = state["gone"]
    require_told("an entry of the history, or a decision, was altered", f"gone: {entries}")
    assert "the digests of version 1 of shapes were altered in MLflow" in digests
    assert {**state, "gone": []} == before and state["hold"]["kind"] == "hold"
    assert tick(desk)[0] == 0
    desk.run("release", "shapes", "--why", "mended")
    after = client(desk).get_registered_model("shapes").tags
    assert {key: after[key] for key in tags} == tags
    assert client(desk).get_model_version("shapes", "1").tags[TAG_WEIGHTS] == before["champion"]["sha256"]
    assert desk.json("status", "shapes")["gone"] == []


@pytest.mark.slow
def test_a_version_that_has_the_number_of_another_is_not_taken_for_it(desk_of_promoted: Desk) -> None:
    desk = desk_of_promoted
    weights = desk.json("status", "shapes")["champion"]["sha256"]
    model_deleted(desk)
    experiment = client(desk).create_experiment("of Bob")
    run = client(desk).create_run(experiment).info.run_id
    client(desk).create_registered_model("shapes")
    made = client(desk).create_model_version("shapes", f"runs:/{run}/model", run_id=run)
    assert made.version in (1, "1")
    moved(desk, 1)
    told = named(desk)
    require_told("the champion's version was deleted", told)
    desk.run(*ways_back(told)[0])
    state = desk.json("status", "shapes")
    assert state["wrong"] == [] and state["champion"]["sha256"] == weights
    assert state["champion"]["version"] == 2 and tick(desk)[0] == 0


def test_memory_that_is_gone_or_broken_stops_nothing(desk_of_promoted: Desk) -> None:
    desk = desk_of_promoted
    file = desk.world.root / "artifacts" / "registry" / "shapes.json"
    remembered = json.loads(file.read_text())
    for content in ("{", '{"format": 2}', "[]", None):
        file.write_text(content) if content is not None else file.unlink()
        assert desk.json("status", "shapes")["wrong"] == []
        assert json.loads(file.read_text()) == remembered


def test_a_project_that_was_renamed_is_remembered_under_its_new_name(desk_of_promoted: Desk) -> None:
    desk = desk_of_promoted
    desk.run("project", "rename", "shapes", "forms")
    client(desk).delete_registered_model_alias("forms", ALIAS)
    (wrong,) = desk.json("status", "forms")["wrong"]
    desk.run(*ways_back(wrong)[0])
    assert production(desk.world.registry.models.get("forms")).version == 1

"""What `visionops doctor` says of a sound installation, and of each thing that is broken."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from desk import Desk
from typer.testing import CliRunner

from tests import processes, s3
from tests.world import shapes_project, write_batch
from visionops.diagnosis import installation


def doctor(desk: Desk, *options: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code, and the rows by subject."""
    from visionops.cli.command_line import app

    result = CliRunner().invoke(app, ["doctor", "--json", *options], catch_exceptions=False)
    return result.exit_code, {line["subject"]: line for line in json.loads(result.stdout)}


@pytest.fixture(autouse=True)
def a_home_of_its_own(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DAGSTER_HOME", str(desk.world.instance.root_directory))


def test_a_sound_installation_has_nothing_broken(desk: Desk):
    desk.world.publish("week-01", 12, seed=1)
    code, lines = doctor(desk)
    assert code == 0, [line for line in lines.values() if line["state"] == "broken"]
    assert lines["projects"]["what"] == "shapes (classification)"
    assert lines["repository shapes"]["what"].startswith("main is commit ")
    assert {
        "python",
        "packages",
        "disk",
        "file system",
        "promotion lock",
        "home",
        "lakeFS",
        "MLflow",
        "MLflow's files",
        "artifacts",
        "spool",
        "drop of shapes",
        "Dagster",
    } <= set(lines)
    assert all(line["fix"] for line in lines.values() if line["state"] != "ok")
    assert all(line["setting"] and line["tried"] for line in lines.values())
    told = desk.run("doctor")
    assert "ok      lakeFS: " in told
    assert "LAKEFS_ENDPOINT is not set" in told and "tried: its version" in told


def test_what_is_missing_is_a_warning_with_its_fix(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("VISIONOPS_ACTOR")
    code, lines = doctor(desk)
    assert code == 0
    assert "override, promote, rollback, hold, release, retract" in lines["actor"]["what"]
    assert (lines["actor"]["state"], lines["actor"]["fix"][:22]) == ("warning", "export VISIONOPS_ACTOR")
    assert "visionops import shapes" in lines["repository shapes"]["fix"]


def test_project_files_that_init_would_make_are_no_fault(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("VISIONOPS_PROJECTS", str(tmp_path / "not yet"))
    told = installation._projects(lambda _: None)
    assert told.state == "warning" and "visionops init" in told.fix
    (tmp_path / "not yet").touch()
    assert installation._projects(lambda _: None).state == "broken"


def test_each_service_that_does_not_answer_is_broken_and_the_rest_is_checked(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("LAKEFS_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("VISIONOPS_ARTIFACTS", "/proc/nowhere")
    # A file where the project's folder should be.
    (desk.world.root / "no-drop").mkdir()
    (desk.world.root / "no-drop" / "shapes").touch()
    monkeypatch.setenv("VISIONOPS_DROP", str(desk.world.root / "no-drop"))
    code, lines = doctor(desk)
    assert code == 1
    for subject in ("lakeFS", "lakeFS key", "MLflow", "artifacts", "drop of shapes"):
        assert lines[subject]["state"] == "broken", subject
        assert lines[subject]["fix"], subject
    assert lines["definitions"]["state"] == "ok"


def test_a_broken_project_file_is_named(desk: Desk):
    (desk.world.root / "projects" / "cats.yaml").write_text("project: cats\n")
    code, lines = doctor(desk)
    assert code == 1
    assert "cats.yaml" in lines["project cats"]["what"]
    assert "shapes" in lines["projects"]["what"], "the others stay"


def test_projects_that_mean_other_things_by_the_same_annotations_are_named(desk: Desk):
    desk.world.projects.append(shapes_project(project="others", classes=["light", "dark"]))
    desk.save()
    _, lines = doctor(desk)
    assert lines["projects"]["state"] == "broken"
    assert "others and shapes keep their labels as annotations shapes" in lines["projects"]["what"]
    assert "annotations: " in lines["projects"]["fix"]
    desk.world.publish("week-01", 12, seed=2)
    batch = write_batch(desk.world.root / "week-02", 12, seed=1)
    with pytest.raises(Exception, match="annotations shapes"):
        desk.run("import", "others", str(batch), "--batch", "week-02")
    named = {"annotations": "others"}
    desk.world.projects[-1] = shapes_project(project="others", classes=["light", "dark"], **named)
    desk.save()
    assert doctor(desk)[1]["projects"]["state"] == "ok"


def test_a_key_that_others_can_read_is_broken(desk: Desk):
    credentials = desk.world.root / "lakefs" / "credentials.json"
    credentials.chmod(0o644)
    code, lines = doctor(desk)
    assert code == 1
    assert lines["lakeFS key file"]["fix"] == f"chmod 600 {credentials}"


def test_a_server_that_never_answers_does_not_hold_the_doctor(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (0.1, 0.1, 0.1))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for name in ("LAKEFS_ENDPOINT", "MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL"):
            monkeypatch.setenv(name, address)
        for name in ("LAKEFS_ACCESS_KEY_ID", "LAKEFS_SECRET_ACCESS_KEY", *s3.CREDENTIALS):
            monkeypatch.setenv(name, "tests")
        monkeypatch.setenv("VISIONOPS_SPOOL", "s3://bucket/spool")
        code, lines = doctor(desk, "--within", "0.5")
    assert code == 1
    for subject in ("lakeFS", "MLflow", "spool"):
        assert (lines[subject]["state"], lines[subject]["what"]) == ("broken", "no answer within 0.5 s"), (
            subject
        )
        assert lines[subject]["fix"], subject


@pytest.mark.slow
def test_a_home_that_cannot_be_made_is_a_row_and_the_rest_is_tried(tmp_path: Path):
    (tmp_path / "file").touch()
    ended = processes.visionops(
        "doctor",
        "--json",
        environment={"VISIONOPS_HOME": str(tmp_path / "file" / "home")},
        said=tmp_path / "said",
    )
    lines = {line["subject"]: line for line in json.loads(ended.said)}
    assert ended.code == 1
    assert (lines["home"]["state"], "VISIONOPS_HOME" in lines["home"]["fix"]) == ("broken", True)
    assert lines["definitions"]["state"] == "ok"


def test_no_secret_is_shown_of_any_setting(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    secret = "s3cret-word"
    for name in ("DAGSTER_POSTGRES_URL", "VISIONOPS_LOCK_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, f"postgresql://ada:{secret}@127.0.0.1:9/{name.lower()}")
    monkeypatch.setenv("LAKEFS_ENDPOINT", f"http://ada:{secret}@127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://ada:{secret}@127.0.0.1:9")
    monkeypatch.setenv("VISIONOPS_SPOOL", "s3://bucket/spool")
    for name in (
        "LAKEFS_ACCESS_KEY_ID",
        "LAKEFS_SECRET_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
    ):
        monkeypatch.setenv(name, secret)
    for name in ("VISIONOPS_ERROR_WEBHOOK", "VISIONOPS_WEBHOOK_TOKEN", "VISIONOPS_VERDICT_WEBHOOK"):
        monkeypatch.setenv(name, f"http://127.0.0.1:9/{secret}")
    code, lines = doctor(desk)
    assert code == 1
    assert secret not in json.dumps(lines)
    assert (
        lines["promotion lock"]["setting"]
        == "VISIONOPS_LOCK_URL=postgresql://***@127.0.0.1:9/visionops_lock_url"
    )
    for subject in ("Dagster", "promotion lock", "MLflow", "lakeFS", "spool", "webhook for errors"):
        assert lines[subject]["state"] == "broken", subject


def test_a_variable_that_nothing_reads_is_named_with_what_was_meant(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("VISIONOPS_SPOOL_URL", "s3://bucket")
    code, lines = doctor(desk)
    assert code == 0
    assert lines["variables"]["state"] == "warning"
    assert lines["variables"]["fix"] == "write VISIONOPS_SPOOL for VISIONOPS_SPOOL_URL"


def test_packages_that_are_not_what_is_asked_for_are_broken_with_one_command(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(
        "visionops.diagnosis.installation.metadata.requires",
        lambda name: ["pandas<1", "no-such-package-anywhere>=1", 'pytest<1; extra == "dev"'],
    )
    found = installation.packages()
    assert found.state == "broken"
    assert "no-such-package-anywhere is not installed" in found.what and "pandas" in found.what
    assert found.fix.endswith("'pandas<1' 'no-such-package-anywhere>=1'")
    assert "pytest" not in found.what + found.fix


def test_a_setting_asks_for_what_it_needs_besides(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "visionops.diagnosis.installation.metadata.requires",
        lambda name: ['no-such-driver-anywhere>=1; extra == "postgres"'],
    )
    monkeypatch.delenv("VISIONOPS_LOCK_URL", raising=False)
    monkeypatch.delenv("DAGSTER_POSTGRES_URL", raising=False)
    assert installation.packages().state == "ok"
    monkeypatch.setenv("VISIONOPS_LOCK_URL", "postgresql://db/x")
    assert "no-such-driver-anywhere is not installed" in installation.packages().what


def test_a_torchvision_built_for_another_torch_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("visionops.diagnosis.installation.metadata.requires", lambda name: [])
    for name, version in (("torch", "2.14.1+cpu"), ("torchvision", "0.29.1")):
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = installation.packages()
    assert found.state == "broken"
    assert found.what.startswith("torch 2.14.1+cpu and torchvision 0.29.1 are of different builds")
    (tmp_path / "torchvision-0.29.1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: torchvision\nVersion: 0.29.1+cpu\n"
    )
    assert installation.packages().state == "ok"


def test_a_python_that_is_too_old_is_broken(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("platform.python_version", lambda: "3.9.2")
    assert installation.python().state == "broken"

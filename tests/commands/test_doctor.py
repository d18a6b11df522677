"""What `visionops doctor` says of a sound installation, and of each thing that is broken."""

import json
from pathlib import Path
from typing import Any

import pytest
from desk import Desk
from typer.testing import CliRunner

from visionops.diagnosis import Line, machine


def doctor(desk: Desk) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code, and the lines by subject."""
    from visionops.__main__ import app

    result = CliRunner().invoke(app, ["doctor", "--json"], catch_exceptions=False)
    return result.exit_code, {line["subject"]: line for line in json.loads(result.stdout)}


@pytest.fixture(autouse=True)
def a_home_of_its_own(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DAGSTER_HOME", str(desk.world.instance.root_directory))


def test_a_sound_installation_has_nothing_broken(desk: Desk):
    desk.world.publish("week-01", 12, seed=1)
    code, lines = doctor(desk)
    assert code == 0, [line for line in lines.values() if line["state"] == "broken"]
    assert lines["projects"]["what"].startswith("shapes in ")
    assert lines["repository shapes"]["what"].startswith("main is commit ")
    assert {
        "python",
        "versions",
        "home",
        "lakeFS",
        "MLflow",
        "artifacts",
        "drop of shapes",
        "Dagster",
    } <= set(lines)
    assert all(line["fix"] for line in lines.values() if line["state"] != "ok")
    told = desk.run("doctor")
    assert "ok      lakeFS: " in told


def test_what_is_missing_is_a_warning_with_its_fix(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("VISIONOPS_ACTOR")
    code, lines = doctor(desk)
    assert code == 0
    assert (lines["actor"]["state"], lines["actor"]["fix"][:22]) == ("warning", "export VISIONOPS_ACTOR")
    assert "visionops import shapes" in lines["repository shapes"]["fix"]


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


def test_a_key_that_others_can_read_is_broken(desk: Desk):
    credentials = desk.world.root / "lakefs" / "credentials.json"
    credentials.chmod(0o644)
    code, lines = doctor(desk)
    assert code == 1
    assert lines["lakeFS key"]["fix"] == f"chmod 600 {credentials}"


@pytest.mark.parametrize(("gibibytes", "state"), [(50, "ok"), (5, "warning"), (0.5, "broken")])
def test_room_on_the_disk(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, gibibytes: float, state: str, tmp_path: Path
):
    class Usage:
        free = int(gibibytes * machine.GIB)

    monkeypatch.setattr("visionops.diagnosis.machine.shutil.disk_usage", lambda folder: Usage)
    (line,) = machine.folders_and_disk()
    assert isinstance(line, Line)
    assert line.state == state
    assert bool(line.fix) == (state != "ok")


def test_a_package_that_is_not_what_is_asked_for_is_broken(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "visionops.diagnosis.machine.metadata.requires",
        lambda name: ["pandas<1", "no-such-package-anywhere>=1", 'pytest; extra == "dev"'],
    )
    lines = {line.subject: line for line in machine.installed_versions()}
    assert lines["pandas"].state == lines["no-such-package-anywhere"].state == "broken"
    assert "pip install" in lines["pandas"].fix
    assert "pytest" not in lines

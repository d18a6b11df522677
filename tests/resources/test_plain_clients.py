"""The clients know no Dagster: a command that asks it nothing does not load it, and it stores no secret of them."""

import ast
import json
import subprocess
import sys

import dagster as dg
import pytest

from resources.dagster_resources import bound_resources
from resources.home import ROOT
from resources.service_clients import Services
from tests.test_architecture import imports, top_of

AROUND = "resources/dagster_resources.py"


def test_one_file_of_the_clients_knows_dagster():
    knows = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "resources").rglob("*.py")
        if any(
            top_of(name) in ("dagster", "dagster_shared") for name, _ in imports(ast.parse(file.read_text()))
        )
    }
    assert knows == {AROUND}


@pytest.mark.parametrize(
    "module", ["resources.service_clients", "visionops.services", "visionops.cli.command_line"]
)
def test_what_every_command_loads_loads_neither_dagster_nor_mlflow(module: str):
    script = f"import sys, json, {module}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert not set(json.loads(done.stdout)) & {"dagster", "mlflow", "sqlalchemy", "pandas", "lakefs_sdk"}


def test_services_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setenv("VISIONOPS_HOME", str(tmp_path))
    monkeypatch.setenv("LAKEFS_ENDPOINT", "http://lakefs.example")
    monkeypatch.setenv("LAKEFS_UI_URL", "")
    found = Services.from_environment(lakefs_seconds=2.0)
    assert found.lakefs.endpoint == "http://lakefs.example"
    assert found.lakefs.ui_url is None
    assert found.lakefs.timeout_seconds == 2.0
    assert found.artifacts.root == found.registry.memory == str(tmp_path / "artifacts")
    assert found.scratch.root == str(tmp_path / "cache")


def test_secrets_are_bound_by_the_name_of_their_variable(monkeypatch: pytest.MonkeyPatch):
    names = ("LAKEFS_SECRET_ACCESS_KEY", "VISIONOPS_ERROR_WEBHOOK", "MLFLOW_TRACKING_URI", "LAKEFS_ENDPOINT")
    for name in names:
        monkeypatch.setenv(name, f"secret-of-{name}")
    bound = bound_resources(Services.from_environment())
    assert "secret-of-" not in repr(bound)
    assert bound["lakefs"].secret_access_key.env_var_name == "LAKEFS_SECRET_ACCESS_KEY"


def test_bound_clients_are_those_of_the_services(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("LAKEFS_ENDPOINT", "http://lakefs.example")
    monkeypatch.setenv("LAKEFS_SECRET_ACCESS_KEY", "key")
    services = Services.from_environment()
    with dg.build_resources(dict(bound_resources(services))) as made:
        for name, client in vars(services).items():
            assert getattr(made, name) == client

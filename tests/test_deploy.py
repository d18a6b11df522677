"""deploy/compose.yaml against the code: what can be held to without a container engine."""

import re
import tomllib
from functools import cache
from importlib import metadata, util
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from resources.home import ROOT
from visionops.diagnosis.settings import KNOWN

DEPLOY = ROOT / "deploy"
STACK = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = STACK["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
DOCUMENT = (ROOT / "docs" / "deploy.md").read_text()
# What we do not read ourselves but a library of ours does, and where.
READ_BY_LIBRARIES = {
    "AWS_ACCESS_KEY_ID": "botocore/credentials.py",
    "AWS_SECRET_ACCESS_KEY": "botocore/credentials.py",
    "AWS_DEFAULT_REGION": "botocore/configprovider.py",
    "AWS_ENDPOINT_URL": "botocore/configprovider.py",
    "MLFLOW_TRACKING_URI": "mlflow/environment_variables.py",
    "MLFLOW_BACKEND_STORE_URI": "mlflow/server/__init__.py",
    "MLFLOW_SERVER_ALLOWED_HOSTS": "mlflow/environment_variables.py",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "mlflow/environment_variables.py",
}
SET_FROM_OUTSIDE = re.compile(r"\$\{(\w+)(:\?|:-[^}]*)\}")


@cache
def names_in_code() -> frozenset[str]:
    """Every string in our modules that is the name of a variable of ours, of Dagster's, MLflow's or lakeFS's."""
    name = re.compile(r'"((?:VISIONOPS|DAGSTER|MLFLOW|LAKEFS|LAKEFSACTION)_[A-Z_]+)"')
    tops = ("visionops", "visionops_assets", "resources", "sensors")
    files = [ROOT / "definitions.py", *(file for top in tops for file in (ROOT / top).rglob("*.py"))]
    return frozenset(found for file in files for found in name.findall(file.read_text()))


def source_of_library(path: str) -> str:
    """The text of a module, without importing it."""
    package, _, rest = path.partition("/")
    found = util.find_spec(package)
    assert found is not None and found.origin is not None, package
    return (Path(found.origin).parent / rest).read_text()


def is_read(name: str) -> bool:
    """Whether our code, or the library that we say does, reads a variable."""
    return name in names_in_code() or (
        name in READ_BY_LIBRARIES
        and re.search(rf"[\"']{name}[\"']", source_of_library(READ_BY_LIBRARIES[name])) is not None
    )


def rows(heading: str) -> list[str]:
    """The first column of the table below a heading of docs/deploy.md."""
    section = DOCUMENT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]


def variables(heading: str) -> set[str]:
    return {name for row in rows(heading) for name in re.findall(r"`([A-Z_]+)`", row)}


def test_every_variable_that_is_set_for_us_is_read():
    given = {name for service in OURS.values() for name in service["environment"]}
    assert given > {"VISIONOPS_HOME", "DAGSTER_POSTGRES_URL", "LAKEFS_ENDPOINT"}
    assert {name for name in given if not is_read(name)} == set()


def test_secrets_come_from_outside_and_are_asked_for():
    text = (DEPLOY / "compose.yaml").read_text()
    example = {
        name: value
        for name, _, value in (
            line.partition("=")
            for line in (DEPLOY / "env.example").read_text().splitlines()
            if line[:1].isupper()
        )
    }
    assert {name for name, _ in SET_FROM_OUTSIDE.findall(text)} == set(example)
    required = {name for name, default in SET_FROM_OUTSIDE.findall(text) if default == ":?"}
    assert {name: value for name, value in example.items() if name in required and value} == {}
    secret = re.compile(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY|WEBHOOK$|ROOT_USER")
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if secret.search(variable):
                assert SET_FROM_OUTSIDE.fullmatch(value), f"{name}: {variable}"
            elif "@" in str(value):
                assert re.search(r"://.+:\$\{\w+:\?\}@", value), f"{name}: {variable}"


@pytest.mark.parametrize("name", OURS)
def test_each_command_of_ours_is_one(name: str):
    program, *arguments = OURS[name]["command"]
    assert metadata.entry_points(group="console_scripts", name=program), f"no program {program}"
    if program == "mlflow":
        options = source_of_library("mlflow/cli/__init__.py") + source_of_library("mlflow/utils/cli_args.py")
        assert arguments[0] == "server" and "\ndef server(" in options
        assert [one for one in arguments if one.startswith("--") and f'"{one}"' not in options] == []
        return
    loaded = command_behind(program)
    # A typer brings a click of its own.
    while hasattr(loaded, "commands"):
        verb = arguments.pop(0)
        assert verb in loaded.commands, f"{program}: no {verb}"
        loaded = loaded.commands[verb]
    known = {option for parameter in loaded.params for option in parameter.opts}
    assert [one for one in arguments if one.startswith("--") and one not in known] == []


def command_behind(program: str) -> Any:
    """The click command that a program's entry point runs."""
    if program == "visionops":
        from visionops.command_line import app

        return typer.main.get_command(app)
    if program == "dagster":
        from dagster._cli import create_dagster_cli

        return create_dagster_cli()
    if program == "dagster-daemon":
        from dagster._daemon.cli import create_dagster_daemon_cli

        return create_dagster_daemon_cli()
    from dagster_webserver.cli import create_dagster_webserver_cli

    return create_dagster_webserver_cli()


def test_whatever_is_mounted_copied_or_waited_for_is_there():
    volumes = set()
    for name, service in SERVICES.items():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if not source.startswith("."):
                volumes.add(source)
            # The addresses of webhooks, which only the profile `alerts` needs and git ignores.
            elif source != "./secrets":
                assert (DEPLOY / source).exists(), f"{name}: {source}"
        waited_for = set(service.get("depends_on", ())) | {service.get("network_mode", "").partition(":")[2]}
        assert waited_for - {""} <= set(SERVICES), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        assert ":" in service["image"] and not service["image"].endswith(":latest"), name
    assert volumes == set(STACK["volumes"])

    image = (DEPLOY / "Dockerfile").read_text()
    copied = {source for line in re.findall(r"^COPY (.+) \S+$", image, re.M) for source in line.split()}
    assert {source for source in copied if not (ROOT / source).exists()} == set()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages <= copied, "the image has every package"
    locks = re.findall(r"--requirement (\S+)", image)
    assert locks and set(locks) <= copied, "what it installs is copied"


def test_webserver_and_daemon_find_the_code_location():
    server = yaml.safe_load((DEPLOY / "workspace.yaml").read_text())["load_from"][0]["grpc_server"]
    command = SERVICES[server["host"]]["command"]
    assert command[command.index("--port") + 1] == str(server["port"])
    assert command[command.index("--location-name") + 1] == server["location_name"]


def test_the_document_names_every_service_and_only_variables_that_are_read():
    assert {row.strip(" `") for row in rows("The services")} == set(SERVICES)
    told = variables("Your own services")
    assert {name for name in told if not is_read(name)} == set()
    ours = {name for name in names_in_code() if name.startswith(("VISIONOPS_", "LAKEFS"))}
    assert ours - told == set(), "every variable that VisionOps reads is told of"
    assert {name for name in ours if name.startswith("VISIONOPS_")} == set(KNOWN), "`doctor` knows each"
    given = {name for service in OURS.values() for name in service["environment"]}
    assert {name for name in given if not name.startswith("MLFLOW_")} <= told

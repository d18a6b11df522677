"""deploy/compose.yaml against the code: what can be held to without a container engine."""

import json
import os
import re
import subprocess
import tomllib
from functools import cache
from importlib import metadata, util
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from resources.home import ROOT
from visionops.diagnosis.checking import KNOWN

DEPLOY = ROOT / "deploy"
STACK = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = STACK["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
DOCUMENT = (ROOT / "docs" / "deploy.md").read_text()
# What we do not read ourselves but a library of ours does, and where.
READ_BY_LIBRARIES = {
    "AWS_ACCESS_KEY_ID": "botocore/credentials.py",
    "AWS_SECRET_ACCESS_KEY": "botocore/credentials.py",
    "AWS_SESSION_TOKEN": "botocore/credentials.py",
    "AWS_DEFAULT_REGION": "botocore/configprovider.py",
    "AWS_ENDPOINT_URL": "botocore/configprovider.py",
    "MLFLOW_TRACKING_URI": "mlflow/environment_variables.py",
    "MLFLOW_BACKEND_STORE_URI": "mlflow/server/__init__.py",
    "MLFLOW_SERVER_ALLOWED_HOSTS": "mlflow/environment_variables.py",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "mlflow/environment_variables.py",
}
# Others' names that we read or hand on ourselves, and where.
READ_BY_US = {
    "AWS_REGION": "visionops/diagnosis/places.py",
    "WANDB_API_KEY": "resources/models/trackers.py",
    "REPO_TOKEN": "visionops/forge.py",
    "GH_TOKEN": "visionops/forge.py",
    "GITLAB_TOKEN": "visionops/forge.py",
}
# Who is known to MinIO, and the buckets of each.
S3_USERS = {
    "lakefs": {"lakefs"},
    "mlflow": {"mlflow"},
    "visionops": {"visionops-artifacts", "visionops-drop", "visionops-spool"},
}
# Which services may know a secret; the others have no use for it.
KNOWN_TO = {
    "POSTGRES_PASSWORD": {"postgres"},
    "MINIO_ROOT_PASSWORD": {"minio", "buckets"},
    "MLFLOW_DATABASE_PASSWORD": {"postgres", "mlflow"},
    "LAKEFS_DATABASE_PASSWORD": {"postgres", "lakefs"},
    "LAKEFS_S3_SECRET": {"buckets", "lakefs"},
    "MLFLOW_S3_SECRET": {"buckets", "mlflow"},
    "LAKEFS_AUTH_ENCRYPT_SECRET_KEY": {"lakefs"},
    "GRAFANA_PASSWORD": {"grafana"},
    "VISIONOPS_WEBHOOK_TOKEN": {"lakefs", "code", "webhook"},
}
# What is below has holes that are mended above.
FLOORS = {
    "postgres": (15, 18),
    "minio/minio": (2025, 9, 7),
    "minio/mc": (2025, 8, 13),
    "treeverse/lakefs": (1, 84, 0),
    "prom/prometheus": (3, 5, 0),
    "prom/alertmanager": (0, 28, 1),
    "grafana/grafana": (12, 4, 0),
    "python": (3, 11, 14),
}
SET_FROM_OUTSIDE = re.compile(r"\$\{(\w+)(:\?|:-[^}]*)\}")


@cache
def names_in_code() -> frozenset[str]:
    """Every string in our modules that is the name of a variable of ours, of Dagster's, MLflow's or lakeFS's."""
    name = re.compile(r'"((?:VISIONOPS|DAGSTER|MLFLOW|LAKEFS|LAKEFSACTION)_[A-Z_]+)"')
    tops = ("visionops", "visionops_assets", "resources", "sensors", "edge", "webserver", "lakefs_local")
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
    if name in READ_BY_US:
        return f'"{name}"' in (ROOT / READ_BY_US[name]).read_text()
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
    secret = re.compile(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY|WEBHOOK$")
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if variable.endswith("ACCESS_KEY_ID") and value in S3_USERS:
                continue
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
        from visionops.cli.command_line import app

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
    included = project["tool"]["setuptools"]["packages"]["find"]["include"]
    packages = {name.rstrip("*").partition(".")[0] for name in included}
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


def test_images_are_of_one_version_each_and_none_with_known_holes():
    image = re.findall(r"^FROM (\S+)", (DEPLOY / "Dockerfile").read_text(), re.M)
    named = [*image, *(service["image"] for service in SERVICES.values() if "build" not in service)]
    found = {}
    for each in named:
        name, _, tag = each.partition(":")
        found[name] = tuple(int(part) for part in re.findall(r"\d+", tag)[: len(FLOORS[name])])
    assert set(found) == set(FLOORS)
    assert {name for name, version in found.items() if version < FLOORS[name]} == set()


def test_each_service_knows_its_own_secrets():
    ours = set(OURS) - {"mlflow"}
    for secret in re.findall(r"^(\w+)=$", (DEPLOY / "env.example").read_text(), re.M):
        if re.search(r"WEBHOOK$|_ACTOR$", secret):
            continue
        knowing = {
            name
            for name, service in SERVICES.items()
            if f"${{{secret}:?}}" in str(service.get("environment", {}))
        }
        least = {"DAGSTER_DATABASE_PASSWORD": ours | {"postgres"}, "VISIONOPS_S3_SECRET": ours | {"buckets"}}
        lakefs = ours | {"lakefs"} if secret.startswith("LAKEFS") else set()
        assert knowing == (KNOWN_TO.get(secret) or least.get(secret) or lakefs), secret
    for name, service in SERVICES.items():
        users = re.findall(r"postgres(?:ql)?://(\w+):\S+/(\w+)", str(service.get("environment", {})))
        owner = name if name in ("mlflow", "lakefs") else "dagster"
        assert all(user == database == owner for user, database in users), name


def test_a_database_is_its_services_own():
    from tests import postgres

    with postgres.running() as url:
        programs = postgres.programs()
        assert programs is not None

        def psql(*arguments: str, user: str = "postgres", database: str = "postgres") -> str:
            address = f"{url}/{database}".replace("postgres@", f"{user}@")
            done = subprocess.run(
                [programs / "psql", "-X", "-At", "-v", "ON_ERROR_STOP=1", *arguments, address],
                env={
                    **os.environ,
                    **{f"{each.upper()}_DATABASE_PASSWORD": f"p'{each}" for each in databases},
                },
                capture_output=True,
                text=True,
                timeout=60,
            )
            return done.stdout + done.stderr

        databases = ("dagster", "mlflow", "lakefs")
        assert "ERROR" not in psql("-f", str(DEPLOY / "postgres" / "databases.sql"))
        assert psql("-c", "SELECT count(*) FROM pg_authid WHERE rolpassword IS NOT NULL") == "3\n"
        for user in databases:
            assert "CREATE TABLE" in psql("-c", "CREATE TABLE own (a int)", user=user, database=user)
            for other in {*databases, "postgres", "template1"} - {user}:
                assert "permission denied" in psql("-c", "SELECT 1", user=user, database=other), (user, other)


def test_an_s3_key_reaches_its_services_buckets(tmp_path: Path):
    """`mc` is stood in for: what it is told, and each policy as it is at that moment."""
    stand_in = tmp_path / "mc"
    stand_in.write_text(
        '#!/bin/sh\necho "$@" >>"$SAID"\n'
        'case "$*" in "admin user add"*) cat >>"$SAID";; '
        '"admin policy create"*) cat "$6" >"$POLICIES/$5.json";; "admin policy detach"*) exit 1;; esac\n'
    )
    stand_in.chmod(0o755)
    said, kept = tmp_path / "said", tmp_path / "policies"
    kept.mkdir()
    secrets = {f"{user.upper()}_S3_SECRET": f"secret-of-{user}" for user in S3_USERS}
    subprocess.run(
        ["sh", DEPLOY / "minio" / "buckets.sh"],
        env={
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "SAID": str(said),
            "POLICIES": str(kept),
            "TMPDIR": str(tmp_path),
            **secrets,
        },
        check=True,
        timeout=60,
    )
    told = said.read_text().splitlines()
    made = {line.removeprefix("mb --ignore-existing store/") for line in told if line.startswith("mb ")}
    assert made == set().union(*S3_USERS.values())
    assert made >= set(re.findall(r"s3://([\w-]+)", str(SERVICES)))
    for user, buckets in S3_USERS.items():
        assert f"secret-of-{user}" in told, "by standard input, not as an argument"
        assert f"admin policy attach store {user} --user {user}" in told
        (statement,) = json.loads((kept / f"{user}.json").read_text())["Statement"]
        wanted = {f"arn:aws:s3:::{bucket}{what}" for bucket in buckets for what in ("", "/*")}
        assert set(statement["Resource"]) == wanted
        assert not [action for action in statement["Action"] if "*" in action]

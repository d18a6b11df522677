"""A setting may stand in a file, and what it says is in no message."""

import contextlib
import os
import re
import sqlite3
import stat
from pathlib import Path

import pytest

from resources.environ import OTHER_SETTINGS, SecretFileUnusable, read_secret_files
from resources.escaping import is_secret
from resources.home import ROOT
from tests import processes
from visionops import bootstrap
from visionops.diagnosis import installation

SECRET = "hunter2-hunter2"


@pytest.mark.parametrize(
    "name", ["VISIONOPS_WEBHOOK_TOKEN", "VISIONOPS_LOCK_URL", "LAKEFS_SECRET_ACCESS_KEY"]
)
def test_a_file_stands_for_its_variable_in_every_process(tmp_path: Path, name: str) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    environment = {f"{name}_FILE": str(file), "TLS_KEY_FILE": "/nowhere", "VISIONOPS_EMPTY_FILE": ""}
    read_secret_files(environment)
    assert environment[name] == SECRET
    # As in a child of this process.
    read_secret_files(environment)
    assert set(environment) == {name, f"{name}_FILE", "TLS_KEY_FILE", "VISIONOPS_EMPTY_FILE"}


@pytest.mark.parametrize(
    "kind", ["missing", "folder", "pipe", "empty", "two lines", "no text", "large", "both"]
)
def test_a_file_that_cannot_be_used_is_named_and_its_content_is_not(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "secret"
    environment = {"VISIONOPS_WEBHOOK_TOKEN_FILE": str(file)}
    match kind:
        case "folder":
            file.mkdir()
        case "pipe":
            os.mkfifo(file)
        case "empty":
            file.write_text("\n")
        case "two lines":
            file.write_text(f"{SECRET}\n{SECRET}\n")
        case "no text":
            file.write_bytes(b"\xff" + SECRET.encode())
        case "large":
            file.write_text(SECRET * 10_000)
        case "both":
            file.write_text(SECRET)
            environment["VISIONOPS_WEBHOOK_TOKEN"] = f"another-{SECRET}"
    with pytest.raises(SecretFileUnusable, match="VISIONOPS_WEBHOOK_TOKEN_FILE") as refused:
        read_secret_files(environment)
    assert len(str(refused.value).splitlines()) == 1
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("debug", [(), ("--debug",)])
def test_no_error_shows_the_password_of_an_address(tmp_path: Path, debug: tuple[str, ...]) -> None:
    file = tmp_path / "uri"
    file.write_text(f"http://user:{SECRET}@127.0.0.1:1/mlflow")
    environment = {
        "VISIONOPS_HOME": str(tmp_path / "home"),
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
        "MLFLOW_TRACKING_URI_FILE": str(file),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "LAKEFS_ENDPOINT": f"http://key:{SECRET}@127.0.0.1:1",
        "LAKEFS_ACCESS_KEY_ID": "key",
        "LAKEFS_SECRET_ACCESS_KEY": SECRET,
    }
    for command in (("status", "digits"), ("diff", "digits", "a", "b")):
        ended = processes.visionops(*command, *debug, environment=environment, said=tmp_path / command[0])
        assert ended.code == 1
        assert "127.0.0.1:1" in ended.said
        assert ("Traceback" in ended.said) == bool(debug)
        assert SECRET not in ended.said


def test_a_home_is_made_for_its_owner_alone_and_one_that_is_there_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.umask(0o022)
    try:
        for place, mode in (("made", 0o700), ("shared", 0o2775)):
            home = tmp_path / place
            if place == "shared":
                home.mkdir()
                home.chmod(mode)
            monkeypatch.setenv("VISIONOPS_HOME", str(home))
            monkeypatch.setenv("DAGSTER_HOME", "")
            bootstrap.prepare()
            assert stat.S_IMODE(home.stat().st_mode) == mode
    finally:
        os.umask(before)


def test_what_is_made_in_a_home_is_its_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Databases, artifacts and logs too, whichever tool writes them."""
    home = tmp_path / "home"
    monkeypatch.setenv("VISIONOPS_HOME", str(home))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    before = os.umask(0o022)
    try:
        bootstrap.prepare()
        if "system.posix_acl_default" not in os.listxattr(home):
            pytest.skip("this file system has no lists of access")
        for made in (home / "mlflow" / "mlflow.db", tmp_path / "dagster" / "history" / "runs.db"):
            made.parent.mkdir()
            with contextlib.closing(sqlite3.connect(made)) as database:
                database.execute("PRAGMA journal_mode=WAL")
                database.execute("CREATE TABLE t (x)")
                found = {path: stat.S_IMODE(path.stat().st_mode) for path in made.parent.iterdir()}
            assert len(found) == 3 and set(found.values()) == {0o600}
            assert stat.S_IMODE(made.parent.stat().st_mode) == 0o700
    finally:
        os.umask(before)


def test_doctor_says_that_a_home_is_open_to_others_and_what_closes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISIONOPS_HOME", str(tmp_path / "my home"))
    monkeypatch.setenv("DAGSTER_HOME", "")
    bootstrap.prepare()
    look = next(check.look for check in installation.checks() if check.subject == "home")
    assert look().state == "ok"
    (tmp_path / "my home").chmod(0o750)
    told = look()
    assert told.state == "warning" and f"chmod -R go= '{tmp_path}/my home'" in told.fix


def test_every_secret_that_the_code_reads_may_stand_in_a_file() -> None:
    """By their names in the sources; a path and an address of a service that signs no one in are none."""
    named = re.compile(r"""["']([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)["']""")
    read = {
        name
        for top in ("visionops", "visionops_assets", "resources", "sensors", "lakefs_local", "webserver")
        for file in (ROOT / top).rglob("*.py")
        for name in named.findall(file.read_text())
        if is_secret(name)
    }
    unlisted = {name for name in read - set(OTHER_SETTINGS) if not name.startswith("VISIONOPS_")}
    assert read > {"LAKEFS_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY"}
    assert not unlisted, unlisted

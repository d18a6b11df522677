"""A wrong address of a service is one line of every command, with the variable that holds it and no secret."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.lakefs.client import LakeFSResource
from resources.lakefs.replies import LakeFSNotFound, LakeFSRefused
from tests import processes

SECRET = "s3cret-word"
NOBODY = f"postgresql://ada:{SECRET}@127.0.0.1:9/none"


@pytest.fixture(scope="module")
def not_ours() -> Iterator[str]:
    """The address of a web server that is neither lakeFS nor MLflow: 404 for whatever is asked."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


class _Quiet(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def said_by(folder: Path, *words: str, **environment: str) -> str:
    """The one line of a command that must fail."""
    ended = processes.visionops(
        *words, environment={"VISIONOPS_HOME": str(folder / "home"), **environment}, said=folder / "said"
    )
    assert ended.code == 1, ended.said
    (line,) = ended.said.strip().splitlines()
    assert SECRET not in line
    return line


@pytest.mark.slow
@pytest.mark.parametrize("words", [("tick",), ("up",), ("metrics",), ("what-if", "digits")])
def test_every_verb_that_needs_dagster_names_its_wrong_database(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    assert "DAGSTER_POSTGRES_URL" in said_by(tmp_path, *words, DAGSTER_POSTGRES_URL=NOBODY)


@pytest.mark.parametrize("address", ["nonsense", f"ada:{SECRET}@db/x", "mysql://db/x", "sqlite:///x"])
def test_whatever_is_wrong_with_the_address_of_dagster_s_database(tmp_path: Path, address: str) -> None:
    assert "DAGSTER_POSTGRES_URL" in said_by(tmp_path, "tick", DAGSTER_POSTGRES_URL=address)


@pytest.mark.parametrize(
    "address", [NOBODY, "nonsense", "ftp://models", "file:///models", f"postgres://ada:{SECRET}@db:port/x"]
)
def test_a_wrong_address_of_mlflow(tmp_path: Path, address: str) -> None:
    assert "MLFLOW_TRACKING_URI" in said_by(tmp_path, "status", "digits", MLFLOW_TRACKING_URI=address)


def test_up_says_that_mlflow_s_address_is_wrong_before_anything_starts(tmp_path: Path) -> None:
    assert "MLFLOW_TRACKING_URI" in said_by(tmp_path, "up", MLFLOW_TRACKING_URI=NOBODY)
    assert not (tmp_path / "home" / "lakefs").exists()


def test_a_server_that_is_no_mlflow_is_named_as_such(tmp_path: Path, not_ours: str) -> None:
    line = said_by(tmp_path, "status", "digits", MLFLOW_TRACKING_URI=not_ours)
    assert f"what answers at {not_ours} is no MLflow (status 404" in line


def test_a_server_that_is_no_lakefs_is_not_taken_for_one_without_the_repository(not_ours: str) -> None:
    lakefs = LakeFSResource(endpoint=not_ours, access_key_id="key", secret_access_key=SECRET)
    for ask in (lakefs.version, lambda: lakefs.head("digits")):
        with pytest.raises(LakeFSRefused, match=r"is no lakeFS .*: correct LAKEFS_ENDPOINT") as refused:
            ask()
        assert not isinstance(refused.value, LakeFSNotFound)
        assert len(str(refused.value).splitlines()) == 1

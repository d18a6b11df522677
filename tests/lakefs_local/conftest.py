"""A server shared by the tests of a module, and a fresh repository on it for each test."""

from collections.abc import Iterator
from itertools import count as counter
from pathlib import Path

import pytest
from lakefs_api import Api, Repository

from lakefs_local.discovery import Server, serving

_numbers = counter()


@pytest.fixture(scope="module")
def imports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the server may import from."""
    return tmp_path_factory.mktemp("imports")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's data folder."""
    return tmp_path_factory.mktemp("lakefs") / "data"


@pytest.fixture(scope="module")
def server(data: Path, imports: Path) -> Iterator[Server]:
    """A running server."""
    with serving(data, import_from=[imports]) as started:
        yield started


@pytest.fixture(scope="module")
def api(server: Server) -> Api:
    """A client of the server."""
    return Api(server)


@pytest.fixture
def repository(api: Api) -> Repository:
    """A new repository with a branch `main`."""
    return Repository(api, f"repository-{next(_numbers)}")

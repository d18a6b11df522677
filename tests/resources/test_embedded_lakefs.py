"""A client of the embedded lakeFS works on when its server went, wherever the next one is."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from lakefs_local import discovery
from resources.home import ROOT
from resources.lakefs.client import LakeFSResource
from resources.lakefs.replies import LakeFSNotFound


@pytest.fixture
def lakefs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LakeFSResource]:
    """A client of the server that it started for a home of its own, with one repository."""
    monkeypatch.setenv("VISIONOPS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LAKEFS_ENDPOINT", raising=False)
    client = LakeFSResource()
    client.create_repository("shop")
    client.write("shop", "main", "a", b"1")
    client.save("shop", "main", "first")
    yield client
    discovery.stop(tmp_path / "home" / "lakefs")


def kill_server(home: Path) -> int:
    """Kill the server of a home as a crash would; the port that it had."""
    server = discovery.running(home / "lakefs")
    assert server is not None
    os.kill(server.pid, signal.SIGKILL)
    psutil.Process(server.pid).wait(timeout=20)
    port = urlsplit(server.endpoint).port
    assert port is not None
    return port


def test_a_client_finds_the_next_server_where_another_home_took_the_port(
    lakefs: LakeFSResource, tmp_path: Path
) -> None:
    port = kill_server(tmp_path / "home")
    with discovery.serving(tmp_path / "other", prefer=[port]) as other:
        assert urlsplit(other.endpoint).port == port
        # The other one knows neither this key pair nor this repository.
        assert lakefs.read("shop", "main", "a") == b"1"
        assert lakefs.address() != other.endpoint


def test_all_threads_of_a_client_find_the_next_server(lakefs: LakeFSResource, tmp_path: Path) -> None:
    kill_server(tmp_path / "home")
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: lakefs.read("shop", "main", "a"), range(32)))
    assert found == [b"1"] * 32


def test_a_refusal_of_the_server_in_use_is_believed_at_once(lakefs: LakeFSResource, tmp_path: Path) -> None:
    before = discovery.running(tmp_path / "home" / "lakefs")
    with pytest.raises(LakeFSNotFound):
        lakefs.read("shop", "main", "absent")
    assert discovery.running(tmp_path / "home" / "lakefs") == before


def test_the_server_stays_while_its_client_computes(lakefs: LakeFSResource, tmp_path: Path) -> None:
    data = tmp_path / "home" / "lakefs"
    lakefs.head("shop")
    stop = (
        "from pathlib import Path; from lakefs_local import discovery; "
        f"raise SystemExit(discovery.stop(Path({str(data)!r}), unless_used=True))"
    )
    another = subprocess.run([sys.executable, "-c", stop], cwd=ROOT, check=True, timeout=60)
    assert another.returncode == 0
    assert discovery.running(data) is not None

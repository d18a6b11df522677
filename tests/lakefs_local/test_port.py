"""Links to pages are stored in other systems, so a folder's server comes back where it was."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from lakefs_local import discovery


def _started(data: Path) -> int:
    """Start a folder's server as any process does, stop it, and say at which port it was."""
    server = discovery.ensure_running(data)
    assert discovery.stop(data)
    port = urlsplit(server.endpoint).port
    assert port is not None
    return port


@contextmanager
def _taken(port: int) -> Iterator[None]:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        yield


def test_a_folder_is_served_at_the_same_port_again(tmp_path: Path):
    assert _started(tmp_path) == _started(tmp_path)


def test_a_folder_whose_port_was_taken_is_served_at_another_one_and_stays_there(tmp_path: Path):
    first = _started(tmp_path)
    with _taken(first):
        second = _started(tmp_path)
    assert second != first
    assert _started(tmp_path) == second

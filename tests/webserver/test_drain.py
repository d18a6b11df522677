"""SIGTERM: whoever is being answered is answered, nobody new is taken, and the process ends."""

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from drained import serve

from tests.processes import start


def until(true: Callable[[], bool]) -> None:
    by = time.monotonic() + 60
    while not true():
        assert time.monotonic() < by
        time.sleep(0.01)


def refused(address: str) -> bool:
    try:
        httpx.get(address, timeout=0.2)
    except httpx.ConnectError:
        return True
    except httpx.HTTPError:
        return False
    return False


@pytest.mark.slow
def test_what_is_under_way_is_answered_after_sigterm(tmp_path: Path):
    running = start(serve, str(tmp_path), environment=dict(os.environ), said=tmp_path / "said")
    until(lambda: bool((tmp_path / "address").exists() and (tmp_path / "address").read_text()))
    address = (tmp_path / "address").read_text()
    with ThreadPoolExecutor(1) as client:
        asked = client.submit(httpx.get, address, timeout=60)
        until((tmp_path / "came").exists)
        running.send(signal.SIGTERM)
        until(lambda: refused(address))
        # Longer than a command has that hears Ctrl-C.
        with pytest.raises(TimeoutError):
            asked.result(4)
        (tmp_path / "go").touch()
        assert asked.result(60).text == "answered"
    assert running.ended().code == 143

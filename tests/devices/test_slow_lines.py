"""Lines that are slow, far and stalling: an update comes through, at no more requests, and no byte twice.

The line is one in this process with a clock of its own, so that hours of it take no time.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import urllib3

from edge.agent import Agent
from edge.fetch import CHUNK, Client
from tests.devices.small_fleet import Device, Fleet, frame, update

# What one packet brings.
PACKET = 1460
HOST = "http://models.example.com"


@dataclass
class Line:
    """Stands where urllib3's pool does: answers with Range from a folder, as slow as it is, within the timeouts.

    `latency` in seconds a request, `rate` in bytes a second, `stall` in seconds before every hundredth packet.
    """

    root: Path
    latency: float = 0.3
    rate: float = 1000.0
    stall: float = 0.0
    seconds: float = 0.0
    sent: int = 0
    requests: list[str] = field(default_factory=list)

    def request(self, method: str, url: str, *, timeout: Any, headers: Mapping[str, str], **_: Any) -> Any:
        self.requests.append(url)
        self.waits(self.latency, timeout.connect_timeout)
        file = self.root / unquote(urlsplit(url).path).lstrip("/")
        if not file.is_file():
            return Answer(self, b"", 404, 0, timeout)
        start = int(headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        content = file.read_bytes()
        return Answer(self, content[start:], 206 if start else 200, start, timeout)

    def waits(self, seconds: float, most: Any) -> None:
        if isinstance(most, int | float) and seconds > most:
            self.seconds += most
            raise urllib3.exceptions.TimeoutError(f"nothing came for {most:g} s")
        self.seconds += seconds


class Answer:
    """A body that comes in packets."""

    def __init__(self, line: Line, body: bytes, status: int, start: int, timeout: Any) -> None:
        self.status, self._line, self._body = status, line, io.BytesIO(body)
        self.headers = {"Content-Range": f"bytes {start}-{start + len(body) - 1}/*"} if status == 206 else {}
        opened = timeout.clone()
        opened.start_connect()
        self._most = opened.read_timeout

    def read1(self, most: int) -> bytes:
        packet = self._body.read(min(most, PACKET))
        self._line.sent += len(packet)
        stalls = self._line.sent // PACKET % 100 == 99
        if packet:
            self._line.waits(len(packet) / self._line.rate + self._line.stall * stalls, self._most)
        return packet

    def close(self) -> None: ...


def over(fleet: Fleet, monkeypatch: pytest.MonkeyPatch, **how: Any) -> tuple[Line, Device]:
    line = Line(fleet.root / "repository", **how)
    monkeypatch.setattr(Client, "_pool", lambda _: line)
    return line, fleet.device(url=f"{HOST}/shapes")


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"stall": 3.0},
        # Within the 30 s that a silent line is given, however long it took to get one.
        {"stall": 25.0},
        {"latency": 9.0, "stall": 25.0},
    ],
    ids=["300 ms, 1 kB/s", "stalls of 3 s", "stalls of 25 s", "9 s to connect"],
)
def test_an_update_comes_over_a_slow_line_without_a_byte_twice(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, how: dict[str, float]
) -> None:
    line, device = over(fleet, monkeypatch, **how)
    agent = device.start()
    assert update(agent)["model"]["release"] == 1
    second = fleet.bundle(2, padding=4 * CHUNK)
    fleet.publish(second)
    line.requests.clear()
    line.sent, line.seconds = 0, 0.0
    assert update(agent)["model"]["release"] == 2
    assert not agent.problems
    files = list(second.manifest["files"].values())
    asked = [url for url in line.requests if "/blobs/" in url]
    assert len(asked) == len(files)
    blobs = sum(each["size"] for each in files)
    assert blobs <= line.sent <= blobs + 20_000
    # What the line takes, and not a second of the agent's own.
    stalls = line.sent / PACKET / 100 + 1
    most = line.sent / line.rate + len(line.requests) * line.latency + stalls * line.stall
    assert line.seconds <= most + 1


def test_a_poll_over_a_slow_line_takes_two_requests_and_a_second(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, device = over(fleet, monkeypatch)
    agent = device.start()
    update(agent)
    line.requests.clear()
    line.seconds = 0.0
    agent.look()
    assert len(line.requests) == 2 and line.seconds < 2


def test_a_line_that_stalls_for_longer_keeps_what_came_and_goes_on_there(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, device = over(fleet, monkeypatch, stall=31.0)
    agent = device.start()
    update(agent)
    second = fleet.bundle(2, padding=8 * CHUNK)
    fleet.publish(second)
    line.sent = 0
    assert update(agent)["model"]["release"] == 2
    blobs = sum(each["size"] for each in second.manifest["files"].values())
    # The packet that came too late is lost each time, and no other.
    assert line.sent <= blobs + 20_000 + 8 * PACKET


def test_a_download_of_hours_does_not_keep_a_device_from_news(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, device = over(fleet, monkeypatch)
    agent = device.start()
    update(agent)
    monkeypatch.setattr("edge.agent.monotonic", lambda: line.seconds)
    fleet.publish(fleet.bundle(2, padding=20 * CHUNK), poll_every=300)
    agent.look()
    agent.settle()
    # A look is due: the download waits for it, and goes on where it was.
    assert (agent.state.phase, agent.state.candidate is not None) == ("DOWNLOAD", True)
    assert held(agent) >= 3 * CHUNK and agent.answer(frame())["model"]["release"] == 1
    before = held(agent)
    agent.look()
    agent.settle()
    assert held(agent) >= before + 3 * CHUNK
    # What nobody wants any more is not fetched to its end.
    fleet.assign(base={"bundle": agent.state.good.id, "release": 1})  # type: ignore[union-attr]
    sent = line.sent
    agent.look()
    agent.settle()
    assert line.sent < sent + 20_000
    assert agent.state.phase == "IDLE" and held(agent) == 0
    third = fleet.bundle(3, padding=20 * CHUNK)
    fleet.publish(third, poll_every=300)
    line.sent = 0
    for _ in range(20):
        update(agent)
    assert agent.state.good is not None and agent.state.good.release == 3
    assert line.sent <= sum(each["size"] for each in third.manifest["files"].values()) + 20 * 20_000


def held(agent: Agent) -> int:
    """Bytes of what is on its way."""
    files = agent._files
    return sum(files.size(f"incoming/{name}") or 0 for name in files.names("incoming"))

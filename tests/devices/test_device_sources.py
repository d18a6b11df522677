"""Images in and answers out: folders that a camera writes to, and sinks that fill or fail."""

import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.agent import Surroundings
from edge.device import STUCK_SECONDS
from edge.device import Device as Running
from edge.fetch import Client, Unreachable
from edge.files import Files
from edge.runner import OpenedHere
from edge.selftest import examine
from edge.settings import Settings
from edge.sources import FolderSource, Frame, HttpSink, LinesSink, answer_frame, http_endpoint
from tests.devices.small_fleet import GROUP, Fleet, frame


def waiting(source: FolderSource) -> list[str]:
    """What a round takes, answered."""
    found = []
    for each in source.frames():
        found.append(each.name)
        source.done(each)
    source.settled()
    return found


@pytest.mark.parametrize("then", ["keep", "remove"])
def test_each_file_is_taken_once_and_only_when_it_is_whole(tmp_path: Path, then: str) -> None:
    camera, files = tmp_path / "camera", Files(tmp_path / "state")
    camera.mkdir()
    (tmp_path / "state").mkdir()
    source = FolderSource(camera, files, then)
    for name in ("b.png", ".hidden.png", "c.png.part", "d.tmp"):
        (camera / name).write_bytes(b"half")
    (camera / "empty.png").touch()
    assert waiting(source) == []
    (camera / "b.png").write_bytes(b"half and more")
    assert waiting(source) == []
    assert waiting(source) == ["b.png"]
    assert waiting(source) == []
    assert (camera / "b.png").exists() == (then == "keep")
    # Another picture under the same name is another picture, also for the next process.
    (camera / "b.png").write_bytes(b"another picture")
    again = FolderSource(camera, files, then)
    assert [waiting(again), waiting(again)] == [[], ["b.png"]]
    third = FolderSource(camera, files, then)
    assert [waiting(third), waiting(third)] == [[], []]


@pytest.mark.parametrize(
    "name",
    ["a\nb.png", "a\\nb.png", "100%0A.png", "tab\there.png", "line\u2028.png", "\x85.png", "\udcff.png"],
)
def test_whatever_a_file_is_called_it_is_answered_once(tmp_path: Path, name: str) -> None:
    camera, files = tmp_path / "camera", Files(tmp_path / "state")
    camera.mkdir()
    (tmp_path / "state").mkdir()
    (camera / name).write_bytes(b"picture")
    source = FolderSource(camera, files)
    assert waiting(source) + waiting(source) == [name]
    for _ in range(2):
        again = FolderSource(camera, files)
        assert waiting(again) + waiting(again) == []
    LinesSink(tmp_path / "answers.jsonl")({"name": name})
    assert json.loads((tmp_path / "answers.jsonl").read_text()) == {"name": name}


def test_what_was_answered_is_forgotten_with_its_file_but_not_with_a_folder_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera, files = tmp_path / "camera", Files(tmp_path / "state")
    camera.mkdir()
    (tmp_path / "state").mkdir()
    source = FolderSource(camera, files)
    for number in range(20):
        (camera / f"{number}.png").write_bytes(b"picture")
    assert len(waiting(source) + waiting(source)) == 20
    # Not there yet when the agent starts, as a mount may be, or empty.
    camera.rename(tmp_path / "away")
    source = FolderSource(camera, files)
    with pytest.raises(FileNotFoundError, match="is no folder: make it, or name the camera's"):
        waiting(source)
    camera.mkdir()
    assert waiting(source) == []
    camera.rmdir()
    (tmp_path / "away").rename(camera)
    assert waiting(source) + waiting(source) == []
    # A camera that runs for years fills neither the memory nor the disk.
    monkeypatch.setattr("edge.sources.MOST_GONE", 30)
    for round in range(1, 10):
        for file in camera.iterdir():
            file.rename(camera / f"{round}-{int(file.stem.split('-')[-1])}.png")
        assert len(waiting(source) + waiting(source)) == 20
        assert (files.read("answered.tsv") or b"").count(b"\n") <= 30 + 3 * 20
        assert len(source._answered) <= 30 + 3 * 20
    again = FolderSource(camera, files)
    assert waiting(again) + waiting(again) == []


def test_what_cannot_be_removed_is_told_and_keeps_no_other_from_being_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = tmp_path / "camera"
    camera.mkdir()
    (tmp_path / "state").mkdir()
    for name in "abc":
        (camera / f"{name}.png").write_bytes(b"picture")
    source = FolderSource(camera, Files(tmp_path / "state"), "remove")
    assert waiting(source) == []
    found = []
    with monkeypatch.context() as read_only:
        # As root, whom no mode keeps from it.
        read_only.setattr(Path, "unlink", lambda path, **_: path.joinpath("x").rmdir())
        for _ in range(2):
            with pytest.raises(NotADirectoryError):
                for each in source.frames():
                    found.append(each.name)
                    source.done(each)
                source.settled()
    assert sorted(found) == ["a.png", "b.png", "c.png"]
    assert waiting(source) == [] and list(camera.iterdir()) == []


def test_another_picture_in_the_place_of_an_answered_one_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "camera").mkdir()
    (tmp_path / "state").mkdir()
    file = tmp_path / "camera" / "newest.png"
    file.write_bytes(b"picture")
    source = FolderSource(tmp_path / "camera", Files(tmp_path / "state"), "remove")
    assert waiting(source) == []
    (taken,) = source.frames()
    file.write_bytes(b"the next picture")
    source.done(taken)
    source.settled()
    assert waiting(source) + waiting(source) == ["newest.png"]
    assert not file.exists()


def test_what_was_answered_is_durable_before_a_long_round_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is killed in the middle of a day's backlog does not begin it anew."""
    (tmp_path / "camera").mkdir()
    (tmp_path / "state").mkdir()
    for number in range(5):
        (tmp_path / "camera" / f"{number}.png").write_bytes(b"picture")
    source = FolderSource(tmp_path / "camera", Files(tmp_path / "state"))
    assert list(source.frames()) == []
    seconds = iter(range(100))
    monkeypatch.setattr("edge.sources.monotonic", lambda: float(next(seconds)))
    for number, each in enumerate(source.frames()):
        source.done(each)
        if number == 2:
            break
    again = FolderSource(tmp_path / "camera", Files(tmp_path / "state"))
    assert waiting(again) + waiting(again) == ["3.png", "4.png"]


def test_an_image_that_cannot_be_read_is_told_and_not_asked_again(tmp_path: Path) -> None:
    from edge.runner import BadImage

    def refuse(_: bytes) -> dict[str, Any]:
        raise BadImage("is no image")

    told = answer_frame(refuse, Frame("x.png", "1", b"x"), "now")
    assert told["error"] == "is no image" and told["name"] == "x.png" and len(told["image_sha256"]) == 64


def test_a_file_that_is_too_large_for_an_image_is_told_and_not_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(_: bytes) -> dict[str, Any]:
        raise AssertionError("a model was asked")

    monkeypatch.setattr("edge.sources.MOST_IMAGE_BYTES", 1 << 20)
    (tmp_path / "state").mkdir()
    (tmp_path / "camera").mkdir()
    with (tmp_path / "camera" / "film.mp4").open("wb") as stream:
        stream.truncate(1 << 40)
    source = FolderSource(tmp_path / "camera", Files(tmp_path / "state"))
    assert list(source.frames()) == []
    (found,) = source.frames()
    told = answer_frame(asked, found, "now")
    assert told == {"at": "now", "name": "film.mp4", "error": "the image has more than 1 MiB"}


def test_lines_are_kept_up_to_a_size(tmp_path: Path) -> None:
    sink = LinesSink(tmp_path / "deep" / "answers.jsonl", max_mb=0.001)
    for number in range(100):
        sink({"number": number, "text": "ä" * 20})
    kept = [json.loads(line) for line in (tmp_path / "deep" / "answers.jsonl").read_text().splitlines()]
    before = [json.loads(line) for line in (tmp_path / "deep" / "answers.jsonl.1").read_text().splitlines()]
    assert [each["number"] for each in before + kept] == list(range(100 - len(before + kept), 100))
    assert (tmp_path / "deep" / "answers.jsonl").stat().st_size < 2000


def test_answers_are_posted_and_a_sink_that_is_gone_is_a_problem(tmp_path: Path) -> None:
    received: list[bytes] = []

    def answer(image: bytes) -> dict[str, Any]:
        received.append(image)
        return {"fine": True}

    with http_endpoint("127.0.0.1:0", answer, dict) as url:
        HttpSink(Client(), f"{url}/predict")({"prediction": "ring"})
        with pytest.raises(Unreachable, match="answers 404"):
            HttpSink(Client(), f"{url}/elsewhere")({})
    assert json.loads(received[0]) == {"prediction": "ring"}
    with pytest.raises(Unreachable, match="cannot be reached"):
        HttpSink(Client(), f"{url}/predict")({})
    with pytest.raises(OSError, match="cannot listen on nowhere:x"), http_endpoint("nowhere:x", answer, dict):
        pass


@pytest.mark.parametrize("stated", [b"many", b"-1", b"0", b"99999999999", "٣".encode()])
def test_a_request_that_states_no_length_is_refused_and_the_next_is_answered(
    stated: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[bytes] = []

    def answer(image: bytes) -> dict[str, Any]:
        seen.append(image)
        return {"prediction": "ring"}

    with http_endpoint("127.0.0.1:0", answer, dict) as url:
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), 60) as client:
            client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: " + stated + b"\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 400")
        # One that leaves in the middle of its image has none.
        with socket.create_connection(("127.0.0.1", port), 60) as client:
            client.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
            client.shutdown(socket.SHUT_WR)
            assert client.recv(100) == b""
        HttpSink(Client(), f"{url}/predict")({})
    assert seen == [b"{}"]
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("then", ["keep", "remove"])
def test_a_picture_that_comes_over_a_slow_line_is_answered_whole(
    running: Running, tmp_path: Path, then: str
) -> None:
    """A pause in the middle is longer than two looks: half a picture is neither told nor removed."""
    running.agent.look()
    running.agent.settle()
    camera, told = tmp_path / "camera", list[Any]()
    camera.mkdir()
    source = FolderSource(camera, running.files, then)
    picture, half, broken = frame(), camera / "half.png", camera / "broken.png"
    half.write_bytes(picture[: len(picture) // 2])
    broken.write_bytes(b"no picture")
    for _ in range(3):
        running._answer_all(source, told.append)
    assert told == []
    half.write_bytes(picture)
    for _ in range(3):
        running._answer_all(source, told.append)
    assert [(each["name"], each["prediction"]) for each in told] == [("half.png", told[0]["prediction"])]
    # What stays as it is will never be one.
    os.utime(broken, (broken.stat().st_mtime - 11,) * 2)
    for _ in range(3):
        running._answer_all(source, told.append)
    assert [each["name"] for each in told] == ["half.png", "broken.png"] and "error" in told[1]
    assert {file.name for file in camera.iterdir()} == ({half.name, broken.name} if then == "keep" else set())


@pytest.fixture
def running(fleet: Fleet, tmp_path: Path) -> Iterator[Running]:
    """A device without a source of its own."""
    folder = tmp_path / "device"
    folder.mkdir()
    (folder / "root.json").write_bytes(fleet.repository.bootstrap())
    content = {"format": 1, "project": "shapes", "group": GROUP, "device": "cam-1", "repository": fleet.url}
    (folder / "device.json").write_text(json.dumps(content))
    made = Running(Settings.read(folder), Surroundings(open_runner=OpenedHere, examine=examine))
    yield made
    made.close()


class Camera:
    """Three images; `after` is called with each that was answered."""

    def __init__(self, after: Callable[[int], object]) -> None:
        self.after = after

    def frames(self) -> Iterator[Frame]:
        for number in range(3):
            yield Frame(f"{number}", f"{number}", frame(number))

    def done(self, taken: Frame) -> None:
        self.after(int(taken.name))

    def settled(self) -> None: ...


def test_a_program_of_ones_own_gives_images_and_takes_answers(running: Running) -> None:
    answers: list[Any] = []
    camera = Camera(lambda number: running.stop() if number == 2 else None)
    running.run(camera, answers.append, say=lambda _: None)
    assert [each["name"] for each in answers] == ["0", "1", "2"]
    assert {each["model"]["release"] for each in answers} == {1}


def test_the_watchdog_is_told_while_images_wait_and_not_by_who_is_stuck(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backlog that takes longer than the watchdog waits must not be begun anew for ever."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        told.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setattr("edge.device._WATCHDOG_EVERY", 0.01)

        def answered(number: int) -> None:
            # In the middle of a round: it does not end before this was said twice.
            while number == 1 and told.recv(100) + told.recv(100) != b"WATCHDOG=1" * 2:
                pass
            if number == 2:
                running.stop()

        running.run(Camera(answered), say=lambda _: None)
        told.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while told.recv(100):
                pass
        running._tell_watchdog()
        assert told.recv(100) == b"WATCHDOG=1"
        running._alive -= STUCK_SECONDS + 1
        running._tell_watchdog()
        with pytest.raises(BlockingIOError):
            told.recv(100)

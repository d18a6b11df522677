"""Images in and answers out: folders that a camera writes to, and sinks that fill or fail."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.device import Device as Running
from edge.fetch import Client, Unreachable
from edge.files import Files
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


def test_what_was_answered_is_forgotten_with_its_file(tmp_path: Path) -> None:
    camera, files = tmp_path / "camera", Files(tmp_path / "state")
    camera.mkdir()
    (tmp_path / "state").mkdir()
    source = FolderSource(camera, files)
    for number in range(20):
        (camera / f"{number}.png").write_bytes(b"picture")
    assert len(waiting(source) + waiting(source)) == 20
    for file in camera.iterdir():
        file.unlink()
    FolderSource(camera, files)
    assert files.read("answered.tsv") == b""


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


def test_a_program_of_ones_own_gives_images_and_takes_answers(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    fleet.publish(fleet.bundle(1))
    folder = tmp_path / "device"
    folder.mkdir()
    (folder / "root.json").write_bytes(fleet.repository.bootstrap())
    content = {"format": 1, "project": "shapes", "group": GROUP, "device": "cam-1", "repository": fleet.url}
    (folder / "device.json").write_text(json.dumps(content))
    answers: list[Any] = []

    class Camera:
        def frames(self) -> Iterator[Frame]:
            for number in range(3):
                yield Frame(f"{number}", f"{number}", frame(number))

        def done(self, _: Frame) -> None:
            if len(answers) >= 3:
                running.stop()

        def settled(self) -> None: ...

    running = Running.open(folder)
    running.run(Camera(), answers.append, say=lambda _: None)
    assert [each["name"] for each in answers] == ["0", "1", "2"]
    assert {each["model"]["release"] for each in answers} == {1}

"""What is typed, copied or switched on wrongly on a device: one clear line of `visionops-edge`, the problem in what it
reports, and the model before goes on."""

import hashlib
import json
import platform as stdlib_platform
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from edge.__main__ import main
from tests.devices.cabinet import Cabinet
from tests.devices.small_fleet import Fleet
from visionops_assets.delivery.repository import Repository


@pytest.fixture(scope="module")
def answering(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a repository, and a device that answers by release 1, which it was assigned there."""
    fleet = Fleet(tmp_path_factory.mktemp("answering"))
    fleet.publish(fleet.bundle(1))
    made = Cabinet.provisioned(fleet)
    made.photograph(4)
    code, said = made.run("once")
    assert code == 0, said
    return fleet.root


@pytest.fixture
def cabinet(answering: Path, tmp_path: Path) -> Cabinet:
    """A copy of them."""
    shutil.copytree(answering, tmp_path / "copy")
    made = Cabinet(Fleet(tmp_path / "copy"))
    file = made.folder / "device.json"
    file.write_text(file.read_text().replace(str(answering), str(made.fleet.root)))
    return made


def goes_on(cabinet: Cabinet, *, says: str) -> str:
    """`once` says what is wrong in one line and ends with 1; an image is answered by release 1 all the same."""
    before = len(cabinet.answers())
    cabinet.photograph(1)
    code, said = cabinet.typed("once")
    assert code == 1, said
    assert "Traceback" not in said
    lines = [line for line in said.splitlines() if says in line]
    assert len(lines) == 1, said
    assert [each["model"]["release"] for each in cabinet.answers()[before:]] == [1]
    # `status` tells the same, without a look.
    status = json.loads((cabinet.folder / "state" / "status.json").read_text())
    assert says in (status["problem"] or "") or any(says in why for why in status["quarantine"].values())
    return said


def reported(cabinet: Cabinet, event: str) -> dict[str, Any]:
    """The last event of this kind that arrived."""
    return [each for each in cabinet.events().values() if each["event"] == event][-1]


def test_an_onnx_runtime_that_lacks_the_opset(cabinet: Cabinet) -> None:
    cabinet.fleet.publish(cabinet.fleet.bundle(2, requires={"onnxruntime": "99.0"}))
    cabinet.photograph(1)
    _, said = cabinet.typed("once")
    assert "wrong_runtime" in said and "Traceback" not in said
    assert "answered   images: 1 by version 1 (release 1)" in said
    event = reported(cabinet, "refused")
    assert event["why"] == "wrong_runtime" and "pip install -U onnxruntime" in event["detail"]
    assert cabinet.answers()[-1]["model"]["release"] == 1
    # Not a byte of it was fetched.
    assert len(list((cabinet.folder / "state" / "blobs").iterdir())) == 2


def test_a_bundle_larger_than_the_disk(cabinet: Cabinet, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = cabinet.fleet.bundle(2)
    bundle.manifest["files"]["model.onnx"]["size"] = 1 << 50
    monkeypatch.setattr(cabinet.fleet.repository, "add_bundle", _sign_unseen(cabinet.fleet.repository))
    cabinet.fleet.publish(bundle)
    cabinet.photograph(1)
    _, said = cabinet.typed("once")
    assert "no_space" in said and "Traceback" not in said
    event = reported(cabinet, "refused")
    assert event["why"] == "no_space" and "do not fit on the disk" in event["detail"]
    assert cabinet.answers()[-1]["model"]["release"] == 1


def _sign_unseen(repository: Repository) -> Any:
    """`add_bundle` of a publisher who signs without a look at the files."""

    class Agreeable(bytes):
        def __len__(self) -> int:
            return 1 << 50

    def add(manifest: dict[str, Any], blobs: dict[str, bytes]) -> bool:
        model = Agreeable(blobs["model.onnx"])
        assert hashlib.sha256(model).hexdigest() == manifest["files"]["model.onnx"]["sha256"]
        return Repository.add_bundle(repository, manifest, {**blobs, "model.onnx": model})

    return add


def test_a_clock_that_is_weeks_ahead(cabinet: Cabinet) -> None:
    """Seen from the device: what is signed now ended long ago."""
    cabinet.fleet.clock.pass_(days=-30)
    cabinet.fleet.assign(base=cabinet.fleet.bundle(1, release=1).named)
    goes_on(cabinet, says="expired")
    assert reported(cabinet, "problem")["detail"].startswith("repository: expired")
    # Told once, and once that it is over.
    cabinet.typed("once")
    cabinet.fleet.clock.pass_(days=30)
    cabinet.fleet.assign(base=cabinet.fleet.bundle(1, release=1).named)
    code, said = cabinet.typed("once")
    assert code == 0, said
    events = [each["event"] for each in cabinet.events().values()]
    assert events.count("problem") == events.count("well") == 1


def test_a_clock_that_is_weeks_behind(cabinet: Cabinet) -> None:
    """Seen from the device: what is signed now is of the future, which it takes, since its clock is not known right."""
    cabinet.fleet.clock.pass_(days=30)
    cabinet.fleet.publish(cabinet.fleet.bundle(2))
    cabinet.photograph(5)
    _, said = cabinet.typed("once")
    assert "Traceback" not in said
    assert cabinet.answers()[-1]["model"]["release"] in (1, 2)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"source": {"folder": "/nowhere/camera"}}, "is no folder: make it, or name the camera's"),
        ({"repository": "/nowhere/repository"}, "/nowhere/repository"),
        ({"repository": "http://127.0.0.1:9/shapes"}, "http://127.0.0.1:9 cannot be reached"),
        ({"token_file": "nowhere.token"}, "nowhere.token, the bearer token, cannot be read"),
    ],
)
def test_settings_that_lead_nowhere(cabinet: Cabinet, changes: dict[str, Any], says: str) -> None:
    cabinet.change(**changes)
    code, said = cabinet.typed("once")
    assert code == 1 and "Traceback" not in said
    assert len([line for line in said.splitlines() if says in line]) == 1, said
    assert "release 1" in said


def test_a_device_key_that_others_can_read(cabinet: Cabinet) -> None:
    (cabinet.folder / "device.pem").chmod(0o644)
    said = goes_on(cabinet, says="can be read by others (0644)")
    assert "chmod 600" in said


def test_a_device_key_that_is_gone(cabinet: Cabinet) -> None:
    (cabinet.folder / "device.pem").unlink()
    said = goes_on(cabinet, says="the device's key, cannot be read")
    assert "visionops fleet provision" in said


def test_a_root_of_trust_that_is_gone_is_needed_only_once(cabinet: Cabinet) -> None:
    (cabinet.folder / "root.json").unlink()
    goes_on(cabinet, says="the root of trust, cannot be read")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"format": 2}, "format"),
        ({"colour": "red"}, "colour is no setting"),
        ({"group": "line/1"}, "no name for a device group"),
        ({"device": "a/b"}, "no name for a device"),
        (None, "device.json"),
    ],
)
def test_a_folder_of_another_format(cabinet: Cabinet, content: dict[str, Any] | None, says: str) -> None:
    if content is None:
        (cabinet.folder / "device.json").write_text("a folder of something else")
    else:
        cabinet.change(**content)
    for command in ("once", "status"):
        code, said = cabinet.typed(command)
        assert code == 1 and says in said and said.count("\n") == 1, said
        assert said.startswith("error: ") and str(cabinet.folder) in said


def test_a_folder_that_is_none_of_a_device(tmp_path: Path, cabinet: Cabinet) -> None:
    shutil.rmtree(cabinet.folder)
    code, said = cabinet.typed("once")
    assert code == 1 and said.startswith("error: ") and said.count("\n") == 1
    assert str(cabinet.folder) in said and "visionops fleet provision" in said


def test_a_state_of_another_format(cabinet: Cabinet) -> None:
    file = cabinet.folder / "state" / "state.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 7}))
    before = file.read_bytes()
    code, said = cabinet.typed("once")
    assert code == 1 and "is of format 7" in said and "--state" in said and said.count("\n") == 1
    assert file.read_bytes() == before


def test_a_state_that_cannot_be_written(cabinet: Cabinet) -> None:
    shutil.rmtree(cabinet.folder / "state")
    (cabinet.folder / "state").write_text("a file in the way")
    code, said = cabinet.typed("once")
    assert code == 1 and "cannot be written" in said and "--state" in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("platform", "processor", "libc"),
    [
        ("darwin", "arm64", ""),
        ("linux", "armv7l", "glibc"),
        ("linux", "x86_64", "musl"),
        ("win32", "AMD64", ""),
    ],
)
@pytest.mark.parametrize("command", ["run", "once"])
def test_other_machines_are_refused_in_one_line(
    command: str,
    platform: str,
    processor: str,
    libc: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(stdlib_platform, "machine", lambda: processor)
    monkeypatch.setattr(stdlib_platform, "libc_ver", lambda: (libc, "1"))
    with pytest.raises(SystemExit, match="1"):
        main([command, "--device", "/nowhere"])
    said = capsys.readouterr().err
    assert said.startswith("error: visionops-edge runs on Linux with glibc") and said.count("\n") == 1


def test_a_window_that_cannot_be_read_leaves_the_model(cabinet: Cabinet) -> None:
    second = cabinet.fleet.bundle(2)
    cabinet.fleet.publish(second, window={"from": "22:00", "to": "5 am"})
    goes_on(cabinet, says="`to` of an update window is '5 am', which is no hour")


def test_two_agents_on_one_state(cabinet: Cabinet) -> None:
    import fcntl

    with (cabinet.folder / "state" / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        code, said = cabinet.typed("once")
    assert code == 1 and "is used by another agent" in said and said.count("\n") == 1


def test_status_in_words_names_the_version(cabinet: Cabinet) -> None:
    code, said = cabinet.typed("status")
    assert code == 0 and "  answers    version 1, release 1 (" in said

"""What goes wrong on a device itself: disks, models, clocks, settings. The old model goes on, and somebody is told."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from edge import machine
from edge.agent import Agent
from edge.answering import NoModel
from edge.device import Device as Running
from edge.engines import Engine
from edge.files import Files
from edge.formats import StateError, check_device, check_group
from edge.runner import BadImage, OpenedHere, ProcessRunner, RunnerDied
from edge.settings import Settings, SettingsError
from tests.devices.small_fleet import GROUP, Device, Fleet, frame, update
from tests.open_files import more_than_selectable
from visionops_assets.config.device_group_rules import window_of
from visionops_assets.delivery import signers


def test_without_a_model_it_says_so(fleet: Fleet) -> None:
    with pytest.raises(NoModel, match="no model answers on cam-17 yet"):
        fleet.device().start().answer(frame())


def test_a_good_file_that_rots_leads_to_the_previous_model_and_is_fetched_anew(
    fleet: Fleet, device: Device
) -> None:
    second = fleet.bundle(2)
    fleet.publish(second)
    update(device.start())
    blob = device.folder / "state" / "blobs" / second.manifest["files"]["model.onnx"]["sha256"]
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    agent = device.start()
    assert agent.answer(frame())["model"]["release"] == 1
    assert "good_corrupt" in [each["event"] for each in agent.state.outbox]
    assert update(agent)["model"]["release"] == 2


def test_both_files_rotten_are_fetched_anew(fleet: Fleet, device: Device) -> None:
    for blob in (device.folder / "state" / "blobs").iterdir():
        blob.write_bytes(b"rotten")
    agent = device.start()
    agent.check_good()
    with pytest.raises(NoModel):
        agent.answer(frame())
    assert update(agent)["model"]["release"] == 1


def test_a_damaged_state_file_costs_no_download(fleet: Fleet, device: Device) -> None:
    (device.folder / "state" / "state.json").write_bytes(b"\0" * 100)
    agent = device.start()
    assert "damaged" in agent.problems["state"]
    before = device.client.bytes
    assert update(agent)["model"]["release"] == 1
    assert device.client.bytes - before < 10_000


def test_a_state_of_another_format_is_refused_and_left_as_it_is(fleet: Fleet, device: Device) -> None:
    file = device.folder / "state" / "state.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 2}))
    before = file.read_bytes()
    with pytest.raises(StateError, match=r"state.json is of format 2.*use the agent that wrote it"):
        device.start()
    assert file.read_bytes() == before


def test_a_candidate_that_answers_nan_is_rolled_back_and_the_image_is_answered(
    fleet: Fleet, device: Device
) -> None:
    second = fleet.bundle(2)
    fleet.publish(second)
    bad = second.manifest["files"]["model.onnx"]["sha256"]

    class Nan(OpenedHere):
        def __init__(self, model: Path, threads: int, engine: Engine | None) -> None:
            super().__init__(model, threads, engine)
            self._bad = model.name == bad

        def answer(self, image: bytes) -> dict[str, Any]:
            if self._bad:
                raise RunnerDied("not_finite", "what is no number")
            return super().answer(image)

    device.open_runner = Nan
    agent = device.start()
    agent.look()
    agent.settle()
    assert agent.state.phase == "TRIAL"
    assert agent.answer(frame())["model"]["release"] == 1
    assert agent.state.quarantined(_bundle(agent, second.id)) == "not_finite"


def _bundle(agent: Agent, id: str) -> Any:
    from edge.formats import Bundle

    return Bundle(id, 0, ())


def test_an_image_that_kills_every_model_is_given_up_and_the_next_is_answered(device: Device) -> None:
    class Fragile(OpenedHere):
        def answer(self, image: bytes) -> dict[str, Any]:
            if image == b"poison":
                raise RunnerDied("crash", "signal 11")
            return super().answer(image)

    device.open_runner = Fragile
    agent = device.start()
    with pytest.raises(BadImage, match="its process ends each time"):
        agent.answer(b"poison")
    with pytest.raises(BadImage, match="the image: is not an image"):
        agent.answer(b"no image")
    assert agent.answer(frame())["model"]["release"] == 1
    assert agent.state.phase == "IDLE"


def test_a_good_model_that_cannot_be_opened_is_a_problem_and_no_fault_of_the_image(device: Device) -> None:
    def fails(model: Path, threads: int, engine: Engine | None) -> OpenedHere:
        raise RunnerDied("crash", "no memory")

    device.open_runner = fails
    agent = device.start()
    with pytest.raises(NoModel, match=r"no model can be opened on cam-17.*no memory"):
        agent.answer(frame())
    # It is nobody's fault that can be told from here: the model stays, and is opened at the next image.
    agent.answering.open_runner = OpenedHere
    assert agent.answer(frame())["model"]["release"] == 1
    assert agent.status()["problem"] is None


def test_a_process_with_a_thousand_open_files_answers(device: Device) -> None:
    device.open_runner = ProcessRunner
    with more_than_selectable():
        agent = device.start()
        try:
            assert agent.answer(frame())["model"]["release"] == 1
        finally:
            agent.close()


def test_the_smaller_of_two_bandwidth_limits_holds_and_is_lifted(fleet: Fleet, device: Device) -> None:
    device.client.max_kbps = 800
    agent = device.start()
    base = fleet.bundle(1, release=1).named
    for asked, held in ((500, 500), (None, 800), (900, 800)):
        fleet.assign(base=base, max_kbps=asked)
        agent.look()
        assert device.client.max_kbps == held


def test_a_slow_candidate_is_left_by_its_processor_time(fleet: Fleet, device: Device) -> None:
    fleet.publish(fleet.bundle(2, budget={"cpu_ms": 5.0}), observe={"frames": 1000})

    class Slow(OpenedHere):
        def answer(self, image: bytes) -> dict[str, Any]:
            return {**super().answer(image), "cpu_ms": 6.0}

    device.open_runner = Slow
    agent = device.start()
    assert update(agent, 19)["model"]["release"] == 2
    assert update(agent, 2)["model"]["release"] == 1
    assert device.events()[-1]["why"] == "slow"


def test_a_trial_ends_after_a_day_with_one_right_answer(fleet: Fleet, device: Device) -> None:
    fleet.publish(fleet.bundle(2), observe={"frames": 200})
    agent = device.start()
    update(agent, 1)
    assert agent.state.phase == "TRIAL"
    fleet.clock.pass_(hours=25)
    agent.advance()
    assert agent.state.phase == "IDLE" and agent.state.good is not None and agent.state.good.release == 2


def test_a_lock_file_postpones_the_swap_but_not_the_download(
    fleet: Fleet, device: Device, tmp_path: Path
) -> None:
    lock = tmp_path / "shift"
    lock.touch()
    fleet.publish(fleet.bundle(2))
    agent = device.start()
    agent._lock_file = lock
    assert update(agent)["model"]["release"] == 1
    assert agent.state.phase == "SHADOW"
    lock.unlink()
    assert update(agent)["model"]["release"] == 2


def test_a_window_is_kept_in_its_own_time_zone(fleet: Fleet, device: Device) -> None:
    window = {"from": "22:00", "to": "05:00", "zone": "Europe/Berlin", "days": ["fri"]}

    def at(day: int, hour: int) -> bool:
        return machine.in_window(window, datetime(2026, 11, day, hour, tzinfo=UTC))

    # The 27th is a Friday; Berlin is an hour ahead.
    assert not at(27, 20)
    assert at(27, 21) and at(27, 23) and at(28, 3)
    assert not at(28, 4) and not at(28, 21)
    for wrong, said in (
        ({"zone": "Mars"}, "the zone of an update window, 'Mars', is none that this machine knows"),
        ({"zone": "Europe"}, "the zone of an update window, 'Europe'"),
        ({"from": "22h"}, "`from` of an update window is '22h', which is no hour such as 22:00"),
        ({"to": ""}, "`to` of an update window is ''"),
        ({"to": "05:00+01:00"}, "its zone stands apart"),
        ({"days": ["friday"]}, "the days of an update window"),
    ):
        with pytest.raises(ValueError, match=said):
            machine.in_window({**window, **wrong}, datetime.now(UTC))
    with pytest.raises(ValueError, match=r"is no window such as .*'Mars', is none that"):
        window_of("22:00-05:00 Mars")
    with pytest.raises(ValueError, match=r"is no window such as .*`from` .* is '22h'"):
        window_of("22h-05:00 Europe/Berlin")
    hour = fleet.clock.time.hour
    closed = {"from": f"{(hour + 2) % 24:02}:00", "to": f"{(hour + 3) % 24:02}:00", "zone": "UTC"}
    fleet.publish(fleet.bundle(2), window=closed)
    agent = device.start()
    assert update(agent)["model"]["release"] == 1
    fleet.clock.pass_(hours=2)
    assert update(agent)["model"]["release"] == 2


def test_a_device_that_is_moved_follows_its_new_group(fleet: Fleet, device: Device) -> None:
    fleet.repository.add_group("line-2")
    second = fleet.bundle(2)
    fleet.repository.add_bundle(second.manifest, second.blobs)
    fleet.repository.assign("line-2", {"base": second.named, "observe": {"frames": 1}})
    fleet.assign(base=fleet.bundle(1, release=1).named, moved={"cam-17": "line-2"})
    agent = device.start()
    assert update(agent)["model"]["release"] == 2
    assert device.start().state.group == "line-2"


def test_two_groups_that_send_a_device_to_one_another_do_not_keep_it_from_its_work(
    fleet: Fleet, device: Device
) -> None:
    fleet.repository.add_group("line-2")
    base = fleet.bundle(1, release=1).named
    fleet.assign(base=base, moved={"cam-17": "line-2"})
    fleet.repository.assign("line-2", {"base": base, "moved": {"cam-17": GROUP}})
    agent = device.start()
    for group in ("line-2", GROUP, "line-2"):
        agent.look()
        assert agent.state.group == group
    assert agent.answer(frame())["model"]["release"] == 1


def test_whatever_a_repository_does_becomes_a_problem_and_no_crash(fleet: Fleet, device: Device) -> None:
    for file in sorted((fleet.root / "repository" / "shapes").rglob("*")):
        if file.is_file():
            file.write_bytes(b"\xff{not json")
    shutil.rmtree(device.folder / "state" / "trust" / "cache")
    agent = device.start()
    assert not agent.attempt("repository", agent.look)
    assert agent.status()["problem"].startswith("repository: ")
    assert agent.answer(frame())["model"]["release"] == 1


def settings_of(folder: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    content = {
        "format": 1,
        "project": "shapes",
        "group": GROUP,
        "device": "cam-17",
        "repository": "r",
        **changes,
    }
    (folder / "device.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2}, "is of format 2, this agent reads 1"),
        ({"colour": "red"}, "colour is no setting"),
        ({"group": "line/1"}, "no name for a device group"),
        ({"group": "all"}, "no name for a device group"),
        ({"device": "../x"}, "no name for a device"),
        ({"repository": None}, "repository is None"),
        ({"threads": "two"}, "threads is 'two'"),
        ({"source": {"video": 0}}, "source has video; it takes"),
        ({"sink": {}}, "sink has nothing; it takes"),
    ],
)
def test_settings_that_cannot_be_used_are_named(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    folder = settings_of(tmp_path / "device", **changes)
    with pytest.raises(SettingsError, match=said):
        Settings.read(folder)


def test_a_device_key_that_others_can_read_is_refused_unless_it_is_a_mounted_secret(tmp_path: Path) -> None:
    folder = settings_of(tmp_path / "device", reports="reports")
    (folder / "device.pem").write_bytes(b"key")
    (folder / "device.pem").chmod(0o644)
    with pytest.raises(SettingsError, match=r"can be read by others.*chmod 600"):
        Settings.read(folder).key()
    settings_of(folder, key_readable_by_others=True)
    assert Settings.read(folder).key() == b"key"
    with pytest.raises(SettingsError, match="root of trust, cannot be read"):
        Settings.read(folder).bootstrap()
    with pytest.raises(SettingsError, match="is not there: `visionops fleet provision"):
        Settings.read(tmp_path / "nowhere")


def test_what_keeps_a_device_from_news_does_not_keep_it_from_answering(tmp_path: Path, fleet: Fleet) -> None:
    folder = settings_of(tmp_path / "device", repository=fleet.url, reports="reports", token_file="token")
    (folder / "token").write_text("secret")
    (folder / "root.json").write_bytes(fleet.repository.bootstrap())
    signers.write_key(folder / "device.pem")
    running = Running.open(folder)
    try:
        assert running.once()
        running.answer(frame())
        assert list((folder / "reports" / "shapes" / "cam-17").iterdir())
    finally:
        running.close()
    (folder / "root.json").unlink()
    (folder / "token").unlink()
    (folder / "device.pem").chmod(0o644)
    settings_of(
        folder,
        repository=fleet.url,
        reports="reports",
        token_file="token",
        source={"folder": "nowhere"},
    )
    running = Running.open(folder)
    try:
        assert not running.once()
        problem = running.agent.status()["problem"]
        for said in (
            "can be read by others",
            "the root of trust",
            "the bearer token",
            "nowhere",
            "is no folder",
        ):
            assert said in problem
        assert running.answer(frame())["model"]["release"] == 1
    finally:
        running.close()
    shutil.rmtree(folder / "state" / "trust")
    running = Running.open(folder)
    try:
        assert not running.once()
        assert "no root of trust" in running.agent.status()["problem"]
        assert running.answer(frame())["model"]["release"] == 1
    finally:
        running.close()


@pytest.mark.parametrize("name", ["line/1", "Line-1", "", "all", "production", "-x", "a" * 64, "line 1"])
def test_names_that_are_none_of_a_group(name: str) -> None:
    with pytest.raises(ValueError, match="no name for a device group"):
        check_group(name)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "cam 17", "a" * 64, "-x"])
def test_names_that_are_none_of_a_device(name: str) -> None:
    with pytest.raises(ValueError, match="no name for a device"):
        check_device(name)


def test_once_does_not_end_well_where_nothing_answers(
    tmp_path: Path, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first model that was refused is no problem of a look, and yet the device answers nothing."""
    folder = settings_of(tmp_path / "device", repository=fleet.url)
    (folder / "root.json").write_bytes(fleet.repository.bootstrap())
    running = Running.open(folder)
    try:
        with monkeypatch.context() as full:
            full.setattr(Files, "room", lambda _: 0)
            assert not running.once()
            status = running.agent.status()
            assert list(status["quarantine"].values()) == ["no_space"] and status["serving"] is None
    finally:
        running.close()


def test_what_a_model_answered_before_counts_for_none_that_comes_after_it(fleet: Fleet) -> None:
    agent = fleet.device().start()
    # More than a trial asks for, in its own.
    assert update(agent, frames=6)["model"]["release"] == 1
    fleet.publish(fleet.bundle(2))
    agent.look()
    agent.settle()
    assert agent.state.phase == "TRIAL", "kept without one image"
    agent.answer(frame())
    agent.settle()
    assert agent.state.phase == "TRIAL", "one of three"
    for seed in range(2):
        agent.answer(frame(seed))
    assert agent.state.phase == "IDLE" and agent.state.good is not None and agent.state.good.release == 2

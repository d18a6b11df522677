"""What comes up from a device: signed, bounded, each row and event once, whenever it is killed."""

import errno
import gzip
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from edge import reports
from edge.files import System
from edge.formats import place_of_digest
from edge.images.statistics import STATISTICS
from edge.reports import Report, ReportError, brought_name, name_of, read_report, sequence_of, signed_report
from tests.devices.broken_disks import Killed, KilledAt
from tests.devices.small_fleet import PROJECT, Device, Fleet, frame, update
from visionops_assets.inference.shipped_model import open_model
from visionops_assets.monitoring.prediction import RunningModel, answer, log_rows, picture

KEY, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32) for seed in (1, 2))
HEAD = b'{"format": "device_report/1"}'


def packed(lines: list[bytes], key: Ed25519PrivateKey = KEY) -> bytes:
    return signed_report([HEAD, *lines], key)


def refused(content: bytes) -> str:
    with pytest.raises(ReportError) as raised:
        read_report(content, KEY.public_key())
    return str(raised.value)


def test_a_report_is_read_as_it_was_signed() -> None:
    lines = [
        b'{"event": "well", "id": 1}',
        b'{"block": {"frames": 3}}',
        b'{"format": "inference_log/1"}',
        b"{}",
    ]
    found = read_report(packed(lines), KEY.public_key())
    assert found.events == [{"event": "well", "id": 1}]
    assert found.blocks == [{"frames": 3}]
    assert found.sections["inference_log/1"][1] == [{}]
    assert packed(lines) == packed(lines)


def test_nothing_is_believed_of_what_another_signed_or_altered() -> None:
    assert "is signed by another key" in refused(packed([], OTHER))
    altered = gzip.compress(gzip.decompress(packed([b'{"id": 1}'])).replace(b'"id": 1', b'"id": 2'))
    assert "was altered after its device signed it" in refused(altered)
    assert "ends with no signature" in refused(gzip.compress(HEAD + b"\n"))
    assert "is no gzip file" in refused(b"PAR1")
    whole = packed([])
    assert "is cut off" in refused(whole[:-9])
    assert "goes on after its end" in refused(whole + gzip.compress(b"more"))
    assert "no JSON" in refused(packed([b"[" * 100_000]))
    assert "two sections" in refused(packed([b'{"format": "a"}', b'{"format": "a"}']))
    assert "begins with the format 'x'" in refused(signed_report([b'{"format": "x"}'], KEY))


def test_little_of_a_bomb_is_unpacked_before_its_signature_is_looked_at() -> None:
    # Signed as it should be, each of them.
    assert "unpacked" in refused(packed([b'{"a": "%s"}' % (b"a" * (20 << 20))]))
    assert "lines" in refused(packed([b'{"a": %d}' % number for number in range(reports.MOST_LINES + 1)]))
    noise = np.random.default_rng(1).bytes(reports.LONGEST_LINE // 2 + 9).hex().encode()
    assert "a line of more than" in refused(packed([b'{"a": "%s"}' % noise]))
    assert "at most" in refused(bytes(reports.LARGEST_BYTES + 1))


@pytest.mark.parametrize(
    "name",
    [
        "17.jsonl.gz",
        "000000000017-0.jsonl.gz",
        "000000000017.parquet",
        "0000000000١٧.jsonl.gz",
        "-00000000017.jsonl.gz",
    ],
)
def test_a_report_is_named_by_its_number(name: str) -> None:
    assert sequence_of(name_of(17)) == sequence_of(brought_name(name_of(17), b"it")) == 17
    with pytest.raises(ValueError, match="no name of a report"):
        sequence_of(name)


def arrived(device: Device) -> list[Report]:
    """What lies where reports are collected."""
    public = load_pem_private_key((device.folder / "device.pem").read_bytes(), None).public_key()
    files = sorted((device.fleet.root / "reports" / PROJECT / device.name).glob("*.jsonl.gz"))
    found = [read_report(file.read_bytes(), public) for file in files]  # type: ignore[arg-type]
    for file, each in zip(files, found, strict=True):
        assert sequence_of(file.name) == each.head["sequence"]
    return found


def rows(device: Device) -> list[dict[str, Any]]:
    return [
        dict(row) for each in arrived(device) for row in each.sections.get("inference_log/1", ((), ()))[1]
    ]


def frames_of_blocks(device: Device) -> int:
    return sum(part["frames"] for each in arrived(device) for part in each.blocks)


def test_a_device_logs_what_a_server_would(fleet: Fleet, device: Device) -> None:
    shutil.rmtree(fleet.root / "reports")
    captured = {"log": {"share": 1, "captured": 1, "bytes_per_day": len(frame(0)) + len(frame(1))}}
    fleet.assign(base=fleet.bundle(1, release=1).named, **captured)
    agent = device.start()
    update(agent, 3)
    agent.deliver()
    found = rows(device)
    assert [("frame" in row) for row in found] == [True, True, False], "the day has no room for a third"
    good = agent.state.good
    assert good is not None
    shipped = open_model(device.folder / "state" / "blobs" / good.digest("model.onnx"))
    model = RunningModel(1, f"{1:064x}", "", shipped)
    batch = [picture("", frame(seed), shipped) for seed in range(3)]
    wanted = log_rows(batch, answer(model, batch), device="", group="line-1", times=[fleet.clock()] * 3)
    for ours, theirs in zip(found, wanted, strict=True):
        for name in ("model_sha256", "image_sha256", "prediction", "device_group", "embedding"):
            assert ours[name] == theirs[name]
        for name in (*STATISTICS, "confidence", "probabilities"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-6, abs=1e-7)
    assert len({row["timestamp"] for row in found}) == 3
    assert frames_of_blocks(device) == 3


def test_a_share_is_drawn_by_the_digest_and_the_rest_is_counted(fleet: Fleet, device: Device) -> None:
    shutil.rmtree(fleet.root / "reports")
    fleet.assign(base=fleet.bundle(1, release=1).named, log={"share": 0.5})
    agent = device.start()
    update(agent, 12)
    found = {row["image_sha256"] for row in rows(device)}
    assert 0 < len(found) < 12 and all(place_of_digest(digest) < 0.5 for digest in found)
    assert frames_of_blocks(device) == 12


def test_reports_wait_for_a_line_and_the_oldest_go_where_there_is_no_room(
    fleet: Fleet, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = device.start()
    shutil.rmtree(fleet.root / "reports")
    (fleet.root / "reports").write_text("no folder")
    assert agent._outbox is not None
    for number in range(5):
        agent.problems["camera"] = "away" if number % 2 else "dark"
        assert not agent.attempt("reports", agent.deliver)
    assert agent.status()["waiting_reports"] == 5
    sizes = [file.stat().st_size for file in (device.folder / "state" / "outbox").iterdir()]
    monkeypatch.setattr(agent._outbox, "_most", sum(sorted(sizes)[:3]))
    agent.problems["camera"] = "gone"
    assert not agent.attempt("reports", agent.deliver)
    status = agent.status()
    assert status["waiting_reports"] + status["dropped_reports"] == 6 and status["dropped_reports"] >= 3
    (fleet.root / "reports").unlink()
    agent = device.start()
    agent.deliver()
    assert [each.head["sequence"] for each in arrived(device)][-1] == agent.state.reported
    assert agent.status()["waiting_reports"] == 0


class SmallDisk(System):
    """Has no room for more than so many bytes of reports that wait, nor then for a larger state."""

    def __init__(self, folder: Path, room: int) -> None:
        self.folder, self.room = folder, room

    def write(self, path: Path, content: bytes) -> None:
        waiting = sum(file.stat().st_size for file in self.folder.glob("outbox/*") if file != path)
        adds = len(content) if path.parent.name == "outbox" else 1
        grows = path.parent.name == "outbox" or path.name.startswith("state.json")
        if grows and waiting + adds > self.room:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        super().write(path, content)


@pytest.mark.parametrize("line", [True, False])
def test_a_disk_full_of_waiting_reports_empties_itself(fleet: Fleet, device: Device, line: bool) -> None:
    disk = SmallDisk(device.folder / "state", 1 << 30)
    agent = Device(fleet, device.folder, device.name, system=disk).start()
    agent.deliver()
    shutil.rmtree(fleet.root / "reports")
    (fleet.root / "reports").write_text("no folder")
    for number in range(3):
        agent.problems["camera"] = "away" if number % 2 else "dark"
        assert not agent.attempt("reports", agent.deliver)
    before = agent.state.reported
    disk.room = sum(file.stat().st_size for file in (device.folder / "state" / "outbox").iterdir())
    if line:
        (fleet.root / "reports").unlink()
    assert agent._outbox is not None
    for problem in ("gone", "lost"):
        agent.problems["camera"], agent._outbox._signed_at = problem, None
        assert agent.attempt("reports", agent.deliver) == line, agent.problems
    assert agent.state.reported > before
    if line:
        assert [each.head["sequence"] for each in arrived(device)][:3] == [before - 2, before - 1, before]
    dropped, waiting = agent.state.dropped_reports, agent.status()["waiting_reports"]
    assert (dropped, waiting) == (0, 0) if line else dropped > 0
    assert waiting + dropped == (0 if line else agent.state.reported - before + 3)


def test_killed_at_every_step_each_row_and_event_arrives_once(
    fleet: Fleet, device: Device, tmp_path: Path, count: Callable[[int, int], int]
) -> None:
    def work(system: System, folder: Path, seeds: range) -> None:
        agent = Device(fleet, folder, "cam-17", system=system).start()
        assert agent.log is not None
        for seed in seeds:
            agent.answer(frame(seed))
            # What an agent has said is there is there.
            agent.log.write()
            done.append(seed)
        agent.problems["camera"] = "dark"
        agent.deliver()

    counting = KilledAt(-1, "never")
    done: list[int] = []
    shutil.copytree(device.folder, tmp_path / "counted")
    work(counting, tmp_path / "counted", range(3))
    kills = [
        (step, moment) for step in range(1, counting.steps + 1) for moment in ("before", "half", "after")
    ]
    for step, moment in kills[:: count(4, 1)]:
        shutil.rmtree(fleet.root / "reports")
        folder = tmp_path / f"{step}-{moment}"
        shutil.copytree(device.folder, folder)
        done = []
        with pytest.raises(Killed):
            work(KilledAt(step, moment), folder, range(3))
        kept = set(done)
        work(System(), folder, range(3, 5))
        again = Device(fleet, folder, "cam-17")
        found = [row["image_sha256"] for row in rows(again)]
        assert len(found) == len(set(found)), (step, moment)
        digests = {hashlib.sha256(frame(seed)).hexdigest() for seed in {*kept, 3, 4}}
        assert digests <= set(found), (step, moment)
        events = [event["id"] for each in arrived(again) for event in each.events]
        assert events == sorted(set(events)), (step, moment)


def test_a_device_that_lost_its_state_gives_no_number_twice(fleet: Fleet, device: Device) -> None:
    before = arrived(device)[-1].head["sequence"]
    (device.folder / "state" / "state.json").unlink()
    fleet.clock.pass_(minutes=5)
    agent = device.start()
    agent.deliver()
    assert agent.state.reported > before
    assert json.loads(json.dumps(agent.status()))["serving"] is None


def test_two_devices_with_one_disk_take_no_report_of_each_other_away(
    fleet: Fleet, device: Device, tmp_path: Path
) -> None:
    shutil.rmtree(fleet.root / "reports")
    shutil.copytree(device.folder, tmp_path / "copied")
    for each, said in ((device, "dark"), (Device(fleet, tmp_path / "copied", device.name), "away")):
        agent = each.start()
        agent.problems["camera"] = said
        agent.deliver()
    found = arrived(device)
    assert len({each.head["sequence"] for each in found}) == 1
    assert {each.head["problem"] for each in found} == {"camera: dark", "camera: away"}


def test_a_status_names_the_version(device: Device) -> None:
    serving = device.start().status()["serving"]
    assert (serving["version"], serving["release"]) == (1, 1)

"""Reports of devices through the collector: each once, as its device signed it; all else is a finding and no row."""

import gzip
import itertools
import json
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given
from hypothesis import strategies as some
from logged import DAY, MODELS, NOW, file_of, png, project, row, sha256
from signed import Camera
from test_collector import STEPS, Killed, kill

from edge.reports import LARGEST_BYTES, brought_name, name_of, signed_report
from lakefs_local import discovery
from resources import clocks
from resources.lakefs.client import LakeFSResource
from resources.lakefs.replies import LakeFSUnavailable
from resources.models.registry import ModelRegistry
from resources.storage import ArtifactStore, Spool
from sensors.production_log import collect_spool
from visionops_assets.delivery import reported_devices as devices
from visionops_assets.delivery.enrolment import NewDevice, device_keys, enrolled, provision, revoke
from visionops_assets.monitoring import device_files, set_aside
from visionops_assets.monitoring.collection import Collected, collect, collect_all
from visionops_assets.monitoring.production_day import read_production_day
from visionops_assets.monitoring.sequences import MOST_DIGESTS, MOST_RANGES, Window

REPOSITORY = "shapes-production"


class Site:
    """Devices, their spool, and a collector that may be killed."""

    def __init__(self, root: Path, lakefs: LakeFSResource) -> None:
        self.root, self.lakefs = root, lakefs
        self.spool, self.artifacts = (
            Spool(root=str(root / "spool")),
            ArtifactStore(root=str(root / "artifacts")),
        )
        self.project = project()
        self.cameras = [Camera(f"cam-{number}") for number in range(3)]
        self.enrolled = {camera.name: camera.known() for camera in self.cameras}

    def leave(self, file: str, content: bytes) -> None:
        path = self.root / "spool" / "shapes" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def report(self, camera: Camera, sequence: int, *rows: dict[str, Any], **head: Any) -> None:
        self.leave(camera.file(sequence), camera.report(sequence, rows, **head))

    def collect(self, now: datetime = NOW, **options: Any) -> Collected:
        return collect(
            self.project,
            lakefs=self.lakefs,
            spool=self.spool,
            lock=nullcontext(),
            now=now,
            devices=lambda: self.enrolled,
            **options,
        )

    def paths(self, prefix: str) -> list[str]:
        return [entry.path for entry in self.lakefs.objects(REPOSITORY, "main", prefix)]

    def tables(self, prefix: str) -> list[dict[str, Any]]:
        paths = [path for path in self.paths(prefix) if path.endswith(".parquet")]
        files = self.lakefs.read_many(REPOSITORY, "main", paths)
        return [each for _, content in files for each in pq.read_table(pa.BufferReader(content)).to_pylist()]

    def day(self) -> pd.DataFrame:
        found = read_production_day(
            self.project,
            DAY,
            lakefs=self.lakefs,
            artifacts=self.artifacts,
            models=MODELS,
            today=NOW.date(),
        )
        return found.rows

    def folded(self) -> dict[str, dict[str, Any]]:
        found = devices.folded(self.project, self.lakefs, self.artifacts)
        rows: list[dict[Any, Any]] = found.to_dict("records")
        return {row["device"]: row for row in rows}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with discovery.serving(tmp_path_factory.mktemp("lakefs")) as found:
        yield found


@pytest.fixture
def site(server: Any, tmp_path: Path) -> Site:
    lakefs = LakeFSResource(
        endpoint=server.endpoint,
        access_key_id=server.access_key_id,
        secret_access_key=server.secret_access_key,
    )
    made = Site(tmp_path, lakefs)
    # One server for all: each test begins with an empty branch.
    if not lakefs.create_repository(REPOSITORY):
        paths = [entry.path for entry in lakefs.objects(REPOSITORY, "main", "")]
        if paths:
            lakefs.delete_many(REPOSITORY, "main", paths)
            lakefs.save(REPOSITORY, "main", "empty", {})
    return made


def test_rows_frames_events_and_blocks_of_devices_are_taken_as_those_of_servers(site: Site) -> None:
    image = png(1)
    one, two, _ = site.cameras
    kept = row(1, one.name, device_group="line-1", frame=image, image_sha256=sha256(image))
    site.report(one, 7, kept, row(2, one.name))
    site.report(two, 8, row(3, two.name))
    site.spool.put("shapes", "server", file_of(row(4, "server")))
    found = site.collect()
    assert (found.rows, found.reports, found.captures, len(found.findings)) == (4, 2, 1, 0)
    assert "2 reports of devices" in found.sentence()
    rows = site.day().set_index("image_sha256")
    assert rows["device"].value_counts().to_dict() == {one.name: 2, two.name: 1, "server": 1}
    assert rows["device_group"][sha256(image)] == "line-1"
    assert site.lakefs.read(REPOSITORY, "main", rows["capture"][sha256(image)]) == image
    reports = pd.DataFrame(site.tables("reports/"))
    assert reports.groupby("device")["kind"].agg(list)[one.name] == ["status", "event", "block"]
    assert site.spool.files("shapes") == []
    now = site.folded()[one.name]
    assert (now["version"], now["frames"], now["event"], now["sequence"]) == (1, 10, "well", 7)


def test_what_was_folded_counts_once_when_its_project_is_renamed(site: Site) -> None:
    """As `project rename` does: the same files by another name, the table by that which devices know."""
    camera = site.cameras[0]
    site.report(camera, 1)
    site.collect()
    frames = site.folded()[camera.name]["frames"]
    site.report(camera, 2)
    site.collect()
    old = site.paths("reports/")
    for path in old:
        content = site.lakefs.read(REPOSITORY, "main", path)
        site.lakefs.write(REPOSITORY, "main", path.replace("/shapes.", "/forms."), content)
    site.lakefs.delete_many(REPOSITORY, "main", old)
    site.lakefs.save(REPOSITORY, "main", "shapes is called forms now", {})
    site.project = site.project.model_copy(
        update={
            "project": "forms",
            "delivery": site.project.delivery.model_copy(update={"known_as": "shapes"}),
        }
    )
    assert frames and site.folded()[camera.name]["frames"] == 2 * frames
    assert site.folded()[camera.name]["sequence"] == 2


def test_a_repeated_report_changes_nothing_and_is_counted(site: Site) -> None:
    camera = site.cameras[0]
    for sequence in (5, 3, 4):
        site.report(camera, sequence, row(sequence, camera.name))
        site.collect(NOW + timedelta(seconds=sequence))

    before = site.paths("project=shapes/dt="), site.folded()[camera.name]
    for moment in (10, 12):
        for sequence in (3, 4, 5):
            site.report(camera, sequence, row(sequence, camera.name))
        found = site.collect(NOW + timedelta(seconds=moment))
        assert (found.rows, found.reports, found.repeated, len(found.findings)) == (0, 0, 3, 0)
        assert "3 that were taken before" in found.sentence()
    assert (site.paths("project=shapes/dt="), site.folded()[camera.name]) == before
    assert len(site.day()) == 3


def test_what_is_not_signed_as_it_should_be_is_a_finding_and_no_row(site: Site) -> None:
    one, two, three = site.cameras
    stranger, thief = Camera("visitor"), Camera(one.name, seed=1)
    site.enrolled[three.name] = three.known(revoked="stolen")
    good = one.report(1, [row(1, one.name)])
    wrong = {
        one.file(2): thief.report(2, [row(2, one.name)]),
        one.file(3): gzip.compress(
            gzip.decompress(one.report(3, [row(3, one.name)])).replace(b"0.8", b"0.9")
        ),
        one.file(4): one.report(5, [row(4, one.name)]),
        f"{one.name}/upload.jsonl.gz": one.report(6, [row(4, one.name)]),
        two.file(7): one.report(7, [row(5, one.name)]),
        one.file(8): one.report(8, [row(6, one.name)], project="other"),
        one.file(9): one.report(9, [row(7, one.name)], at=NOW + timedelta(days=30)),
        one.file(10): gzip.compress(b"a" * (80 << 20)),
        one.file(11): b"no gzip",
        one.file(12): one.report(12, [{**row(8, one.name), "surprise": 1}]),
        one.file(13): one.report(13, [{**row(8, one.name), "confidence": "high"}]),
        three.file(1): three.report(1, [row(9, three.name)]),
        stranger.file(1): stranger.report(1, [row(9, stranger.name)]),
        stranger.file(2): stranger.report(2, [row(9, stranger.name)]),
    }
    site.leave(one.file(1), good)
    for file, content in wrong.items():
        site.leave(file, content)
    found = site.collect()
    assert (found.rows, found.reports) == (1, 1)
    assert list(site.day()["image_sha256"]) == [row(1, one.name)["image_sha256"]]
    said = dict(
        zip(found.findings["image"], found.findings["what"] + "; " + found.findings["why"], strict=True)
    )
    expected = {
        one.file(2): "is signed by another key",
        one.file(3): "was altered after its device signed it",
        one.file(4): "says that it is number 5: it was renamed",
        f"{one.name}/upload.jsonl.gz": "is no name of a report",
        two.file(7): "is signed by another key",
        one.file(8): "each writes to its own folder",
        one.file(9): f"ahead of our clock; set the clock of {one.name}",
        one.file(10): "unpacked",
        one.file(11): "is no gzip file",
        one.file(12): "surprise",
        one.file(13): "none of the log",
        three.name: "is revoked (stolen), and left 1 reports: none counts; `visionops fleet provision",
        stranger.name: "is not enrolled, and left 2 reports: none counts; `visionops fleet provision",
    }
    assert set(said) == set(expected)
    for name, words in expected.items():
        assert words in said[name], said[name]
        assert "\n" not in said[name]
    # Kept as they came; no production day is touched by them.
    assert len(site.paths("quarantine/")) == len(wrong)
    assert site.paths("findings/") == [] and len(site.paths("report_findings/")) == 1
    assert dict(devices.report_findings(site.project, site.lakefs, [DAY])).keys() == set(said)
    assert site.spool.files("shapes") == []


def test_a_text_that_cannot_be_written_stops_no_collector(site: Site) -> None:
    one, two, _ = site.cameras
    half = "\ud800"
    unsigned = b'{"format":"device_report/1"}\n{"key":"\\ud800","signature":""}\n'
    wrong = {
        one.file(5): gzip.compress(unsigned),
        one.file(6): one.report(6, project=half),
        one.file(7): one.report(7, [{**row(1, one.name), half: 1}]),
        one.file(8): one.report(8, phase=half),
        "cam\udcff/1.jsonl.gz": one.report(1),
        "cam-\udcff/a.parquet": b"PAR1",
    }
    for file, content in wrong.items():
        site.leave(file, content)
    site.report(two, 1, row(2, two.name))
    found = site.collect()
    assert (found.rows, found.reports) == (1, 1)
    assert {"cam\\udcff", "cam-\\udcff/a.parquet", *list(wrong)[:4]} == set(found.findings["image"])
    assert "no Unicode" in found.findings.set_index("image")["what"][one.file(8)]
    assert site.spool.files("shapes") == [] and len(site.day()) == 1
    assert site.folded()[two.name]["frames"] == 10


def test_a_report_of_an_odd_shape_is_a_finding_and_the_rest_is_folded(site: Site) -> None:
    one, two, _ = site.cameras
    for sequence, block in enumerate((5, [1], None, "x")):
        site.leave(one.file(sequence), one.signed(sequence, [{"block": block}]))
    many = [{"block": {"frames": 2**53 - 1, "logged": -5}}] * 1100
    site.leave(two.file(1), two.signed(1, many))
    found = site.collect()
    assert (found.reports, len(found.findings)) == (1, 4)
    assert set(found.findings["what"]) == {"has a block that is no JSON object"}
    assert (site.folded()[two.name]["frames"], site.folded()[two.name]["logged"]) == (2**53 - 1, 0)


def test_committed_rows_that_cannot_be_read_are_left_out_and_named(caplog: pytest.LogCaptureFixture) -> None:
    row_ = {"device": "cam-0", "device_group": "line-1", "at": NOW, "received": NOW, "event": None}
    contents = ["5", "[1]", "no JSON", '{"frames": 3}']
    rows = [{**row_, "sequence": 1, "kind": "block", "content": content} for content in contents]
    rows.append({**row_, "sequence": 2, "kind": "status", "content": '{"phase": "\\ud800"}'})
    empty = pd.DataFrame(columns=list(devices.COLUMNS))
    (found,) = devices.fold(empty, pd.DataFrame(rows)).to_dict("records")
    assert (found["frames"], found["phase"]) == (3, "\\ud800")
    assert [each.getMessage() for each in caplog.records] == [
        "report 1 of cam-0 has a block that cannot be read: left out"
    ] * 3


def test_a_report_that_was_cut_off_is_taken_once_it_comes_whole(site: Site) -> None:
    camera = site.cameras[0]
    whole = camera.report(1, [row(1, camera.name)])
    site.leave(camera.file(1), whole[: len(whole) // 2])
    assert len(site.collect().findings) == 1
    site.leave(camera.file(1), whole)
    found = site.collect(NOW + timedelta(seconds=1))
    assert (found.rows, found.reports) == (1, 1)


def test_an_enrolled_device_counts_by_its_own_files_alone(site: Site) -> None:
    one, two, _ = site.cameras
    site.spool.put("shapes", "server", file_of(row(1, "server"), row(2, one.name)))
    foreign = {**row(3, two.name), "timestamp": NOW.isoformat(), "device": two.name}
    lines = [json.loads(line) for line in gzip.decompress(one.report(1)).splitlines()[:-1]]
    lines += [{"format": "inference_log/1"}, {**foreign, "probabilities": [0.8, 0.15, 0.05]}]
    site.leave(one.file(1), signed_report([json.dumps(each).encode() for each in lines], one._key))
    found = site.collect()
    assert list(site.day()["device"]) == ["server"]
    said = dict(zip(found.findings["image"], found.findings["what"], strict=True))
    assert said == {
        one.name: "1 rows name it that it did not sign",
        one.file(1): "has 1 rows that name another device",
    }


def test_strangers_keep_no_device_from_being_collected_and_fill_no_disk(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(set_aside, "UNSIGNED_BYTES", 5_000)
    stranger, camera = Camera("aaa"), site.cameras[0]
    for sequence in range(30):
        site.leave(stranger.file(sequence), stranger.report(sequence))
    site.report(camera, 1, row(1, camera.name))
    first = site.collect(most=10)
    assert first.rows == 1
    rest = collect_all(
        lambda: site.collect(NOW + timedelta(seconds=len(site.spool.files("shapes"))), most=10)
    )
    assert [each.left for each in rest] == [11, 1, 0]
    assert all(len(each.findings) == 1 for each in [first, *rest])
    kept = [site.lakefs.read(REPOSITORY, "main", path) for path in site.paths("quarantine/")]
    assert kept and sum(map(len, kept)) <= 5_000


def test_who_uses_the_name_of_an_enrolled_device_is_bounded_as_a_stranger_is(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(set_aside, "UNSIGNED_BYTES", 5_000)
    one, two, _ = site.cameras
    thief = Camera(one.name, seed=1)
    for sequence in range(60):
        site.leave(thief.file(sequence), thief.report(sequence))
    site.report(two, 1, row(1, two.name))
    first = site.collect(most=30)
    assert (first.rows, first.left) == (1, 31), "each device's first report comes before anybody's second"
    assert len(first.findings) == device_files.MOST_FINDINGS + 1
    assert "and 9 more of its files" in set(first.findings["what"])
    assert any("not kept" in why for why in first.findings["why"])
    rest = collect_all(lambda: site.collect(NOW + timedelta(seconds=len(site.spool.files("shapes")))))
    assert rest[-1].left == 0
    kept = [site.lakefs.read(REPOSITORY, "main", path) for path in site.paths("quarantine/")]
    assert kept and sum(map(len, kept)) <= 5_000


def test_what_nobody_signed_costs_little_before_that_is_known(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, _ = site.cameras
    path = site.root / "spool" / "shapes" / one.file(1)
    path.parent.mkdir(parents=True)
    with path.open("wb") as sparse:
        sparse.truncate(300 << 20)
    contents = dict(site.spool.read_each("shapes", [one.file(1)], LARGEST_BYTES))
    assert len(contents[one.file(1)]) == LARGEST_BYTES + 1
    monkeypatch.setattr(device_files, "UNSIGNED_AT_ONCE", LARGEST_BYTES)
    for sequence in (2, 3):
        site.leave(one.file(sequence), b"no gzip")
    site.report(two, 1, row(1, two.name))
    first = site.collect()
    assert (first.rows, first.left) in {(1, 2), (0, 3)}
    rest = collect_all(lambda: site.collect(NOW + timedelta(seconds=1)))
    assert first.rows + sum(each.rows for each in rest) == 1 and rest[-1].left == 0
    assert "at most 16,777,216 are read" in first.findings["what"][0]


def test_two_devices_with_one_key_lose_nothing_silently(site: Site) -> None:
    one = site.cameras[0]
    here, there = (one.report(number, [row(at, one.name)]) for number, at in ((7, 1), (7, 2)))
    for content in (here, there):
        site.leave(f"{one.name}/{brought_name(name_of(7), content)}", content)
    found = site.collect()
    assert (found.rows, found.reports, found.repeated) == (1, 1, 0)
    (finding,) = found.findings.to_dict("records")
    assert "another report than the one of its number" in finding["what"]
    assert f"provision shapes --group GROUP --device {one.name} --to FOLDER --replace" in finding["why"]
    (kept,) = [site.lakefs.read(REPOSITORY, "main", path) for path in site.paths("quarantine/")]
    assert kept in (here, there)
    # The same again is the one that was taken, or the one that was not.
    for content in (here, there):
        site.leave(f"{one.name}/{brought_name(name_of(7), content)}", content)
    again = site.collect(NOW + timedelta(seconds=1))
    assert (again.rows, again.repeated, len(again.findings)) == (0, 1, 1)


def test_two_devices_that_count_apart_are_found_before_their_numbers_meet(site: Site) -> None:
    one = site.cameras[0]
    for sequence, minutes in ((10, -20), (90, -15)):
        site.report(one, sequence, row(sequence, one.name), at=NOW + timedelta(minutes=minutes))
    assert len(site.collect().findings) == 0
    site.report(one, 11, row(11, one.name), at=NOW - timedelta(minutes=5))
    found = site.collect(NOW + timedelta(seconds=1))
    assert found.rows == 1
    assert "was made after a higher number: two devices speak by one key" in found.findings["what"][0]
    # What only arrives late was made before.
    site.report(one, 9, row(9, one.name), at=NOW - timedelta(minutes=25))
    assert len(site.collect(NOW + timedelta(seconds=2)).findings) == 0


def test_a_number_taken_long_ago_is_named_and_kept(site: Site) -> None:
    one = site.cameras[0]
    for sequence in range(MOST_DIGESTS + 2):
        site.report(one, sequence)
    site.collect()
    restored = one.report(0, [row(1, one.name)])
    site.leave(one.file(0), restored)
    found = site.collect(NOW + timedelta(seconds=1))
    assert (found.rows, found.repeated) == (0, 0)
    assert "left 1 reports of numbers that were taken long ago" in found.findings["what"][0]
    assert [site.lakefs.read(REPOSITORY, "main", path) for path in site.paths("quarantine/")] == [restored]


def test_what_a_replaced_key_signed_before_the_new_one_spoke_counts(site: Site) -> None:
    old, new = Camera("cam-0"), Camera("cam-0", seed=1)
    site.report(old, 1, row(1, "cam-0"), at=NOW - timedelta(minutes=30))
    site.collect()
    site.enrolled["cam-0"] = new.known(replaced=(old.known(),))
    site.report(old, 2, row(2, "cam-0"), at=NOW - timedelta(minutes=20))
    site.report(new, 3, row(3, "cam-0"), at=NOW - timedelta(minutes=10))
    assert (site.collect(NOW + timedelta(seconds=1)).rows) == 2
    # Numbers are counted by key: what waited longer comes as well, once.
    late = old.report(3, [row(4, "cam-0")], at=NOW - timedelta(minutes=15))
    for second in (2, 3):
        site.leave(f"cam-0/{brought_name(name_of(3), late)}", late)
        found = site.collect(NOW + timedelta(seconds=second))
        assert (found.rows, len(found.findings)) == (int(second == 2), 0)
    site.report(old, 5, row(5, "cam-0"), at=NOW - timedelta(minutes=5))
    found = site.collect(NOW + timedelta(seconds=4))
    assert found.rows == 0
    assert "signed by a key that was replaced, after the new one spoke" in found.findings["what"][0]


def test_the_keys_that_a_device_had_are_kept_unless_it_was_revoked(site: Site, tmp_path: Path) -> None:
    def given(**options: Any) -> str:
        new = NewDevice("shapes", "line-1", "cam-0", tmp_path / "cam-0", b"{}", {"repository": "nowhere"})
        return provision(site.artifacts, new, who="test", when=NOW, **options).key_id

    first, second = given(), given(again=True)
    known = device_keys(site.artifacts, "shapes")["cam-0"]
    assert (known.key_id, [each.key_id for each in known.replaced]) == (second, [first])
    revoke(site.artifacts, "shapes", "cam-0", who="test", why="stolen", when=NOW)
    assert given(again=True) not in (first, second)
    assert device_keys(site.artifacts, "shapes")["cam-0"].replaced == ()


def test_killed_anywhere_each_report_counts_once(site: Site) -> None:
    expected: set[str] = set()
    sequence = itertools.count(1)
    for number, ((where, name), after) in enumerate(itertools.product(STEPS, (False, True))):
        moment = NOW + timedelta(seconds=number)
        for camera in site.cameras:
            at = next(sequence)
            site.report(camera, at, row(at, camera.name))
            expected.add(row(at, camera.name)["image_sha256"])
        with pytest.MonkeyPatch.context() as patched:
            kill(patched, where, name, after=after)
            with pytest.raises(Killed):
                site.collect(moment)
        if number % 2:
            # Where nothing was committed there is nothing to fold.
            with pytest.MonkeyPatch.context() as patched, suppress(Killed):
                kill(patched, ArtifactStore, "write", after=bool(number % 4 == 1))
                site.folded()
        site.collect(moment + timedelta(milliseconds=1))
        site.folded()
    rows = site.tables("project=shapes/dt=")
    assert len(rows) == len(expected) == len({each["image_sha256"] for each in rows})
    reports = pd.DataFrame(site.tables("reports/"))
    assert not reports.duplicated(["device", "sequence", "number"]).any()
    # Folded step by step, or at once from the beginning.
    step_by_step = site.folded()
    assert sum(each["frames"] for each in step_by_step.values()) == 10 * len(expected)
    (site.root / "artifacts" / "fleet" / "shapes" / "devices.parquet").unlink()
    assert site.folded() == step_by_step


def test_lakefs_away_loses_no_report_and_all_catch_up(site: Site) -> None:
    there, away = (
        site.lakefs,
        LakeFSResource(endpoint="http://127.0.0.1:1", access_key_id="no", secret_access_key="no"),
    )
    for sequence in (1, 2):
        for camera in site.cameras:
            site.report(camera, sequence, row(sequence, camera.name))
        site.lakefs = away
        with pytest.raises(LakeFSUnavailable):
            site.collect()
    site.lakefs = there
    assert site.collect().reports == 6
    assert len(site.day()) == 6


def test_a_device_that_is_provisioned_while_the_spool_is_collected_counts(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = Spool.files

    def provisioned_just_now(spool: Spool, project: str) -> list[str]:
        if enrolled(site.artifacts, "shapes", "cam-0") is None:
            to = tmp_path / "cam-0"
            new = NewDevice("shapes", "line-1", "cam-0", to, b"{}", {"repository": "nowhere"})
            provision(site.artifacts, new, who="test", when=NOW)
            key = load_pem_private_key((to / "device.pem").read_bytes(), None)
            lines = gzip.decompress(site.cameras[0].report(1)).splitlines()[:-1]
            site.leave(site.cameras[0].file(1), signed_report(lines, key))  # type: ignore[arg-type]
        return listed(spool, project)

    monkeypatch.setattr(Spool, "files", provisioned_just_now)
    monkeypatch.setattr(clocks, "now", lambda: NOW)
    registry = ModelRegistry(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    (said,) = collect_spool(site.project, site.lakefs, registry, site.artifacts, site.spool)
    assert "1 reports of devices" in said and "findings" not in said
    assert list(site.folded()) == ["cam-0"]


def test_a_device_provisioned_anew_counts_anew(site: Site) -> None:
    before, after = Camera("cam-0"), Camera("cam-0", seed=1)
    for sequence in (9, 10):
        site.report(before, sequence, row(sequence, "cam-0"))
        site.collect(NOW + timedelta(seconds=sequence))
    site.enrolled["cam-0"] = after.known()
    site.report(after, 9, row(2, "cam-0"))
    site.report(before, 11, row(3, "cam-0"))
    found = site.collect(NOW + timedelta(seconds=20))
    assert (found.rows, found.repeated, len(found.findings)) == (1, 0, 1)


@given(some.lists(some.integers(0, 60), max_size=80))
def test_each_number_is_taken_once_and_a_record_stays_small(numbers: list[int]) -> None:
    window, taken = Window(), []
    for number in numbers:
        if window.take(number):
            taken.append(number)
        window = Window(window.ranges)
        assert len(window.ranges) <= MOST_RANGES
    assert len(taken) == len(set(taken))
    gaps = len(set(numbers)) <= MOST_RANGES
    assert not gaps or set(taken) == set(numbers)


def test_names_sort_as_devices_count() -> None:
    assert sorted(map(name_of, (2, 10, 1))) == list(map(name_of, (1, 2, 10)))

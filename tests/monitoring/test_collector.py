"""The collector: what is spooled is committed once, whenever it is killed, and what cannot be used is kept aside."""

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import date, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from logged import DAY, MODELS, NOW, file_of, label, png, project, row, sha256

from lakefs_local import discovery
from resources.lakefs import connection
from resources.lakefs.client import LakeFSResource
from resources.lakefs.replies import LakeFSUnavailable
from resources.storage import ArtifactStore, Spool
from visionops_assets.monitoring import collection
from visionops_assets.monitoring.collection import Collected, collect
from visionops_assets.monitoring.inference_log import IDENTITY
from visionops_assets.monitoring.production_day import ProductionDay, read_production_day
from visionops_assets.monitoring.spool_files import spooled_labels

REPOSITORY = "shapes-production"


class Killed(BaseException):
    """The process is gone: nothing catches it, as nothing catches SIGKILL."""


class Production:
    """A spool, a lakeFS and a collector that may be killed."""

    def __init__(self, root: Path, lakefs: LakeFSResource) -> None:
        self.spool, self.lakefs = Spool(root=str(root / "spool")), lakefs
        self.artifacts = ArtifactStore(root=str(root / "artifacts"))
        self.project = project()

    def put(self, *rows: dict[str, Any], name: str | None = None) -> str:
        return self.spool.put("shapes", rows[0]["device"], file_of(*rows), name)

    def collect(self, now: datetime = NOW, **options: Any) -> Collected:
        return collect(
            self.project, lakefs=self.lakefs, spool=self.spool, lock=nullcontext(), now=now, **options
        )

    def committed(self) -> list[tuple[Any, ...]]:
        """Identities of all rows of all committed files, raw."""
        paths = [path for path in self.paths("project=shapes/") if path.endswith(".parquet")]
        files = self.lakefs.read_many(REPOSITORY, "main", paths)
        rows = [each for _, content in files for each in pq.read_table(pa.BufferReader(content)).to_pylist()]
        return [tuple(each[name] for name in IDENTITY) for each in rows]

    def day(self, day: str = DAY, today: date | None = None) -> ProductionDay:
        return read_production_day(
            self.project,
            day,
            lakefs=self.lakefs,
            artifacts=self.artifacts,
            models=MODELS,
            today=today or NOW.date(),
        )

    def paths(self, prefix: str) -> list[str]:
        return [entry.path for entry in self.lakefs.objects(REPOSITORY, "main", prefix)]


@pytest.fixture
def production(tmp_path: Path) -> Iterator[Production]:
    with discovery.serving(tmp_path / "lakefs") as server:
        lakefs = LakeFSResource(
            endpoint=server.endpoint,
            access_key_id=server.access_key_id,
            secret_access_key=server.secret_access_key,
        )
        yield Production(tmp_path, lakefs)


def test_an_empty_spool_commits_nothing(production: Production):
    assert production.collect().commit is None
    assert production.collect().sentence() == "the spool is empty"


def test_rows_are_committed_by_the_day_of_their_prediction(production: Production):
    yesterday = row(2, timestamp=NOW - timedelta(days=1))
    production.put(row(1), yesterday)
    found = production.collect()
    assert found.days == ("2026-06-09", DAY)
    assert len(production.day().rows) == len(production.day("2026-06-09").rows) == 1
    assert production.spool.files("shapes") == []


def test_a_day_is_whole_whatever_order_it_came_in(production: Production):
    production.put(row(1), row(2))
    production.collect()
    production.put(row(3), row(2), name="again")
    production.collect()
    day = production.day()
    assert len(day.rows) == 3
    assert day.rows["timestamp"].is_monotonic_increasing
    assert "came more than once" in day.findings["what"][0]


def test_a_file_that_cannot_be_read_is_kept_aside_and_the_others_are_taken(production: Production):
    production.put(row(1))
    bad = production.spool.put("shapes", "camera-2", b"not parquet")
    found = production.collect()
    assert found.rows == 1
    assert list(found.findings["image"]) == [bad]
    (kept,) = production.paths(f"quarantine/dt={DAY}/")
    assert production.lakefs.read(REPOSITORY, "main", kept) == b"not parquet"
    day = production.day()
    assert len(day.rows) == 1
    assert list(day.findings["image"]) == [bad]


def test_a_wrong_clock_keeps_its_rows_aside_and_the_others_are_taken(production: Production):
    production.put(
        row(1), row(2, timestamp=NOW + timedelta(days=400)), row(3, timestamp=NOW - timedelta(days=9000))
    )
    found = production.collect()
    assert found.rows == 1
    assert found.days == (DAY,)
    assert len(found.findings) == 2
    (kept,) = production.paths("quarantine/")
    assert pq.read_table(pa.BufferReader(production.lakefs.read(REPOSITORY, "main", kept))).num_rows == 2


def test_frames_become_captures_and_the_row_names_its_own(production: Production):
    image = png(1)
    strange = row(3, frame=b"no image", image_sha256=sha256(b"no image"))
    production.put(row(1, frame=image, image_sha256=sha256(image)), row(2, frame=image), strange, row(4))
    found = production.collect()
    captures = production.day().rows.set_index("image_sha256")["capture"]
    path = f"captures/dt={DAY}/{sha256(image)}.png"
    assert captures[sha256(image)] == path
    assert captures.notna().sum() == found.captures == 1
    assert production.lakefs.read(REPOSITORY, "main", path) == image
    assert len(found.findings) == 2


def test_frames_are_forgotten_after_the_stated_days(production: Production):
    image = png(1)
    production.put(row(1, frame=image, image_sha256=sha256(image)))
    production.collect()
    later = NOW + timedelta(days=production.project.production.captures.keep_days + 1)
    production.put(row(1, timestamp=later))
    production.collect(later)
    assert production.paths("captures/") == []
    assert len(production.day().rows) == 1


def test_rows_are_forgotten_after_the_stated_days_and_what_was_made_of_them_is_not_made_again(
    production: Production,
):
    production.project = project(keep_days=40, captures={"keep_days": 10})
    production.put(row(1), row(2, frame=b"no image"))
    production.spool.put("shapes", "camera-2", b"not parquet")
    production.collect()
    later = NOW + timedelta(days=41)
    production.put(row(1, timestamp=later))
    production.collect(later)
    everything = production.paths("")
    assert [path for path in everything if DAY in path] == []
    assert [path for path in everything if f"dt={later:%Y-%m-%d}" in path]
    with pytest.raises(
        LookupError, match=f"the rows of {DAY} are no longer kept, those since 2026-06-11 are"
    ):
        production.day(today=later.date())


def test_a_device_of_several_processes_keeps_no_more_bytes_than_a_day_has(production: Production):
    images = [png(number) for number in range(4)]
    rules = {"bytes_per_day": sum(map(len, images[:2]))}
    production.project = project(captures=rules)
    for number, image in enumerate(images):
        production.put(row(number, frame=image, image_sha256=sha256(image)))
        production.collect(NOW + timedelta(seconds=number))
    production.put(row(9, "camera-2", frame=images[3], image_sha256=sha256(images[3])))
    production.collect(NOW + timedelta(seconds=9))
    rows = production.day().rows
    assert len(rows) == 5
    assert rows.groupby("device")["capture"].count().to_dict() == {"camera-1": 2, "camera-2": 1}


def test_late_labels_join_by_the_digest_of_the_image(production: Production):
    production.put(row(1), row(2))
    production.collect()
    labels = [label(1, "ring"), label(1, "bar", day="2020-01-01")]
    production.spool.put("shapes", "labelling-team", spooled_labels("classification", labels))
    later = NOW + timedelta(days=20)
    found = production.collect(later)
    assert found.labels == 1
    assert len(found.findings) == 1
    assert sorted(production.day().rows["label"].dropna()) == ["ring"]


def test_projects_of_one_repository_do_not_see_each_other(production: Production):
    production.put(row(1))
    production.collect()
    first = production.project
    production.project = first.model_copy(update={"project": "other"})
    production.spool.put("other", "camera-1", file_of(row(1), row(2)))
    production.spool.put("other", "camera-1", b"not parquet")
    production.collect()
    assert len(production.day().rows) == 2
    production.project = first
    assert len(production.day().rows) == 1
    assert production.day().findings.empty


def test_what_exceeds_one_commit_waits_for_the_next(production: Production):
    for number in range(5):
        production.put(row(number))
    assert [production.collect(most=2).left for _ in range(3)] == [3, 1, 0]
    assert len(production.day().rows) == 5


def test_a_file_that_is_put_twice_is_one(production: Production):
    production.put(row(1), name="first-upload")
    production.put(row(1), name="first-upload")
    assert production.collect().files == 1


def test_lakefs_away_loses_nothing(production: Production):
    production.put(row(1))
    gone = LakeFSResource(endpoint="http://127.0.0.1:1", access_key_id="none", secret_access_key="none")
    with pytest.raises(LakeFSUnavailable):
        collect(production.project, lakefs=gone, spool=production.spool, lock=nullcontext(), now=NOW)
    assert production.collect().rows == 1


# Every step of a collection that leaves something behind.
STEPS: tuple[tuple[Any, str], ...] = (
    (LakeFSResource, "create_repository"),
    (connection, "_send"),
    (LakeFSResource, "save"),
    (Spool, "remove"),
)


def kill(patched: pytest.MonkeyPatch, where: type | ModuleType, name: str, *, after: bool) -> None:
    """Kill the next collector before or after one of its steps."""
    real = getattr(where, name)

    def killed(*arguments: Any, **options: Any) -> Any:
        # Removing what an earlier collector left is no step of this one.
        if name == "remove" and not arguments[2]:
            return real(*arguments, **options)
        if after:
            real(*arguments, **options)
        raise Killed

    patched.setattr(where, name, killed)


def test_killed_anywhere_nothing_is_lost_and_nothing_doubled(production: Production):
    expected = set()
    for number, ((where, name), after) in enumerate(itertools.product(STEPS, (False, True))):
        moment = NOW + timedelta(seconds=number)
        rows = [row(10 * number + camera, device=f"camera-{camera}") for camera in range(3)]
        # What comes after the kill is taken with what was left.
        late = row(10 * number + 9)
        expected |= {tuple(each[column] for column in IDENTITY) for each in (*rows, late)}
        for each in rows:
            production.put(each)
        with pytest.MonkeyPatch.context() as patched:
            kill(patched, where, name, after=after)
            with pytest.raises(Killed):
                production.collect(moment)
        production.put(late)
        production.collect(moment)
        committed = production.committed()
        assert len(committed) == len(set(committed)), f"doubled after {name}"
        assert set(committed) == expected, f"lost after {name}"
    assert production.spool.files("shapes") == []


def test_killed_while_removing_files_the_rest_goes_with_the_next(production: Production):
    for number in range(4):
        production.put(row(number), name=f"{number}")
    real, seen = Spool.remove, []

    def half(self: Spool, project: str, files: list[str]) -> None:
        if files:
            real(self, project, files[:2])
            seen.append(files)
            raise Killed

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Spool, "remove", half)
        with pytest.raises(Killed):
            production.collect()
    assert len(production.spool.files("shapes")) == 2
    assert production.collect().commit is None
    assert production.spool.files("shapes") == []
    assert len(production.committed()) == 4


@pytest.mark.timeout(1800)
def test_devices_write_while_the_collector_works_and_none_is_lost(
    production: Production, count: Callable[[int, int], int], monkeypatch: pytest.MonkeyPatch
):
    # Nothing here loses its power, and 57,600 files would wait for the disk one by one.
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    devices, uploads = count(10, 200), count(12, 288)
    commits = 0

    def write(upload: int) -> None:
        for device in range(devices):
            production.put(row(upload, device=f"camera-{device}"))

    # A day of one upload of each device, and one look of the collector, every five minutes.
    for upload in range(uploads):
        writer = threading.Thread(target=write, args=(upload,))
        writer.start()
        if upload == uploads - 1:
            writer.join()
        commits += production.collect().commit is not None
        writer.join()
    committed = production.committed()
    assert len(committed) == len(set(committed)) == devices * uploads
    assert commits <= uploads
    assert production.spool.files("shapes") == []


def test_one_collector_at_a_time(production: Production):
    held: list[str] = []

    @contextmanager
    def lock() -> Iterator[None]:
        held.append("taken")
        yield
        held.append("left")

    production.put(row(1))
    found = collection.collect(
        production.project, lakefs=production.lakefs, spool=production.spool, lock=lock(), now=NOW
    )
    assert found.rows == 1
    assert held == ["taken", "left"]

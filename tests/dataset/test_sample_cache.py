import errno
import hashlib
import os
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edge.images.decode import decode
from edge.images.header import UnreadableImage
from visionops_assets.dataset.cache import sample_cache
from visionops_assets.dataset.cache.sample_cache import CacheFull, SampleCache, SampleError
from visionops_assets.dataset.cache.sample_view import locate
from visionops_assets.dataset.cache.segments import Segment, read_segments

SHAPE = (12, 16, 3)


class Images:
    """Encoded images by path, and a record of which were fetched."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        self.contents = contents
        self.fetched: list[str] = []

    def __call__(self, paths: list[str]):
        for path in reversed(paths):
            self.fetched.append(path)
            yield path, self.contents[path]

    @property
    def wanted(self) -> list[tuple[str, str, int]]:
        return [(path, sha(data), len(data)) for path, data in self.contents.items()]

    @property
    def sha256s(self) -> list[str]:
        return [sha256 for _, sha256, _ in self.wanted]


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def images(png, jpeg) -> Images:
    made = {f"batches/a/images/{n:03}.png": png(n, 24, 32) for n in range(20)}
    return Images(made | {f"batches/b/images/{n:03}.jpg": jpeg(n, 24, 32) for n in range(20, 40)})


def expected(images: Images, path: str) -> np.ndarray:
    return decode(images.contents[path], path, *SHAPE)


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_gathered_samples_are_the_decoded_images(tmp_path, images, encoded, threads):
    cache = SampleCache(tmp_path, *SHAPE, encoded=encoded, threads=threads)
    report = cache.fill(images.wanted, images)
    assert (report.wanted, report.present, report.added) == (40, 0, 40)
    assert report.fetched_bytes == sum(len(data) for data in images.contents.values())
    view = cache.view(images.sha256s)
    assert len(view) == 40
    indices = np.array([39, 0, 0, 17, 25])
    gathered = view.gather(indices)
    assert gathered.dtype == np.uint8 and gathered.shape == (5, *SHAPE)
    paths = list(images.contents)
    for place, index in enumerate(indices):
        assert np.array_equal(gathered[place], expected(images, paths[index]))
    out = np.zeros((5, *SHAPE), np.uint8)
    assert view.gather(indices, out=out) is out
    assert np.array_equal(out, gathered)


def test_a_view_across_many_segments_is_the_same_as_across_one(tmp_path, images):
    whole = SampleCache(tmp_path / "whole", *SHAPE)
    whole.fill(images.wanted, images)
    pieces = SampleCache(tmp_path / "pieces", *SHAPE, segment_bytes=5 * 12 * 16 * 3)
    pieces.fill(images.wanted, images)
    assert len(read_segments(pieces.folder)) == 8
    order = np.random.default_rng(0).permutation(40)
    assert np.array_equal(whole.view(images.sha256s).gather(order), pieces.view(images.sha256s).gather(order))


def test_only_what_is_new_is_fetched(tmp_path, images, png):
    cache = SampleCache(tmp_path, *SHAPE)
    cache.fill(images.wanted, images)
    images.fetched.clear()
    assert cache.fill(images.wanted, images).added == 0
    assert images.fetched == []
    images.contents["batches/c/images/new.png"] = png(77)
    report = cache.fill(images.wanted, images)
    assert (report.present, report.added) == (40, 1)
    assert images.fetched == ["batches/c/images/new.png"]


def test_the_same_image_under_two_paths_is_kept_once(tmp_path, images):
    images.contents["batches/z/images/copy.png"] = images.contents["batches/a/images/000.png"]
    report = SampleCache(tmp_path, *SHAPE).fill(images.wanted, images)
    assert report.added == 40
    view = SampleCache(tmp_path, *SHAPE).view(images.sha256s)
    assert np.array_equal(view.gather([0]), view.gather([40]))


def test_decode_sizes_are_kept_apart_and_encoded_images_are_shared(tmp_path, images):
    SampleCache(tmp_path, *SHAPE).fill(images.wanted, images)
    assert SampleCache(tmp_path, 8, 8, 1).fill(images.wanted, images).added == 40
    assert SampleCache(tmp_path, *SHAPE, "fit").fill(images.wanted, images).added == 40
    SampleCache(tmp_path, *SHAPE, encoded=True).fill(images.wanted, images)
    assert SampleCache(tmp_path, 8, 8, 1, encoded=True).fill(images.wanted, images).added == 0


def test_a_view_asks_for_a_fill_when_samples_are_missing(tmp_path, images):
    cache = SampleCache(tmp_path, *SHAPE)
    with pytest.raises(LookupError, match=r"40 of 40 samples are not in the cache.*fill it first"):
        cache.view(images.sha256s)
    with pytest.raises(ValueError, match="'no digest' is not a SHA-256"):
        cache.view(["no digest"])
    assert len(cache.view([])) == 0


def test_altered_bytes_are_refused_by_name_and_what_came_before_stays(tmp_path, images):
    cache = SampleCache(tmp_path, *SHAPE, threads=1)
    wanted = images.wanted
    # The fetch goes from last to first, so this one comes last.
    images.contents["batches/a/images/000.png"] += b"x"
    with pytest.raises(SampleError, match=r"batches/a/images/000\.png: its \d+ bytes have the SHA-256"):
        cache.fill(wanted, images)
    assert cache.fill(wanted[1:], images).added == 0


def test_images_that_never_come_are_named(tmp_path, images):
    with pytest.raises(SampleError, match=r"batches/b/images/039\.jpg: 1 of 40 images never came"):
        SampleCache(tmp_path, *SHAPE).fill(
            images.wanted, lambda paths: images([path for path in paths if "039" not in path])
        )


def test_an_unreadable_image_is_named(tmp_path, images):
    images.contents["batches/a/images/005.png"] = b"no image"
    with pytest.raises(UnreadableImage, match=r"batches/a/images/005\.png: is not an image"):
        SampleCache(tmp_path, *SHAPE).fill(images.wanted, images)


def test_a_fetch_that_breaks_off_is_resumed_where_it_stopped(tmp_path, images):
    cache = SampleCache(tmp_path, *SHAPE, threads=1, segment_bytes=4 * 12 * 16 * 3)

    def breaking(paths):
        for number, one in enumerate(images(paths)):
            if number == 35:
                raise ConnectionError("connection lost")
            yield one

    with pytest.raises(ConnectionError, match="connection lost"):
        cache.fill(images.wanted, breaking)
    report = cache.fill(images.wanted, images)
    assert report.present == 35
    assert report.added == 5


def test_a_view_reopens_its_files_in_another_process(tmp_path, images):
    for encoded in (False, True):
        cache = SampleCache(tmp_path, *SHAPE, encoded=encoded)
        cache.fill(images.wanted, images)
        view = cache.view(images.sha256s)
        view.gather(range(40))
        frozen = pickle.dumps(view)
        assert len(frozen) < 40 * 12 * 16 * 3
        assert np.array_equal(pickle.loads(frozen).gather(range(40)), view.gather(range(40)))


def test_progress_counts_up_to_what_was_missing(tmp_path, images):
    seen: list[tuple[int, int]] = []
    SampleCache(tmp_path, *SHAPE).fill(images.wanted, images, lambda done, total: seen.append((done, total)))
    assert seen == [(done, 40) for done in range(1, 41)]


FILLER = textwrap.dedent("""
    import hashlib, sys, time
    from pathlib import Path
    from visionops_assets.dataset.cache.sample_cache import SampleCache
    root, folder, pause = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    files = {p.name: p.read_bytes() for p in sorted(folder.iterdir())}
    wanted = [(name, hashlib.sha256(data).hexdigest(), len(data)) for name, data in files.items()]
    def fetch(paths):
        for path in paths:
            time.sleep(pause)
            yield path, files[path]
    cache = SampleCache(root, 12, 16, 3, segment_bytes=2000, threads=1)
    print("started", flush=True)
    print(cache.fill(wanted, fetch).added, flush=True)
""")


def start_filling(root: Path, folder: Path, pause: float) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", FILLER, str(root), str(folder), str(pause)], stdout=subprocess.PIPE, text=True
    )


@pytest.fixture
def image_folder(tmp_path, images) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number, data in enumerate(images.contents.values()):
        (folder / f"{number:03}").write_bytes(data)
    return folder


def test_two_processes_filling_at_once_fetch_each_image_once(tmp_path, images, image_folder):
    fillers = [start_filling(tmp_path / "cache", image_folder, 0.002) for _ in range(2)]
    added = [int(filler.communicate(timeout=60)[0].split()[-1]) for filler in fillers]
    assert sorted(added) == [0, 40]
    view = SampleCache(tmp_path / "cache", *SHAPE).view(images.sha256s)
    assert np.array_equal(view.gather([3])[0], expected(images, "batches/a/images/003.png"))


def test_a_killed_writer_leaves_a_valid_cache(tmp_path, images, image_folder, count):
    cache = SampleCache(tmp_path / "cache", *SHAPE)
    random = np.random.default_rng(0)
    for _ in range(count(4, 40)):
        filler = start_filling(tmp_path / "cache", image_folder, 0.01)
        assert filler.stdout is not None
        filler.stdout.readline()
        time.sleep(random.uniform(0.0, 0.4))
        filler.send_signal(signal.SIGKILL)
        filler.communicate()
        for segment in read_segments(cache.folder):
            shas = [digest.tobytes().hex() for digest in segment.digests]
            view = cache.view(shas)
            contents = {sha(data): data for data in images.contents.values()}
            for place, found in enumerate(shas):
                assert np.array_equal(view.gather([place])[0], decode(contents[found], "a", *SHAPE))
        for segment in read_segments(cache.folder)[1:]:
            segment.remove()
    cache.fill(images.wanted, images)
    complete = {segment.path.name for segment in read_segments(cache.folder)}
    assert {path.name for path in cache.folder.glob("*.bin")} == complete
    assert not list(cache.folder.glob("*.tmp"))
    assert len(cache.view(images.sha256s)) == 40


def test_an_altered_segment_counts_as_missing(tmp_path, images):
    cache = SampleCache(tmp_path, *SHAPE)
    cache.fill(images.wanted, images)
    segment = read_segments(cache.folder)[0].path
    segment.write_bytes(segment.read_bytes()[:-1])
    assert cache.fill(images.wanted, images).added == 40


def age(cache: SampleCache, seconds: float) -> None:
    for number, segment in enumerate(read_segments(cache.folder)):
        then = time.time() - seconds - number
        os.utime(segment.index, (then, then))


def test_the_size_cap_evicts_what_no_recent_manifest_uses(tmp_path, images):
    row = 12 * 16 * 3
    cache = SampleCache(tmp_path, *SHAPE, max_bytes=30 * row)
    old, new = images.wanted[:20], images.wanted[20:]
    cache.fill(old, images)
    age(cache, 7200)
    cache.fill(new, images)
    assert sum(segment.bytes for segment in read_segments(cache.folder)) == 20 * row
    cache.view([sha256 for _, sha256, _ in new])
    with pytest.raises(LookupError):
        cache.view([sha256 for _, sha256, _ in old])


def test_what_was_used_lately_or_is_wanted_is_never_evicted(tmp_path, images):
    row = 12 * 16 * 3
    cache = SampleCache(tmp_path, *SHAPE, max_bytes=30 * row)
    cache.fill(images.wanted[:20], images)
    with pytest.raises(CacheFull, match="size cap"):
        cache.fill(images.wanted[20:], images)
    age(cache, 7200)
    with pytest.raises(
        CacheFull,
        match=r"raise VISIONOPS_CACHE_MIB, or keep .*VISIONOPS_CACHE_KEEPS=encoded",
    ):
        cache.fill(images.wanted, images)
    assert cache.view([sha256 for _, sha256, _ in images.wanted[:20]])


def test_many_small_segments_become_few(tmp_path, images, monkeypatch):
    monkeypatch.setattr(sample_cache, "MANY_SEGMENTS", 4)
    cache = SampleCache(tmp_path, *SHAPE)
    open_view = None
    for end in range(1, 13):
        cache.fill(images.wanted[:end], images)
        open_view = open_view or cache.view(images.sha256s[:1])
    assert len(read_segments(cache.folder)) <= 5
    view = cache.view(images.sha256s[:12])
    for index, path in enumerate(list(images.contents)[:12]):
        assert np.array_equal(view.gather([index])[0], expected(images, path))
    assert open_view is not None
    assert np.array_equal(open_view.gather([0]), view.gather([0]))


def test_readers_are_not_disturbed_by_compaction(tmp_path, images, monkeypatch):
    monkeypatch.setattr(sample_cache, "MANY_SEGMENTS", 2)
    cache = SampleCache(tmp_path, *SHAPE)
    cache.fill(images.wanted[:1], images)
    reference = expected(images, "batches/a/images/000.png")

    def read_often() -> int:
        reads = 0
        while reads < 200:
            assert np.array_equal(cache.view(images.sha256s[:1]).gather([0])[0], reference)
            reads += 1
        return reads

    with ThreadPoolExecutor(2) as pool:
        reading = [pool.submit(read_often) for _ in range(2)]
        for end in range(2, 41):
            cache.fill(images.wanted[:end], images)
        assert [one.result() for one in reading] == [200, 200]


def test_a_full_disk_is_said_and_loses_nothing(tmp_path, images, image_folder):
    # A limit on the size of files is a full disk that a test may have.
    limited = FILLER.replace("import hashlib", "import resource, signal, hashlib").replace(
        "cache = ",
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); cache = ",
    )
    run = subprocess.run(
        [sys.executable, "-c", limited, str(tmp_path / "cache"), str(image_folder), "0"],
        capture_output=True,
        text=True,
    )
    assert "CacheFull" in run.stderr and "free disk space and run it again" in run.stderr
    cache = SampleCache(tmp_path / "cache", *SHAPE)
    assert not list(cache.folder.glob("seg-*"))
    assert cache.fill(images.wanted, images).added == 40


def test_too_small_a_disk_is_said_before_anything_is_fetched(tmp_path, images, monkeypatch):
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(CacheFull, match=r"needs 0\.0 MiB more for 40 samples, and the disk leaves") as caught:
        SampleCache(tmp_path, *SHAPE).fill(images.wanted, images)
    assert caught.value.errno == errno.ENOSPC
    assert images.fetched == []


def test_digests_that_agree_in_their_first_bytes_are_told_apart():
    digests = np.zeros((4, 32), np.uint8)
    digests[:, 31] = [1, 2, 3, 4]
    segments = [
        Segment(Path("a"), digests[:2], np.ones(2, np.uint64)),
        Segment(Path("b"), digests[1:3], np.ones(2, np.uint64)),
    ]
    assert locate(segments, digests[[2, 1, 0, 3]]).tolist() == [3, 1, 0, -1]
    assert locate([], digests).tolist() == [-1] * 4


def test_an_encoded_image_that_cannot_be_decoded_is_named_by_its_digest(tmp_path, images):
    broken = b"no image"
    cache = SampleCache(tmp_path, *SHAPE, encoded=True)
    cache.fill([("x.png", sha(broken), len(broken))], lambda paths: [("x.png", broken)])
    with pytest.raises(UnreadableImage, match=f"image {sha(broken)}: is not an image"):
        cache.view([sha(broken)]).gather([0])


@pytest.mark.parametrize("encoded", [False, True])
def test_a_position_outside_the_view_is_an_error(tmp_path, images, encoded):
    cache = SampleCache(tmp_path, *SHAPE, encoded=encoded)
    cache.fill(images.wanted, images)
    with pytest.raises(IndexError):
        cache.view(images.sha256s).gather([40])

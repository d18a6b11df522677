"""What can go wrong with a bucket: nothing is lost, each failure names the place and the fix."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from places import Bucket

from resources.drop import Drop
from resources.drop_places import DropChanged, DropPlace, DropRefused, DropUnavailable

Progress = Callable[[int, int], None]
SIZE = 200_000


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    return tmp_path / "staging"


@pytest.fixture
def place(bucket: Bucket, staging: Path) -> DropPlace:
    drop = Drop(root="unused", staging=str(staging))
    return drop.open(bucket.address)


@contextmanager
def cut_off(endpoint: str, after_bytes: int) -> Iterator[str]:
    """A way to the server whose connections break once `after_bytes` came back through all of them together."""
    target = urlsplit(endpoint)
    listener = socket.create_server(("127.0.0.1", 0))
    left = [after_bytes]

    def relay(source: socket.socket, sink: socket.socket, limited: bool) -> None:
        try:
            while data := source.recv(1 << 14):
                if limited:
                    left[0] -= len(data)
                    if left[0] < 0:
                        break
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for one in (source, sink):
                # Closing alone would leave the other thread waiting for it.
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()

    def accept() -> None:
        while True:
            try:
                caller, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection((target.hostname or "", target.port or 80))
            threading.Thread(target=relay, args=(caller, server, False), daemon=True).start()
            threading.Thread(target=relay, args=(server, caller, True), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()


def test_a_connection_lost_in_the_middle_goes_on_where_it_stopped(
    bucket: Bucket, staging: Path, s3_endpoint: str, no_progress: Progress, monkeypatch: pytest.MonkeyPatch
):
    files = {f"{number}.png": bytes([number]) * SIZE for number in range(12)}
    for name, content in files.items():
        bucket.put(f"week-01/{name}", content)
    bucket.put("week-01/_SUCCESS", b"")
    with cut_off(s3_endpoint, after_bytes=6 * SIZE) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        broken = Drop(root="unused", staging=str(staging)).open(bucket.address)
        with pytest.raises(DropUnavailable, match="goes on where it stopped"):
            broken.fetched("week-01", broken.listing("week-01"), no_progress).__enter__()
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    kept = list(staging.rglob("versions/*/*.png"))
    assert 0 < len(kept) < len(files)
    assert all(path.stat().st_size == SIZE for path in kept), "a part of a file counts as none of it"
    # What was copied is not copied again: without it the bucket could not give the whole batch.
    again = Drop(root="unused", staging=str(staging)).open(bucket.address)
    listing = again.listing("week-01")
    for path in kept:
        bucket.remove(f"week-01/{path.name}")
    with again.fetched("week-01", listing, no_progress) as folder:
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    assert not list(staging.rglob("*.png")), "the copy goes when the batch was read"


def test_what_changed_meanwhile_is_copied_again(
    bucket: Bucket, place: DropPlace, staging: Path, no_progress: Progress
):
    bucket.put("week-01/a.png", b"old")
    bucket.put("week-01/b.png", b"same")
    with pytest.raises(ZeroDivisionError), place.fetched("week-01", place.listing("week-01"), no_progress):
        raise ZeroDivisionError
    assert list(staging.rglob("*.png")), "the copy stays where the import failed"
    bucket.put("week-01/a.png", b"new")
    with place.fetched("week-01", place.listing("week-01"), no_progress) as folder:
        assert (folder / "a.png").read_bytes() == b"new"
        assert (folder / "b.png").read_bytes() == b"same"


@pytest.mark.parametrize("change", ["altered", "removed"])
def test_a_file_that_changes_after_the_listing_is_refused_by_the_bucket(
    bucket: Bucket, place: DropPlace, no_progress: Progress, change: str
):
    bucket.put("week-01/a.png", b"1")
    listing = place.listing("week-01")
    bucket.put("week-01/a.png", b"2") if change == "altered" else bucket.remove("week-01/a.png")
    with (
        pytest.raises(DropChanged, match=r"week-01/a\.png changed"),
        place.fetched("week-01", listing, no_progress),
    ):
        pass


def test_permission_denied_names_the_place_and_what_to_allow(
    bucket: Bucket, place: DropPlace, s3_endpoint: str
):
    bucket.put("week-01/a.png", b"1")
    httpx.post(f"{s3_endpoint}/moto-api/reset-auth", content=b"0").raise_for_status()
    try:
        with pytest.raises(DropRefused, match=r"s3://drop-.*access denied .*s3:GetObject and s3:ListBucket"):
            place.batches()
    finally:
        httpx.post(f"{s3_endpoint}/moto-api/reset-auth", content=b"inf").raise_for_status()


def test_a_bucket_that_is_not_there_is_said_with_the_field_to_correct(bucket: Bucket, staging: Path):
    place = Drop(root="unused", staging=str(staging)).open("s3://no-such-bucket-here/line-3")
    with pytest.raises(DropRefused, match=r"no-such-bucket-here.*no such bucket; correct `drop\.address`"):
        place.batches()


def test_no_answer_is_an_outage_and_no_refusal(
    bucket: Bucket, staging: Path, monkeypatch: pytest.MonkeyPatch
):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    place = Drop(root="unused", staging=str(staging)).open(bucket.address)
    with pytest.raises(DropUnavailable, match="never came"):
        place.batches()


def test_without_credentials_it_says_which_to_set(
    bucket: Bucket, staging: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    place = Drop(root="unused", staging=str(staging)).open(bucket.address)
    with pytest.raises(DropRefused, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        place.batches()


def test_a_name_that_leads_out_of_its_batch_is_refused(bucket: Bucket, place: DropPlace):
    bucket.put("week-01/../../escaped.png", b"1")
    with pytest.raises(DropRefused, match="leads out of its batch"):
        for batch in place.batches():
            place.listing(batch)


def test_a_full_disk_is_said_with_the_fix(
    bucket: Bucket, place: DropPlace, no_progress: Progress, monkeypatch: pytest.MonkeyPatch
):
    import errno

    from resources.drop_places import DropError

    bucket.put("week-01/a.png", b"1")
    listing = place.listing("week-01")

    def full(path: Path, *arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "hardlink_to", full)
    with (
        pytest.raises(DropError, match=r"No space left on device; free some disk space"),
        place.fetched("week-01", listing, no_progress),
    ):
        pass

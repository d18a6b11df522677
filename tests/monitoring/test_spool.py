"""The spool: files appear whole, in a folder or behind any other address, and their name is all that matters."""

from pathlib import Path

import pytest

from resources.storage import Spool


@pytest.fixture(params=["folder", "memory"])
def spool(request: pytest.FixtureRequest, tmp_path: Path) -> Spool:
    """One on disk, and one that is no folder, as a bucket is none."""
    return Spool(root=str(tmp_path) if request.param == "folder" else f"memory://{tmp_path.name}")


def test_what_is_put_is_listed_read_and_removed(spool: Spool):
    first, second = spool.put("shapes", "camera-1", b"one"), spool.put("shapes", "camera-2", b"two")
    assert spool.files("shapes") == [first, second]
    assert dict(spool.read_each("shapes", [second, first])) == {first: b"one", second: b"two"}
    spool.remove("shapes", [first, first])
    assert spool.files("shapes") == [second]
    assert spool.files("other") == []


def test_a_name_that_is_put_again_is_the_same_file(spool: Spool):
    assert spool.put("shapes", "camera-1", b"one", "upload-1") == spool.put(
        "shapes", "camera-1", b"one", "upload-1"
    )
    assert spool.files("shapes") == ["camera-1/upload-1.parquet"]


@pytest.mark.parametrize("device", ["", "../escape", "a/b", "a" * 64, ".hidden", "with space"])
def test_a_device_that_cannot_be_a_folder_is_refused(spool: Spool, device: str):
    with pytest.raises(ValueError, match="letters, digits"):
        spool.put("shapes", device, b"one")
    assert spool.files("shapes") == []


def test_a_file_that_is_being_written_is_not_listed(tmp_path: Path):
    spool = Spool(root=str(tmp_path))
    spool.put("shapes", "camera-1", b"one", "whole")
    (tmp_path / "shapes" / "camera-1" / "half.parquet.0123.tmp").write_bytes(b"on")
    assert spool.files("shapes") == ["camera-1/whole.parquet"]


def test_what_nobody_collects_is_named(spool: Spool):
    spool.put("shapes", "cam-0", b"rows")
    spool.note("shapes", "cam-0", "pod-1", b"{}")
    assert spool.strangers("shapes") == [] == spool.strangers("forms")
    for key in ("shapes/holiday.jpg", "shapes/cam-0/core.17"):
        spool._store.write(key, b"anything")
    assert spool.strangers("shapes") == ["cam-0/core.17", "holiday.jpg"]

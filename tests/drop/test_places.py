"""A folder and a bucket show the same drop."""

from collections.abc import Callable
from pathlib import Path

import pytest
from places import Remote

from resources.drop import Drop
from resources.drop_places import DropChanged, sighting

Progress = Callable[[int, int], None]


@pytest.fixture
def drop(tmp_path: Path) -> Drop:
    return Drop(root=str(tmp_path / "unused"), staging=str(tmp_path / "staging"))


def read(folder: Path) -> dict[str, bytes]:
    """Every file of a batch but its marker."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "_SUCCESS"
    }


def test_an_absent_drop_has_no_batches(drop: Drop, remote: Remote):
    assert drop.look(drop.open(remote.address)) == []


def test_batches_are_folders_and_hidden_files_are_no_part_of_them(drop: Drop, remote: Remote):
    remote.put("week-02/a.png", b"2")
    remote.put("week-01/cat/a.png", b"1")
    remote.put("week-01/cat/.a.png.part", b"unfinished")
    remote.put(".tmp/b.png", b"not a batch")
    place = drop.open(remote.address)
    assert place.batches() == ["week-01", "week-02"]
    assert [file.name for file in place.listing("week-01").files] == ["cat/a.png"]


def test_a_batch_is_read_whole_with_its_folders_and_progress(drop: Drop, remote: Remote):
    files = {"labels.csv": b"path,label", "train/x y.png": b"1" * 3000, "train/ü.png": b"2"}
    for name, content in files.items():
        remote.put(f"week-01/{name}", content)
    remote.put("week-01/_SUCCESS", b"")
    heard: list[tuple[int, int]] = []
    with drop.read(
        drop.open(remote.address), "week-01", lambda done, of: heard.append((done, of))
    ) as reading:
        assert read(reading.folder) == files
        reading.check_unchanged()
    assert heard[-1] == (3, 3)


def test_a_marker_stands_for_the_batch_and_a_new_one_for_a_new_batch(drop: Drop, remote: Remote):
    remote.put("week-01/a.png", b"1")
    place = drop.open(remote.address)
    unmarked = sighting(place, "week-01")
    assert not unmarked.marked
    remote.put("week-01/_SUCCESS", b"")
    marked = sighting(place, "week-01")
    assert marked.marked
    assert marked == sighting(place, "week-01")
    remote.put("week-01/_SUCCESS", b"corrected")
    assert sighting(place, "week-01") != marked


@pytest.mark.parametrize("change", ["added", "removed", "altered", "same size"])
def test_without_a_marker_any_change_shows_in_the_fingerprint(drop: Drop, remote: Remote, change: str):
    remote.put("week-01/a.png", b"1")
    remote.put("week-01/b.png", b"1")
    place = drop.open(remote.address)
    before = sighting(place, "week-01")
    match change:
        case "added":
            remote.put("week-01/c.png", b"1")
        case "removed":
            remote.remove("week-01/b.png")
        case "altered":
            remote.put("week-01/b.png", b"12")
        case _:
            remote.put("week-01/b.png", b"2")
    assert sighting(place, "week-01") != before


@pytest.mark.parametrize("change", ["added", "removed", "altered", "marker"])
def test_a_drop_that_changes_while_it_is_read_is_told_by_name(
    drop: Drop, remote: Remote, no_progress: Progress, change: str
):
    for name in ("a.png", "b.png", "_SUCCESS"):
        remote.put(f"week-01/{name}", b"1")
    with drop.read(drop.open(remote.address), "week-01", no_progress) as reading:
        match change:
            case "added":
                remote.put("week-01/c.png", b"1")
            case "removed":
                remote.remove("week-01/b.png")
            case "altered":
                remote.put("week-01/b.png", b"12")
            case _:
                remote.put("week-01/_SUCCESS", b"again")
        named = {"added": "c.png", "marker": "_SUCCESS"}.get(change, "b.png")
        with pytest.raises(DropChanged, match=rf"week-01 changed while it was read \({named}\)"):
            reading.check_unchanged()


def test_two_projects_have_a_folder_each_unless_they_name_a_place(tmp_path: Path):
    drop = Drop(root=str(tmp_path / "drop"), staging=str(tmp_path / "staging"))
    assert drop.place("digits").address == str(tmp_path / "drop" / "digits")
    assert drop.place("digits", str(tmp_path / "elsewhere")).address == str(tmp_path / "elsewhere")


def test_links_of_a_drop_lead_nowhere(drop: Drop, tmp_path: Path):
    """A batch that is a link is seen, so that it can be refused; nothing behind it is."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "theirs").touch()
    (tmp_path / "drop" / "week-2" / "a").mkdir(parents=True)
    (tmp_path / "drop" / "week-1").symlink_to(tmp_path / "secret")
    (tmp_path / "drop" / "week-2" / "a" / "more").symlink_to(tmp_path / "secret")
    place = drop.open(str(tmp_path / "drop"))
    assert place.batches() == ["week-1", "week-2"]
    assert [[file.name for file in place.listing(batch).files] for batch in place.batches()] == [
        ["week-1"],
        ["a/more"],
    ]
    (tmp_path / "secret" / "_SUCCESS").touch()
    assert place.marker("week-1") is None

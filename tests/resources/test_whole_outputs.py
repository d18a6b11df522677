"""What people name to be written is there whole or not at all, whatever ends the writer."""

import errno
import fcntl
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from resources.safe_files import WorkingFolder, append, remove_left, whole_file, whole_folder
from resources.storage import ArtifactStore
from tests import processes


def write(place: Path, *, as_folder: bool) -> None:
    """What is written is there whole."""
    if as_folder:
        with whole_folder(place) as made:
            (made / "one").write_bytes(b"whole")
        assert (place / "one").read_bytes() == b"whole"
    else:
        with whole_file(place) as made:
            made.write_bytes(b"whole")
        assert place.read_bytes() == b"whole"


def write_and_die(folder: str, target: str) -> None:
    """Be killed half way."""
    os.chdir(folder)
    if target.endswith("/"):
        with whole_folder(Path(target)) as made:
            (made / "one").write_bytes(b"one")
            os.kill(os.getpid(), signal.SIGKILL)
    with whole_file(Path(target)) as made:
        made.write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("target", ["page.html", "pages/", "a [b]*.csv", "new/below/pages/"])
def test_a_killed_writer_leaves_nothing_under_the_name_and_the_next_one_takes_its_rest_away(
    tmp_path: Path, target: str
) -> None:
    said = tmp_path.with_name("said")
    for _ in range(2):
        ended = processes.run(write_and_die, str(tmp_path), target, environment=os.environ, said=said)
        assert ended.code == -signal.SIGKILL, ended.said
        assert not (tmp_path / target).exists()
    place = tmp_path / target
    write(place, as_folder=target.endswith("/"))
    assert list(place.parent.iterdir()) == [place], "what the killed ones left is gone"


def work_and_die(folder: str) -> None:
    with WorkingFolder(Path(folder), "reproduction") as made:
        (made / "large").mkdir()
        os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_process_worked_with_goes_with_the_next_and_what_another_works_with_stays(
    tmp_path: Path,
) -> None:
    ended = processes.run(
        work_and_die, str(tmp_path), environment=os.environ, said=tmp_path.with_name("said")
    )
    assert ended.code == -signal.SIGKILL and len(list(tmp_path.iterdir())) == 1
    with WorkingFolder(tmp_path, "reproduction") as one:
        assert list(tmp_path.iterdir()) == [one] and not list(one.iterdir())
        with WorkingFolder(tmp_path, "reproduction") as other:
            assert sorted(tmp_path.iterdir()) == sorted([one, other])
    assert not list(tmp_path.iterdir())


def test_one_that_writes_takes_nothing_away_from_another(tmp_path: Path) -> None:
    with whole_file(tmp_path / "a.csv") as first, whole_file(tmp_path / "a.csv") as second:
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert (tmp_path / "a.csv").read_bytes() == b"first", "the last to be whole"
    with pytest.raises(FileExistsError, match="not empty"), whole_folder(tmp_path / "f") as one:
        (one / "x").touch()
        with whole_folder(tmp_path / "f") as other:
            (other / "y").touch()
    assert [path.name for path in (tmp_path / "f").iterdir()] == ["y"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "f"]


def put_and_die(folder: str) -> None:
    """Be killed half way through a file of the artifact store and one of a run."""
    with whole_file(Path(folder) / "first.json", ours=True) as made:
        made.write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)


def test_the_next_to_write_another_file_of_a_folder_of_ours_takes_away_what_killed_writers_left(
    tmp_path: Path,
) -> None:
    folder, said = tmp_path / "artifacts", tmp_path / "said"
    ended = processes.run(put_and_die, str(folder), environment=os.environ, said=said)
    assert ended.code == -signal.SIGKILL, ended.said
    earlier = [folder / f".partial-{'a' * 32}", folder / f"x.json.{'b' * 32}.tmp"]
    fresh = folder / f".partial-{'c' * 32}"
    for file in (*earlier, fresh):
        file.write_bytes(b"half")
    for file in earlier:
        os.utime(file, (0, 0))
    (folder / ".hidden.unfinished").write_bytes(b"somebody's own")
    store = ArtifactStore(root=str(tmp_path))
    assert store.names("artifacts") == [".hidden.unfinished"], "what is not whole is not there"
    with whole_file(folder / "living.json", ours=True) as living:
        living.write_bytes(b"half")
        store.write("artifacts/second.json", b"whole")
        assert living.read_bytes() == b"half", "its writer lives"
        there = {each.name for each in folder.iterdir()}
        assert there == {"second.json", ".hidden.unfinished", fresh.name, living.name}
    assert (folder / "living.json").read_bytes() == b"half"


def put_many(folder: str, name: str) -> None:
    for number in range(300):
        ArtifactStore(root=folder).write(f"{name}-{number}", name.encode())


@pytest.mark.slow
def test_many_who_write_into_one_folder_at_once_take_nothing_away_from_each_other(tmp_path: Path) -> None:
    writers = [
        processes.start(put_many, str(tmp_path / "all"), name, environment=os.environ, said=tmp_path / name)
        for name in ("one", "two", "three")
    ]
    for writer in writers:
        ended = writer.ended()
        assert ended.code == 0, ended.said
    found = sorted((tmp_path / "all").iterdir())
    assert len(found) == 900 and all(file.name.startswith(file.read_text()) for file in found)


def test_what_fails_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(b"before")
    file.chmod(0o640)
    with pytest.raises(RuntimeError, match="the reason"), whole_file(file) as made:
        made.write_bytes(b"half")
        raise RuntimeError("the reason")
    assert file.read_bytes() == b"before" and list(tmp_path.iterdir()) == [file]
    with whole_file(file) as made:
        made.write_bytes(b"after")
    assert file.read_bytes() == b"after" and file.stat().st_mode & 0o777 == 0o640


def test_a_link_stays_one_and_a_device_takes_what_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere.csv")
    with whole_file(tmp_path / "link") as made:
        made.write_bytes(b"content")
    assert (tmp_path / "elsewhere.csv").read_bytes() == b"content" and (tmp_path / "link").is_symlink()
    with whole_file(Path(os.devnull)) as made:
        made.write_bytes(b"content")
    assert not Path(os.devnull).is_file()
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder").symlink_to(tmp_path / "empty")
    with whole_folder(tmp_path / "folder") as made:
        (made / "one").touch()
    assert [path.name for path in (tmp_path / "empty").iterdir()] == ["one"]


def test_the_same_again_is_fine_where_it_is_asked_for(tmp_path: Path) -> None:
    for content, fits in ((b"1", True), (b"1", True), (b"2", False)):
        try:
            with whole_folder(tmp_path / "f", or_the_same=True) as made:
                (made / "one").write_bytes(content)
        except FileExistsError:
            assert not fits
    assert (tmp_path / "f" / "one").read_bytes() == b"1"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


@contextmanager
def at_most_4096_bytes() -> Iterator[None]:
    """No file may become larger; in the body of a test, since pytest writes to files before and after it."""
    heard = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, heard)


def test_an_error_of_the_disk_names_what_was_asked_for(tmp_path: Path) -> None:
    with (
        at_most_4096_bytes(),
        pytest.raises(OSError) as raised,
        whole_file(tmp_path / "a.csv") as made,
    ):
        made.write_bytes(bytes(8192))
    assert raised.value.errno == errno.EFBIG and raised.value.filename == str(tmp_path / "a.csv")
    (tmp_path / "report.md").write_bytes(b"before")
    with at_most_4096_bytes(), pytest.raises(OSError) as raised:
        append(tmp_path / "report.md", "x" * 8192)
    assert raised.value.filename == str(tmp_path / "report.md")
    assert (tmp_path / "report.md").read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"]


def test_what_a_writer_left_that_was_killed_when_all_was_there_goes_though_the_folder_stays(
    tmp_path: Path,
) -> None:
    place = tmp_path / "pages"
    with whole_folder(place) as made:
        (made / "one").write_bytes(b"whole")
    (tmp_path / f".pages.{'0' * 32}.unfinished").mkdir()
    with pytest.raises(FileExistsError), whole_folder(place):
        pass
    assert [each.name for each in tmp_path.iterdir()] == ["pages"] and (
        place / "one"
    ).read_bytes() == b"whole"


def _remove_it(left: Path) -> None:
    remove_left(left.with_name("held"))


def _hold_it(left: Path) -> None:
    remover = os.open(left, os.O_RDONLY)
    fcntl.flock(remover, fcntl.LOCK_EX)
    opened.append(remover)


opened: list[int] = []


@pytest.mark.parametrize("meanwhile", [_remove_it, _hold_it])
@pytest.mark.parametrize("writer", ["folder", "file", "working"])
def test_what_another_writer_takes_for_left_behind_before_it_is_locked_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str, meanwhile: Callable[[Path], None]
) -> None:
    seen: list[Path] = []
    opens = os.open

    def opening(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        # Just after it was made, and before it is opened to be locked.
        if not seen and str(path).endswith(".unfinished") and Path(path).exists():
            seen.append(Path(path))
            meanwhile(Path(path))
        return opens(path, flags, *rest, **options)

    place = tmp_path / "held"
    monkeypatch.setattr(os, "open", opening)
    if writer == "working":
        with WorkingFolder(tmp_path, "held") as folder:
            (folder / "one").write_bytes(b"whole")
            assert folder != seen[0]
    else:
        write(place, as_folder=writer == "folder")
    while opened:
        os.close(opened.pop())
    assert len(seen) == 1

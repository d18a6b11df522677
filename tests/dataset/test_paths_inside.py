"""What is read of a source lies in it: links, loops, pipes and what is swapped between a look and an opening."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from resources import safe_files
from tests.dataset.as_people_have_it import Comes, Files, check, plan_of
from visionops_assets.dataset.importing.file_listing import list_files
from visionops_assets.dataset.importing.image_source import SourceError
from visionops_assets.dataset.importing.reading import read_source
from visionops_assets.dataset.importing.source_files import Folder
from visionops_assets.dataset.importing.statements import Stated

SECRET = b"token: hunter2"
CATS_AND_DOGS = {f"{label}/{number}.png": label for label in ("cat", "dog") for number in range(3)}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    folder = tmp_path / "secret"
    folder.mkdir()
    (folder / "key").write_bytes(SECRET)
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "key").write_bytes(b"mine")
    return folder


@pytest.fixture
def patient() -> Iterator[None]:
    """Fails where something waits for a pipe that nobody writes."""
    finished = threading.Event()

    def watch() -> None:
        if not finished.wait(60):
            os.abort()

    threading.Thread(target=watch, daemon=True).start()
    yield
    finished.set()


@pytest.mark.parametrize("links", ["none", "inside"])
@pytest.mark.parametrize("at", ["a", "a/b", "a/b/key"])
def test_a_link_out_of_a_folder_opens_nothing(source: Path, secret: Path, at: str, links: safe_files.Links):
    (source / at).rename(source / "moved")
    (secret / "b").mkdir()
    (secret / "b" / "key").write_bytes(SECRET)
    (source / at).symlink_to({"a": secret, "a/b": secret, "a/b/key": secret / "key"}[at])
    with pytest.raises(OSError, match="link"):
        safe_files.read_beneath(str(source), "a/b/key", links)
    assert safe_files.read_beneath(str(source), "a/b/key", "anywhere") == SECRET


@pytest.mark.parametrize("name", ["../secret/key", "a/../../secret/key", "a/./b/key", ".."])
def test_names_with_dots_open_nothing(source: Path, secret: Path, name: str):
    with pytest.raises(OSError, match="leads out"):
        safe_files.read_beneath(str(source), name, "anywhere")


def test_an_absolute_name_is_one_below_the_folder(source: Path, secret: Path):
    with pytest.raises(FileNotFoundError):
        safe_files.read_beneath(str(source), str(secret / "key"), "anywhere")


def test_what_is_swapped_for_a_link_between_look_and_opening_opens_nothing(
    source: Path, secret: Path, monkeypatch: pytest.MonkeyPatch
):
    (source / "inner").symlink_to("a/b")
    resolve = safe_files.target_of

    def and_swap(*arguments: object) -> tuple[str, str]:
        found = resolve(*arguments)  # type: ignore[arg-type]
        (source / "a" / "b").rename(source / "gone")
        (source / "a" / "b").symlink_to(secret)
        return found

    monkeypatch.setattr(safe_files, "target_of", and_swap)
    with pytest.raises(OSError, match=r"directory|link"):
        safe_files.read_beneath(str(source), "inner/key")


def test_no_reader_ever_gets_what_a_neighbour_swaps_in(source: Path, secret: Path):
    """A neighbour exchanges a folder and a link to another as fast as it can."""
    (source / "link").symlink_to(secret)
    (secret / "theirs").touch()
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for one, other in (("a/b", "real"), ("link", "a/b"), ("a/b", "link"), ("real", "a/b")):
                (source / one).rename(source / other)

    neighbour = threading.Thread(target=swap)
    neighbour.start()
    seen = set()
    try:
        for _ in range(3000):
            try:
                seen.add(safe_files.read_beneath(str(source), "a/b/key"))
            except OSError:
                continue
            assert not any("theirs" in name for name in list_files(source).others)
    finally:
        stop.set()
        neighbour.join()
    assert seen <= {b"mine"}


def test_a_source_that_fits_no_format_names_the_link_that_may_be_why(tmp_path: Path):
    files = Files(tmp_path / "data")
    files.images("0.png")
    (tmp_path / "labels.csv").write_text("path,label\n0.png,cat\n")
    (files.root / "labels.csv").symlink_to(tmp_path / "labels.csv")
    with pytest.raises(
        SourceError, match=r"labels\.csv is a link that leads out of the source: .*--follow-links"
    ):
        read_source(files.root)
    assert len(read_source(files.root, Stated(follow_links=True)).images) == 1


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_pipes_and_devices_keep_nobody_waiting(source: Path, make: Callable[[Path], None], patient: None):
    make(source / "image.png")
    for links in ("none", "inside", "anywhere"):
        with pytest.raises(OSError):
            safe_files.read_beneath(str(source), "image.png", links)


@pytest.mark.parametrize(
    "name", ["cat/9.png", "labels.csv", "data.yaml", "a.json", "a.xml", "a.parquet", "a.txt", "noname"]
)
@pytest.mark.parametrize("device", [False, True])
def test_a_pipe_in_a_source_is_named_and_left_out(tmp_path: Path, name: str, device: bool, patient: None):
    files = Files(tmp_path / "data")
    files.classes("cat", "dog")
    if device:
        (files.root / name).symlink_to("/dev/zero")
    else:
        os.mkfifo(files.root / name)
    told = ("ERROR", f"{name} is a link that leads out") if device else ("WARN", f"{name} is a pipe")
    plan = plan_of(files.root)
    check(plan, Comes(CATS_AND_DOGS, told=[told]))
    assert plan.sums.files == 7
    followed = plan_of(files.root, Stated(follow_links=True))
    check(followed, Comes(CATS_AND_DOGS, told=[("WARN", f"{name} is a pipe")]))


def test_a_file_that_is_reached_twice_counts_once(tmp_path: Path):
    files = Files(tmp_path / "data")
    files.classes("cat", "dog")
    (files.root / "cat/again.png").symlink_to("0.png")
    (files.root / "more").symlink_to("cat")
    (files.root / "dog/all").symlink_to(files.root)
    plan = plan_of(files.root)
    check(plan, Comes(CATS_AND_DOGS, told=[("WARN", "cat/again.png is a link to cat/0.png; it counts once")]))
    assert (plan.sums.files, plan.sums.files_left_out.total()) == (7, 1)


def test_two_links_to_one_file_elsewhere_count_once(tmp_path: Path):
    files, store = Files(tmp_path / "data"), Files(tmp_path / "store")
    files.classes("cat", "dog")
    store.classes("bird", each=2)
    (files.root / "bird").symlink_to(store.root / "bird")
    (files.root / "cat/bird.png").symlink_to(store.root / "bird/0.png")
    found = list_files(Folder(str(files.root), links="anywhere"))
    assert [name for name in found.images if "bird" in name] == ["bird/0.png", "bird/1.png"]
    assert found.again == {"cat/bird.png": "bird/0.png"}


def test_a_link_that_puts_an_image_into_another_class_is_an_error_that_names_both(tmp_path: Path):
    files = Files(tmp_path / "data")
    files.classes("cat", "dog")
    (files.root / "dog/9.png").symlink_to("../cat/0.png")
    why = r"dog/9.png is dog by its folder, and a link to cat/0.png, which is cat"
    check(plan_of(files.root), Comes(CATS_AND_DOGS, told=[("ERROR", why)]))


def test_hidden_stores_that_links_lead_into_are_read(tmp_path: Path):
    """As git-annex and DVC keep their files."""
    files = Files(tmp_path / "data")
    files.classes("cat", "dog")
    (files.root / ".store").mkdir()
    for number in range(3):
        image = files.root / f"cat/{number}.png"
        image.rename(files.root / f".store/{number}")
        image.symlink_to(f"../.store/{number}")
    check(plan_of(files.root), Comes(CATS_AND_DOGS))


def test_a_drop_has_no_links_at_all(tmp_path: Path):
    files = Files(tmp_path / "data")
    files.classes("cat", "dog")
    (files.root / "cat/9.png").symlink_to("0.png")
    (files.root / "bird").symlink_to("cat")
    told = [("ERROR", f"{name} is a link, and nothing here may be one") for name in ("cat/9.png", "bird")]
    check(plan_of(files.root, Stated(no_links=True)), Comes(CATS_AND_DOGS, told=told))
    (tmp_path / "linked").symlink_to(files.root)
    with pytest.raises(SourceError, match=r"linked: is a link .*; put the folder itself there"):
        read_source(tmp_path / "linked", Stated(no_links=True))


def test_folders_without_end_are_refused(tmp_path: Path):
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d", dir_fd=folder)
        deeper = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = deeper
    os.close(folder)
    with pytest.raises(SourceError, match="folders deep"):
        read_source(tmp_path)


@pytest.mark.parametrize("swapped", ["a/0.png", "a"])
def test_an_image_that_was_swapped_for_a_link_after_it_was_listed_is_not_read(
    tmp_path: Path, secret: Path, swapped: str
):
    files = Files(tmp_path / "data")
    files.classes("a", "b")
    found = read_source(files.root)
    (secret / "0.png").write_bytes(SECRET)
    (files.root / swapped).rename(tmp_path / "moved")
    (files.root / swapped).symlink_to(secret if swapped == "a" else secret / "0.png")
    with pytest.raises(OSError, match="leads out"):
        found.images[0].read()

"""Files that nobody can tamper with or find half written: outputs that are whole under their name or not there, and
files below a folder in which somebody else may write, opened component by component, no link followed.
"""

import errno
import fcntl
import os
import re
import shutil
import stat
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

_SUFFIX = ".unfinished"
# What killed writers of a folder of ours left; those of earlier releases held no lock, and are left alone for a day.
_LEFT = re.compile(r"\..+\.[0-9a-f]{32}\.unfinished")
_LEFT_BEFORE = re.compile(r"\.partial-[0-9a-f]{32}|.+\.[0-9a-f]{32}\.tmp")
_A_DAY = 86_400
# Folders that cannot be replaced: where a disk is mounted, or beside which nothing may be written.
_STAYS = {errno.EBUSY, errno.EXDEV, errno.ENOTDIR}
# Whether links below the folder are refused, followed where they lead to what lies below it too, or all followed.
Links = Literal["none", "inside", "anywhere"]
# A handle that is good for going on from alone, for which a folder need not be readable.
_STEP = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# What a link gives instead of a folder, and instead of a file.
_OF_A_LINK = (errno.ENOTDIR, errno.ELOOP)


@contextmanager
def whole_file(target: Path, *, ours: bool = False) -> Iterator[Path]:
    """A path to write a file to, which is `target` at the end of the block, in place of what lay there. `ours`, the
    folder is one that nobody else writes to: what killed writers of any file left there goes first.

    Raises what the block raises, and OSError, naming `target`; then what lay there is as it was.
    """
    with _named(target):
        # What a link leads to is what is written; in a folder of ours there are none that we made.
        place = target if ours else target.resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        if place.exists() and not place.is_file() and not ours:
            # A device or a pipe takes what it is given.
            yield place
            return
        if ours:
            _sweep(place.parent)
        unfinished, lock = _begun(place, lambda path: path.touch(0o666, exist_ok=False))
        with _let_go_after(unfinished, lock):
            yield unfinished
            with unfinished.open("rb") as stream:
                os.fsync(stream.fileno())
            if place.exists() and not ours:
                unfinished.chmod(place.stat().st_mode & 0o7777)
            unfinished.replace(place)


def append(target: Path, text: str) -> None:
    """Add text to a file, all of it or none. Raises OSError naming the file."""
    with _named(target), target.open("ab", buffering=0) as stream:
        before, content = os.fstat(stream.fileno()), text.encode()
        try:
            while content:
                content = content[stream.write(content) :]
        except OSError:
            if stat.S_ISREG(before.st_mode):
                stream.truncate(before.st_size)
            raise


@contextmanager
def whole_folder(target: Path, *, or_the_same: bool = False) -> Iterator[Path]:
    """An empty folder of the name of `target` to write to, which is `target` at the end of the block: a new folder, or
    one without anything. `or_the_same`, it may hold just what the block writes, as where a command is typed again.

    Raises FileExistsError for a folder with something in it, what the block raises, and OSError naming `target`.
    """
    if not or_the_same:
        require_new_folder(target)
    with _named(target):
        place = target.resolve()
        place.parent.mkdir(parents=True, exist_ok=True)
        unfinished, lock = _begun(place, Path.mkdir)
        with _let_go_after(unfinished, lock):
            # What is written may name the folder that it lies in.
            written = unfinished / place.name
            written.mkdir()
            yield written
            if or_the_same and _content(place) == _content(written):
                return
            require_new_folder(target)
            try:
                written.rename(place)
            except OSError as error:
                if error.errno not in _STAYS or not place.is_dir():
                    raise
                for entry in sorted(written.iterdir()):
                    shutil.move(entry, place / entry.name)


class WorkingFolder:
    """A folder of one's own for what is needed meanwhile, `path`, which goes with the block or its last holder."""

    def __init__(self, parent: Path, name: str) -> None:
        """Below `parent`; what holders of the same name left there that were killed goes first. Raises OSError."""
        self.path, lock = _begun(parent / name, lambda path: path.mkdir(mode=0o700))
        self.remove = weakref.finalize(self, _let_go, self.path, lock)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.remove()


def require_new_folder(target: Path) -> None:
    """Raise FileExistsError where a folder is not new, nor empty: something in it might be lost. What a writer left
    beside it that was killed goes in any case."""
    remove_left(target.resolve())
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{target} is there already and not empty: name a new folder")


def discard(place: Path) -> None:
    """Remove a file or a folder that is whole: it is gone from its name at once, whatever ends this process."""
    gone = _beside(place)
    place.rename(gone)
    _remove(gone)


def remove_left(place: Path) -> None:
    """Remove what writers of a place left that were killed."""
    for left in place.parent.glob(f".{_quoted(place.name)}.*{_SUFFIX}"):
        _remove_unlocked(left)


def is_left(name: str) -> bool:
    """Whether a file of a folder of ours is one that is being written, or was when its writer was killed."""
    return bool(_LEFT.fullmatch(name) or _LEFT_BEFORE.fullmatch(name))


def _sweep(folder: Path) -> None:
    """Remove what killed writers of whatever file left in a folder."""
    with os.scandir(folder) as entries:
        left = [entry for entry in entries if is_left(entry.name)]
    for entry in left:
        with suppress(OSError):
            written = entry.stat(follow_symlinks=False).st_mtime
            if _LEFT.fullmatch(entry.name) or time.time() - written > _A_DAY:
                _remove_unlocked(Path(entry.path))


def _remove_unlocked(left: Path) -> None:
    with suppress(OSError):
        lock = os.open(left, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(left)
        finally:
            os.close(lock)


def _content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its path there."""
    files = folder.rglob("*") if folder.is_dir() else ()
    return {str(file.relative_to(folder)): file.read_bytes() for file in files if file.is_file()}


def _beside(place: Path) -> Path:
    """A new hidden name beside a place, from which what was left behind is removed first."""
    remove_left(place)
    return place.with_name(f".{place.name}.{uuid.uuid4().hex}{_SUFFIX}")


def _begun(place: Path, make: Callable[[Path], None]) -> tuple[Path, int]:
    """What is new beside a place, made by `make`, and the open file that holds the lock on it."""
    while True:
        path = _beside(place)
        make(path)
        lock = -1
        # Another writer may take it for left behind, before it is locked, and remove it.
        with suppress(FileNotFoundError, BlockingIOError):
            lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise
            except OSError:
                # A file system without locks has nobody's leftovers removed.
                return path, lock
            if os.path.samestat(os.fstat(lock), path.stat()):
                return path, lock
        if lock != -1:
            os.close(lock)


@contextmanager
def _let_go_after(unfinished: Path, lock: int) -> Iterator[None]:
    """At the end it is gone, where it was not renamed."""
    try:
        yield
    finally:
        _let_go(unfinished, lock)


def _let_go(unfinished: Path, lock: int) -> None:
    os.close(lock)
    _remove(unfinished)


def _remove(left: Path) -> None:
    if left.is_dir():
        shutil.rmtree(left, ignore_errors=True)
    else:
        left.unlink(missing_ok=True)


def _quoted(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


@contextmanager
def _named(target: Path) -> Iterator[None]:
    """An error of the system's about a hidden name, or about none, is one about what was asked for."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.strerror != os.strerror(error.errno):
            raise
        about = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
        if about and _SUFFIX not in about:
            raise
        raise type(error)(error.errno, error.strerror, str(target)) from error


def open_beneath(root: str, name: str, links: Links = "inside") -> int:
    """A handle of the regular file `name` below the folder `root`, for reading. Raises OSError."""
    handle = _opened(root, name, links, _FILE)
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise OSError(errno.EISDIR, "is a folder", name)
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "is no file but a pipe, socket or device", name)
    except BaseException:
        os.close(handle)
        raise
    return handle


@contextmanager
def folder_beneath(root: str, name: str, links: Links = "inside") -> Iterator[int]:
    """A handle of the folder `name` below `root`, which is `root` itself where the name is empty; it may be listed."""
    handle = _opened(root, name, links, _FOLDER)
    try:
        yield handle
    finally:
        os.close(handle)


def read_beneath(root: str, name: str, links: Links = "inside") -> bytes:
    """The content of the regular file `name` below `root`. Raises OSError."""
    with open(open_beneath(root, name, links), "rb", buffering=0) as stream:
        return bytes(stream.readall())


def target_of(root: str, name: str, links: Links = "inside") -> tuple[str, str]:
    """Where a name leads once all links are followed: a folder without links in it, and a name below that.

    Raises OSError for what leads out of `root`, unless that is allowed.
    """
    real = os.path.realpath(root)
    target = os.path.realpath(f"{real}/{name}")
    if target == real or target.startswith(real.rstrip("/") + "/"):
        return real, target[len(real) :].strip("/")
    if links != "anywhere":
        raise OSError(errno.ELOOP, "is a link that leads out of the source", name)
    return "/", target.lstrip("/")


def _opened(root: str, name: str, links: Links, last: int) -> int:
    try:
        return _descended(root, name, last)
    except OSError as error:
        if error.errno not in _OF_A_LINK:
            raise
        if links == "none":
            raise OSError(
                error.errno, "is a link or lies behind one, which is not followed here", name
            ) from error
    # Followed by its name, and opened without: what is put there meanwhile is not followed again.
    return _descended(*target_of(root, name, links), last)


def _descended(root: str, name: str, last: int) -> int:
    parts = [part for part in name.split("/") if part]
    if any(part in (".", "..") for part in parts):
        raise OSError(errno.EINVAL, "leads out of its folder", name)
    if not parts:
        return os.open(root, last & ~os.O_NOFOLLOW)
    handle = os.open(root, _STEP)
    try:
        for part in parts[:-1]:
            deeper = os.open(part, _STEP | os.O_NOFOLLOW, dir_fd=handle)
            os.close(handle)
            handle = deeper
        try:
            return os.open(parts[-1], last, dir_fd=handle)
        except OSError as error:
            if error.errno == errno.ENXIO:
                raise OSError(errno.EINVAL, "is no file but a pipe, socket or device", name) from error
            raise
    finally:
        os.close(handle)

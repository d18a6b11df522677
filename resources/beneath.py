"""Files below a folder in which somebody else may write, opened component by component, no link followed.

What a look found may be another file a moment later, so nothing is decided by looks: what is opened here lies below the
folder and is a regular file, or OSError says why not. A pipe or device never keeps anybody waiting.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

# Whether links below the folder are refused, followed where they lead to what lies below it too, or all followed.
Links = Literal["none", "inside", "anywhere"]

# A handle that is good for going on from alone, for which a folder need not be readable.
_STEP = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# What a link gives instead of a folder, and instead of a file.
_OF_A_LINK = (errno.ENOTDIR, errno.ELOOP)


def open_file(root: str, name: str, links: Links = "inside") -> int:
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
def opened_folder(root: str, name: str, links: Links = "inside") -> Iterator[int]:
    """A handle of the folder `name` below `root`, which is `root` itself where the name is empty; it may be listed."""
    handle = _opened(root, name, links, _FOLDER)
    try:
        yield handle
    finally:
        os.close(handle)


def read_file(root: str, name: str, links: Links = "inside") -> bytes:
    """The content of the regular file `name` below `root`. Raises OSError."""
    with open(open_file(root, name, links), "rb", buffering=0) as stream:
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

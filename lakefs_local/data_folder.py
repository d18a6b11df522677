"""The data folder: what lies in it, which format it has, its key pairs, who may write to it, and who uses its
server.

A session is a lock that every process shares from when it asked for the server to its end. The system lets go of it
with the process, however that ends: nothing has to be cleaned up.
"""

import base64
import binascii
import contextlib
import ctypes
import errno
import fcntl
import hmac
import json
import os
import re
import secrets
import string
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

FORMAT = 1
# How a line of the command line begins that says why it cannot go on.
SAID_BY = "lakefs_local: "
_ALPHABET = string.ascii_uppercase + string.digits
_LOOK_EVERY = 0.02
# The open file of each folder that this process uses.
_sessions_held: dict[Path, int] = {}
_sessions_changing = threading.Lock()


class FolderError(RuntimeError):
    """The data folder cannot be used; the message says why and what to do."""


def named_folder(path: Path) -> Path:
    """A folder that a person named, with `~` and `~USER` as a shell reads them. Raises FolderError."""
    try:
        return path.expanduser().resolve()
    except RuntimeError:
        raise FolderError(f"{path}: no user has the name after ~; write the whole path") from None


class DataFolder:
    """Paths inside a data folder, and the lock that keeps a second writer out."""

    def __init__(self, path: Path):
        self.path = named_folder(path)
        self.database = self.path / "metadata.db"
        self.credentials = self.path / "credentials.json"
        self.server = self.path / "server.json"
        self.port = self.path / "port"
        self.sessions = self.path / "sessions.lock"
        self.start_lock = self.path.with_name(f"{self.path.name}.start.lock")
        self.log = self.path / "server.log"
        self.access_log = self.path / "access.log"
        self.import_folders = self.path / "import_folders.json"
        self._format = self.path / "format.json"
        # Taken in one thread and released in another when the server runs in a thread.
        self._lock = FileLock(self.path / "writer.lock", thread_local=False)

    def open(self, wait: float = 0) -> None:
        """Create the folder or check its format, and become its writer once the last one has left, within `wait` s.

        Raises FolderError if the format is unknown, another process writes here, or the folder is not writable.
        """
        try:
            if not self.path.is_dir():
                self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
                sync_folder(self.path.parent)
            self._lock.acquire(timeout=wait)
        except Timeout:
            raise FolderError(
                f"{self.path} is already being served{self._holder()}: use that server or stop it"
            ) from None
        except OSError as problem:
            raise FolderError(cannot_write(self.path, problem)) from problem
        try:
            self.check_format(new=True)
        except OSError as problem:
            self._lock.release()
            raise FolderError(cannot_write(self.path, problem)) from problem
        except BaseException:
            self._lock.release()
            raise

    def close(self) -> None:
        """Let another process write here."""
        self._lock.release()

    def check_format(self, *, new: bool = False) -> None:
        """Check that this version reads the folder's format; `new`: an empty folder gets it. Raises FolderError."""
        try:
            found = json.loads(self._format.read_text()).get("format")
        except FileNotFoundError:
            if self.database.exists() or not new:
                raise FolderError(
                    f"{self.path} is not a data folder of lakefs_local: it has no format.json"
                ) from None
            write_private(self._format, json.dumps({"format": FORMAT, "of": "lakefs_local"}))
            return
        except (OSError, ValueError, AttributeError) as problem:
            raise FolderError(
                f'{self._format} is damaged ({problem}): write {{"format": {FORMAT}, "of": "lakefs_local"}} into it'
            ) from problem
        if found != FORMAT:
            raise FolderError(
                f"{self.path} has format {found}, this version reads {FORMAT}: use the version that made it"
            )

    def _holder(self) -> str:
        try:
            server = json.loads(self.server.read_text())
            return f" by process {server['pid']} at {server['endpoint']}"
        except (OSError, ValueError, KeyError, TypeError):
            return " by another process"


def cannot_write(folder: Path, problem: OSError) -> str:
    """Why a server cannot write into its data folder, and what mends it, in one line."""
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"no room is left on the disk of the data folder {folder}: free some space, or use another folder"
        )
    return f"cannot write to the data folder {folder}: {problem.strerror or problem}"


def write_private(path: Path, text: str) -> None:
    """Replace a file atomically and durably; only its owner can read it (mode 0600)."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


class FileSystemSync:
    """Makes durable all that was written to a folder's file system since this was opened. Use as a context manager.

    Linux's syncfs(2): one wait for many files. Only since Linux 5.8 does it tell of writes that failed.
    """

    _since = (5, 8)

    @classmethod
    def of(cls, folder: Path) -> "FileSystemSync | None":
        """For the file system that a folder lies on; None where the system cannot be relied on for it."""
        if sys.platform != "linux" or _kernel() < cls._since:
            return None
        syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        return None if syncfs is None else cls(folder, syncfs)

    def __init__(self, folder: Path, syncfs: Callable[[int], int]) -> None:
        self._syncfs, self._folder = syncfs, folder
        # Failures are told to handles that were open when they happened.
        self._handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def __enter__(self) -> "FileSystemSync":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)

    def wait(self) -> None:
        """Return once all is on disk. Raises OSError when something could not be written."""
        if self._syncfs(self._handle) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(self._folder))


def _kernel() -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclass(frozen=True)
class KeyPair:
    """What a client signs in with."""

    access_key_id: str
    secret_access_key: str


def load_or_create_keys(path: Path) -> list[KeyPair]:
    """The key pairs in `path`; the file is made with one pair if it is not there. Raises FolderError."""
    if not path.exists():
        pair = KeyPair(
            "AKIAJ" + "".join(secrets.choice(_ALPHABET) for _ in range(15)), secrets.token_urlsafe(30)
        )
        write_private(path, json.dumps([pair.__dict__], indent=1) + "\n")
    return load_keys(path)


def load_keys(path: Path) -> list[KeyPair]:
    """The key pairs in `path`. Raises FolderError if the file cannot be read or holds none."""
    try:
        pairs = [
            KeyPair(str(p["access_key_id"]), str(p["secret_access_key"]))
            for p in json.loads(path.read_text())
        ]
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise FolderError(
            f"the credentials in {path} cannot be read ({problem!r}): restore the file, or delete it to have a key made"
        ) from problem
    if not pairs:
        raise FolderError(f"{path} holds no key pair: delete it to have one made")
    return pairs


class Authenticator:
    """Checks basic authentication in constant time for a given number of pairs."""

    def __init__(self, pairs: list[KeyPair]):
        self._pairs = [(pair.access_key_id.encode(), pair.secret_access_key.encode()) for pair in pairs]

    def key_of(self, authorization: str | None) -> str | None:
        """The access key id of a valid `Authorization` header, else None."""
        kind, _, encoded = (authorization or "").partition(" ")
        if kind.lower() != "basic":
            return None
        try:
            key, _, secret = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        except (binascii.Error, ValueError):
            return None
        found = None
        for known, known_secret in self._pairs:
            # Both are always compared, so that the time taken does not tell a known key from an unknown one.
            key_matches = hmac.compare_digest(known, key)
            secret_matches = hmac.compare_digest(known_secret, secret)
            if key_matches and secret_matches:
                found = known.decode()
        return found


def hold_session(folder: DataFolder, within: float) -> None:
    """Be a session of a folder's server until this process ends or calls `release`; once is as good as often.

    Waits up to `within` seconds for a server that is about to leave. Raises FolderError if it does not, OSError.
    """
    with _sessions_changing:
        if (held := _sessions_held.get(folder.path)) is not None and _is_in_place(held, folder.sessions):
            return
        _close_session(_sessions_held.pop(folder.path, None))
        deadline = time.monotonic() + within
        # A folder that was deleted and made anew meanwhile has another file.
        while (handle := _locked_file(folder.sessions, fcntl.LOCK_SH)) is None:
            if time.monotonic() > deadline:
                raise FolderError(f"the server of {folder.path} neither stays nor leaves: stop it")
            time.sleep(_LOOK_EVERY)
        _sessions_held[folder.path] = handle


def release_session(folder: DataFolder) -> None:
    """Use the folder's server no longer."""
    with _sessions_changing:
        _close_session(_sessions_held.pop(folder.path, None))


@contextlib.contextmanager
def no_other_session(folder: DataFolder) -> Iterator[bool]:
    """Whether no process uses the folder's server; while the context lasts none can begin to. Raises OSError."""
    handle = _locked_file(folder.sessions, fcntl.LOCK_EX)
    try:
        yield handle is not None
    finally:
        _close_session(handle)


def _locked_file(path: Path, kind: int) -> int | None:
    """The open, locked file, or None while somebody holds it otherwise."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except BaseException:
        os.close(handle)
        raise
    if _is_in_place(handle, path):
        return handle
    os.close(handle)
    return None


def _is_in_place(handle: int, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), path.stat())
    return False


def _close_session(handle: int | None) -> None:
    # Closed, not unlocked: a forked child that shares the lock keeps it.
    if handle is not None:
        os.close(handle)

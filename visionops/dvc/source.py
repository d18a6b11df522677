"""A folder of a DVC repository at a git revision, copied to be imported.

A copy that broke off goes on where it stopped. It lies under the cache, format 1: `objects/<MD5>` is what has come so
far, `files/<path>` the folder as it is at the revision, hard links into `objects`. What git tracks beside the data (a
labels.csv) comes along.

The repository may be anybody's. Of what DVC tracks only files with a digest are taken, and what comes has to have it;
names stay inside, links lead nowhere, and of its configuration DVC heeds the remotes alone.
"""

import hashlib
import logging
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from visionops.dvc.source_address import DVCAddress, DVCError, check_own_files

if TYPE_CHECKING:
    from dvc.api import DVCFileSystem

THREADS = 8
_MD5 = re.compile(r"[0-9a-f]{32}")
# Of text with other line ends, as DVC before 3.0 wrote it.
_MD5_OF_TEXT = "md5-dos2unix"
_CHUNK = 1 << 20
# How DVC calls a local repository's cache where it has no remote.
_OWN_CACHE = "auto-generated-upstream"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class DVCCopy:
    """What was copied: a folder, or the one file, and where it is from, for the batch's commit."""

    path: Path
    provenance: dict[str, str]


@dataclass(frozen=True)
class _TrackedFile:
    """A file at the revision; `md5` is DVC's, and none for what git tracks; it may be `of_text` with Unix line ends."""

    name: str
    target: str
    md5: str | None
    of_text: bool = False


@contextmanager
def copied(address: DVCAddress, staging: Path, progress: Progress) -> Iterator[DVCCopy]:
    """Copy a path of a DVC repository; the copy goes when the context ends well.

    Raises `DVCError`: no DVC, no such repository, revision or path, a path that DVC does not track, an object that
    is nowhere.
    """
    from filelock import FileLock, Timeout

    try:
        import dvc.api  # noqa: F401
    except ImportError as error:
        raise DVCError(f"{address.shown}: needs DVC: run `pip install 'visionops[dvc]'`") from error
    folder = staging / hashlib.sha256(address.shown.encode()).hexdigest()[:16]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    lock = FileLock(f"{folder}.lock", timeout=0)
    try:
        held = lock.acquire()
    except Timeout as error:
        raise DVCError(f"{address.shown}: another process imports it just now") from error
    with held:
        with _errors(address), _opened(address, folder / "dvc") as found:
            files, provenance = _look(found, address)
            _copy(found, files, folder, progress, address)
        single = files[0].target if files[0].name == f"/{address.path}" else ""
        yield DVCCopy(folder / "files" / single, provenance)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _opened(address: DVCAddress, scratch: Path) -> "Iterator[DVCFileSystem]":
    from dvc.api import DVCFileSystem
    from dvc.repo.open_repo import clean_repos

    # What is wrong is said once, by what is raised.
    logging.getLogger("dvc").setLevel(logging.CRITICAL)
    # A working tree is no revision that could be named afterwards: what is committed is read.
    revision = address.revision or ("HEAD" if address.is_local else None)
    found = DVCFileSystem(address.repository, rev=revision, config=_heeded(address, scratch))
    try:
        yield found
    finally:
        if "repo" in vars(found):
            found.close()
        # Of a repository elsewhere DVC keeps a clone.
        clean_repos()


def _heeded(address: DVCAddress, scratch: Path) -> dict[str, Any]:
    """What stands over the configuration that a repository brings along: where DVC writes, and what it runs.

    Its remotes are heeded, and of one on this machine the cache, which has its data where there is no remote.
    """
    places: dict[str, Any] = {
        "core": {"site_cache_dir": str(scratch / "site"), "autostage": False, "analytics": False},
        "state": {"dir": str(scratch / "state")},
        "index": {"dir": str(scratch / "index")},
        "hydra": {"enabled": False},
    }
    return places if address.is_local else {**places, "cache": {"dir": str(scratch / "cache")}}


def _look(found: "DVCFileSystem", address: DVCAddress) -> tuple[list[_TrackedFile], dict[str, str]]:
    """The files under a path, and where they are from. Raises `DVCError` where DVC tracks none of them."""
    commit = found.repo.get_rev()
    root = f"/{address.path}"
    check_own_files(found, address)
    if not found.exists(root):
        raise DVCError(
            f"{address.shown_repository} has no {address.path or 'data'} in commit {commit[:12]}: "
            f"`dvc list {address.shown_repository} --rev {commit[:12]}` shows what it has"
        )
    if found.isfile(root):
        entries = [(root, found.info(root))]
    else:
        entries = [
            (f"{folder.rstrip('/')}/{name}", information)
            for folder, _, names in found.walk(root, detail=True)
            for name, information in names.items()
        ]
    files = []
    for name, information in sorted(entries, key=lambda entry: entry[0]):
        target = (
            PurePosixPath(name).relative_to(root).as_posix() if name != root else PurePosixPath(name).name
        )
        if stat.S_ISLNK((information.get("fs_info") or {}).get("mode", 0)):
            raise DVCError(
                f"{name[1:]} of {address.shown_repository} is a link, which might lead anywhere: commit the file itself"
            )
        if not any(part.startswith(".") for part in PurePosixPath(target).parts):
            files.append(_TrackedFile(name, target, *_digest_of(information, name, address)))
    if not any(information.get("dvc_info") for _, information in entries):
        raise DVCError(
            f"{address.path or address.shown_repository} is not tracked by DVC in commit {commit[:12]}: import the "
            "folder itself where git has it, or run `dvc add` and commit"
        )
    return files, {
        "visionops.dvc.repository": address.shown_repository,
        "visionops.dvc.commit": commit,
        "visionops.dvc.revision": address.revision or "HEAD",
        "visionops.dvc.path": address.path,
        "visionops.dvc.digest": _digest(found, root),
    }


def _digest_of(information: dict[str, Any], name: str, address: DVCAddress) -> tuple[str | None, bool]:
    """DVC's MD5 of a file, and whether it is of its text; none for what git tracks.

    Raises `DVCError` for what DVC tracks without one: it might be any file of this machine.
    """
    tracked = information.get("dvc_info")
    if not tracked:
        return None, False
    for kind in ("md5", _MD5_OF_TEXT):
        if isinstance(tracked.get(kind), str) and _MD5.fullmatch(tracked[kind]):
            return tracked[kind], kind == _MD5_OF_TEXT
    raise DVCError(
        f"{name[1:]} of {address.shown_repository} has no MD5 in DVC, so nothing says which file is meant: run "
        "`dvc commit`, and commit to git"
    )


def _digest(found: "DVCFileSystem", root: str) -> str:
    """DVC's digest of the tracked folder or file that a path lies in; of several below it, one over all of them."""
    asked = PurePosixPath(root)
    digests = {}
    for out in found.repo.index.outs:
        path = PurePosixPath("/", *found.repo.fs.relparts(out.fs_path, found.repo.root_dir))
        if (path.is_relative_to(asked) or asked.is_relative_to(path)) and out.hash_info:
            digests[path.as_posix()] = str(out.hash_info.value)
    if len(digests) == 1:
        return next(iter(digests.values()))
    lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(digests.items()))
    return f"{hashlib.md5(lines.encode(), usedforsecurity=False).hexdigest()} of {len(digests)} outputs"


def _copy(
    found: "DVCFileSystem",
    files: list[_TrackedFile],
    folder: Path,
    progress: Progress,
    address: DVCAddress,
) -> None:
    shutil.rmtree(folder / "files", ignore_errors=True)
    (folder / "objects").mkdir(exist_ok=True)
    with ThreadPoolExecutor(THREADS, thread_name_prefix="dvc") as pool:
        waiting = [pool.submit(_fetch, found, file, folder, address) for file in files]
        try:
            for done, future in enumerate(as_completed(waiting), start=1):
                future.result()
                progress(done, len(waiting))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _fetch(found: "DVCFileSystem", file: _TrackedFile, folder: Path, address: DVCAddress) -> None:
    """One file, whole or not at all; what an earlier attempt copied is taken from there."""
    key = file.md5 or f"git-{uuid.uuid4().hex}"
    copy, target = (
        folder / "objects" / f"{key}{'-text' if file.of_text else ''}",
        folder / "files" / file.target,
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    if not copy.exists():
        partial = copy.with_name(f".{uuid.uuid4().hex}.part")
        try:
            _download(found, file, partial, address)
            partial.replace(copy)
        finally:
            partial.unlink(missing_ok=True)
    target.hardlink_to(copy)


def _download(found: "DVCFileSystem", file: _TrackedFile, partial: Path, address: DVCAddress) -> None:
    digest = hashlib.md5(usedforsecurity=False)
    try:
        source = found.open(file.name)
    except FileNotFoundError as error:
        raise DVCError(_missing(found, file, address)) from error
    with source, partial.open("wb") as stream:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            stream.write(chunk)
    came = _md5_of_text(partial) if file.of_text else digest.hexdigest()
    if file.md5 is not None and came != file.md5:
        raise DVCError(
            f"{file.name[1:]} of {address.shown_repository}: DVC's storage has other bytes (MD5 {came}) "
            f"than were committed ({file.md5}): remove the object there and `dvc push` it again"
        )


def _md5_of_text(file: Path) -> str:
    from dvc.fs import localfs
    from dvc_data.hashfile.hash import file_md5

    return str(file_md5(str(file), localfs, name=_MD5_OF_TEXT))


def _missing(found: "DVCFileSystem", file: _TrackedFile, address: DVCAddress) -> str:
    remote = found.repo.config["core"].get("remote")
    where = f"neither in DVC's cache nor in its remote {remote}"
    if remote in (None, _OWN_CACHE):
        where = "not in DVC's cache, and there is no default remote"
    return (
        f"{file.name[1:]} of {address.shown_repository} (MD5 {file.md5}) is {where}: run `dvc push` where it was "
        "added; nothing was imported"
    )


@contextmanager
def _errors(address: DVCAddress) -> Iterator[None]:
    """Say what DVC and what lies behind it raise as one line."""
    from botocore.exceptions import BotoCoreError
    from dvc.exceptions import DvcException
    from dvc.scm import CloneError, RevError
    from dvc_data.index import DataIndexDirError
    from scmrepo.exceptions import SCMError

    try:
        yield
    except (RevError, CloneError) as error:
        raise DVCError(f"{address.shown}: {error}") from error
    except DataIndexDirError as error:
        raise DVCError(
            f"{address.shown}: the list of its files is neither in DVC's cache nor in its remote: run `dvc push` where "
            "it was added; nothing was imported"
        ) from error
    except (DvcException, SCMError, BotoCoreError, PermissionError) as error:
        if "not a git repository" in str(error):
            raise DVCError(
                f"{address.shown_repository} is not in git, so a batch could not say which state it is of: "
                "run `git init`, commit, and import again"
            ) from error
        raise DVCError(f"{address.shown}: {error or type(error).__name__}; nothing was imported") from error
    except (RecursionError, LookupError, TypeError, ValueError, AttributeError, AssertionError) as error:
        if isinstance(error, DVCError):
            raise
        raise DVCError(
            f"{address.shown}: what the repository says of its data cannot be followed ({type(error).__name__}): "
            "`dvc status` there may say more; nothing was imported"
        ) from error

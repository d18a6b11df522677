"""What lies in a batch's folder of a drop, read where it lies or copied from a bucket, and why it cannot be read.

A copy that broke off goes on where it stopped.
"""

import concurrent.futures
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from edge.files import NoSuchUser, named_path
from resources import safe_files
from resources.error_family import Refused, Unavailable, VisionOpsError

MARKER = "_SUCCESS"
Progress = Callable[[int, int], None]
THREADS = 8
_CHUNK = 1 << 20


class DropError(VisionOpsError, RuntimeError):
    """Any failure to read a drop; the message names the place and the fix."""


class DropUnavailable(Unavailable, DropError):
    """Nothing answers, or the connection was lost: worth trying again, which goes on where it stopped."""


class DropAway(DropUnavailable):
    """Nothing answers: no fault of the batch, so that no run counts as an attempt."""


class DropRefused(Refused, DropError):
    """The place says no: credentials, permissions, no such bucket."""


class DropChanged(Unavailable, DropError):
    """A batch changed while it was read; it is taken when it is complete."""


@dataclass(frozen=True)
class DropFile:
    """A file by its path in the batch. `version` changes when its content does."""

    name: str
    size: int
    version: str


@dataclass(frozen=True)
class Listing:
    """All files of a batch but hidden ones, by name; `marker` is the version of `_SUCCESS`, if it is there."""

    files: tuple[DropFile, ...]
    marker: str | None

    @cached_property
    def fingerprint(self) -> str:
        """Another one wherever anything changed."""
        return _digest([[file.name, file.size, file.version] for file in self.files] + [self.marker])


@dataclass(frozen=True)
class Sighting:
    """A batch as the sensor sees it. With a marker its version stands for the batch, and nothing is listed."""

    batch: str
    marked: bool
    fingerprint: str


class DropPlace(Protocol):
    """A folder or a bucket with one folder a batch."""

    address: str

    def batches(self) -> list[str]:
        """Names of the batches there, sorted; none where the place is not there yet."""

    def marker(self, batch: str) -> str | None:
        """The version of a batch's marker, if it is there."""

    def listing(self, batch: str) -> Listing:
        """All files of a batch."""

    def fetched(self, batch: str, listing: Listing, progress: Progress) -> AbstractContextManager[Path]:
        """The files of a batch in a folder, while the context lasts."""


def sighting(place: DropPlace, batch: str) -> Sighting:
    """How a batch looks now."""
    marker = place.marker(batch)
    if marker is not None:
        return Sighting(batch, True, _digest([marker]))
    return Sighting(batch, False, place.listing(batch).fingerprint)


def is_hidden(name: str) -> bool:
    """Whether a path has a hidden part, as tools make them for unfinished uploads."""
    return any(part.startswith(".") for part in PurePosixPath(name).parts)


def check_name(address: str, name: str) -> None:
    """Raise `DropRefused` for a path that would lead out of its batch."""
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or "//" in name:
        raise DropRefused(f"{address}: {name!r} leads out of its batch; rename it")


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


class DropFolder:
    """`<folder>/<batch>/…`."""

    def __init__(self, address: str) -> None:
        self.address = address
        with _folder_errors(address):
            self._folder = named_path(address)

    def batches(self) -> list[str]:
        with _folder_errors(self.address):
            if not self._folder.exists():
                return []
            return sorted(
                entry.name
                for entry in os.scandir(self._folder)
                # A link is taken for a batch that is refused: nobody would look for one that is passed over.
                if entry.is_dir() and not entry.name.startswith(".")
            )

    def marker(self, batch: str) -> str | None:
        path = self._folder / batch / MARKER
        with _folder_errors(str(path)):
            if (self._folder / batch).is_symlink() or not path.exists():
                return None
            return _version_of_file(path.lstat())

    def listing(self, batch: str) -> Listing:
        with _folder_errors(f"{self.address}/{batch}"):
            if (self._folder / batch).is_symlink():
                link = (self._folder / batch).lstat()
                return Listing((DropFile(batch, link.st_size, _version_of_file(link)),), None)
            files = [
                DropFile(name, status.st_size, _version_of_file(status))
                for name, status in sorted(_walk(self._folder, batch), key=lambda found: found[0].split("/"))
                if not is_hidden(name) and name != MARKER
            ]
        return Listing(tuple(files), self.marker(batch))

    @contextmanager
    def fetched(self, batch: str, listing: Listing, progress: Progress) -> Iterator[Path]:
        progress(len(listing.files), len(listing.files))
        yield self._folder / batch


def _walk(root: Path, batch: str) -> Iterator[tuple[str, os.stat_result]]:
    """What lies in a batch, by its path there; links are not followed."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        opened = safe_files.folder_beneath(str(root), f"{batch}/{folder}", "none")
        with opened as handle, os.scandir(handle) as entries:
            for entry in entries:
                name = f"{folder}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{name}/")
                else:
                    yield name, entry.stat(follow_symlinks=False)


def _version_of_file(status: os.stat_result) -> str:
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ino}"


@contextmanager
def _folder_errors(place: str) -> Iterator[None]:
    try:
        yield
    except NoSuchUser as error:
        raise DropRefused(str(error)) from None
    except PermissionError as error:
        raise DropRefused(
            f"{error.filename or place}: permission denied; allow the user that runs VisionOps to read it"
        ) from error
    except OSError as error:
        raise DropUnavailable(f"{error.filename or place}: {error.strerror or error}") from error


class DropBucket:
    """`s3://<bucket>/<prefix>/<batch>/…`. `client` is boto3's, `staging` a folder for copies."""

    def __init__(self, address: str, client: Any, staging: Path) -> None:
        self.address = address.rstrip("/")
        self._bucket, _, prefix = self.address.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._client, self._staging = client, staging

    def batches(self) -> list[str]:
        names = []
        for page in self._pages(self._prefix, Delimiter="/"):
            for found in page.get("CommonPrefixes", []):
                name = found["Prefix"].removeprefix(self._prefix).rstrip("/")
                if name and not name.startswith("."):
                    names.append(name)
        return sorted(names)

    def marker(self, batch: str) -> str | None:
        for found in self._objects(f"{self._prefix}{batch}/{MARKER}"):
            if found["Key"] == f"{self._prefix}{batch}/{MARKER}":
                return f"{found['ETag']}:{found['LastModified'].isoformat()}"
        return None

    def listing(self, batch: str) -> Listing:
        prefix, files = f"{self._prefix}{batch}/", []
        for found in self._objects(prefix):
            name = found["Key"].removeprefix(prefix)
            if name and not name.endswith("/") and name != MARKER:
                check_name(self.address, name)
                if not is_hidden(name):
                    files.append(DropFile(name, found["Size"], found["ETag"]))
        return Listing(tuple(sorted(files, key=lambda file: file.name)), self.marker(batch))

    @contextmanager
    def fetched(self, batch: str, listing: Listing, progress: Progress) -> Iterator[Path]:
        """The copy stays when the context ends with an error, so that the next attempt has it already."""
        folder = self._staging / hashlib.sha256(f"{self.address}/{batch}".encode()).hexdigest()[:16]
        self._keep_only(folder, listing)
        with concurrent.futures.ThreadPoolExecutor(THREADS, thread_name_prefix="drop") as pool:
            waiting = [pool.submit(self._fetch, batch, file, folder) for file in listing.files]
            try:
                for done, future in enumerate(concurrent.futures.as_completed(waiting), start=1):
                    future.result()
                    progress(done, len(waiting))
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        yield folder / "files"
        shutil.rmtree(folder, ignore_errors=True)

    def _keep_only(self, folder: Path, listing: Listing) -> None:
        """Of an earlier copy, drop what is no longer what the bucket has."""
        wanted = {f"{_version_of_object(file)}/{file.name}" for file in listing.files}
        versions = folder / "versions"
        for path in sorted(versions.rglob("*")) if versions.exists() else []:
            if path.is_file() and path.relative_to(versions).as_posix() not in wanted:
                path.unlink()
        shutil.rmtree(folder / "files", ignore_errors=True)
        (folder / "files").mkdir(parents=True)

    def _fetch(self, batch: str, file: DropFile, folder: Path) -> None:
        """One file, whole or not at all; one that an earlier attempt copied is taken from there."""
        copy = folder / "versions" / _version_of_object(file) / file.name
        target = folder / "files" / file.name
        key = f"{self._prefix}{batch}/{file.name}"
        try:
            if not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                partial = copy.with_name(f".{uuid.uuid4().hex}.part")
                try:
                    self._download(key, file, partial)
                    partial.replace(copy)
                finally:
                    partial.unlink(missing_ok=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(copy)
        except OSError as error:
            raise DropError(
                f"{copy}: {error.strerror or error}; free some disk space, or set VISIONOPS_HOME to a larger disk"
            ) from error

    def _download(self, key: str, file: DropFile, partial: Path) -> None:
        place = f"s3://{self._bucket}/{key}"
        with _bucket_errors(place):
            # If-Match: a file that changed since it was listed is refused by the bucket itself.
            body = self._client.get_object(Bucket=self._bucket, Key=key, IfMatch=file.version)["Body"]
            with partial.open("wb") as stream:
                for chunk in body.iter_chunks(_CHUNK):
                    stream.write(chunk)
        if partial.stat().st_size != file.size:
            raise DropUnavailable(f"{place}: {file.size} bytes were promised, {partial.stat().st_size} came")

    def _objects(self, prefix: str) -> Iterator[dict[str, Any]]:
        for page in self._pages(prefix):
            yield from page.get("Contents", [])

    def _pages(self, prefix: str, **options: str) -> Iterator[dict[str, Any]]:
        with _bucket_errors(f"s3://{self._bucket}/{prefix}"):
            paginator = self._client.get_paginator("list_objects_v2")
            yield from paginator.paginate(Bucket=self._bucket, Prefix=prefix, **options)


def _version_of_object(file: DropFile) -> str:
    return hashlib.sha256(file.version.encode()).hexdigest()[:16]


@contextmanager
def _bucket_errors(place: str) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ClientError as error:
        code, status = error.response["Error"].get("Code", ""), _status(error)
        if status == 412 or code in ("NoSuchKey", "404"):
            raise DropChanged(f"{place} changed while its batch was read; it is taken again later") from error
        if status in (401, 403) or code in ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"):
            raise DropRefused(
                f"{place}: access denied ({code}): give this key s3:GetObject and s3:ListBucket there, or set "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to one that has them"
            ) from error
        if code == "NoSuchBucket":
            raise DropRefused(
                f"{place}: there is no such bucket; correct `drop.address` of the project"
            ) from error
        raise DropUnavailable(f"{place}: {code or error}") from error
    except (BotoCoreError, HTTPError) as error:
        if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
            raise DropRefused(
                f"{place}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            ) from error
        raise DropAway(
            f"{place}: the connection was lost or never came ({error}); trying again goes on where it stopped"
        ) from error


def _status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))

"""A drop in an S3 bucket: copied to a folder before it is read, and a copy that broke off goes on where it stopped."""

import concurrent.futures
import hashlib
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from resources.drop_errors import DropAway, DropChanged, DropError, DropRefused, DropUnavailable
from resources.drop_listing import MARKER, DropFile, Listing, Progress, check_name, is_hidden

THREADS = 8
_CHUNK = 1 << 20


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
        wanted = {f"{_version(file)}/{file.name}" for file in listing.files}
        versions = folder / "versions"
        for path in sorted(versions.rglob("*")) if versions.exists() else []:
            if path.is_file() and path.relative_to(versions).as_posix() not in wanted:
                path.unlink()
        shutil.rmtree(folder / "files", ignore_errors=True)
        (folder / "files").mkdir(parents=True)

    def _fetch(self, batch: str, file: DropFile, folder: Path) -> None:
        """One file, whole or not at all; one that an earlier attempt copied is taken from there."""
        copy = folder / "versions" / _version(file) / file.name
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
        with _errors(place):
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
        with _errors(f"s3://{self._bucket}/{prefix}"):
            paginator = self._client.get_paginator("list_objects_v2")
            yield from paginator.paginate(Bucket=self._bucket, Prefix=prefix, **options)


def _version(file: DropFile) -> str:
    return hashlib.sha256(file.version.encode()).hexdigest()[:16]


@contextmanager
def _errors(place: str) -> Iterator[None]:
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

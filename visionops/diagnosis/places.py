"""Where tables, predictions, batches and logs lie: a folder or a bucket that exists, lists, and takes a file."""

import contextlib
import os
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge.files import NoSuchUser, named_path
from resources import home
from resources.escaping import HIDDEN, masked
from resources.settings import given
from resources.storage import ArtifactStore
from visionops.diagnosis.checking import ANSWER_SECONDS, Check, Finding, broken, ok, setting
from visionops_assets.config.project import Project

ENDPOINT = "AWS_ENDPOINT_URL"
_KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_TRIED = {True: "list, write, read, remove", False: "list, read"}


@dataclass(frozen=True)
class Place:
    """A folder or bucket by its address. `variable` is where that is corrected, `setting` what a row shows of it.

    One that `must_exist` was named by somebody; any other is made when it is needed.
    """

    subject: str
    address: str
    variable: str
    setting: str
    must_exist: bool
    written: bool

    @property
    def fix(self) -> str:
        """What to do where nothing more is known."""
        wanted = "reading and writing" if self.written else "reading"
        return f"correct {self.variable}, or allow {wanted} there"

    def check(self) -> Check:
        """Try it."""
        return Check(self.subject, self.setting, _TRIED[self.written], self.fix, self.look)

    def look(self) -> Finding:
        """Whether it is there, lists, and can be read and written."""
        if self.address.startswith("s3://"):
            return self._bucket()
        if "://" in self.address:
            return self._write() if self.written else broken("neither a folder nor s3://…", self.fix)
        return self._folder()

    def _folder(self) -> Finding:
        try:
            folder = named_path(self.address)
        except NoSuchUser as error:
            return broken(str(error), f"correct {self.variable}")
        if not folder.is_absolute() or self.address.startswith("~"):
            return broken(
                f"{self.address} is another folder wherever a command is run",
                f"write the whole path: {self.variable}={folder.absolute()}",
            )
        if not folder.exists():
            if not self.must_exist:
                return ok("is not there yet; it is made when it is needed")
            return broken(
                f"{folder} does not exist", f"mkdir -p {folder}, mount its disk, or correct {self.variable}"
            )
        if not folder.is_dir():
            return broken(f"{folder} is no folder", self.fix)
        try:
            entries = sum(1 for _ in folder.iterdir())
            _read_one(folder)
        except OSError as error:
            return broken(f"{error.filename}: {error.strerror}", self.fix)
        if self.written:
            return self._write(f", {entries} entries")
        return ok(f"{entries} entries, can be read")

    def _bucket(self) -> Finding:
        from botocore.exceptions import BotoCoreError, ClientError

        bucket, _, prefix = self.address.removeprefix("s3://").partition("/")
        if not bucket:
            return broken("names no bucket", f"write {self.variable}=s3://BUCKET/PREFIX")
        try:
            client = s3_client()
            found = client.list_objects_v2(
                Bucket=bucket, Prefix=f"{prefix.rstrip('/')}/" if prefix else "", MaxKeys=1
            )
            for one in found.get("Contents", []):
                client.head_object(Bucket=bucket, Key=one["Key"])
        except ClientError as error:
            return self._refused(bucket, error.response)
        except (BotoCoreError, ValueError) as error:
            return self._unanswered(bucket, error)
        return self._write() if self.written else ok("lists and can be read")

    def _write(self, besides: str = "") -> Finding:
        """Write, read and remove a file by the way that tables and predictions take."""
        store, key = ArtifactStore(root=self.address), f".doctor/{uuid.uuid4().hex}"
        content = uuid.uuid4().hex.encode()
        try:
            store.write(key, content)
            back = store.read(key)
            store.path(key).unlink()
        except ImportError as error:
            return broken(str(error), f"pip install what opens {self.address.partition('://')[0]}://")
        except OSError as error:
            return broken(f"cannot be written: {error.strerror or error}", self.fix)
        if back != content:
            return broken("what was written did not come back", f"find out what serves {self.address}")
        if "://" not in self.address:
            # Another doctor may be at work there.
            with contextlib.suppress(OSError):
                store.path(".doctor").rmdir()
        return ok(f"lists, takes and gives back a file{besides}")

    def _refused(self, bucket: str, response: Any) -> Finding:
        code = str(response.get("Error", {}).get("Code", ""))
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        where = f"S3 at {_endpoint()}"
        if code == "NoSuchBucket":
            return broken(f"{where} has no bucket {bucket}", f"create it, or correct {self.variable}")
        if code in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"):
            return broken(f"{where} does not know this key ({code})", f"correct {_KEYS}")
        if code in ("PermanentRedirect", "AuthorizationHeaderMalformed", "301"):
            return broken(f"bucket {bucket} is of another region", "correct AWS_DEFAULT_REGION")
        if code in ("AccessDenied", "AllAccessDisabled", "403") or status == 403:
            return broken(f"{where} does not allow this key to read {bucket} ({code})", self.fix)
        if code.isdigit() or not code:
            return self._no_s3(f"status {status}")
        return broken(f"{where} refused {bucket}: {code}", self.fix)

    def _unanswered(self, bucket: str, error: Exception) -> Finding:
        kind = type(error).__name__
        if kind in ("NoCredentialsError", "PartialCredentialsError"):
            return broken("no key for S3", f"set {_KEYS}, or give this machine a role")
        if kind in ("ParamValidationError", "InvalidBucketNameError"):
            return broken(f"{bucket} cannot be a bucket's name", f"write {self.variable}=s3://BUCKET/PREFIX")
        if kind == "ResponseParserError":
            return self._no_s3("no XML")
        said = "no connection" if kind == "EndpointConnectionError" else " ".join(str(error).split())
        return broken(f"S3 at {_endpoint()} did not answer ({said})", f"start it, or correct {ENDPOINT}")

    def _no_s3(self, answered: str) -> Finding:
        return broken(f"what answers at {_endpoint()} is no S3 ({answered})", f"correct {ENDPOINT}")


def checks(projects: Iterable[Project]) -> Iterator[Check]:
    """Artifacts, spool, drops, and what steps print."""
    yield _place("artifacts", "VISIONOPS_ARTIFACTS", home.artifacts(), written=True).check()
    yield _place("spool", "VISIONOPS_SPOOL", home.spool(), written=True).check()
    if given("VISIONOPS_EDGE"):
        yield _place("models for devices", "VISIONOPS_EDGE", home.edge(), written=True).check()
    root = _place("drop", "VISIONOPS_DROP", home.drop(), written=False)
    yield root.check()
    for project in projects:
        declared, name = project.drop.address, f"drop of {project.project}"
        if declared:
            field = f"drop.address of {project.project}"
            yield Place(name, declared, field, f"{field}={masked(declared, HIDDEN)}", True, False).check()
        else:
            address = f"{root.address.rstrip('/')}/{project.project}"
            yield replace(root, subject=name, address=address, must_exist=False).check()
    logs = given("VISIONOPS_COMPUTE_LOGS")
    if logs and not logs.startswith("s3://"):
        yield Check(
            "compute logs",
            setting("VISIONOPS_COMPUTE_LOGS", otherwise=""),
            "read it",
            "",
            lambda: broken(f"{logs} is no bucket", "write VISIONOPS_COMPUTE_LOGS=s3://BUCKET/PREFIX"),
        )
    elif logs:
        yield _place("compute logs", "VISIONOPS_COMPUTE_LOGS", logs, written=True).check()


def s3_client() -> Any:
    """boto3's client of the environment, which gives up soon."""
    import boto3
    from botocore.config import Config

    # The usual session is shared by threads, and keeps what it once read.
    return boto3.session.Session().client(
        "s3",
        endpoint_url=given(ENDPOINT) or None,
        region_name=given("AWS_REGION") or given("AWS_DEFAULT_REGION") or None,
        config=Config(
            connect_timeout=ANSWER_SECONDS, read_timeout=ANSWER_SECONDS, retries={"total_max_attempts": 1}
        ),
    )


def _place(subject: str, variable: str, address: str, *, written: bool) -> Place:
    named = bool(given(variable))
    return Place(subject, address, variable, setting(variable, otherwise=address), named, written)


def _read_one(folder: Path) -> None:
    """Read a byte of the first file below a folder. Raises OSError where a folder on the way or the file refuses."""

    def refuse(error: OSError) -> None:
        raise error

    for place, _, files in os.walk(folder, onerror=refuse):
        for name in files[:1]:
            with Path(place, name).open("rb") as stream:
                stream.read(1)
            return


def _endpoint() -> str:
    return masked(given(ENDPOINT) or "AWS", HIDDEN)

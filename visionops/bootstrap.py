"""What every command sets up before it touches Dagster, MLflow or lakeFS.

`python -m visionops.bootstrap COMMAND…` does so and becomes COMMAND: `dagster-webserver` and its like in a container.
"""

import contextlib
import importlib.util
import os
import struct
import sys
from pathlib import Path
from typing import Any

from resources import home
from resources.databases import with_driver
from resources.environ import read_secret_files
from resources.error_family import Invalid
from resources.machine_errors import machine_error
from resources.safe_files import whole_file
from resources.settings import given

POSTGRES = "DAGSTER_POSTGRES_URL"
COMPUTE_LOGS = "VISIONOPS_COMPUTE_LOGS"
# What tools would leave in the home of whoever runs them, or among the system's temporary files.
_CACHES = {"MPLCONFIGDIR": "matplotlib", "TORCHINDUCTOR_CACHE_DIR": "torchinductor"}
# An access control list for what is made in a folder (Linux, include/uapi/linux/posix_acl_xattr.h): its version, then
# tag, permission and no identity of the owner, the group and all others.
_OWNER_ALONE = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, permission, 0xFFFFFFFF) for tag, permission in ((0x01, 7), (0x04, 0), (0x20, 0))
)
_WRITTEN = "# Written by VisionOps from its dagster.yaml and the environment; delete this line to keep your changes.\n"


class SettingUnusable(Invalid, RuntimeError):
    """A variable that Dagster's configuration cannot be written from, or a folder that cannot be written; the message
    names it and what to write."""


def prepare() -> Path:
    """Create the local folders, put `dagster.yaml` into DAGSTER_HOME, keep what tools cache there; returns the home.

    Raises `SettingUnusable`, which names the variable, or the folder that cannot be written.
    """
    read_secret_files()
    folder = home.home()
    dagster = home.dagster_home()
    services = _services_of_dagster()
    try:
        for wanted in (folder, dagster):
            wanted.parent.mkdir(parents=True, exist_ok=True)
            _make_private(wanted)
        if services:
            _write(home.ROOT / "dagster.yaml", services, dagster / "dagster.yaml")
        else:
            _link(home.ROOT / "dagster.yaml", dagster / "dagster.yaml")
    except OSError as error:
        said = machine_error(error) or f"{error.filename}: {error.strerror}"
        raise SettingUnusable(
            said
            if "VISIONOPS_HOME" in said
            else f"{said}; set VISIONOPS_HOME to a folder that can be written"
        ) from error
    home.keep_reserve(dagster)
    os.environ["DAGSTER_HOME"] = str(dagster)
    for name, place in _CACHES.items():
        os.environ.setdefault(name, str(home.cache() / place))
    return folder


def _make_private(folder: Path) -> None:
    """Make a folder for keys, images and models that is its owner's alone, and so is what anybody makes in it, whatever
    their umask. One that is there may be shared on purpose."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        if not folder.is_dir():
            raise
        return
    # Not every file system has such lists, and not every system: the folder itself keeps others out.
    if hasattr(os, "setxattr"):
        with contextlib.suppress(OSError):
            os.setxattr(folder, "system.posix_acl_default", _OWNER_ALONE)


def _services_of_dagster() -> dict[str, Any]:
    """What `dagster.yaml` says besides, where the environment points Dagster at Postgres or S3."""
    services: dict[str, Any] = {}
    if given(POSTGRES):
        if importlib.util.find_spec("dagster_postgres") is None:
            raise SettingUnusable(f"{POSTGRES} needs a driver: run `pip install 'visionops[postgres]'`")
        # Dagster reads it there, in this process and in those it starts.
        os.environ[POSTGRES] = with_driver(given(POSTGRES))
        services["storage"] = {"postgres": {"postgres_url": {"env": POSTGRES}}}
    logs = given(COMPUTE_LOGS)
    if logs:
        services["compute_logs"] = _in_bucket(logs)
    return services


def _in_bucket(logs: str) -> dict[str, Any]:
    """What `dagster.yaml` says of compute logs that go to `s3://BUCKET/PREFIX`."""
    bucket, _, prefix = logs.removeprefix("s3://").strip("/").partition("/")
    if not logs.startswith("s3://") or not bucket:
        raise SettingUnusable(f"{COMPUTE_LOGS} is {logs}: write s3://BUCKET/PREFIX")
    endpoint = {"endpoint_url": {"env": "AWS_ENDPOINT_URL"}} if given("AWS_ENDPOINT_URL") else {}
    return {
        "module": "dagster_aws.s3.compute_log_manager",
        "class": "S3ComputeLogManager",
        "config": {"bucket": bucket, "prefix": prefix or "dagster", "skip_empty_files": True, **endpoint},
    }


def _link(source: Path, link: Path) -> None:
    """Point `link` at `source`; a file that somebody put there stays."""
    if (link.is_symlink() and link.resolve() != source) or _is_ours(link):
        link.unlink(missing_ok=True)
    if not link.exists():
        # Another command may have made it meanwhile.
        with contextlib.suppress(FileExistsError):
            link.symlink_to(source)


def _write(source: Path, services: dict[str, Any], target: Path) -> None:
    """Write `source` with what the environment adds; a file that somebody put there stays."""
    import yaml

    if target.exists() and not target.is_symlink() and not _is_ours(target):
        return
    content = f"{_WRITTEN}{source.read_text()}\n{yaml.safe_dump(services, sort_keys=False)}"
    if _is_ours(target) and target.read_text() == content:
        return
    # Another process may read it just now.
    with whole_file(target, ours=True) as unfinished:
        unfinished.write_text(content)


def _is_ours(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.read_bytes().startswith(_WRITTEN.encode())


def main() -> None:
    """Set up, then become the command that the arguments name."""
    prepare()
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()

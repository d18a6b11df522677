"""A Postgres for the tests: Debian's server on a folder and a port of its own."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

# Postgres refuses to run as root; Debian's package makes this user, and every system has the other.
_USERS = ("postgres", "nobody")


def programs() -> Path | None:
    """The folder of Postgres's programs, newest release first; Debian has them outside the PATH."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -int(path.parent.name))
    on_path = shutil.which("pg_ctl")
    candidates = [*installed, *([Path(on_path).parent] if on_path else [])]
    return next((folder for folder in candidates if (folder / "initdb").exists()), None)


@contextmanager
def running() -> Iterator[str]:
    """The address of an empty server, `postgresql://postgres@127.0.0.1:PORT`, gone afterwards; skips where none is."""
    found = programs()
    if found is None:
        pytest.skip("no Postgres here: `apt-get install postgresql`")
    # The user that runs it cannot enter pytest's folders.
    folder = Path(tempfile.mkdtemp(prefix="visionops-postgres-"))
    as_user: list[str] = []
    if os.geteuid() == 0:
        user = next(name for name in _USERS if name in {one.pw_name for one in pwd.getpwall()})
        as_user = ["runuser", "-u", user, "--"]
        shutil.chown(folder, user)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    data, control = str(folder / "data"), [*as_user, str(found / "pg_ctl")]
    # What it holds need not survive a power cut.
    options = f"-F -c listen_addresses=127.0.0.1 -p {port} -k {folder}"
    try:
        _run(*as_user, str(found / "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8")
        _run(*control, "-D", data, "-o", options, "-l", str(folder / "log"), "-w", "start")
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}"
        finally:
            _run(*control, "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(*command: str) -> None:
    done = subprocess.run(
        command, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=120
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"

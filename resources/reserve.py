"""Room that is kept on Dagster's disk, so that a run which fills it can still be noted as what it is.

Without the note nobody could tell it from a run that was killed, which counts as an attempt.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from resources import home

# Several times what a run's tags and its failure, with a traceback, take in Dagster's databases.
BYTES = 1 << 20
NAME = "reserve"
# Nobody is to run out of room because of it.
_TIMES_AS_MUCH = 16


def keep(folder: Path | None = None) -> None:
    """Take the room where there is plenty. What cannot be written goes without."""
    file = _file(folder)
    if file.exists():
        return
    with suppress(OSError):
        if shutil.disk_usage(file.parent).free < _TIMES_AS_MUCH * BYTES:
            return
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, BYTES)
        except OSError:
            file.unlink()
        finally:
            os.close(descriptor)


def give_up(folder: Path | None = None) -> None:
    """Let the room be used: the disk is full."""
    with suppress(OSError):
        _file(folder).unlink(missing_ok=True)


def _file(folder: Path | None) -> Path:
    return (folder or home.dagster_home()) / NAME

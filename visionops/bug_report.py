"""A bug of VisionOps, told as one: what is neither of the family of its errors nor said by the machine or a service.
One line says so; the traceback goes to a file.
"""

import os
import platform
import sys
import tempfile
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from edge import EdgeError
from resources import home
from resources.error_family import VisionOpsError
from resources.escaping import visible, without_secrets
from resources.machine_errors import machine_error

# EX_SOFTWARE of sysexits.h: a refusal is 1, a command line that cannot be read 2.
EXIT_CODE = 70
FOLDER = "bugs"
# How databases and buckets say no, by the module of their errors, which is looked at where it is loaded.
_SERVICES = {
    "sqlalchemy.exc": ("DBAPIError",),
    "botocore.exceptions": ("BotoCoreError", "ClientError"),
}
# The home as this user's alone.
_FOLDER_MODE, _FILE_MODE = 0o700, 0o600


def is_bug(error: BaseException) -> bool:
    """Whether an error says nothing that a person could act on: our own `KeyError` is one, a full disk is none."""
    if isinstance(error, VisionOpsError | EdgeError | OSError) or machine_error(error) is not None:
        return False
    for module, names in _SERVICES.items():
        loaded = sys.modules.get(module)
        if loaded is not None and isinstance(error, tuple(getattr(loaded, name) for name in names)):
            return False
    return True


def told(error: BaseException, arguments: Sequence[str]) -> str:
    """Keep the traceback of a bug; returns the line that says what it is, where the traceback lies and what to do."""
    name = type(error).__name__
    said = f"{name}: {error}" if str(error) else name
    file = _keep(error, arguments)
    where = (
        f"attach {file}" if file is not None else "attach what --debug prints, for no file could be written"
    )
    return f"this is a bug in VisionOps ({said}): please report it in its issue tracker, and {where}"


def _keep(error: BaseException, arguments: Sequence[str]) -> Path | None:
    """Write the traceback under the home, or else where temporary files go; returns the file."""
    now = datetime.now(UTC)
    content = visible(
        without_secrets(
            f"visionops {' '.join(arguments)}\n{now:%Y-%m-%d %H:%M:%S} UTC, Python {platform.python_version()}, "
            f"{platform.platform()}\n\n{''.join(traceback.format_exception(error))}"
        )
    )
    name = f"{now:%Y%m%dT%H%M%S}-{os.getpid()}.txt"
    # A full disk has no temporary folder either, and a home that is set wrongly is none.
    for place in (home.home, tempfile.gettempdir):
        try:
            folder = Path(place()) / (FOLDER if place is home.home else "")
            # A home that is not there is not made for this.
            if folder.name == FOLDER and folder.parent.is_dir():
                folder.mkdir(mode=_FOLDER_MODE, exist_ok=True)
            file = folder / f"visionops-bug-{name}"
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _FILE_MODE)
            with os.fdopen(descriptor, "w", encoding="utf-8") as written:
                written.write(content)
            return file
        except (OSError, VisionOpsError):
            continue
    return None

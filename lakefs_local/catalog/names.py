"""Which names and paths lakeFS accepts."""

import re

from lakefs_local.catalog.errors import Invalid

MAX_PATH_BYTES = 1024

_BRANCH = re.compile(r"\w[-\w]*", re.ASCII)
_TAG_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|//|@\{")


def check_branch(name: str) -> None:
    """Raises Invalid unless the name is letters, digits, `_` and `-`, not starting with a dash."""
    if not _BRANCH.fullmatch(name):
        raise Invalid(
            "argument branch: branch id: invalid value: validation error: branch id must consist of letters, "
            "digits, underscores and dashes, and cannot start with a dash"
        )


def check_tag(name: str) -> None:
    """Raises Invalid for what git would not accept as a reference name either."""
    wrong_end = name.endswith((".", "/", ".lock"))
    dotted = any(part.startswith(".") for part in name.split("/"))
    if not name or name == "@" or wrong_end or dotted or name.startswith("/") or _TAG_FORBIDDEN.search(name):
        raise Invalid("argument tagID: tag id: invalid value: validation error")


def check_path(path: str) -> bytes:
    """The path as the bytes it is stored under. Raises Invalid if it is empty or longer than 1,024 bytes."""
    key = path.encode()
    if not key:
        raise Invalid("argument path: invalid value: validation error: required value")
    if len(key) > MAX_PATH_BYTES:
        raise Invalid(
            f"argument path: invalid value: validation error: {len(key)} is above maximum length ({MAX_PATH_BYTES})"
        )
    return key


def after_prefix(prefix: bytes) -> bytes | None:
    """The smallest key above every key with this prefix; None if there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else None

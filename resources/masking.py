"""Addresses and messages without the secrets that they hold."""

import os
import re
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

HIDDEN = "***"
# Addresses whose text after the scheme is a path: an `@` in it belongs to a name.
_PATHS = ("sqlite", "file", "local", "dvc", "s3", "gs", "gcs", "abfs", "abfss", "az")
# Of these, what follows the place is a path too; of all others only the place has an `@` before it.
_WEB = ("", "http", "https", "ssh", "git")
_SECRET_NAME = re.compile(
    r"SECRET|PASSWORD|PASSWD|TOKEN|API_?KEY|ACCESS_KEY|_WEBHOOK$|CREDENTIAL|_PIN$", re.IGNORECASE
)
_SECRET_QUERY = re.compile(
    r"([?&;][^=&;#\s]*(?:secret|passw|token|signature|credential|sslkey|api_?key|access_?key)[^=&;#\s]*=)[^&;#\s]+",
    re.IGNORECASE,
)
# What an example shows is nobody's.
_USER_INFO = re.compile(r"(\b[A-Za-z][\w+.-]*://)(?!USER:PASSWORD@)[^\s/'\"@]*(?::[^\s'\"@]*)?@")
# A shorter one would be found in ordinary words.
_LONG_ENOUGH = 6


def is_secret(name: str) -> bool:
    """Whether a variable holds a secret, by its name; one that names a file does not."""
    return _SECRET_NAME.search(name) is not None and not name.endswith(("_FILE", "_PATH", "_DIR"))


def shown(address: str, instead: str = "") -> str:
    """The address without user, password and the secrets of its query; `instead` takes the place of the user.

    What cannot be read as an address loses all before its last `@`, since a password may hold any character.
    """
    scheme, separator, rest = address.partition("://")
    if not separator:
        scheme, rest = "", address
    # Ours, which nobody wrote.
    scheme = scheme.removesuffix("+psycopg2")
    if not _holds_user(scheme.partition("+")[0].lower(), rest):
        return _SECRET_QUERY.sub(rf"\1{HIDDEN}", f"{scheme}{separator}{rest}")
    place = rest.rpartition("@")[2]
    return _SECRET_QUERY.sub(rf"\1{HIDDEN}", f"{scheme}{separator}{f'{instead}@' if instead else ''}{place}")


def _holds_user(scheme: str, rest: str) -> bool:
    """Whether what stands after the scheme has a user, well written or not."""
    if "@" not in rest or scheme in _PATHS:
        return False
    if scheme not in _WEB:
        return True
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        # `git@host:organisation/repository` names no secret.
        return bool(scheme) or ":" in rest.partition("@")[0]
    # `user:pass/word@host`: no port is a word.
    _, colon, port = authority.rpartition(":")
    return bool(colon) and not port.isdigit()


def without_secrets(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """A message in which nothing stands that the environment holds as a secret, nor a user of an address."""
    for secret in sorted(_secrets(environment), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _SECRET_QUERY.sub(rf"\1{HIDDEN}", _USER_INFO.sub(rf"\1{HIDDEN}@", text))


def _secrets(environment: Mapping[str, str]) -> set[str]:
    """Values of variables that are secrets by their name, and passwords of those that are addresses."""
    found: set[str] = set()
    for name, value in environment.items():
        if is_secret(name):
            found.add(value)
            found.add(_path_of(value))
        elif "://" in value and "@" in value:
            user = value.partition("://")[2].rpartition("@")[0]
            password = user.partition(":")[2]
            found |= {password, unquote(password)}
    return {secret for secret in found if len(secret) >= _LONG_ENOUGH}


def _path_of(value: str) -> str:
    """Of an address that is a secret, the path is one by itself."""
    try:
        parts = urlsplit(value)
    except ValueError:
        return ""
    return parts.path.strip("/") if parts.scheme in ("http", "https") else ""

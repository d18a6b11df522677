"""Key pairs: made at the first start, kept in the data folder, readable by its owner only."""

import base64
import binascii
import hmac
import json
import secrets
import string
from dataclasses import dataclass
from pathlib import Path

from lakefs_local.folder import FolderError, write_private

_ALPHABET = string.ascii_uppercase + string.digits


@dataclass(frozen=True)
class KeyPair:
    """What a client signs in with."""

    access_key_id: str
    secret_access_key: str


def load_or_create(path: Path) -> list[KeyPair]:
    """The key pairs in `path`; the file is made with one pair if it is not there. Raises FolderError."""
    if not path.exists():
        pair = KeyPair(
            "AKIAJ" + "".join(secrets.choice(_ALPHABET) for _ in range(15)), secrets.token_urlsafe(30)
        )
        write_private(path, json.dumps([pair.__dict__], indent=1) + "\n")
    return load(path)


def load(path: Path) -> list[KeyPair]:
    """The key pairs in `path`. Raises FolderError if the file cannot be read or holds none."""
    try:
        pairs = [
            KeyPair(str(p["access_key_id"]), str(p["secret_access_key"]))
            for p in json.loads(path.read_text())
        ]
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise FolderError(
            f"the credentials in {path} cannot be read ({problem!r}): restore the file, or delete it to have a key made"
        ) from problem
    if not pairs:
        raise FolderError(f"{path} holds no key pair: delete it to have one made")
    return pairs


class Authenticator:
    """Checks basic authentication in constant time for a given number of pairs."""

    def __init__(self, pairs: list[KeyPair]):
        self._pairs = [(pair.access_key_id.encode(), pair.secret_access_key.encode()) for pair in pairs]

    def key_of(self, authorization: str | None) -> str | None:
        """The access key id of a valid `Authorization` header, else None."""
        kind, _, encoded = (authorization or "").partition(" ")
        if kind.lower() != "basic":
            return None
        try:
            key, _, secret = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        except (binascii.Error, ValueError):
            return None
        found = None
        for known, known_secret in self._pairs:
            # Both are always compared, so that the time taken does not tell a known key from an unknown one.
            key_matches = hmac.compare_digest(known, key)
            secret_matches = hmac.compare_digest(known_secret, secret)
            if key_matches and secret_matches:
                found = known.decode()
        return found

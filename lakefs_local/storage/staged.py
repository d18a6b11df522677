"""Files that clients write themselves: their names are signed when given out, so that no other file can be linked."""

import hashlib
import hmac
import json
import secrets
import time
from pathlib import Path

from lakefs_local.folder import write_private

_VALID_SECONDS = 6 * 3600


class StagedFiles:
    """The folder of such files. Raises OSError if its key cannot be read or made."""

    def __init__(self, folder: Path):
        self.folder = folder / "staged"
        self.folder.mkdir(exist_ok=True, mode=0o700)
        key_file = folder / "signing.key"
        if not key_file.exists():
            write_private(key_file, secrets.token_hex(32))
        self._key = key_file.read_text().encode()

    def address(self, repository: str, branch: str, path: str) -> str:
        """A new file path for one object; the file is not made."""
        name = f"{int(time.time()) + _VALID_SECONDS}-{secrets.token_hex(12)}"
        return f"{self.folder}/{name}-{self._signature(name, repository, branch, path)}"

    def gave_out(self, location: str, repository: str, branch: str, path: str) -> bool:
        """Whether `address` made this path for this object, and not too long ago."""
        name = location.removeprefix(f"{self.folder}/").rpartition("-")[0]
        expected = f"{self.folder}/{name}-{self._signature(name, repository, branch, path)}"
        if not hmac.compare_digest(expected.encode(), location.encode()):
            return False
        return self._expiry(name) > time.time()

    def expired(self) -> list[Path]:
        """Files whose address can no longer be linked."""
        return [file for file in self.folder.iterdir() if self._expiry(file.name) < time.time()]

    @staticmethod
    def _expiry(name: str) -> float:
        stamp = name.partition("-")[0]
        return float(stamp) if stamp.isdigit() else 0.0

    def _signature(self, *said: str) -> str:
        return hmac.new(self._key, json.dumps(said).encode(), hashlib.sha256).hexdigest()[:40]

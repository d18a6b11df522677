"""Files of devices that did not count, kept as they came in quarantine: no more a day than their kinds may take."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Of a day: what no device's key signed, which anybody may leave, and what one signed and that did not count.
UNSIGNED_BYTES = UNCOUNTED_BYTES = 64 << 20


@dataclass
class SetAside:
    """What one collection keeps aside. `files` are written with its commit."""

    unsigned_bytes: int = 0
    uncounted_bytes: int = 0
    files: list[bytes] = field(default_factory=list)

    @classmethod
    def of_day(cls, record: Mapping[str, Any], day: str) -> "SetAside":
        """What earlier collections of this day left room for, by the record of the last."""
        if record.get("day") != day:
            return cls()
        return cls(int(record.get("strangers_bytes", 0)), int(record.get("uncounted_bytes", 0)))

    @property
    def takes_unsigned(self) -> bool:
        """Whether there is room for what nobody's key signed."""
        return self.unsigned_bytes < UNSIGNED_BYTES

    def keep_unsigned(self, content: bytes) -> str:
        """Keep what no device's key signed, where there is room; what became of it, in words."""
        if self.unsigned_bytes + len(content) > UNSIGNED_BYTES:
            return _no_room(UNSIGNED_BYTES)
        self.unsigned_bytes += len(content)
        return self._keep(content)

    def keep_uncounted(self, content: bytes) -> str:
        """The same of what a device's key signed."""
        if self.uncounted_bytes + len(content) > UNCOUNTED_BYTES:
            return _no_room(UNCOUNTED_BYTES)
        self.uncounted_bytes += len(content)
        return self._keep(content)

    def record(self) -> dict[str, int]:
        """What the next collection of the day is to know."""
        return {"strangers_bytes": self.unsigned_bytes, "uncounted_bytes": self.uncounted_bytes}

    def _keep(self, content: bytes) -> str:
        self.files.append(content)
        return "it is kept as it came in quarantine/"


def _no_room(most: int) -> str:
    return f"it is not kept: {most >> 20} MiB of such files are, each day"

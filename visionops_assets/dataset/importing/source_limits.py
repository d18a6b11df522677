"""How much a source may take before it is refused: small files can be made that are large once they are read.

Work and memory are held to the size of the file: what somebody really has is a few times as large as its file, what was
made to do harm is a thousand times. Each bound is a setting in the environment, which a refusal names.
"""

import functools
import os
from dataclasses import dataclass

from visionops_assets.dataset.importing.source import SourceError

TIMES = "VISIONOPS_SOURCE_TIMES"
MEMBERS = "VISIONOPS_SOURCE_MEMBERS"
HEADER = "VISIONOPS_SOURCE_HEADER_KIB"
TEXT = "VISIONOPS_SOURCE_TEXT_MIB"
VALUE = "VISIONOPS_SOURCE_VALUE_MIB"
SETTINGS = "VISIONOPS_SOURCE_SETTINGS_KIB"
COLUMNS = "VISIONOPS_SOURCE_COLUMNS"
DEPTH = "VISIONOPS_SOURCE_DEPTH"
TABLE = "VISIONOPS_SOURCE_TABLE_MIB"

# What is believed whatever the size of the file: bytes, and rows or labels.
_FREE_BYTES = {"archive": 256 << 20, "table": 64 << 20}
_FREE_ROWS = 200_000
# What Python itself follows, with room for what calls the reader.
_DEEPEST = 300


@dataclass(frozen=True)
class SourceLimits:
    """`times` how large a packed file may become, `members` of an archive with its folders, bytes of a `header` in it,
    of a `text` that is read whole, of one `value` or line, and of `settings` (YAML); `columns` of a table; `depth` of
    what is nested; and the memory in bytes of the process that reads a `table` of Parquet."""

    times: int = 30
    members: int = 5_000_000
    header: int = 1 << 20
    text: int = 256 << 20
    value: int = 16 << 20
    settings: int = 1 << 20
    columns: int = 4096
    depth: int = 100
    table: int = 512 << 20

    def unpacked(self, packed: int) -> int:
        """How many bytes an archive of so many may hold."""
        return _FREE_BYTES["archive"] + self.times * packed

    def in_memory(self, packed: int) -> int:
        """How many bytes a table or an array of so many may be."""
        return _FREE_BYTES["table"] + self.times * packed

    def rows(self, packed: int) -> int:
        """How many rows a table of so many bytes may have."""
        return _FREE_ROWS + packed * max(1, self.times // 30)


@functools.cache
def source_limits() -> SourceLimits:
    """The limits of this process, read from the environment once. Raises `ValueError` naming a setting."""
    return SourceLimits(
        times=_whole(TIMES, SourceLimits.times, 1),
        members=_whole(MEMBERS, SourceLimits.members, 1),
        header=_whole(HEADER, SourceLimits.header >> 10, 1) << 10,
        text=_whole(TEXT, SourceLimits.text >> 20, 1) << 20,
        value=_whole(VALUE, SourceLimits.value >> 20, 1) << 20,
        settings=_whole(SETTINGS, SourceLimits.settings >> 10, 1) << 10,
        columns=_whole(COLUMNS, SourceLimits.columns, 1),
        depth=_whole(DEPTH, SourceLimits.depth, 1, _DEEPEST),
        table=_whole(TABLE, SourceLimits.table >> 20, 16) << 20,
    )


def too_much(what: object, has: str, setting: str) -> SourceError:
    """What to say of a file that asks for more: file, limit and setting in one line."""
    return SourceError(f"{what}: {has}; if it is yours and meant so, raise {setting}")


def _whole(name: str, default: int, least: int, most: int = 999_999_999) -> int:
    text = os.environ.get(name, "")
    if not text:
        return default
    if not text.isdecimal() or not least <= int(text) <= most:
        bounds = f"of at least {least}" if most == 999_999_999 else f"from {least} to {most}"
        raise ValueError(f"{name} is {text[:40]!r}: it takes a whole number {bounds}")
    return int(text)

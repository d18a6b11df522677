"""Sample objects for a repository that is made with some: a few small pictures of two classes, and their labels."""

import struct
import time
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

from lakefs_local.catalog import committing, objects, repositories
from lakefs_local.catalog.committing import Statement
from lakefs_local.catalog.repositories import Protection, Repository
from lakefs_local.storage.database import Session
from lakefs_local.storage.encoding import DEFAULT_CONTENT_TYPE, Entry
from lakefs_local.store import Store

MESSAGE = "Add sample data"
_SIDE = 32
_PICTURES = 6
_README = """# Sample data

`images/` holds {count} pictures of {side} × {side} pixels, `labels.csv` what each shows: a disc or a cross. The branch
is protected, as one that others rely on should be: make a branch, change something there, commit it, compare the two
and merge. The tag or commit you read from gives the same pictures for ever.
"""


class Content(NamedTuple):
    """What an object holds, and as what."""

    data: bytes
    kind: str = DEFAULT_CONTENT_TYPE


def contents() -> dict[str, Content]:
    """The sample objects by path; the same each time."""
    made, labels = {}, ["path,label"]
    for label, is_drawn in (("cross", _in_cross), ("disc", _in_disc)):
        for number in range(_PICTURES):
            path = f"images/{label}-{number}.png"
            made[path] = Content(_png(_picture(is_drawn, number)), "image/png")
            labels.append(f"{path},{label}")
    readme = _README.format(count=len(made), side=_SIDE)
    made["labels.csv"] = Content("\n".join([*labels, ""]).encode(), "text/csv")
    made["README.md"] = Content(readme.encode(), "text/markdown")
    return made


def populate(store: Store, create: Callable[[Session], Repository]) -> Repository:
    """Make a repository with the sample objects committed on its default branch, which then takes merges only.

    All of it is there or nothing. Raises as `create`, OSError.
    """
    entries: dict[str, Entry] = {}
    with ExitStack() as receiving:
        for path, content in contents().items():
            incoming = receiving.enter_context(store.blobs.receive())
            incoming.write(content.data)
            stored = incoming.store()
            entries[path] = Entry(
                stored.md5, stored.size, int(time.time()), stored.digest, content_type=content.kind
            )

        def write(session: Session) -> Repository:
            made = create(session)
            for path, entry in entries.items():
                objects.put_object(session, made, made.default_branch, path, entry)
            committing.commit(session, made, made.default_branch, Statement(MESSAGE))
            repositories.set_protection(session, made, [Protection(made.default_branch, from_writing=False)])
            return made

        return store.database.write(write).result()


def _in_disc(x: int, y: int, size: int) -> bool:
    return x * x + y * y <= size * size


def _in_cross(x: int, y: int, size: int) -> bool:
    return abs(abs(x) - abs(y)) <= 2 and max(abs(x), abs(y)) <= size


def _picture(is_drawn: Callable[[int, int, int], bool], number: int) -> list[bytes]:
    """Rows of grey pixels; each number has another size and place."""
    size, shift = 7 + number, (number % 3 - 1) * 3
    middle = _SIDE // 2
    return [
        bytes(
            215 if is_drawn(column - middle - shift, row - middle + shift, size) else 30 + (row + column) % 7
            for column in range(_SIDE)
        )
        for row in range(_SIDE)
    ]


def _png(rows: list[bytes]) -> bytes:
    """A PNG file of 8-bit grey pixels (PNG specification, sections 5 and 11)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")

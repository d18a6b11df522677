"""Segments of a JPEG that are odd, while its pixels are not: made as they should be, so that it can be read strictly.

A decoder that is strict refuses what it has a warning for, and one that is not keeps silent about damage. What cameras
and programs are known to write amiss and what changes no pixel is therefore mended here, on the bytes in memory;
whatever the strict decoder still warns of is damage. A file that it does not warn of never comes here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_START = b"\xff\xd8"
_SCAN, _END, _JFIF, _PROFILE = 0xDA, 0xD9, 0xE0, 0xE2
_SEQUENTIAL = frozenset({0xC0, 0xC1, 0xC9})
_FRAMES = frozenset({*range(0xC0, 0xD0)}) - {0xC4, 0xC8, 0xCC}
_NO_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_MARKER = re.compile(rb"\xff[^\x00\xff]", re.DOTALL)
_AFTER_SCAN = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]", re.DOTALL)
# Spectral selection 0 to 63 without approximation (ITU-T T.81, table B.3): all that a sequential scan can have.
_WHOLE_SPECTRUM = b"\x00\x3f\x00"
_TABLES, _ADOBE = 0xDB, 0xEE
# Where the 64 coefficients of a block stand, in the order in which a table lists them (T.81, figure 5).
_ZIGZAG = sorted(range(64), key=lambda at: (s := at // 8 + at % 8, at // 8 if s % 2 else at % 8))
_LEFT_OVER = re.compile(r"(\d+) extraneous bytes before marker 0x([0-9a-f]{2})")
# Words of a camera's memory that go with the last of the image; of one scan, damage rarely leaves so little.
_MOST_LEFT_OVER = 16


def normalised(data: bytes) -> bytes:
    """The same JPEG, with what is odd outside its coded pixels as the standard has it; `data` itself where nothing is.

    - Bytes that belong to no segment are left out, before the first scan and between segments that follow one.
    - A sequential scan has all coefficients, whatever its header says (Samsung's cameras write 0, 0, 0).
    - The revision of JFIF is 1; a colour profile, which no pixel depends on, is left out.
    """
    if not data.startswith(_START):
        return data
    parts, place, sequential = [_START], len(_START), False
    while (found := _MARKER.search(data, place)) is not None:
        start, marker = found.start(), data[found.end() - 1]
        if marker in _NO_LENGTH:
            parts.append(data[start : start + 2])
            place = start + 2
            continue
        end = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        if marker == _END or end > len(data):
            parts.append(data[start:])
            break
        segment = data[start:end]
        if marker in _FRAMES:
            sequential = marker in _SEQUENTIAL
        if marker == _JFIF and segment[4:9] == b"JFIF\0" and len(segment) > 10:
            segment = segment[:9] + b"\x01" + segment[10:]
        if marker == _PROFILE and segment[4:16] == b"ICC_PROFILE\0":
            segment = b""
        place = end
        if marker == _SCAN:
            if sequential and len(segment) > 7:
                segment = segment[:-3] + _WHOLE_SPECTRUM
            after = _AFTER_SCAN.search(data, end)
            place = after.start() if after else len(data)
            segment += data[end:place]
        parts.append(segment)
    mended = b"".join(parts)
    return data if mended == data else mended


def without_left_over(data: bytes, warning: str) -> list[bytes]:
    """The same JPEG without the bytes that a decoder says are left over after a scan, once for each scan that it may
    mean; a decoder warns of the wrong one.

    None for any other warning, and where these bytes may as well be pixels that it missed, since something before them
    is damaged: padding repeats one value, or is short and the last of the file.
    """
    if (said := _LEFT_OVER.search(warning)) is None:
        return []
    count, marker = int(said[1]), int(said[2], 16)
    return [
        data[: end - count] + data[end:]
        for end in _ends_of_scans(data)
        if data[end + 1] == marker
        and (len(set(data[end - count : end])) == 1 or (marker == _END and count <= _MOST_LEFT_OVER))
    ]


def _ends_of_scans(data: bytes) -> Iterator[int]:
    """Where the marker after each scan begins."""
    place = 0
    while (scan := data.find(bytes((0xFF, _SCAN)), place)) >= 0:
        after = _AFTER_SCAN.search(data, scan + 2 + int.from_bytes(data[scan + 2 : scan + 4], "big"))
        if after is None:
            return
        place = after.start()
        yield place


def brightness_table(data: bytes) -> list[int] | None:
    """The table, row by row, that the grey values of a JPEG were quantised by; None where it has none, as one of RGB or
    CMYK, or where its header is odd."""
    if not data.startswith(_START):
        return None
    tables, chosen, place = dict[int, bytes](), -1, len(_START)
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker, end = data[place + 1], place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        part = data[place + 4 : end]
        if marker == _TABLES:
            tables |= _tables_in(part)
        elif marker in _FRAMES:
            if len(part) < 9 or part[5] not in (1, 3) or part[6::3][:3] == b"RGB":
                return None
            chosen = part[8]
        elif marker == _ADOBE and part[:5] == b"Adobe" and part[11:12] == b"\0":
            return None
        elif marker == _SCAN:
            break
        place = end
    listed = tables.get(chosen)
    if listed is None or len(listed) not in (64, 128):
        return None
    size = len(listed) // 64
    table = [0] * 64
    for number, at in enumerate(_ZIGZAG):
        table[at] = int.from_bytes(listed[number * size : (number + 1) * size], "big")
    return table if all(table) else None


def _tables_in(part: bytes) -> dict[int, bytes]:
    """The tables of one segment by their number, as they are listed."""
    found, place = dict[int, bytes](), 0
    while place < len(part):
        size = 128 if part[place] >> 4 else 64
        found[part[place] & 15] = part[place + 1 : place + 1 + size]
        place += 1 + size
    return found

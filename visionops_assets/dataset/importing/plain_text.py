"""Text and numbers as people's files have them, read as what they say.

Text is UTF-8, or what a byte order mark says; any other encoding has to be stated.
"""

import codecs
import io
import re
import unicodedata
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any, TextIO

import pandas as pd

from visionops_assets.dataset.importing.image_source import SourceError, quoted
from visionops_assets.dataset.importing.source_files import TEXT, VALUE, SourceFile, source_limits, too_much

# The longer ones first: UTF-32's begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SHOWN, _AT_ONCE = 12, 1 << 20
# Year, month, day, as ISO 8601 and EXIF write them, also without zeros; and with the month in words, as RFC 5322,
# Oracle and ctime have it.
_YEAR_FIRST = re.compile(
    r"\s*(\d{4})(?:([-/.:])(\d{1,2})\2(\d{1,2})|(\d{2})(\d{2}))(?!\d)(.*)",
    re.DOTALL,
)
_WORD, _GAP = r"[A-Za-z]{3,9}\.?", r"[-/ ]"
_MONTH_IN_WORDS = re.compile(
    rf"\s*(?:[A-Za-z]{{3,9}}\.?,? )?(?:\d{{1,2}}\.?{_GAP}?{_WORD},?{_GAP}?\d{{4}}|{_WORD}{_GAP}\d{{1,2}},?{_GAP}\d{{4}}"
    rf"|\d{{4}}{_GAP}{_WORD}{_GAP}\d{{1,2}}|{_WORD} +\d{{1,2}} \d\d:\d\d:\d\d \d{{4}})(?!\d)"
)
# A zone by its name. Of others than these nobody knows for sure how far from UTC they are.
_ZONE = re.compile(r"\d\s*([A-Za-z]{3,5}(?:[+-]\d.*)?)\s*$")
_KNOWN_ZONES = ("UTC", "GMT")
# An escape of JSON; the group is that of half of a character.
_ESCAPE = re.compile(r"\\(?:u([dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL)


def encoding_of(path: SourceFile, stated: str | None) -> str:
    """The encoding of a file by its mark, else the one that was stated, else UTF-8."""
    head = path.head(4)
    return next((name for mark, name in _MARKS if head.startswith(mark)), stated or "utf-8")


def read_text(
    path: SourceFile, stated: str | None = None, most: int | None = None, setting: str = TEXT
) -> str:
    """A whole file of at most so many bytes, as `setting` says. Raises `SourceError` naming the place that is no such
    text."""
    encoding, most = encoding_of(path, stated), most or source_limits().text
    with path.open() as stream:
        content = stream.read(most + 1)
    if len(content) > most:
        raise too_much(path, f"has more than {most:,} bytes", setting)
    try:
        return content.decode(encoding)
    except UnicodeError as error:
        raise not_text(path, encoding) from error


def lines_of(stream: TextIO, path: SourceFile) -> Iterator[str]:
    """The lines of a text. Raises `SourceError` for one that is too long to be one."""
    most, number = source_limits().value, 0
    while line := stream.readline(most + 1):
        number += 1
        if len(line) > most:
            raise too_much(path, f"line {number} has more than {most:,} characters", VALUE)
        yield line


def open_text(path: SourceFile, stated: str | None = None, newline: str | None = None) -> TextIO:
    """A file to be read line by line; what is wrong with it comes as `UnicodeError` then."""
    return io.TextIOWrapper(path.open(), encoding=encoding_of(path, stated), newline=newline)


def not_text(path: SourceFile, encoding: str) -> SourceError:
    """What to say of a file that is not in its encoding: the first place, and the fix."""
    decoder = codecs.getincrementaldecoder(encoding)()
    before = lines = 0
    with path.open() as stream:
        while True:
            part = stream.read(_AT_ONCE)
            try:
                decoder.decode(part, final=not part)
            except UnicodeDecodeError as error:
                # With what was left of the part before.
                data, begins = bytes(error.object), before + len(part) - len(error.object)
                line = lines + data.count(b"\n", 0, error.start) + 1
                begin = max(data.rfind(b"\n", 0, error.start) + 1, error.start - _SHOWN)
                around = data[begin : error.end + _SHOWN].split(b"\n")[0].rstrip(b"\r")
                shown = around.decode("ascii", "backslashreplace")
                return SourceError(
                    f"{path}: line {line}, byte {begins + error.start}: '{shown}' is not {encoding.upper()}; say what "
                    "the text is, for example --encoding cp1252, or save it as UTF-8"
                )
            except UnicodeError:
                break
            if not part:
                break
            before, lines = before + len(part), lines + part.count(b"\n")
    return SourceError(f"{path}: is not {encoding.upper()}; say what it is with --encoding")


def known_encoding(name: str | None) -> str | None:
    """The name, if it names an encoding of text. Raises `SourceError`."""
    try:
        if name is not None and not codecs.lookup(name)._is_text_encoding:
            raise LookupError
    except LookupError:
        raise SourceError(
            f"no encoding is called {name!r}; for example cp1252, latin-1, shift_jis, gb18030"
        ) from None
    return name


def is_whole(json: str, start: int = 0, end: int | None = None) -> bool:
    """Whether the text of a JSON value has no half of a surrogate pair alone, which no UTF-8 can say."""
    end = len(json) if end is None else end
    halves = (match for match in _ESCAPE.finditer(json, start, end) if match[1])
    open_at = -1
    for half in halves:
        high = half[1][1] in "89abAB"
        if high == (open_at >= 0) or (open_at >= 0 and half.start() != open_at):
            return False
        open_at = half.end() if high else -1
    return open_at < 0


def composed(text: str) -> str:
    """Text in NFC, in which names are compared."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def stated_size(width: Any, height: Any) -> tuple[int, int]:
    """The size that a source states of an image; (0, 0) where it states none."""
    sides = whole(width), whole(height)
    if any(side is None or not 0 < side < 1 << 31 for side in sides):
        return 0, 0
    return sides[0] or 0, sides[1] or 0


def is_number(text: str) -> bool:
    """Whether a text is a number, `nan` included."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def whole(value: Any) -> int | None:
    """A whole number, also written as text or as 3.0; None for anything else. Never through floating point."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    text = str(value).strip()
    digits, _, rest = text.partition(".")
    if rest.strip("0"):
        return None
    try:
        return int(digits)
    except ValueError:
        return None


def key_of(value: Any) -> str | None:
    """An identity as what it says: `"1"`, 1 and 1.0 are the same; None where there is none."""
    if value is None or isinstance(value, (bool, list, dict)):
        return None
    text = str(value).strip()
    # 007 is no number but a name.
    number = None if len(text) > 1 and text.startswith("0") and not text.startswith("0.") else whole(value)
    return str(number) if number is not None else text or None


def says_yes(value: Any) -> bool:
    """Whether a flag is set, as a number, a boolean or text."""
    if isinstance(value, str):
        return value.strip().lower() not in ("", "0", "0.0", "false", "no", "none")
    return bool(value)


def moment_of(value: Any) -> datetime:
    """The time that is meant, in UTC, which it is where it names no zone. Raises `ValueError` for what is none, and for
    a date that fits two ways, as 01.02.2026, or a zone that may be several, as CST."""
    if not isinstance(value, date):
        text = str(value)
        if found := _YEAR_FIRST.match(text):
            year, _, month, day, plain_month, plain_day, rest = found.groups()
            value = f"{year}-{(month or plain_month):0>2}-{(day or plain_day):0>2}{rest}".strip()
        elif not _MONTH_IN_WORDS.match(text):
            raise ValueError(f"{quoted(text)} does not say which number is the month")
        if (zone := _ZONE.search(text)) and zone[1].upper() not in _KNOWN_ZONES:
            raise ValueError(f"{quoted(text)} has a zone that is not known, {zone[1]}")
    time: datetime = pd.Timestamp(value).to_pydatetime()
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
